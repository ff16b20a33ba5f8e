"""Choose the training rows on which settings are validated.

Input: a task and a seed. Output: pairs of rows to fit on and rows to validate on. Test rows are never used.
"""

from __future__ import annotations

import numpy as np
from benchmarks.accuracy.sets import Rows, Task
from benchmarks.accuracy.splits import fold_numbers, groups_of, stratified_numbers

VALIDATION_SHARE = 0.1
FOLDS = 5
_FEW_ROWS = 1000
"""Below this number of rows a tenth is too small, so settings are chosen by cross-validation."""


def held_out(task: Task, seed: int) -> tuple[Rows, Rows]:
    """Return rows to fit on and rows to validate on: the official split, or a stratified tenth."""
    if task.valid is not None:
        return task.train, task.valid
    numbers = stratified_numbers(task.train.texts, groups_of(task.train.labels), VALIDATION_SHARE, seed)
    rest = np.setdiff1d(np.arange(len(task.train)), numbers)
    return task.train.selected(rest), task.train.selected(numbers)


def parts(task: Task, seed: int) -> list[tuple[Rows, Rows]]:
    """Return the pairs of rows on which settings are chosen: one pair, or five folds if there are few rows."""
    if task.valid is not None or len(task.train) >= _FEW_ROWS:
        return [held_out(task, seed)]
    folds = fold_numbers(task.train.texts, groups_of(task.train.labels), FOLDS, seed)
    everything = np.arange(len(task.train))
    return [(task.train.selected(np.setdiff1d(everything, fold)), task.train.selected(fold)) for fold in folds]


def joined(task: Task, seed: int) -> Rows:
    """Return the rows to validate on of all ``parts``, one part after the other."""
    valid = [rows for _, rows in parts(task, seed)]
    return Rows([text for rows in valid for text in rows.texts], [label for rows in valid for label in rows.labels])


def described(task: Task, seed: int) -> str:
    """Return a description of what ``parts`` returns."""
    if task.valid is None and len(task.train) < _FEW_ROWS:
        return f"{FOLDS}-fold cross-validation of the training rows, seed {seed}"
    return described_held_out(task, seed)


def described_held_out(task: Task, seed: int) -> str:
    """Return a description of what ``held_out`` returns."""
    if task.valid is not None:
        return "official validation split"
    return f"a stratified {VALIDATION_SHARE:.0%} of the training rows, seed {seed}"
