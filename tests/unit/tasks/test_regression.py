"""Regression: targets read, checked, split and scaled; metrics as scikit-learn has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from bothways.data.labeled import read_labeled
from bothways.errors import ConfigError, DataError
from bothways.tasks.registry import new_task, task_of
from bothways.tasks.regression import Regression
from bothways.tasks.task import LabeledTexts, Target, TaskRecord

TASK = Regression()
TARGET = (Target(),)


def rows(*pairs: tuple[str, float], name: str = "d.csv") -> LabeledTexts:
    return LabeledTexts(name, [text for text, _ in pairs], [value for _, value in pairs])


MANY = rows(*((f"text {number}", float(number % 50)) for number in range(300)))


def test_numbers_and_their_notations_are_targets() -> None:
    table = {"t": list("abcdef"), "y": [1, 2.5, "3", " -4e1 ", np.float32(0.5), np.int64(7)]}
    assert read_labeled(table, "t", "y", TASK).values.ravel().tolist() == [1, 2.5, 3, -40, 0.5, 7]


@pytest.mark.parametrize("value", ["good", "nan", "inf", float("-inf"), True, "1,5", [1.0], 1e31, "1" * 400])
def test_what_is_not_a_finite_number_is_refused_by_its_place(value: object) -> None:
    with pytest.raises(DataError, match=r"^the table, row 2, column 'y': the target is .*, expected a finite number"):
        read_labeled({"t": ["a", "b"], "y": [1.0, value]}, "t", "y", TASK)


@pytest.mark.parametrize("value", [None, float("nan"), "", "  "])
def test_a_missing_target_is_refused_by_its_place(value: object) -> None:
    with pytest.raises(DataError, match=r"row 2, column 'y': the target is missing"):
        read_labeled({"t": ["a", "b"], "y": [1.0, value]}, "t", "y", TASK)


def test_targets_that_teach_nothing_are_refused() -> None:
    with pytest.raises(DataError, match=r"all 2 rows have the target 3; nothing can be learned"):
        TASK.check(rows(("a", 3), ("b", 3)))
    with pytest.raises(DataError, match="all 2 rows have the same text"):
        TASK.check(rows(("a", 3), ("a", 4)))


def test_each_tenth_of_the_range_is_validated() -> None:
    split = TASK.split(MANY, 0.1, seed=0)
    assert len(split.valid) == pytest.approx(30, abs=3)
    counts, _ = np.histogram(split.valid.values, bins=10, range=(0, 50))
    assert (counts >= 2).all()
    assert TASK.split(MANY, 0.1, seed=0).valid == split.valid
    assert TASK.split(MANY, 0.1, seed=1).valid != split.valid


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 5).map(float)), min_size=2, max_size=30).filter(
        lambda pairs: len({text for text, _ in pairs}) > 1
    ),
    st.floats(0.05, 0.95),
    st.integers(0, 9),
)
def test_every_row_is_on_one_side_and_rows_of_one_text_stay_together(
    pairs: list[tuple[str, float]], fraction: float, seed: int
) -> None:
    split = TASK.split(rows(*pairs), fraction, seed)
    assert sorted([*split.train.texts, *split.valid.texts]) == sorted(text for text, _ in pairs)
    assert not set(split.train.texts) & set(split.valid.texts)
    assert len(split.train) > 0
    assert len(split.valid) > 0


def test_scores_are_in_the_unit_of_the_target() -> None:
    task = TASK.fitted(rows(("a", 10.0), ("b", 30.0)))
    assert task.predicted == (Target(center=20.0, scale=10.0),)
    assert task.activation(np.array([[0.0], [1.0], [-0.5]])).ravel().tolist() == [20.0, 30.0, 15.0]
    assert task.decide(np.array([12.5])).value == 12.5
    assert task.cells(np.array([12.5])) == [12.5]
    assert task_of(task.record()) == task


@given(st.integers(0, 10_000))
def test_metrics_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(5, 2, 40).round(1)
    found = (true + rng.normal(0, 1, 40)).round(1)
    ours = TASK.metrics(found[:, None], true[:, None]).summary
    assert ours["rmse"] == pytest.approx(theirs.root_mean_squared_error(true, found))
    assert ours["mae"] == pytest.approx(theirs.mean_absolute_error(true, found))
    assert ours["r2"] == pytest.approx(theirs.r2_score(true, found))


def test_what_has_no_meaning_is_refused_with_a_reason() -> None:
    with pytest.raises(ConfigError, match="class_weights needs classes"):
        TASK.class_weights("balanced", np.array([[1.0]]))
    assert "no probabilities" in TASK.no_probabilities
    assert "early exit needs" in TASK.no_early_exit
    for record, message in (
        (TaskRecord("regression", temperature=1.0, targets=TARGET), "has no calibration"),
        (TaskRecord("regression", thresholds=(0.5,), targets=TARGET), "no labels and no thresholds"),
        (TaskRecord("regression", labels=("a",), targets=TARGET), "no labels and no thresholds"),
        (TaskRecord("regression"), "needs a target"),
    ):
        with pytest.raises(ValueError, match=message):
            task_of(record)


def test_a_task_is_named_or_follows_from_the_separator() -> None:
    assert [new_task().name, new_task(separator="|").name, new_task("regression").name] == [
        "single-label",
        "multi-label",
        "regression",
    ]
    with pytest.raises(ConfigError, match="unknown task 'ranking'; use one of single-label, multi-label, regression"):
        new_task("ranking")
    with pytest.raises(ConfigError, match="a label separator needs the task multi-label, not regression"):
        new_task("regression", "|")
