"""Labels of a teacher: probabilities of all forms in which tables hold them, labels, and everything that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.data.labeled import read_soft_labels
from bothways.errors import DataError
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import LabeledTexts, SoftLabel, Task

SINGLE = SingleLabel(("bad", "good", "so-so"))
MULTI = MultiLabel(("acting", "plot"), thresholds=(0.5, 0.2))
TEXTS = ["a film", "another film"]


def read(columns: Mapping[str, list[object]], task: Task = SINGLE, **options: object) -> LabeledTexts:
    table = {"text": TEXTS, **columns}
    return read_soft_labels(table, "text", "label", task, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["", "probability_"])
def test_probabilities_are_columns_in_any_order(prefix: str) -> None:
    """Named as the labels, or as ``bothways predict`` writes them beside its other columns."""
    found = read(
        {
            "predicted_label": ["good", "bad"],
            f"{prefix}so-so": [0.25, 0.0],
            f"{prefix}good": [0.5, 0.0],
            f"{prefix}bad": [0.25, 1.0],
        }
    )
    assert found.labels == [
        SoftLabel(SINGLE.labels, (0.25, 0.5, 0.25), ("good",)),
        SoftLabel(SINGLE.labels, (1.0, 0.0, 0.0), ("bad",)),
    ]
    targets = SINGLE.soft_targets(found)
    assert targets is not None
    np.testing.assert_array_equal(targets, [[0.25, 0.5, 0.25], [1, 0, 0]])
    np.testing.assert_array_equal(SINGLE.targets(found), [1, 0])
    assert found.has_soft_label.all()


def test_votes_are_divided_by_their_sum() -> None:
    found = read({"bad": ["3", "0"], "good": ["1", "1"], "so-so": ["0", "1"]})
    assert found.labels[0] == SoftLabel(SINGLE.labels, (0.75, 0.25, 0.0), ("bad",))


def test_labels_without_probabilities_are_read_from_the_label_column() -> None:
    found = read({"label": ["good", " bad "]})
    assert found.labels == [("good",), ("bad",)]
    assert SINGLE.soft_targets(found) is None
    with pytest.raises(DataError, match="unknown label 'great'; the training rows have 'bad', 'good', 'so-so'"):
        read({"label": ["good", "great"]})


def test_probabilities_of_several_labels_are_read_as_they_are() -> None:
    found = read({"acting": [0.9, 0.1], "plot": [0.3, 0.1]}, MULTI)
    assert found.labels == [
        SoftLabel(MULTI.labels, (0.9, 0.3), ("acting", "plot")),  # by the thresholds of the task
        SoftLabel(MULTI.labels, (0.1, 0.1), ()),
    ]
    with pytest.raises(DataError, match="label 'plot': found '2', expected a number from 0 to 1"):
        read({"acting": [0.9, 0.1], "plot": [0.3, "2"]}, MULTI)


def test_a_regression_reads_predicted_values_or_the_label_column() -> None:
    assert read({"predicted_value": ["1.5", "-2"]}, Regression()).values.tolist() == [[1.5], [-2]]
    assert read({"label": [1, 2]}, Regression()).values.tolist() == [[1], [2]]
    with pytest.raises(DataError, match="the target is missing"):
        read({"predicted_value": ["1.5", ""]}, Regression())


def test_weights_are_used_where_the_table_has_them() -> None:
    columns: dict[str, list[object]] = {"label": ["good", "bad"]}
    assert read(columns, weight="w").weights is None
    assert read({**columns, "w": [2, 0.5]}, weight="w").weights == [2, 0.5]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"bad": [0.5, -0.1]}, "label 'bad': found -0.1, expected a number of at least 0"),
        ({"bad": [0.5, "many"]}, "label 'bad': found 'many', expected a number of at least 0"),
        ({"bad": [0.5, None]}, "label 'bad': found None, expected a number of at least 0"),
        ({"bad": [0.5, float("nan")]}, "label 'bad': found nan, expected a number of at least 0"),
        ({"bad": [0.5, 0.0], "good": [0.5, 0.0], "so-so": [0, 0]}, "the probability of every label is 0"),
    ],
)
def test_invalid_probabilities_are_refused_or_left_out(columns: Mapping[str, list[object]], problem: str) -> None:
    table: dict[str, list[object]] = {"good": [0.5, 0.5], "so-so": [0, 0.5], **columns}
    with pytest.raises(DataError, match=problem):
        read(table)
    found = read(table, drop_invalid=True)
    assert (found.texts, len(found.invalid)) == ([TEXTS[0]], 1)


def test_a_table_without_soft_labels_names_the_columns_that_it_should_have() -> None:
    with pytest.raises(DataError, match="has probabilities of some labels, but no column 'probability_so-so'"):
        read({"probability_bad": [1, 1], "probability_good": [0, 0]})
    with pytest.raises(DataError, match="has probabilities of some labels, but no column 'so-so'"):
        read({"bad": [1, 1], "good": [0, 0]})
    expected = "has no soft labels. Expected the columns 'probability_bad', 'probability_good', 'probability_so-so', or"
    with pytest.raises(DataError, match=expected):
        read({"other": ["a", "b"]})
    with pytest.raises(DataError, match="has no column 'text'"):
        read_soft_labels({"body": TEXTS, "label": ["good", "bad"]}, "text", "label", SINGLE)


def test_a_file_that_predict_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "scored.csv").write_text(
        "text,predicted_label,predicted_probability,probability_bad,probability_good,probability_so-so\n"
        "a film,good,0.6,0.3,0.6,0.1\n"
    )
    found = read_soft_labels(tmp_path / "scored.csv", "text", "label", SINGLE)
    assert found.label_sets == [("good",)]
    assert found.distinct_labels == set(SINGLE.labels)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e20), min_size=3, max_size=3).filter(any))
def test_shares_of_one_label_add_up_to_1(shares: list[float]) -> None:
    label = SINGLE.parse_soft(shares)
    assert isinstance(label, SoftLabel)
    assert sum(label.probabilities) == pytest.approx(1)
    assert label.probabilities[SINGLE.labels.index(label.chosen[0])] == max(label.probabilities)
