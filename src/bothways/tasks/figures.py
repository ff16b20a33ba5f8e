"""Compute the figures of a report: what the charts and tables of each task show.

In: scores and targets as arrays. Out: figures as plain data (``bothways.pages.figures``). Letters: N texts, C labels,
M decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bothways.errors import shown
from bothways.pages.elements import Cell
from bothways.pages.figures import MOST_POINTS, Axis, Chart, Figure, Matrix, Series, Table, as_points
from bothways.tasks import metrics
from bothways.tasks.labels import LabelValue, label_text
from bothways.tasks.metrics import ClassMetrics, Confusion, Flags, Scores

MOST_CLASSES_IN_MATRIX = 20
MOST_CLASSES = 200
MOST_PAIRS = 30
MOST_LABELS_WITH_CURVES = 12
MOST_TARGETS = 6
_CURVE_POINTS = 150
_THRESHOLDS = np.linspace(0.02, 0.98, 49)
_FEWEST_KEPT = 10
"""A risk-coverage curve begins where at least this number of texts, and a 50th of all, is kept."""
ENSEMBLE = "ensemble"
Values = NDArray[np.float64]


def reliability(probabilities: Scores, occurred: Flags, what: str) -> Chart:
    """Return the reliability diagram of the bins of ``metrics.calibration_error``.

    Args:
        probabilities: Predicted probabilities, (M,).
        occurred: Whether what they predict is true, (M,).
        what: What they are the probability of, such as ``the predicted label``.
    """
    bins = metrics.CALIBRATION_BINS
    numbers = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    counts = np.bincount(numbers, minlength=bins)
    used = np.flatnonzero(counts)
    mean = np.bincount(numbers, weights=probabilities, minlength=bins)[used] / counts[used]
    right = np.bincount(numbers, weights=occurred.astype(np.float64), minlength=bins)[used]
    bounds = tuple(
        metrics.wilson_interval(int(hits), int(rows)) for hits, rows in zip(right, counts[used], strict=True)
    )
    share = Axis("observed frequency", percent=True, low=0, high=1)
    centers = (used + 0.5) / bins
    return Chart(
        "reliability",
        "Reliability diagram",
        f"Predicted probability of {what} against how often it is true, in {bins} bins of equal width, with 95 % "
        "Wilson intervals. Points below the diagonal are overconfident. Bars are the share of predictions per bin. "
        f"Expected calibration error: {metrics.calibration_error(probabilities, occurred):.3f}.",
        Axis("predicted probability", percent=True, low=0, high=1),
        share,
        (
            Series("share of predictions", as_points(centers), as_points(counts[used] / len(probabilities)), "bars"),
            Series(ENSEMBLE, as_points(mean), as_points(right / counts[used]), "points", bounds),
        ),
        diagonal=True,
    )


def precision_recall_chart(by_member: Mapping[str, Scores], true: Flags, what: str) -> Chart:
    """Return the precision-recall curve of each member.

    Args:
        by_member: Scores of decisions by member, each (M,).
        true: Whether each decision is true, (M,).
        what: What the curves are of, such as ``all labels together (micro-average)``.
    """
    series, areas = [], []
    for name, scores in by_member.items():
        if not true.any():
            break
        precision, recall = metrics.precision_recall(scores, true)
        kept = np.unique(np.minimum(np.searchsorted(recall, np.linspace(0, 1, _CURVE_POINTS)), len(recall) - 1))
        series.append(Series(name, (0.0, *as_points(recall[kept])), (1.0, *as_points(precision[kept])), "line"))
        areas.append(f"{name} {metrics.area_below(precision, recall):.3f}")
    return Chart(
        "precision-recall",
        "Precision and recall",
        f"Precision against recall over all thresholds, of {what}. Higher is better. Average precision: "
        f"{', '.join(areas)}.",
        Axis("recall", percent=True, low=0, high=1),
        Axis("precision", percent=True, high=1),
        tuple(series),
    )


def risk_coverage(confidence: Values, errors: Values) -> tuple[Values, Values]:
    """Return the share of the texts that are kept, and their mean error, from the most confident texts on.

    Texts of equal confidence are kept together (El-Yaniv & Wiener, 2010).

    Args:
        confidence: Confidence of each text, (N,).
        errors: Error of each text, (N,).
    """
    order = np.argsort(-confidence, kind="stable")
    sums = np.cumsum(errors[order])
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(errors) - 1)
    return (ends + 1) / len(errors), sums[ends] / (ends + 1)


def risk_coverage_chart(by_member: Mapping[str, tuple[Values, Values]], error_name: str, ranking: str) -> Chart:
    """Return the risk-coverage curve of each member.

    Args:
        by_member: Confidence and error of each text by member, each (N,).
        error_name: What the errors are.
        ranking: How confidence is defined.
    """
    series = []
    for name, (confidence, errors) in by_member.items():
        coverage, risk = risk_coverage(confidence, errors)
        fewest = min(1.0, max(_FEWEST_KEPT / len(errors), 0.02))
        first = int(np.searchsorted(coverage, fewest - 1e-12))
        places = np.searchsorted(coverage[first:], np.linspace(fewest, 1, _CURVE_POINTS) - 1e-12)
        kept = np.unique(np.minimum(places + first, len(coverage) - 1))
        series.append(Series(name, as_points(coverage[kept]), as_points(risk[kept]), "line"))
    return Chart(
        "risk-coverage",
        "Risk and coverage",
        f"The {error_name} if only the most confident texts are answered and the others are left to a person. "
        f"{ranking} Lower is better.",
        Axis("share of the texts answered", percent=True, low=0, high=1),
        Axis(error_name, percent=True, low=0),
        tuple(series),
    )


def class_table(classes: Sequence[ClassMetrics], thresholds: Sequence[float] | None = None) -> Table:
    """Return precision, recall and F1 per class, with Wilson intervals.

    Args:
        classes: Metrics of each class.
        thresholds: The threshold of each class, if there are any.
    """
    numbered = sorted(enumerate(classes), key=lambda pair: (pair[1].f1, pair[0]))
    kept = numbered[:MOST_CLASSES]
    if len(classes) <= MOST_CLASSES_IN_MATRIX:
        kept.sort(key=lambda pair: pair[0])
        order = ""
    else:
        order = " Classes with the lowest F1 come first."
    rows = []
    for number, each in kept:
        correct = round(each.recall * each.support)
        row: list[Cell] = [
            shown(label_text(each.label)),
            f"{each.precision:.1%}" if each.predicted else None,
            _interval(correct, each.predicted),
            f"{each.recall:.1%}" if each.support else None,
            _interval(correct, each.support),
            f"{each.f1:.3f}" if each.support or each.predicted else None,
            each.support,
            each.predicted,
        ]
        rows.append((*row, *([f"{thresholds[number]:.2f}"] if thresholds is not None else [])))
    missing = f" {len(classes) - len(kept):,} more classes are not shown." if len(kept) < len(classes) else ""
    columns = ("label", "precision", "95 % interval", "recall", "95 % interval", "F1", "rows", "predicted")
    return Table(
        "classes",
        "Metrics per class",
        f"Of the ensemble, with 95 % Wilson intervals.{order}{missing}",
        (*columns, *(["threshold"] if thresholds is not None else [])),
        tuple(rows),
    )


def _interval(right: int, rows: int) -> str | None:
    if not rows:
        return None
    low, high = metrics.wilson_interval(right, rows)
    return f"{low:.1%} to {high:.1%}"


def confusion_figure(counts: Confusion, labels: Sequence[LabelValue]) -> Figure:
    """Return the confusion matrix, or for many classes the pairs that are confused most often."""
    names = [shown(label_text(label)) for label in labels]
    if len(labels) <= MOST_CLASSES_IN_MATRIX:
        return Matrix(
            "confusion",
            "Confusion matrix",
            "Number of rows by true and predicted label of the ensemble. Shading is the share of the row. The outlined "
            "cells are correct.",
            "true",
            "predicted",
            tuple(names),
            tuple(tuple(row) for row in counts.tolist()),
        )
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [(int(place) // len(labels), int(place) % len(labels)) for place in order]
    rows = tuple(
        (
            names[true],
            names[predicted],
            int(wrong[true, predicted]),
            f"{wrong[true, predicted] / counts[true].sum():.1%}",
        )
        for true, predicted in pairs
        if wrong[true, predicted]
    )
    return Table(
        "confusion",
        "Most confused pairs",
        f"The {len(rows)} pairs of labels that the ensemble confuses most often. A matrix of {len(labels):,} labels "
        "would not be readable.",
        ("true", "predicted", "rows", "share of the true label"),
        rows,
    )


def threshold_charts(
    scores: Scores, true: Flags, labels: Sequence[LabelValue], thresholds: Sequence[float]
) -> list[Chart]:
    """Return precision, recall and F1 against the threshold, of each of the most frequent labels.

    Args:
        scores: Scores of the ensemble, (N, C).
        true: Whether each text has each label, (N, C).
        labels: The labels.
        thresholds: The thresholds of the model.
    """
    frequent = np.argsort(-true.sum(axis=0), kind="stable")[:MOST_LABELS_WITH_CURVES].tolist()
    charts = []
    for column in sorted(frequent):
        chosen = scores[None, :, column] >= _THRESHOLDS[:, None]
        correct = (chosen & true[None, :, column]).sum(axis=1)
        predicted, present = chosen.sum(axis=1), int(true[:, column].sum())
        curves = {
            "precision": np.where(predicted > 0, correct / np.maximum(predicted, 1), np.nan),
            "recall": correct / max(present, 1),
            "F1": 2 * correct / np.maximum(predicted + present, 1),
        }
        series = []
        for name, values in curves.items():
            kept = ~np.isnan(values)
            series.append(Series(name, as_points(_THRESHOLDS[kept]), as_points(values[kept]), "line"))
        charts.append(
            Chart(
                f"threshold-{column}",
                f"Threshold of {shown(label_text(labels[column]), 40)}",
                f"On the {present:,} of {len(true):,} rows that have this label, and on the others.",
                Axis("threshold", low=0, high=1),
                Axis("value", percent=True, low=0, high=1),
                tuple(series),
                verticals=(thresholds[column],),
                vertical_name=f"threshold in use: {thresholds[column]:.2f}",
            )
        )
    return charts


def value_charts(ensemble: Scores, true: Scores, names: Sequence[str]) -> list[Chart]:
    """Return predicted against true values and their differences, of each target.

    Args:
        ensemble: Values of the ensemble, (N, C).
        true: True values, (N, C).
        names: Names of the targets.
    """
    kept = _sampled(len(true))
    some = f" {len(kept):,} of {len(true):,} rows are shown, chosen at random." if len(kept) < len(true) else ""
    charts = []
    for column, name in enumerate(names[:MOST_TARGETS]):
        values, found = ensemble[kept, column], true[kept, column]
        low, high = float(min(values.min(), found.min())), float(max(values.max(), found.max()))
        target = shown(name, 40)
        charts.append(
            Chart(
                f"values-{column}",
                f"Predicted against true: {target}",
                f"A perfect model has all points on the diagonal.{some}",
                Axis("true", low=low, high=high),
                Axis("predicted", low=low, high=high),
                (Series(ENSEMBLE, as_points(found), as_points(values), "points"),),
                diagonal=True,
            )
        )
        charts.append(
            Chart(
                f"residuals-{column}",
                f"Residuals: {target}",
                "Predicted minus true value. A trend means that the model is wrong in the same way for similar "
                f"predictions.{some}",
                Axis("predicted"),
                Axis("predicted − true"),
                (Series(ENSEMBLE, as_points(values), as_points(values - found), "points"),),
            )
        )
    return charts


def target_table(targets: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the metrics of each target."""
    columns = sorted({metric for row in targets.values() for metric in row})
    rows = tuple(
        (shown(name), *(f"{row[metric]:.4g}" if metric in row else None for metric in columns))
        for name, row in targets.items()
    )
    return Table(
        "targets", "Metrics per target", "Of the ensemble.", ("target", *map(metrics.metric_title, columns)), rows
    )


def _sampled(count: int) -> NDArray[np.intp]:
    """Return the numbers of the rows to draw, in order: all, or a random sample with a fixed seed."""
    if count <= MOST_POINTS:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, MOST_POINTS, replace=False))
