"""Measure probabilities against what is true.

In: arrays of what is true and what a model says. Out: numbers. Letters: N texts, C labels. Does not know files or
bundles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Confusion = NDArray[np.int64]
"""Rows counted by true class (first axis) and predicted class (second axis), (C, C)."""
Decisions = NDArray[np.bool_]
"""Whether a text has a label, (N, C)."""
Probabilities = NDArray[np.float64]

CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = 1e-12
"""What a loss takes a probability of 0 for."""
_TEMPERATURES = np.geomspace(0.25, 4, 161)


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How often each label was given rightly, was given at all, and is true, each (C,)."""

    hits: NDArray[np.int64]
    predicted: NDArray[np.int64]
    true: NDArray[np.int64]

    @property
    def macro_f1(self) -> float:
        """The mean of all labels' F1; 0 for a label that is neither given nor true."""
        return float(np.mean([f1 for _, _, f1, _ in label_measures(self)]))

    @property
    def micro_f1(self) -> float:
        """The F1 of all decisions together; 0 where nothing is given or true."""
        return 2 * int(self.hits.sum()) / max(1, int(self.predicted.sum() + self.true.sum()))


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Confusion:
    """Count rows by true and predicted class."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (true, predicted), 1)
    return counts


def class_counts(counts: Confusion) -> LabelCounts:
    """Return the counts where each text has one class."""
    return LabelCounts(counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1))


def decision_counts(true: Decisions, chosen: Decisions) -> LabelCounts:
    """Return the counts where a text has any number of labels."""
    return LabelCounts((true & chosen).sum(axis=0), chosen.sum(axis=0), true.sum(axis=0))


def label_measures(counts: LabelCounts) -> Iterator[tuple[float, float, float, int]]:
    """Return precision, recall, F1 (0 where nothing is predicted or true) and true rows of each label."""
    each = zip(counts.hits.tolist(), counts.predicted.tolist(), counts.true.tolist(), strict=True)
    for hits, predicted, true in each:
        yield hits / max(1, predicted), hits / max(1, true), 2 * hits / max(1, predicted + true), true


def calibration_error(probabilities: Probabilities, happened: Decisions) -> float:
    """Return the expected calibration error, 0..1: how far probabilities are from how often they come true.

    The mean distance within bins of equal width, weighted by what is in each (Guo et al., 2017).

    Args:
        probabilities: That something is so, any shape.
        happened: Whether it is so, of the same shape.
    """
    bins = np.minimum((probabilities.ravel() * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    expected = np.bincount(bins, weights=probabilities.ravel(), minlength=CALIBRATION_BINS)
    found = np.bincount(bins, weights=happened.ravel().astype(np.float64), minlength=CALIBRATION_BINS)
    return float(np.abs(expected - found).sum() / probabilities.size)


def log_loss(probabilities: Probabilities, true: NDArray[np.intp]) -> float:
    """Return the mean cross-entropy, nats a text, of probabilities, (N, C), for each text's class, (N,)."""
    likelihood = np.maximum(probabilities[np.arange(len(true)), true], SMALLEST_PROBABILITY)
    return float(-np.log(likelihood).mean())


def least_temperature(loss: Callable[[float], float]) -> float:
    """Return the temperature, 0.25 to 4, with which a loss is least (Guo et al., arXiv 1706.04599).

    Such a loss has one valley, so a grid of 161 steps finds it.

    Args:
        loss: Of probabilities after a temperature.
    """
    return float(_TEMPERATURES[int(np.argmin([loss(temperature) for temperature in _TEMPERATURES.tolist()]))])
