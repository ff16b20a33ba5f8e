"""Metrics: error rate, macro-F1, and the choice of thresholds for multi-label tasks.

Input: probabilities, (N, C), and the truth: class numbers, (N,), or booleans, (N, C). This module imports only numpy,
because other environments import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
Truth = NDArray[Any]
Decisions = NDArray[np.bool_]

NO_THRESHOLD = 2.0
"""Above every probability, so the label is never predicted."""


def truth_of(labels: Sequence[Sequence[str]], names: Sequence[str], is_multi_label: bool) -> Truth:
    """Return the truth: class numbers, (N,) int64, or for multi-label tasks which labels are true, (N, C) bool."""
    number = {name: position for position, name in enumerate(names)}
    if not is_multi_label:
        return np.array([number[label] for (label,) in labels], dtype=np.int64)
    truth = np.zeros((len(labels), len(names)), dtype=np.bool_)
    for row, row_labels in enumerate(labels):
        truth[row, [number[label] for label in row_labels]] = True
    return truth


def error_rate(probabilities: Probabilities, truth: Truth) -> float:
    """Return the share of rows for which the most probable class is wrong."""
    return float((probabilities.argmax(axis=1) != truth).mean())


def macro_f1(decisions: Decisions, truth: Decisions) -> float:
    """Return the unweighted mean of the labels' F1 scores. A label that is neither predicted nor true counts 0."""
    hits = (decisions & truth).sum(axis=0)
    total = decisions.sum(axis=0) + truth.sum(axis=0)
    return float((2 * hits / np.maximum(total, 1)).mean())


def choose_thresholds(probabilities: Probabilities, truth: Decisions) -> Probabilities:
    """Return the threshold per label with the best F1 on these rows, (C,). A label is predicted at or above it."""
    return np.array([_threshold(p, t) for p, t in zip(probabilities.T, truth.T, strict=True)])


def _threshold(probabilities: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    order = np.argsort(-probabilities, kind="stable")
    values, hits = probabilities[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(values) + 1) + truth.sum())
    is_last_of_its_value = np.append(values[1:] < values[:-1], True)
    f1 = np.where(is_last_of_its_value, f1, -1.0)
    best = int(f1.argmax())
    if f1[best] <= 0:
        return NO_THRESHOLD
    lower = values[best + 1] if best + 1 < len(values) else 0.0
    return float((values[best] + lower) / 2)


def loss_on_validation(probabilities: Probabilities, truth: Truth) -> float:
    """Return the loss by which settings are chosen: the error rate, or 1 - macro-F1 with the best thresholds."""
    if truth.ndim == 1:
        return error_rate(probabilities, truth)
    return 1 - macro_f1(probabilities >= choose_thresholds(probabilities, truth), truth)


def scores(probabilities: Probabilities, truth: Truth, thresholds: Probabilities | None) -> dict[str, float]:
    """Return all metrics of a model on the test rows.

    Args:
        probabilities: Probabilities of the test rows, (N, C).
        truth: Truth of the test rows, from ``truth_of``.
        thresholds: Threshold per label, (C,), chosen on the validation rows. Needed for multi-label tasks only.
    """
    if truth.ndim == 1:
        classes = np.arange(probabilities.shape[1])
        decided = probabilities.argmax(axis=1)[:, None] == classes
        return {"error": error_rate(probabilities, truth), "macro_f1": macro_f1(decided, truth[:, None] == classes)}
    assert thresholds is not None, "a multi-label task needs thresholds, chosen on the validation rows"
    return {
        "macro_f1": macro_f1(probabilities >= thresholds, truth),
        "macro_f1_at_half": macro_f1(probabilities >= 0.5, truth),
    }
