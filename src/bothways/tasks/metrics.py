"""Compute metrics of predictions, as scikit-learn defines them.

In: arrays of what is true and what a model predicts. Out: numbers. Letters: N texts, C labels. Does not know files or
bundles, and needs no scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.tasks.labels import LabelValue

Scores = NDArray[np.float64]
"""What a model says of texts, (C,) or (N, C): the probability of each label, or a predicted value."""
Flags = NDArray[np.bool_]
"""Whether a text has a label, (N, C)."""
Confusion = NDArray[np.int64]
"""Rows counted by true class (first axis) and predicted class (second axis), (C, C)."""

SHARES = ("accuracy", "subset_accuracy")
"""Metrics that are a share of the rows."""
_TITLES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "subset_accuracy": "subset accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "log_loss": "log loss",
    "ece": "ECE",
    "calibration_error": "ECE",
    "calibration_error_before": "ECE before calibration",
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "spearman": "Spearman",
}
UNDEFINED = "–"
"""What is shown for a metric that is not defined."""
_IN_UNIT_OF_TARGET = {"rmse", "mae"}
_FEW_ROWS = 50
CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = 1e-12
"""A loss treats smaller probabilities as this one, so that it stays finite."""
_TEMPERATURES = np.geomspace(0.25, 4, 161)


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one label.

    Attributes:
        label: The label.
        precision: Share of the rows predicted as this label that have it, 0..1; 0 if none was predicted.
        recall: Share of the rows with this label that were predicted so, 0..1; 0 if there is none.
        f1: Harmonic mean of precision and recall, 0..1; 0 if neither is defined.
        support: Number of rows that have this label.
        predicted: Number of rows predicted as this label.
    """

    label: LabelValue
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True, eq=False)
class Metrics:
    """All metrics of one set of predictions.

    Attributes:
        summary: Metric by name; a metric that is not defined on these rows is missing.
        classes: One per label, in the order of the labels; empty for regression.
        confusion: Rows by true and predicted class, (C, C) int64; None unless each text has exactly one label.
        targets: The metrics of each target by its name; empty unless a regression has several.
    """

    summary: dict[str, float]
    classes: tuple[ClassMetrics, ...] = ()
    confusion: Confusion | None = None
    targets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How often each label was predicted correctly, was predicted, and is true, each (C,)."""

    correct: NDArray[np.int64]
    predicted: NDArray[np.int64]
    true: NDArray[np.int64]

    @property
    def f1(self) -> NDArray[np.float64]:
        """The F1 of each label, (C,); 0 for a label that is neither predicted nor true."""
        return np.asarray(2 * self.correct / np.maximum(1, self.predicted + self.true), dtype=np.float64)

    @property
    def macro_f1(self) -> float:
        """The unweighted mean of all labels' F1."""
        return float(self.f1.mean())

    @property
    def micro_f1(self) -> float:
        """The F1 of all decisions together; 0 if nothing is predicted or true."""
        return 2 * int(self.correct.sum()) / max(1, int(self.predicted.sum() + self.true.sum()))

    @property
    def weighted_f1(self) -> float:
        """The mean of all labels' F1, weighted by the rows that have the label."""
        return float((self.f1 * self.true).sum() / max(1, int(self.true.sum())))

    def present(self) -> LabelCounts:
        """Return the counts of the labels that are predicted or true at least once."""
        keep = (self.predicted + self.true) > 0
        return LabelCounts(self.correct[keep], self.predicted[keep], self.true[keep])

    def classes(self, labels: tuple[LabelValue, ...]) -> tuple[ClassMetrics, ...]:
        """Return the metrics of each label."""
        each = zip(labels, self.correct.tolist(), self.predicted.tolist(), self.true.tolist(), strict=True)
        return tuple(
            ClassMetrics(
                label=label,
                precision=correct / max(1, predicted),
                recall=correct / max(1, true),
                f1=2 * correct / max(1, predicted + true),
                support=true,
                predicted=predicted,
            )
            for label, correct, predicted, true in each
        )


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Confusion:
    """Count rows by true and predicted class, (C, C)."""
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def class_counts(counts: Confusion) -> LabelCounts:
    """Return the counts of labels where each text has exactly one."""
    return LabelCounts(counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1))


def label_counts(true: Flags, chosen: Flags) -> LabelCounts:
    """Return the counts of labels where a text has any number of them; both arguments are (N, C)."""
    return LabelCounts((true & chosen).sum(axis=0), chosen.sum(axis=0), true.sum(axis=0))


def wilson_interval(right: int, rows: int) -> tuple[float, float]:
    """Return the 95 % confidence interval, 0..1, of a share of ``right`` of ``rows`` (Wilson, 1927)."""
    z = 1.96
    middle, width = (right + z * z / 2) / (rows + z * z), z * math.sqrt(right * (rows - right) / rows + z * z / 4)
    return max(0.0, middle - width / (rows + z * z)), min(1.0, middle + width / (rows + z * z))


def few_rows_warning(summary: Mapping[str, float], rows: int, kind: str) -> str | None:
    """Return a warning with the confidence interval of the share of right rows, if there are few rows.

    Args:
        summary: Metrics by name.
        rows: Number of rows they were computed on.
        kind: What the rows are called, such as ``validation rows``.
    """
    if rows >= _FEW_ROWS:
        return None
    message = f"only {rows} {kind}, so the metrics are uncertain"
    for name in SHARES:
        if name in summary:
            right = round(summary[name] * rows)
            low, high = wilson_interval(right, rows)
            message += f": {name.replace('_', ' ')} {right} of {rows}, 95 % interval {low:.0%} to {high:.0%}"
    return message


def calibration_error(probabilities: Scores, occurred: Flags) -> float:
    """Return the expected calibration error, 0..1 (Guo et al., arXiv 1706.04599).

    The mean distance between predicted probability and observed frequency within bins of equal width, weighted by the
    number of predictions in each bin.

    Args:
        probabilities: Probabilities of events, any shape.
        occurred: Whether each event occurred, of the same shape.
    """
    bins = np.minimum((probabilities.ravel() * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    expected = np.bincount(bins, weights=probabilities.ravel(), minlength=CALIBRATION_BINS)
    found = np.bincount(bins, weights=occurred.ravel().astype(np.float64), minlength=CALIBRATION_BINS)
    return float(np.abs(expected - found).sum() / probabilities.size)


def log_loss(probabilities: Scores, true: NDArray[Any]) -> float:
    """Return the mean cross-entropy in nats per text.

    Args:
        probabilities: Those of a model, (N, C).
        true: The true classes, (N,), or the probabilities of a teacher, (N, C).
    """
    if true.ndim == 2:
        return float(-(true * np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))).sum(axis=1).mean())
    likelihood = np.maximum(probabilities[np.arange(len(true)), true], SMALLEST_PROBABILITY)
    return float(-np.log(likelihood).mean())


def binary_log_loss(probabilities: Scores, true: NDArray[Any]) -> float:
    """Return the binary cross-entropy in nats per text, summed over labels.

    Args:
        probabilities: Those of a model, (N, C).
        true: Whether each label is true, (N, C) bool, or the probabilities of a teacher, (N, C) float.
    """
    if true.dtype != np.bool_:
        present, absent = (np.log(np.maximum(of, SMALLEST_PROBABILITY)) for of in (probabilities, 1 - probabilities))
        return float(-(true * present + (1 - true) * absent).sum(axis=1).mean())
    likelihood = np.where(true, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(likelihood, SMALLEST_PROBABILITY)).sum(axis=1).mean())


def best_temperature(loss: Callable[[float], float]) -> float:
    """Return the temperature, 0.25 to 4, that minimizes a loss (Guo et al., arXiv 1706.04599).

    Such a loss has a single minimum, so a grid of 161 values finds it.

    Args:
        loss: The loss of the probabilities after division of their logits by a temperature.
    """
    return float(_TEMPERATURES[int(np.argmin([loss(temperature) for temperature in _TEMPERATURES.tolist()]))])


def roc_auc(scores: Scores, true: NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve, 0..1, of scores, (N,); None unless both outcomes occur.

    Computed as the Mann-Whitney statistic; ties count one half.
    """
    positives = int(true.sum())
    negatives = len(true) - positives
    if not positives or not negatives:
        return None
    rank_sum = float(ranks(scores)[true].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def precision_recall(scores: Scores, true: Flags) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision and recall at each distinct threshold, from the highest on, as scikit-learn defines them.

    Args:
        scores: Scores of decisions, (M,).
        true: Whether each is true, (M,). At least one must be.
    """
    order = np.argsort(-scores)  # rows of equal scores are counted together, so their order does not matter
    hits = np.cumsum(true[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last row of each distinct score
    return hits[ends] / (ends + 1), hits[ends] / hits[-1]


def area_below(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """Return the average precision: the mean precision, weighted by the gain in recall, without interpolation."""
    return float((np.diff(recall, prepend=0) * precision).sum())


def average_precision(scores: Scores, true: NDArray[np.bool_]) -> float | None:
    """Return the average precision, 0..1, of scores, (N,); None if no row is true."""
    return area_below(*precision_recall(scores, true)) if true.any() else None


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of values, (N,), from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse.ravel()], dtype=np.float64)


def mean_over_labels(
    metric: Callable[[Scores, NDArray[np.bool_]], float | None], scores: Scores, true: Flags
) -> float | None:
    """Return a metric's unweighted mean over the labels, (N, C), on which it is defined; None if there is none."""
    found = [metric(scores[:, column], true[:, column]) for column in range(true.shape[1])]
    defined = [value for value in found if value is not None]
    return float(np.mean(defined)) if defined else None


def regression_metrics(values: NDArray[np.float64], true: NDArray[np.float64]) -> dict[str, float]:
    """Return RMSE, MAE, R² and Spearman's rank correlation of predicted values, (N,), in the target's unit.

    R² is missing if all true values are equal; the correlation is missing if either side is constant.
    """
    errors = values - true
    found = {"rmse": float(np.sqrt((errors**2).mean())), "mae": float(np.abs(errors).mean())}
    variance = float(((true - true.mean()) ** 2).sum())
    if variance > 0:
        found["r2"] = 1 - float((errors**2).sum()) / variance
    ours, theirs = ranks(values), ranks(true)
    if ours.std() > 0 and theirs.std() > 0:
        found["spearman"] = float(np.corrcoef(ours, theirs)[0, 1])
    return found


def without_undefined(**metrics: float | None) -> dict[str, float]:
    """Return the metrics that are defined."""
    return {name: value for name, value in metrics.items() if value is not None}


def metric_title(name: str) -> str:
    """Return what people call a metric."""
    return _TITLES.get(name, name)


def metric_text(name: str, value: float | None) -> str:
    """Return a metric with the digits that are worth reading, or a dash if it is not defined."""
    if value is None:
        return UNDEFINED
    if name in SHARES:
        return f"{value:.2%}"
    return f"{value:.5g}" if name in _IN_UNIT_OF_TARGET else f"{value:.4f}"


def metric_texts(metrics: Mapping[str, float]) -> dict[str, str]:
    """Return each metric as text."""
    return {name: metric_text(name, value) for name, value in metrics.items()}
