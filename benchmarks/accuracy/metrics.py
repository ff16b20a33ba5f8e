"""What is measured: the share of wrong labels, macro-F1, and thresholds for texts with any number of labels.

In: probabilities, (N, C), and what is true: class numbers, (N,), or yes and no, (N, C). Needs numpy only, as other
environments import it.
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
"""Above every probability: the label is never given."""


def truth_of(labels: Sequence[Sequence[str]], names: Sequence[str], is_multi_label: bool) -> Truth:
    """Return class numbers, (N,) int64, or which labels are true, (N, C) bool."""
    number = {name: position for position, name in enumerate(names)}
    if not is_multi_label:
        return np.array([number[label] for (label,) in labels], dtype=np.int64)
    truth = np.zeros((len(labels), len(names)), dtype=np.bool_)
    for row, row_labels in enumerate(labels):
        truth[row, [number[label] for label in row_labels]] = True
    return truth


def error_rate(probabilities: Probabilities, truth: Truth) -> float:
    """Return the share of rows whose most probable class is not theirs."""
    return float((probabilities.argmax(axis=1) != truth).mean())


def macro_f1(decisions: Decisions, truth: Decisions) -> float:
    """Return the mean over all labels of their F1; 0 for a label that is never given and rightly so nowhere."""
    hits = (decisions & truth).sum(axis=0)
    total = decisions.sum(axis=0) + truth.sum(axis=0)
    return float((2 * hits / np.maximum(total, 1)).mean())


def choose_thresholds(probabilities: Probabilities, truth: Decisions) -> Probabilities:
    """Return the threshold of each label with the best F1 on these rows, (C,); a label is given at or above it."""
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
    """Return what settings are chosen by, less is better: errors, or what macro-F1 lacks with the best thresholds."""
    if truth.ndim == 1:
        return error_rate(probabilities, truth)
    return 1 - macro_f1(probabilities >= choose_thresholds(probabilities, truth), truth)


def scores(probabilities: Probabilities, truth: Truth, thresholds: Probabilities | None) -> dict[str, float]:
    """Return all measures of a model on test rows.

    Args:
        probabilities: On the test rows, (N, C).
        truth: Of the test rows.
        thresholds: Of each label, (C,), chosen on validation rows; not needed where each text has one label.
    """
    if truth.ndim == 1:
        classes = np.arange(probabilities.shape[1])
        decided = probabilities.argmax(axis=1)[:, None] == classes
        return {"error": error_rate(probabilities, truth), "macro_f1": macro_f1(decided, truth[:, None] == classes)}
    assert thresholds is not None, "thresholds are chosen on validation rows"
    return {
        "macro_f1": macro_f1(probabilities >= thresholds, truth),
        "macro_f1_at_half": macro_f1(probabilities >= 0.5, truth),
    }
