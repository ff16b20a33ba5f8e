"""The table of learners of fastai 2: python learners2.py OUT [PATTERN ...]. Run by generate.py."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import data2
import files2
import models2
import pieces2
import tasks2
import tokens2
import torch
from rows2 import VERSION
from table import generate

TABLES = (models2, tokens2, data2, pieces2, tasks2, files2)


def main() -> None:
    """Make the learners whose names match."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generate(
        (learner for table in TABLES for kind in table.KINDS for learner in kind()),
        Path(sys.argv[1]),
        VERSION,
        sys.argv[2:],
    )


if __name__ == "__main__":
    main()
