from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn import metrics

from bothways.tasks.metrics import (
    CALIBRATION_BINS,
    calibration_error,
    class_counts,
    confusion,
    label_counts,
    label_measures,
)


def test_counts_of_classes_are_those_of_decisions_of_one_label_each() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 5, 200), rng.integers(0, 4, 200)
    ours = class_counts(confusion(true, predicted, 5))
    theirs = label_counts(np.eye(5, dtype=np.bool_)[true], np.eye(5, dtype=np.bool_)[predicted])
    for name in ("hits", "predicted", "true"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert ours.micro_f1 == pytest.approx(metrics.accuracy_score(true, predicted))


def test_measures_of_labels_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    true = rng.random((100, 4)) < [0.5, 0.2, 0.05, 0]  # the last one never occurs
    chosen = rng.random((100, 4)) < [0.4, 0.4, 0.1, 0]
    counts = label_counts(true, chosen)
    theirs = metrics.precision_recall_fscore_support(true, chosen, zero_division=0)
    for ours, *expected in zip(label_measures(counts), *theirs, strict=True):
        assert ours == pytest.approx(expected)
    assert counts.macro_f1 == pytest.approx(metrics.f1_score(true, chosen, average="macro", zero_division=0))
    assert counts.micro_f1 == pytest.approx(metrics.f1_score(true, chosen, average="micro"))


def test_probabilities_that_come_true_as_often_as_they_say_have_no_error() -> None:
    probabilities = np.repeat([0.1, 0.5, 0.9], 10)
    happened = np.array([n % 10 < 10 * p for n, p in enumerate(probabilities)])
    assert calibration_error(probabilities, happened) == pytest.approx(0)
    assert calibration_error(probabilities, ~happened) == pytest.approx((0.8 + 0 + 0.8) / 3)


def test_certainties_are_in_the_last_bin() -> None:
    assert calibration_error(np.array([0.95, 1.0]), np.array([True, False])) == pytest.approx(0.475)
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0
    assert calibration_error(np.array([0.0, 1.0]), np.array([True, True])) == 0.5


@pytest.mark.parametrize("shape", [(1,), (500,), (50, 7)])
def test_the_calibration_error_is_the_weighted_distance_of_each_bin(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.random(shape)
    happened = rng.random(shape) < probabilities**2
    expected = 0.0
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    for low, high in itertools.pairwise(edges):
        inside = (probabilities >= low) & (probabilities < high)
        if inside.any():
            expected += inside.mean() * abs(probabilities[inside].mean() - happened[inside].mean())
    assert calibration_error(probabilities, happened) == pytest.approx(expected)
    assert CALIBRATION_BINS == 15
