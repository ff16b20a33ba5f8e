"""The table of learners of fastai 2: python learners2.py OUT [PATTERN ...]. Run by generate.py."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import files2
import models2
import tasks2
import tokens2
import torch
from rows2 import VERSION
from table import generate

KINDS = (*models2.KINDS, *tokens2.KINDS, *tasks2.KINDS, *files2.KINDS)


def main() -> None:
    """Make the learners whose names match."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generate((learner for kind in KINDS for learner in kind()), Path(sys.argv[1]), VERSION, sys.argv[2:])


if __name__ == "__main__":
    main()
