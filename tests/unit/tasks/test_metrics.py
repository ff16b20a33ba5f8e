"""Metrics are those of scikit-learn and SciPy, by property tests against them (B2: macro F1 of absent classes)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as theirs

from bothways.tasks import metrics
from bothways.tasks.metrics import CALIBRATION_BINS, calibration_error, class_counts, confusion, label_counts
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Target, Task

seeds = st.integers(0, 2**32 - 1)


def labels(count: int) -> tuple[str, ...]:
    return tuple("abcdefgh"[:count])


@given(seeds, st.integers(2, 5), st.integers(1, 60))
def test_single_label_metrics_are_those_of_scikit_learn(seed: int, classes: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(classes), rows).round(2)  # ties occur
    scores /= scores.sum(axis=1, keepdims=True)
    true = rng.integers(0, rng.integers(1, classes + 1), rows)  # some classes do not occur
    predicted = scores.argmax(axis=1)
    found = SingleLabel(labels(classes)).metrics(scores, true)
    numbers = list(range(classes))

    assert found.summary["accuracy"] == pytest.approx(theirs.accuracy_score(true, predicted))
    for average in ("macro", "micro", "weighted"):
        expected = theirs.f1_score(true, predicted, average=average, zero_division=0)
        assert found.summary[f"{average}_f1"] == pytest.approx(expected), average
    assert found.summary["log_loss"] == pytest.approx(
        theirs.log_loss(true, scores.clip(1e-12, 1), labels=numbers), abs=1e-9
    )
    counts = theirs.precision_recall_fscore_support(true, predicted, labels=numbers, zero_division=0)
    assert [[each.precision, each.recall, each.f1, each.support] for each in found.classes] == [
        pytest.approx(list(expected)) for expected in zip(*counts, strict=True)
    ]
    assert [each.predicted for each in found.classes] == np.bincount(predicted, minlength=classes).tolist()
    assert found.confusion is not None
    assert found.confusion.tolist() == theirs.confusion_matrix(true, predicted, labels=numbers).tolist()


@given(seeds, st.integers(2, 60))
def test_rankings_of_two_classes_are_those_of_scikit_learn(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    second = rng.random(rows).round(1)
    true = rng.integers(0, 2, rows)
    found = SingleLabel(("no", "yes")).metrics(np.column_stack([1 - second, second]), true).summary
    if true.any():
        assert found["average_precision"] == pytest.approx(theirs.average_precision_score(true, second))
    else:
        assert "average_precision" not in found
    if 0 < true.sum() < rows:
        assert found["roc_auc"] == pytest.approx(theirs.roc_auc_score(true, second))
    else:
        assert "roc_auc" not in found


@given(seeds, st.integers(3, 5), st.integers(5, 60))
def test_rankings_of_several_classes_are_those_of_scikit_learn(seed: int, classes: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(classes), rows)
    true = rng.integers(0, classes, rows)
    assume(len(set(true.tolist())) == classes)  # scikit-learn refuses classes that do not occur
    found = SingleLabel(labels(classes)).metrics(scores, true).summary
    assert found["roc_auc"] == pytest.approx(theirs.roc_auc_score(true, scores, multi_class="ovr", average="macro"))
    one_hot = np.eye(classes)[true]
    assert found["average_precision"] == pytest.approx(theirs.average_precision_score(one_hot, scores))


@given(seeds, st.integers(1, 5), st.integers(1, 60))
def test_multi_label_metrics_are_those_of_scikit_learn(seed: int, count: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((rows, count)).round(2)
    thresholds = tuple(rng.uniform(0.2, 0.8, count).tolist())
    true = rng.random((rows, count)) < rng.random(count)
    task = MultiLabel(labels(count), thresholds=thresholds)
    found = task.metrics(scores, true.astype(np.float32))
    chosen = scores >= np.array(thresholds)

    for average in ("macro", "micro", "weighted"):
        if count == 1:  # scikit-learn takes a single column for two classes
            expected = theirs.f1_score(true[:, 0], chosen[:, 0], zero_division=0)
            expected = expected if average != "weighted" or true.any() else 0
        else:
            expected = theirs.f1_score(true, chosen, average=average, zero_division=0)
        assert found.summary[f"{average}_f1"] == pytest.approx(expected), average
    assert found.summary["subset_accuracy"] == pytest.approx((true == chosen).all(axis=1).mean())
    losses = [
        theirs.log_loss(true[:, n], np.column_stack([1 - scores[:, n], scores[:, n]]).clip(1e-12, 1), labels=[0, 1])
        for n in range(count)
    ]
    assert found.summary["log_loss"] == pytest.approx(sum(losses), abs=1e-9)
    for number, each in enumerate(found.classes):
        expected = theirs.precision_recall_fscore_support(
            true[:, number], chosen[:, number], labels=[True], zero_division=0
        )
        assert [each.precision, each.recall, each.f1, each.support] == pytest.approx([float(v[0]) for v in expected])
    assert found.confusion is None


@given(seeds, st.integers(1, 4), st.integers(4, 60))
def test_multi_label_rankings_are_those_of_scikit_learn(seed: int, count: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((rows, count)).round(1)
    true = rng.random((rows, count)) < 0.5
    assume((true.any(axis=0) & ~true.all(axis=0)).all())
    found = MultiLabel(labels(count), thresholds=(0.5,) * count).metrics(scores, true.astype(np.float32)).summary
    assert found["roc_auc"] == pytest.approx(theirs.roc_auc_score(true, scores, average="macro"))
    assert found["average_precision"] == pytest.approx(theirs.average_precision_score(true, scores, average="macro"))


@given(seeds, st.integers(2, 60))
def test_regression_metrics_are_those_of_scikit_learn_and_scipy(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(3, 2, rows).round(0)  # ties occur
    values = (true + rng.normal(0, 2, rows)).round(1)
    found = Regression().metrics(values[:, None], true[:, None]).summary
    assert found["rmse"] == pytest.approx(theirs.root_mean_squared_error(true, values))
    assert found["mae"] == pytest.approx(theirs.mean_absolute_error(true, values))
    if len(set(true)) > 1:
        assert found["r2"] == pytest.approx(theirs.r2_score(true, values))
    if len(set(true)) > 1 and len(set(values)) > 1:
        assert found["spearman"] == pytest.approx(stats.spearmanr(true, values).statistic)
    assert set(found) >= {"rmse", "mae"}


def test_metrics_that_are_undefined_are_missing() -> None:
    constant = np.ones((4, 1))
    assert set(Regression().metrics(constant * 2, constant).summary) == {"rmse", "mae"}
    assert set(Regression().metrics(constant, np.arange(4.0)[:, None]).summary) == {"rmse", "mae", "r2"}
    assert metrics.mean_over_labels(metrics.roc_auc, np.ones((3, 2)), np.ones((3, 2), dtype=np.bool_)) is None


@given(seeds, st.integers(1, 60))
def test_ranks_are_those_of_scipy(seed: int, count: int) -> None:
    values = np.random.default_rng(seed).integers(0, 9, count).astype(np.float64)
    assert metrics.ranks(values).tolist() == stats.rankdata(values).tolist()


def test_counts_of_classes_are_those_of_one_label_per_text() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 5, 200), rng.integers(0, 4, 200)
    ours = class_counts(confusion(true, predicted, 5))
    flags = label_counts(np.eye(5, dtype=np.bool_)[true], np.eye(5, dtype=np.bool_)[predicted])
    for name in ("correct", "predicted", "true"):
        assert getattr(ours, name).tolist() == getattr(flags, name).tolist()


def test_probabilities_that_match_the_frequencies_have_no_calibration_error() -> None:
    probabilities = np.repeat([0.1, 0.5, 0.9], 10)
    occurred = np.array([n % 10 < 10 * p for n, p in enumerate(probabilities)])
    assert calibration_error(probabilities, occurred) == pytest.approx(0)
    assert calibration_error(probabilities, ~occurred) == pytest.approx((0.8 + 0 + 0.8) / 3)


def test_certainties_are_in_the_last_bin() -> None:
    assert calibration_error(np.array([0.95, 1.0]), np.array([True, False])) == pytest.approx(0.475)
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0
    assert calibration_error(np.array([0.0, 1.0]), np.array([True, True])) == 0.5


@pytest.mark.parametrize("shape", [(1,), (500,), (50, 7)])
def test_the_calibration_error_is_the_weighted_distance_of_each_bin(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.random(shape)
    occurred = rng.random(shape) < probabilities**2
    expected = 0.0
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    for low, high in itertools.pairwise(edges):
        inside = (probabilities >= low) & (probabilities < high)
        if inside.any():
            expected += inside.mean() * abs(probabilities[inside].mean() - occurred[inside].mean())
    assert calibration_error(probabilities, occurred) == pytest.approx(expected)
    assert CALIBRATION_BINS == 15


@given(seeds, st.integers(2, 8), st.integers(1, 80))
def test_b2_macro_f1_counts_the_classes_that_are_true_or_predicted_as_scikit_learn_does(
    seed: int, classes: int, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    present = rng.permutation(classes)[: rng.integers(1, classes + 1)]  # neither true nor predicted: all others
    true, predicted = rng.choice(present, rows), rng.choice(present, rows)
    scores = np.eye(classes)[predicted]
    task = SingleLabel(labels(classes))
    expected = theirs.f1_score(true, predicted, average="macro")  # scikit-learn's defaults
    for found in (
        task.metrics(scores, true).summary,
        task.epoch_metrics(scores, true),
        task.headline_metrics(scores, true),
    ):
        assert found["macro_f1"] == pytest.approx(expected)


def test_b2_the_example_of_the_finding() -> None:
    true, predicted = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, 0])
    found = SingleLabel(tuple("abcd")).headline_metrics(np.eye(4)[predicted], true)
    assert found["macro_f1"] == pytest.approx(2 / 3)  # and not 1/3, the mean over four classes


@given(seeds, st.integers(2, 5), st.integers(1, 40))
def test_b2_many_labels_count_all_labels_as_scikit_learn_does(seed: int, count: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    used = rng.random(count) < 0.6  # other labels are neither true nor predicted
    true, scores = (rng.random((rows, count)) < 0.4) & used, rng.random((rows, count)) * used
    task = MultiLabel(labels(count), thresholds=(0.5,) * count)
    expected = theirs.f1_score(true, scores >= 0.5, average="macro", zero_division=0)
    assert task.headline_metrics(scores, true.astype(np.float32))["macro_f1"] == pytest.approx(expected)


@given(seeds, st.integers(2, 5), st.integers(3, 40))
def test_the_headline_of_a_resample_is_that_of_its_rows(seed: int, count: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    scores, resample = rng.random((rows, count)), rng.integers(0, rows, rows)
    for task, targets in (
        (SingleLabel(labels(count)), rng.integers(0, count, rows)),
        (MultiLabel(labels(count), thresholds=(0.5,) * count), (rng.random((rows, count)) < 0.4).astype(np.float32)),
        (Regression(tuple(map(Target, labels(count)))), rng.random((rows, count))),
    ):
        expected = task.headline_metrics(scores[resample], targets[resample])
        assert task.resampled_headline(scores, targets)(resample) == expected


@pytest.mark.parametrize("task", [SingleLabel(("a", "b")), MultiLabel(("a", "b"), thresholds=(0.5, 0.5))])
def test_a_bootstrap_decides_once(task: Task) -> None:
    scores = np.eye(2)[[0, 1, 1]]
    targets = np.array([0, 1, 0]) if isinstance(task, SingleLabel) else np.eye(2)[[0, 1, 0]]
    headline = task.resampled_headline(scores, targets)
    scores[:] = 0  # is not read again
    assert headline(np.array([0, 1]))["macro_f1"] == 1


def test_b1_the_interval_of_a_share_is_that_of_wilson() -> None:
    for right, rows in ((0, 6), (6, 6), (5, 9), (400, 500)):
        theirs_low, theirs_high = stats.binomtest(right, rows).proportion_ci(method="wilson")
        assert metrics.wilson_interval(right, rows) == pytest.approx((theirs_low, theirs_high), abs=1e-4)
