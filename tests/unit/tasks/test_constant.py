"""B1 and B4: what is no better than the same prediction for every text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Target

seeds = st.integers(0, 2**32 - 1)


def counts(*rows: list[int]) -> tuple[SingleLabel, NDArray[np.float64], NDArray[np.int64]]:
    """Return a task, scores and targets with these counts of true classes (lists) and predicted ones (in them)."""
    size = len(rows)
    true = np.repeat(np.arange(size), [sum(row) for row in rows])
    predicted = np.concatenate([np.repeat(np.arange(size), row) for row in rows])
    return SingleLabel(tuple("abcdefgh"[:size])), np.eye(size)[predicted], true


@pytest.mark.parametrize(
    ("rows", "is_useful"),
    [
        (([0, 31], [0, 69]), False),  # Chinese reviews: always the larger class
        (([2, 29], [2, 67]), False),  # the same with a little noise
        (([14, 203], [14, 469]), False),
        (([60, 157], [60, 423]), True),  # not one row more is right, but one class is found more often than by chance
        (([95, 0], [5, 0]), False),  # always ham
        (([945, 5], [20, 30]), True),  # finds most of the spam
        (([880, 70], [5, 45]), True),  # worse accuracy than always ham, as trained with class weights
        (([94, 1], [2, 3]), True),
        (([3, 0], [0, 3]), True),
        (([2, 1], [1, 2]), True),  # few rows: in favor of the model
        (([3, 0], [3, 0]), False),
        (([6, 0], [0, 0]), True),  # a single class shows nothing
        (([0, 6], [0, 0]), True),
        (([10, 1, 1], [9, 2, 1], [9, 1, 2]), False),
        (([5, 2, 2], [1, 6, 2], [2, 2, 5]), True),
    ],
)
def test_b4_one_label_is_compared_with_the_largest_class(rows: Any, is_useful: bool) -> None:
    task, scores, true = counts(*rows)
    assert (task.why_constant(scores, true) is None) == is_useful


@given(seeds, st.integers(2, 6), st.integers(2, 300))
@settings(max_examples=60)
def test_b4_a_constant_prediction_is_always_noticed_and_the_truth_never(seed: int, classes: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    task = SingleLabel(tuple("abcdefgh"[:classes]))
    assert task.why_constant(np.eye(classes)[true], true) is None
    constant = np.eye(classes)[np.full(rows, rng.integers(classes))]
    assert (task.why_constant(constant, true) is None) == (len(set(true.tolist())) < 2)


def test_b4_the_reason_says_what_was_measured() -> None:
    task, scores, true = counts([0, 31], [0, 69])
    assert task.why_constant(scores, true) == "its accuracy is 69.0%, and always answering 'b' has 69.0%"


def test_b4_many_labels_are_compared_with_the_same_ones_for_every_text() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((200, 5)) < 0.3
    task = MultiLabel(tuple("abcde"), thresholds=(0.5,) * 5)
    targets = true.astype(np.float32)
    assert task.why_constant(np.full((200, 5), 0.3), targets) == "it assigns no label to every text"
    always_two = np.tile([0.9, 0.1, 0.8, 0.1, 0.1], (200, 1)) + rng.random((200, 5)) / 100
    assert task.why_constant(always_two, targets) == "it assigns 'a', 'c' to every text"
    drawn = task.why_constant(rng.random((200, 5)), targets)
    assert drawn is not None
    assert drawn.startswith("its mean ROC-AUC is 0.")
    assert task.why_constant(np.where(true, 0.6, 0.4) + rng.random((200, 5)) / 5, targets) is None
    assert task.why_constant(np.full((200, 5), 0.3), np.zeros((200, 5), dtype=np.float32)) is None


def test_b4_values_are_compared_with_the_training_mean() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(20, 5, (100, 1))
    task = Regression((Target(center=20.0, scale=5.0),))
    assert task.why_constant(true + rng.normal(0, 4, (100, 1)), true) is None
    for values in (np.full((100, 1), 20.0), rng.normal(20, 5, (100, 1)), -true):
        reason = task.why_constant(values, true)
        assert reason is not None
        assert reason.endswith("and always answering the training mean 20 has 4.828")
