"""The table of learners of fastai 1.0.61: python learners1.py OUT [PATTERN ...]. Run by generate.py."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import files1
import models1
import qrnns1
import tasks1
import tokens1
import torch
from rows1 import VERSION
from table import generate

KINDS = (*models1.KINDS, *tokens1.KINDS, *tasks1.KINDS, *files1.KINDS, *qrnns1.KINDS)


def main() -> None:
    """Make the learners whose names match."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generate((learner for kind in KINDS for learner in kind()), Path(sys.argv[1]), VERSION, sys.argv[2:])


if __name__ == "__main__":
    main()
