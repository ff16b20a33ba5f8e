"""Compare two models, or two members of one, on the same rows.

In: the errors of each row, or the scores of each model. Out: how many rows one of them does better, an exact test, and
the interval of the difference of each metric.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.evaluation.evaluate import percentiles, resamples
from bothways.evaluation.scored_rows import ScoredRows


@dataclass(frozen=True)
class PairedComparison:
    """What changes on the same rows from a first model to a second one.

    Attributes:
        better: Number of rows with a smaller error: rows that became right, or values that came closer.
        worse: Number of rows with a larger error: rows that became wrong, or values that moved away.
        equal: Number of rows with the same error.
        p_value: Probability of a split at least as uneven as better against worse if both models were equally good,
            two-sided and exact. For right and wrong answers this is the exact McNemar test, for values the sign test.
    """

    better: int
    worse: int
    equal: int
    p_value: float


@dataclass(frozen=True)
class Difference:
    """The difference of a metric between two models.

    Attributes:
        before: Its value of the first model.
        after: Its value of the second model.
        interval: 95 % confidence interval of ``after - before`` (percentile bootstrap, both models on the same rows).
    """

    before: float
    after: float
    interval: tuple[float, float]


def paired(before: NDArray[np.float64], after: NDArray[np.float64]) -> PairedComparison:
    """Return the comparison of two models by their errors on the same rows, both (N,)."""
    better, worse = int((after < before).sum()), int((after > before).sum())
    return PairedComparison(better, worse, len(before) - better - worse, sign_test(better, worse))


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided p-value, 0..1, of a split of rows if both sides were equally likely (exact binomial test).

    The exact McNemar test is this test of the rows that only one of two models has right (McNemar, 1947).
    """
    count, fewer = better + worse, min(better, worse)
    if 2 * fewer == count:
        return 1.0
    logarithms = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - count * math.log(2)
        for k in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, logarithms)))


def differences(before: ScoredRows, after: ScoredRows, name: str) -> dict[str, Difference]:
    """Return the difference of each headline metric between two models on the same rows.

    Args:
        before: The rows with the scores of the first model.
        after: The same rows with the scores of the second.
        name: The member of both to compare, such as ``ensemble``.
    """
    assert len(before.rows) == len(after.rows)
    both = [(each.task, each.scores[name], each.targets) for each in (before, after)]
    first, second = (task.headline_metrics(scores, targets) for task, scores, targets in both)
    of_before, of_after = (task.resampled_headline(scores, targets) for task, scores, targets in both)
    found: dict[str, list[float]] = defaultdict(list)
    for rows in resamples(len(before.rows)):
        of_first, of_second = of_before(rows), of_after(rows)
        for metric in [metric for metric in second if metric in first]:
            if metric in of_first and metric in of_second:
                found[metric].append(of_second[metric] - of_first[metric])
    return {metric: Difference(first[metric], second[metric], percentiles(values)) for metric, values in found.items()}
