"""Evaluations of all tasks: metrics of scikit-learn, intervals, plain data, and the errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as theirs

import bothways
from bothways.bundle.parity import ENSEMBLE
from bothways.errors import ConfigError, DataError
from bothways.evaluation.evaluate import confidence_intervals
from bothways.runtime.classifier import Classifier
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.text.reading import Direction
from tests.bundles import LABELS, TOPICS, write_with_early_exit

TEXTS = [f"{word} {number}" for word in ("lovely", "HATED it", "zzz q", "so, dog!", "") for number in range(12)]
NAMES = ["forward", "backward", ENSEMBLE]


def random_labels(seed: int = 0) -> list[str]:
    return [str(label) for label in np.random.default_rng(seed).choice(LABELS, len(TEXTS))]


def table(labels: object) -> dict[str, object]:
    return {"text": TEXTS, "y": labels}


def test_each_direction_has_the_metrics_of_scikit_learn(model: Classifier) -> None:
    true = random_labels()
    found = bothways.evaluate(model, table(true), label="y")
    assert (found.data, found.rows, found.task, found.labels) == ("the table", 60, "single-label", tuple(LABELS))
    assert found.digest == model.digest
    assert list(found.summary) == NAMES
    numbers = np.array([LABELS.index(label) for label in true])
    for name, probabilities in model.predict_proba_by_direction(TEXTS).items():
        predicted = probabilities.argmax(axis=1)
        summary = found.summary[name]
        assert summary["accuracy"] == pytest.approx(theirs.accuracy_score(numbers, predicted))
        assert summary["macro_f1"] == pytest.approx(theirs.f1_score(numbers, predicted, average="macro"))
        assert summary["log_loss"] == pytest.approx(theirs.log_loss(numbers, probabilities, labels=[0, 1, 2]))
        assert summary["roc_auc"] == pytest.approx(theirs.roc_auc_score(numbers, probabilities, multi_class="ovr"))
    matrix = theirs.confusion_matrix(numbers, model.predict_proba(TEXTS).argmax(axis=1))
    assert found.confusion == matrix.tolist()
    assert [each.label for each in found.classes] == LABELS
    assert sum(each.support for each in found.classes) == 60


def test_a_multi_label_evaluation_has_no_confusion(multi_label_model: Classifier) -> None:
    rng = np.random.default_rng(1)
    labels = [[topic for topic in TOPICS if rng.random() < 0.4] for _ in TEXTS]
    found = bothways.evaluate(multi_label_model, {"text": TEXTS, "topics": labels})  # recorded columns
    assert found.confusion is None
    assert set(found.intervals) == {"macro_f1", "micro_f1", "subset_accuracy"}
    true = np.array([[topic in row for topic in TOPICS] for row in labels])
    chosen = np.array([[topic in row for topic in TOPICS] for row in multi_label_model.predict(TEXTS)])
    expected = theirs.f1_score(true, chosen, average="macro", zero_division=0)
    assert found.summary[ENSEMBLE]["macro_f1"] == pytest.approx(expected)


def test_a_regression_is_evaluated_in_the_unit_of_the_target(regression_model: Classifier) -> None:
    true = np.random.default_rng(2).normal(20, 5, len(TEXTS)).tolist()
    found = bothways.evaluate(regression_model, table(true), label="y")
    assert (found.task, found.labels, found.classes, found.confusion) == ("regression", (), (), None)
    values = regression_model.predict(TEXTS)
    assert found.summary[ENSEMBLE]["rmse"] == pytest.approx(theirs.root_mean_squared_error(true, values))
    assert set(found.intervals) == {"rmse", "mae", "r2", "spearman"}
    assert list(found.to_frame().index) == NAMES
    assert found.to_frame().loc[ENSEMBLE, "mae"] == found.summary[ENSEMBLE]["mae"]


def test_several_targets_are_evaluated_each_and_on_average(targets_model: Classifier, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    true = rng.uniform(-1, 9, (len(TEXTS), 2))
    rows = {"text": TEXTS, "cost": true[:, 0].tolist(), "stars": true[:, 1].tolist(), "both": true.tolist()}
    found = bothways.evaluate(targets_model, rows)  # the recorded columns
    values = targets_model.predict(TEXTS)
    for place, name in enumerate(("price", "stars")):
        of_target = found.targets[name]
        assert of_target["mae"] == pytest.approx(theirs.mean_absolute_error(true[:, place], values[:, place]))
    summary = found.summary[ENSEMBLE]
    assert summary["r2"] == pytest.approx(theirs.r2_score(true, values))  # the mean over targets, as by default
    assert summary["rmse"] == pytest.approx(theirs.root_mean_squared_error(true, values))
    assert list(found.to_frame().index) == ["price", "stars"]
    for label in (["cost", "stars"], "both"):
        assert bothways.evaluate(targets_model, rows, label=label).summary == found.summary
    assert bothways.evaluate(targets_model, (TEXTS, true)).summary == found.summary
    with pytest.raises(ConfigError, match=r"label columns of this model are 'cost', 'stars'. Name them in this order"):
        bothways.evaluate(targets_model, rows, label=["stars", "cost"])
    with pytest.raises(ConfigError, match=r"3 label columns are named, but the model predicts 2 numbers"):
        bothways.evaluate(targets_model, rows, label=["stars", "cost", "both"])
    with pytest.raises(DataError, match=r"row 1, column 'both': target 'stars': the target is 'x', expected a finite"):
        bothways.evaluate(targets_model, {"text": ["a"], "both": [[1, "x"]]}, label="both")
    with pytest.raises(
        DataError, match=r"row 1, column 'text': found 'a', expected a list of 2 numbers, one per target"
    ):
        bothways.evaluate(targets_model, {"text": ["a"]}, label="text")


def test_only_a_regression_has_several_label_columns(model: Classifier) -> None:
    with pytest.raises(ConfigError, match="2 label columns are named, but a text classifier reads one"):
        bothways.evaluate(model, table(["bad"] * 60), label=["y", "z"])


def test_a_path_and_a_file_evaluate_like_a_model_and_a_table(
    model: Classifier, bundle_path: Path, tmp_path: Path
) -> None:
    rows = [{"text": text, "y": label} for text, label in zip(TEXTS, random_labels(), strict=True)]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    of_file = bothways.evaluate(bundle_path, path, label="y")
    of_table = bothways.evaluate(model, pd.DataFrame(rows), label="y")
    assert of_file.data == str(path)
    assert {**of_file.to_dict(), "data": ""} == {**of_table.to_dict(), "data": ""}


@pytest.mark.parametrize("which", ["model", "multi_label_model", "regression_model"])
def test_the_dictionary_survives_json_unchanged(which: str, request: pytest.FixtureRequest) -> None:
    model: Classifier = request.getfixturevalue(which)
    labels: dict[str, object] = {"model": "bad", "multi_label_model": [], "regression_model": 3.0}
    # All rows have the same label, so that many metrics are undefined.
    found = bothways.evaluate(model, table([labels[which]] * 60), label="y").to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {
        *("data", "rows", "task", "labels", "digest", "summary", "intervals", "classes", "confusion"),
        *("invalid", "unknown", "targets"),
    }


def test_the_frame_has_one_row_per_class(model: Classifier) -> None:
    found = bothways.evaluate(model, table(random_labels()), label="y")
    frame = found.to_frame()
    assert list(frame.index) == LABELS
    assert list(frame.columns) == ["precision", "recall", "f1", "support", "predicted"]
    assert frame["support"].sum() == 60


def test_without_pandas_the_frame_names_it(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bothways.evaluate(model, table(random_labels()), label="y")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(bothways.DependencyMissing, match="pip install pandas"):
        found.to_frame()


def test_it_prints_the_headline_metrics(model: Classifier) -> None:
    found = bothways.evaluate(model, table(random_labels()), label="y")
    accuracy, (low, high) = found.summary[ENSEMBLE]["accuracy"], found.intervals["accuracy"]
    assert str(found).startswith(f"accuracy {accuracy:.4g} ({low:.4g} to {high:.4g}), macro_f1 ")
    assert str(found).endswith(" on 60 rows of the table")
    assert repr(found).startswith(f"Evaluation(data='the table', rows=60, accuracy={accuracy:.4g}, macro_f1=")


def test_with_early_exit_directions_that_skipped_texts_are_left_out(bundle_path: Path, tmp_path: Path) -> None:
    path = write_with_early_exit(bundle_path, tmp_path / "m.bundle", Direction.BACKWARD, TEXTS)
    model = bothways.load(path, early_exit=True)
    found = bothways.evaluate(model, table(random_labels()), label="y")
    assert list(found.summary) == ["backward", ENSEMBLE]
    predicted = model.predict(TEXTS)
    assert found.summary[ENSEMBLE]["accuracy"] == pytest.approx(np.mean(predicted == random_labels()))


# Confidence intervals.


def test_the_interval_of_an_accuracy_is_that_of_the_binomial_distribution() -> None:
    """A bootstrap over rows resamples correct and wrong rows, whose number is binomially distributed."""
    rng = np.random.default_rng(4)
    true = rng.integers(0, 2, 400)
    predicted = np.where(rng.random(400) < 0.8, true, 1 - true)
    scores = np.eye(2)[predicted]
    low, high = confidence_intervals(SingleLabel(("a", "b")), scores, true)["accuracy"]
    accuracy = float((predicted == true).mean())
    half_width = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 400)
    assert low == pytest.approx(accuracy - half_width, abs=0.005)
    assert high == pytest.approx(accuracy + half_width, abs=0.005)
    assert confidence_intervals(SingleLabel(("a", "b")), scores, true)["accuracy"] == (low, high)


def test_resamples_without_a_metric_do_not_count() -> None:
    values, true = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [4.0]])
    found = confidence_intervals(Regression(), values, true)  # one resample in nine repeats a single row
    assert set(found) == {"rmse", "mae", "r2", "spearman"}
    assert found["spearman"] == (1, 1)


# Errors.


def test_columns_that_are_not_recorded_must_be_named(model: Classifier) -> None:
    with pytest.raises(bothways.ConfigError, match=r"does not record its label column\. Name it with --label"):
        bothways.evaluate(model, table(random_labels()))


def test_unknown_labels_and_missing_bundles_are_refused(model: Classifier, tmp_path: Path) -> None:
    with pytest.raises(bothways.DataError, match="unknown label 'great'"):
        bothways.evaluate(model, table(["great"] * 60), label="y")
    with pytest.raises(bothways.BundleMissing):
        bothways.evaluate(tmp_path / "none.bundle", table(random_labels()), label="y")


# Precisions.


def test_precisions_are_compared_on_the_same_rows(bundle_path: Path, model: Classifier) -> None:
    true = model.predict(TEXTS).tolist()
    found = bothways.compare_precision(bundle_path, table(true), label="y")
    predicted = bothways.load(bundle_path, precision="int8").predict(TEXTS)
    assert (found.data, found.rows) == ("the table", 60)
    assert found.metrics["float32"] == {"accuracy": 1, "macro_f1": 1}
    assert found.metrics["int8"]["accuracy"] == pytest.approx(np.mean(predicted == true))
    assert found.changed_labels == int((predicted != true).sum())


def test_precisions_of_a_regression_are_compared_too(
    regression_bundle_path: Path, regression_model: Classifier
) -> None:
    true = regression_model.predict(TEXTS).tolist()
    found = bothways.compare_precision(regression_bundle_path, table(true), label="y")
    assert found.metrics["float32"]["rmse"] == 0
    assert found.metrics["int8"]["rmse"] > 0
    assert found.changed_labels == 0


def test_unknown_labels_can_count_as_errors(model: Classifier) -> None:
    """A4: the metrics are scikit-learn's for labels that are never predicted."""
    labels = [*random_labels()[:-3], "new", "other", "new"]
    message = r"3 of 60 rows are invalid: .*unknown label 'new'; .* \(row 58, row 60\); .*'other'"
    with pytest.raises(bothways.DataError, match=message):
        bothways.evaluate(model, table(labels), label="y")
    found = bothways.evaluate(model, table(labels), label="y", unknown_labels="count")
    assert (found.rows, found.unknown, found.labels) == (60, 3, (*LABELS, "new", "other"))
    predicted = model.predict(TEXTS)
    assert found.summary["ensemble"]["accuracy"] == pytest.approx(theirs.accuracy_score(labels, predicted))
    macro = theirs.f1_score(labels, predicted, average="macro", zero_division=0)
    assert found.summary["ensemble"]["macro_f1"] == pytest.approx(macro)
    assert [each.support for each in found.classes[-2:]] == [2, 1]
    json.dumps(found.to_dict(), allow_nan=False)


def test_unknown_labels_of_several_per_text_can_count_as_errors(multi_label_model: Classifier) -> None:
    """A4: a label that is never predicted is missing in every text that has it."""
    labels = [[TOPICS[0], "new"] if number % 2 else [] for number in range(60)]
    found = bothways.evaluate(multi_label_model, {"text": TEXTS, "topics": labels}, unknown_labels="count")
    assert (found.unknown, found.labels) == (30, (*TOPICS, "new"))
    assert (found.classes[-1].support, found.classes[-1].recall) == (30, 0.0)


def test_invalid_rows_are_left_out_and_returned(model: Classifier) -> None:
    """A4: counted and listed in the result."""
    labels: list[object] = [None, *random_labels()[1:]]
    found = bothways.evaluate(model, table(labels), label="y", drop_invalid=True)
    assert (found.rows, [row.place for row in found.invalid]) == (59, ["row 1"])
    assert found.to_dict()["invalid"] == [
        {"source": "the table", "place": "row 1", "column": "y", "reason": "the label is missing",
         "values": {"text": TEXTS[0], "y": None}}
    ]  # fmt: skip


def test_texts_and_labels_may_be_two_lists(model: Classifier) -> None:
    """A8: evaluate takes what train takes."""
    labels = random_labels()
    assert bothways.evaluate(model, (TEXTS, labels)) == bothways.evaluate(model, table(labels), label="y")
