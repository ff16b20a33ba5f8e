"""Doubtful labels from probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from bothways.errors import ConfigError
from bothways.tasks.label_errors import FEWEST_TEXTS, doubts
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel

GIVEN = np.array([0] * 10 + [1] * 10)


def scores_with(**changed: tuple[float, float]) -> np.ndarray:
    scores = np.where(GIVEN[:, None] == np.arange(2), 0.9, 0.1)
    for name, row in changed.items():
        scores[int(name[1:])] = row
    return scores


def test_the_most_doubtful_row_comes_first() -> None:
    found = SingleLabel(("bad", "good")).label_errors(scores_with(_3=(0.05, 0.95), _15=(0.99, 0.01)), GIVEN)
    assert [(each.place, each.suggestion) for each in found] == [(15, "bad"), (3, "good")]
    assert found[0].score == pytest.approx(0.99)


def test_rows_that_the_model_agrees_with_are_not_doubtful() -> None:
    assert SingleLabel(("bad", "good")).label_errors(scores_with(), GIVEN) == []


def test_a_model_that_is_never_sure_doubts_little() -> None:
    scores = np.full((20, 2), 0.5)
    assert len(doubts(scores, GIVEN).order) == 0


def test_a_rare_class_is_not_judged() -> None:
    given = np.array([0] * 10 + [1] * (FEWEST_TEXTS - 1))
    scores = np.tile([0.9, 0.1], (len(given), 1))
    assert len(doubts(scores, given).order) == 0
    given = np.array([0] * 10 + [1] * 10)
    scores = np.tile([0.9, 0.1], (20, 1))
    scores[10:19] = [0.2, 0.8]
    assert doubts(scores, given).order.tolist() == [19]


def test_a_label_to_add_and_one_to_remove_are_found() -> None:
    targets = np.array([[1, 0]] * 10 + [[0, 1]] * 10)
    scores = np.where(targets == 1, 0.9, 0.1)
    scores[2], scores[14] = (0.02, 0.1), (0.97, 0.9)
    found = MultiLabel(("funny", "sad")).label_errors(scores, targets)
    assert [(each.place, each.suggestion) for each in found] == [(2, "remove funny"), (14, "add funny")]


def test_labels_to_add_and_to_remove_are_counted_separately() -> None:
    # The model hardly knows the label "rare", but finds it in 5 rows that do not have it. These 5 are to be listed. The
    # most doubtful rows of all are some that have it.
    has_label = np.arange(100) < 10
    scores = np.where(has_label, 0.3, 0.02)
    scores[:3] = 0.9
    scores[50:55] = 0.6
    scores[60:90] = 0.4
    targets = np.stack([has_label, ~has_label], axis=1).astype(np.float32)
    found = MultiLabel(("rare", "usual")).label_errors(np.stack([scores, 1 - scores], axis=1), targets)
    assert {each.place for each in found} == set(range(50, 55))


def test_a_regression_has_none() -> None:
    with pytest.raises(ConfigError, match="a regression model predicts a number"):
        Regression().label_errors(np.zeros((2, 1)), np.zeros((2, 1)))


def test_uncertainty_is_largest_between_two_labels() -> None:
    task = SingleLabel(("a", "b", "c"))
    assert task.uncertainty(np.array([0.5, 0.5, 0.0])) == pytest.approx(1)
    assert task.uncertainty(np.array([1.0, 0.0, 0.0])) == pytest.approx(0)
    assert MultiLabel(("a", "b")).uncertainty(np.array([0.01, 0.4])) == pytest.approx(0.8)
    with pytest.raises(ConfigError):
        Regression().uncertainty(np.zeros(1))
