"""Find labels that are probably wrong, from probabilities of a model that has not seen them.

In: out-of-fold probabilities and given classes. Out: the doubtful rows, the most doubtful first. How many there are is
estimated as in confident learning (Northcutt et al., arXiv 1911.00068). Their order is that of the odds between the
most probable other class and the given one.

Letters: N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.tasks.metrics import SMALLEST_PROBABILITY, Scores

FEWEST_TEXTS = 5
"""Classes with fewer rows are not judged: a model cannot learn them from the others."""
_TOLERANCE = 1e-6
"""Of the comparison with a mean, which is rounded."""


@dataclass(frozen=True)
class LabelError:
    """A label that is probably wrong.

    Attributes:
        place: Place of the row.
        score: Probability of the suggestion, where only it and the given label are possible, 0.5..1.
        suggestion: What the label should probably be.
    """

    place: int
    score: float
    suggestion: str


@dataclass(frozen=True, eq=False)
class Doubts:
    """How doubtful the class of each row is.

    Attributes:
        scores: Probability of the most probable other class, where only it and the given one are possible, (N,).
        others: The most probable other class, (N,).
        order: As many rows as are probably wrong, the most doubtful ones, the most doubtful first.
        wrong: Whether the class of each row is probably wrong, (N,).
    """

    scores: NDArray[np.float64]
    others: NDArray[np.intp]
    order: NDArray[np.intp]
    wrong: NDArray[np.bool_]


def doubts(scores: Scores, given: NDArray[np.int64]) -> Doubts:
    """Return how doubtful the class of each row is.

    A row counts as wrong if another class is the most probable one of those that the model is confident of: whose
    probability is at least its mean over the rows that have the class.

    Args:
        scores: Out-of-fold probabilities, (N, C).
        given: Class of each row, (N,).
    """
    rows, classes = np.arange(len(given)), scores.shape[1]
    counts = np.bincount(given, minlength=classes)
    own = scores[rows, given]
    without_own = scores.copy()
    without_own[rows, given] = -1
    others = without_own.argmax(axis=1)
    other = without_own[rows, others]
    doubtful = other / np.maximum(own + other, SMALLEST_PROBABILITY)
    confidence = np.bincount(given, weights=own, minlength=classes) / np.maximum(counts, 1)
    confident = np.where((scores >= confidence - _TOLERANCE) & (counts >= FEWEST_TEXTS), scores, -1)
    is_judged = counts[given] >= FEWEST_TEXTS
    wrong = is_judged & (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != given)
    order = np.argsort(-np.where(is_judged, doubtful, 0), kind="stable")[: int(wrong.sum())]
    return Doubts(doubtful, others, order[doubtful[order] > 0.5], wrong & (doubtful > 0.5))
