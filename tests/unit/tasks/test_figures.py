"""Figures of reports: curves equal those of scikit-learn, and every task has the figures that make sense for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve

from bothways.pages.charts import figure
from bothways.pages.figures import MOST_POINTS, Chart, Figure, Matrix, Table
from bothways.tasks import figures
from bothways.tasks.metrics import confusion, precision_recall, wilson_interval
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Target, Task

RNG = np.random.default_rng(3)
SETS = MultiLabel(("a", "b"), thresholds=(0.5, 0.2))
TWO = Regression((Target("x", 0, 2), Target("y")))
Values = NDArray[np.float64]


def probabilities(rows: int, classes: int, rng: np.random.Generator = RNG) -> Values:
    return rng.dirichlet(np.ones(classes), rows)


def by_key(found: list[Figure]) -> dict[str, Figure]:
    return {each.key: each for each in found}


def test_the_reliability_diagram_is_that_of_scikit_learn() -> None:
    scores = RNG.random(400)
    occurred = RNG.random(400) < scores**2
    chart = figures.reliability(scores, occurred, "x")
    shares, points = chart.series
    frequency, mean = calibration_curve(occurred, scores, n_bins=15)
    assert points.x == pytest.approx(mean)
    assert points.y == pytest.approx(frequency)
    assert sum(shares.y) == pytest.approx(1)
    rows = np.bincount(np.minimum((scores * 15).astype(int), 14))
    assert points.intervals[3] == pytest.approx(wilson_interval(round(points.y[3] * rows[3]), int(rows[3])))


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()), min_size=1))
def test_precision_and_recall_are_those_of_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    scores, true = (np.array(column) for column in zip(*rows, strict=True))
    if not true.any():
        return
    precision, recall = precision_recall(scores, true)
    expected_precision, expected_recall, _ = theirs.precision_recall_curve(true, scores)
    assert precision == pytest.approx(expected_precision[-2::-1])
    assert recall == pytest.approx(expected_recall[-2::-1])


def test_risk_and_coverage_keep_equally_confident_texts_together() -> None:
    coverage, risk = figures.risk_coverage(np.array([0.5, 0.9, 0.5, 0.7]), np.array([1.0, 0.0, 0.0, 1.0]))
    assert coverage.tolist() == [0.25, 0.5, 1.0]
    assert risk.tolist() == [0.0, 0.5, 0.5]


def test_the_curve_ends_with_the_error_of_all_texts() -> None:
    confidence, errors = RNG.random(1000), (RNG.random(1000) < 0.2).astype(float)
    (series,) = figures.risk_coverage_chart({"ensemble": (confidence, errors)}, "error rate", "").series
    assert series.x[-1] == 1
    assert series.y[-1] == pytest.approx(errors.mean())
    assert series.x[0] >= 0.02
    order = np.argsort(-confidence)
    kept = round(series.x[40] * 1000)
    assert series.y[40] == pytest.approx(errors[order[:kept]].mean())


def test_many_classes_have_a_table_of_confused_pairs_instead_of_a_matrix() -> None:
    true, predicted = RNG.integers(0, 150, 3000), RNG.integers(0, 150, 3000)
    true[:40], predicted[:40] = 7, 9
    found = figures.confusion_figure(confusion(true, predicted, 150), [f"label {number}" for number in range(150)])
    assert isinstance(found, Table)
    assert found.rows[0][:2] == ("label 7", "label 9")
    assert int(str(found.rows[0][2])) >= 40
    assert len(found.rows) == figures.MOST_PAIRS
    few = figures.confusion_figure(confusion(true % 3, predicted % 3, 3), ["a", "b", "c"])
    assert isinstance(few, Matrix)
    assert few.counts == tuple(map(tuple, theirs.confusion_matrix(true % 3, predicted % 3).tolist()))


def test_a_single_label_classifier_has_all_figures_of_a_classifier() -> None:
    task = SingleLabel(("a", "b", "c"))
    scores, targets = {"forward": probabilities(80, 3), "ensemble": probabilities(80, 3)}, RNG.integers(0, 3, 80)
    found = by_key(task.figures(scores, targets))
    assert list(found) == ["confusion", "classes", "reliability", "risk-coverage", "precision-recall"]
    curve = found["precision-recall"]
    assert isinstance(curve, Chart)
    assert [series.name for series in curve.series] == ["forward", "ensemble"]
    area = theirs.average_precision_score(np.eye(3)[targets], scores["ensemble"], average="micro")
    assert f"ensemble {area:.3f}" in curve.description


def test_two_labels_have_the_curve_of_the_second_one() -> None:
    task, scores, targets = SingleLabel(("no", "yes")), probabilities(60, 2), RNG.integers(0, 2, 60)
    curve = by_key(task.figures({"ensemble": scores}, targets))["precision-recall"]
    assert "of the label 'yes'" in curve.description
    assert f"{theirs.average_precision_score(targets, scores[:, 1]):.3f}" in curve.description


def test_a_multi_label_classifier_has_a_curve_per_threshold() -> None:
    task = MultiLabel(("a", "b"), thresholds=(0.3, 0.6))
    scores, true = RNG.random((90, 2)), RNG.random((90, 2)) < 0.4
    found = by_key(task.figures({"ensemble": scores}, true.astype(np.float32)))
    assert "confusion" not in found
    chart = found["threshold-1"]
    assert isinstance(chart, Chart)
    assert chart.verticals == (0.6,)
    precision, recall, f1 = chart.series
    at = recall.x.index(pytest.approx(0.5))
    chosen = scores[:, 1] >= 0.5
    assert recall.y[at] == pytest.approx(theirs.recall_score(true[:, 1], chosen))
    assert f1.y[at] == pytest.approx(theirs.f1_score(true[:, 1], chosen))
    assert precision.y[precision.x.index(pytest.approx(0.5))] == pytest.approx(
        theirs.precision_score(true[:, 1], chosen)
    )


def test_a_regression_shows_values_and_residuals_of_each_target() -> None:
    task = Regression((Target("price", 1.0, 2.0), Target("stars")))
    scores, true = RNG.normal(size=(30, 2)), RNG.normal(size=(30, 2))
    found = by_key(task.figures({"ensemble": scores}, true))
    assert list(found) == ["targets", "values-0", "residuals-0", "values-1", "residuals-1"]
    residuals = found["residuals-1"]
    assert isinstance(residuals, Chart)
    assert residuals.series[0].y == pytest.approx(scores[:, 1] - true[:, 1])
    assert not task.confidence_note


@pytest.mark.parametrize(
    ("task", "scores", "targets", "errors", "answer", "truth"),
    [
        (SingleLabel(("a", "b")), [[0.7, 0.3], [0.6, 0.4]], [0, 1], [0, 1], "a", "b"),
        (SETS, [[0.7, 0.3], [0.1, 0.1]], [[1, 1], [1, 0]], [0, 1], "no label", "a"),
        (Regression(), [[1.5], [2.0]], [[1.0], [2.0]], [0.5, 0], "2", "2"),
        (TWO, [[1, 1], [0, 0]], [[3, 1], [0, 0.5]], [0.5, 0.25], "x 0, y 0", "x 0, y 0.5"),
    ],
)
def test_errors_answers_and_truths_of_each_task(
    task: Task, scores: object, targets: object, errors: list[float], answer: str, truth: str
) -> None:
    values, true = np.array(scores, dtype=np.float64), np.array(targets)
    assert task.row_errors(values, true).tolist() == errors
    assert task.answer(values[1]) == answer
    assert task.truth(true[1]) == truth
    low, high = task.error_interval(task.row_errors(values, true))
    assert low <= np.mean(errors) <= high
    groups = task.agreement(values, values)
    assert sum(inside.sum() for _, inside in groups) == 2


def test_the_confidence_of_a_set_of_labels_is_that_of_all_decisions() -> None:
    task = MultiLabel(("a", "b"), thresholds=(0.5, 0.5))
    assert task.confidence(np.array([[0.9, 0.2]])) == pytest.approx([0.9 * 0.8])
    assert SingleLabel(("a", "b")).confidence(np.array([[0.9, 0.1]])) == pytest.approx([0.9])


def test_pages_of_many_rows_and_labels_stay_small() -> None:
    rows, labels = 20_000, 150
    rng = np.random.default_rng(0)
    task = SingleLabel(tuple(f"label {number}" for number in range(labels)))
    scores = {name: probabilities(rows, labels, rng) for name in ("forward", "ensemble")}
    drawn = [figure(each) for each in task.figures(scores, rng.integers(0, labels, rows))]
    assert sum(map(len, drawn)) < 200_000
    values = rng.normal(size=(rows, 1))
    regression = Regression().figures({"ensemble": values}, values + 1)
    assert all(len(each.series[0].x) == MOST_POINTS for each in regression if isinstance(each, Chart))
    assert sum(len(figure(each)) for each in regression) < 400_000
    many = MultiLabel(task.labels, thresholds=(0.5,) * labels)
    sets = (rng.random((2000, labels)) < 0.02).astype(np.float32)
    curves = many.figures({"ensemble": scores["ensemble"][:2000]}, sets)
    assert sum(each.key.startswith("threshold") for each in curves) == figures.MOST_LABELS_WITH_CURVES
