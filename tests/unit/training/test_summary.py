"""B1: the reports before and after a training."""

from __future__ import annotations

import numpy as np
import pytest

from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Label, LabeledTexts, Split
from bothways.training.estimate import duration_text
from bothways.training.summary import data_reports, length_report, result_reports


def split(train: list[Label], valid: list[Label]) -> Split:
    first, second = (LabeledTexts("d", [f"text {n}" for n in range(len(each))], each) for each in (train, valid))
    return Split(first, second)


def test_b1_few_classes_are_a_table_and_many_are_named_by_the_rarest_and_largest() -> None:
    labels: list[Label] = [("a" if number < 1200 else "b",) for number in range(1230)]
    (few,) = data_reports(split(labels, labels[1199:1201]), 7)
    assert few.message.splitlines() == [
        "1,230 training, 2 validation, 7 unlabeled rows; 2 classes; rarest 'b' with 30 training rows",
        "  class  training  validation",
        "  'a'       1,200           1",
        "  'b'          30           1",
    ]
    assert few.facts["classes"] == {
        "a": {"training": 1200, "validation": 1},
        "b": {"training": 30, "validation": 1},
    }
    labels = [(str(number),) for number in range(150)]
    (many,) = data_reports(split([*labels, ("7",), ("7",), ("9",)], labels), 0)
    assert many.message == (
        "153 training, 150 validation rows; 150 classes; rarest 0 with 1 training row, largest 7 with 3"
    )
    assert list(many.facts["classes"]) == [str(number) for number in range(150)]  # type: ignore[call-overload]


def test_b1_classes_that_are_not_validated_are_named() -> None:
    labels: list[Label] = [(letter,) for letter in "abcdefgh"]
    _, warning = data_reports(split(labels, labels[:1]), 0)
    assert warning.is_warning
    assert warning.message == "classes 'b', 'c', 'd', 'e', 'f' and 2 more without validation rows: not validated"


def test_b1_targets_have_a_range() -> None:
    (report,) = data_reports(split([1.5, 2.0, 30.0], [1.0]), 0)
    assert report.message == "3 training, 1 validation rows; targets 1.5 to 30, median 2"


def test_b1_lengths() -> None:
    report = length_report(np.array([3] * 98 + [50, 1200]))
    assert report.message == "3 tokens per text (median), 62 (p99), 1,200 (longest)"


def test_b1_the_result_is_a_table_with_the_recall_of_each_class() -> None:
    task = SingleLabel(("ham", "none", "spam"))
    true = np.array([0] * 60 + [2] * 20)
    predicted = np.array([0] * 60 + [2] * 15 + [0] * 5)
    scores = np.eye(3)[predicted]
    (report,) = result_reports(task, {"forward": scores, "ensemble": scores}, true)
    assert [line.split() for line in report.message.splitlines()] == [
        ["on", "80", "validation", "rows"],
        ["accuracy", "macro", "F1"],
        ["forward", "93.8%", "0.909"],
        ["ensemble", "93.8%", "0.909"],
        [],
        ["class", "recall", "precision", "rows", "predicted"],
        ["'ham'", "100.0%", "92.3%", "60", "65"],
        ["'none'", "–", "–", "0", "0"],
        ["'spam'", "75.0%", "100.0%", "20", "15"],
    ]


def test_b1_few_rows_and_classes_that_are_never_predicted_are_warned_about() -> None:
    task = SingleLabel(("a", "b"))
    report, unpredicted, few = result_reports(task, {"ensemble": np.tile([0.9, 0.1], (6, 1))}, np.array([0] * 5 + [1]))
    assert unpredicted.message == "class 'b' never predicted on the validation rows"
    assert few.message == (
        "only 6 validation rows, so the metrics are uncertain: accuracy 5 of 6, 95 % interval 44% to 97%"
    )
    assert unpredicted.is_warning
    assert few.is_warning
    assert not report.is_warning
    *_, perfect = result_reports(task, {"ensemble": np.eye(2)[[0, 0, 0, 1, 1, 1]]}, np.array([0, 0, 0, 1, 1, 1]))
    assert "accuracy 6 of 6, 95 % interval 61% to 100%" in perfect.message


def test_b1_with_many_classes_those_of_the_lowest_recall_are_shown() -> None:
    task = SingleLabel(tuple(f"{number:02}" for number in range(40)))
    true = np.arange(40).repeat(5)
    predicted = np.where(true == 33, 0, true)
    report, _ = result_reports(task, {"ensemble": np.eye(40)[predicted]}, true)
    lines = report.message.splitlines()
    assert lines[4].split()[:4] == ["20", "of", "40", "classes,"]
    assert lines[5].split()[:2] == ["'33'", "0.0%"]
    assert len(lines) == 5 + 20


def test_b1_many_labels_have_an_exact_match_and_no_accuracy_per_decision() -> None:
    task = MultiLabel(("a", "b"), thresholds=(0.5, 0.5))
    true = np.tile([[1, 0], [0, 1]], (30, 1)).astype(np.float32)
    scores = np.where(true > 0, 0.9, 0.1)
    scores[0] = 0.1
    (report,) = result_reports(task, {"ensemble": scores}, true)
    assert report.message.splitlines()[1].split() == ["macro", "F1", "micro", "F1", "subset", "accuracy"]
    assert report.message.splitlines()[2].split() == ["ensemble", "0.992", "0.992", "98.3%"]
    assert set(task.epoch_metrics(scores, true)) == {"loss", "macro_f1", "micro_f1", "subset_accuracy"}


def test_b1_values_have_errors_in_their_unit() -> None:
    true = np.arange(60.0)[:, None]
    (report,) = result_reports(Regression(), {"ensemble": true + 1}, true)
    assert report.message.splitlines()[1].split() == ["rmse", "mae", "r2", "spearman"]
    assert len(report.message.splitlines()) == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "10 seconds"), (44, "40 seconds"), (100, "2 minutes"), (3_000, "50 minutes"), (9_000, "2.5 hours")],
)
def test_b1_durations_are_rough(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
