"""A2 to A4: labels and weights as people have them, from every source, and all invalid rows reported at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bothways.data.invalid import write_invalid
from bothways.data.labeled import labeled_source, read_labeled, read_valid_texts
from bothways.errors import ConfigError, DataError, OutputExists
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.registry import new_task
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import LabeledTexts, Task


def read(table: Any, task: Task | None = None, label: str | None = "y", **options: Any) -> LabeledTexts:
    return read_labeled(table, "t", label, task or SingleLabel(), **options)


def names(rows: LabeledTexts) -> list[str]:
    return [label for (label,) in rows.label_sets]


def csv_file(folder: Path, content: str) -> Path:
    path = folder / "d.csv"
    path.write_text(content, encoding="utf-8")
    return path


# One spelling per label.


def test_spellings_of_a_label_become_one(tmp_path: Path) -> None:
    """A2: space after the separator, Unicode forms and invisible characters."""
    path = csv_file(tmp_path, "t,y\na, pos\nb,pos\nc,cafe\u0301\nd,caf\u00e9\ne,\ufeffpos\nf,po\u200bs\n")
    assert names(read(path)) == ["pos", "pos", "café", "café", "pos", "pos"]


@pytest.mark.parametrize("spelled", ["false,true", "False,True", "FALSE,TRUE"])
def test_booleans_are_read_alike_from_every_source(tmp_path: Path, spelled: str) -> None:
    """A2: Parquet has false where CSV has False."""
    no, yes = spelled.split(",")
    texts, flags = ["a", "b", "c"], [False, True, True]
    frame = pd.DataFrame({"t": texts, "y": flags})
    parquet.write_table(pa.table({"t": texts, "y": flags}), tmp_path / "d.parquet")
    lines = tmp_path / "d.jsonl"
    lines.write_text("".join(json.dumps({"t": t, "y": y}) + "\n" for t, y in zip(texts, flags, strict=True)))
    path = csv_file(tmp_path, f"t,y\na,{no}\nb,{yes}\nc,{yes}\n")
    for source in (path, frame, tmp_path / "d.parquet", lines, {"t": texts, "y": np.array(flags)}):
        rows = read(source)
        assert names(rows) == ["false", "true", "true"]
        assert SingleLabel().fitted(rows).label_values == (False, True)


def test_whole_numbers_of_a_column_with_gaps_are_whole(tmp_path: Path) -> None:
    """A3: pandas turns a column of whole numbers with a missing value into floats."""
    frame = pd.DataFrame({"t": list("abc"), "y": [10, 2, None]})
    frame.to_csv(tmp_path / "d.csv", index=False)
    for source in (frame, tmp_path / "d.csv"):
        rows = read(source, drop_invalid=True)
        assert names(rows) == ["10", "2"]
        assert SingleLabel().fitted(rows).label_values == (2, 10)
        assert [row.reason for row in rows.invalid] == ["the label is missing"]


labels_of_a_kind = st.one_of(
    st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=1, max_size=6),
    st.lists(st.text("ab\u00e9 1.|;T", min_size=1, max_size=4).map(str.strip).filter(bool), min_size=1, max_size=6),
)


@settings(max_examples=40, deadline=None)
@given(labels_of_a_kind)
def test_labels_are_the_same_from_every_source(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str | int | bool]
) -> None:
    """A3: the values that a model predicts are those of the column, whatever the file."""
    folder = tmp_path_factory.mktemp("sources")
    frame = pd.DataFrame({"t": ["a"] * len(labels), "y": labels})
    frame.to_csv(folder / "d.csv", index=False)
    frame.to_json(folder / "d.jsonl", orient="records", lines=True)
    frame.to_parquet(folder / "d.parquet")
    known = SingleLabel().fitted(read(frame))
    for source in (
        frame,
        pl.DataFrame(frame.to_dict("list")),
        *(folder / f"d.{end}" for end in ("csv", "jsonl", "parquet")),
    ):
        rows = read(source, known)
        assert [known.label_values[position] for position in known.targets(rows)] == [
            known.label_values[known.labels.index(label)] for label in names(read(frame))
        ]
        assert SingleLabel().fitted(read(source)).label_values == known.label_values


def test_an_evaluated_label_may_be_the_number_or_its_text() -> None:
    """A3: ints, whole floats and texts mean the same label of an integer model."""
    model = SingleLabel(("2", "10"), label_kind="integer")
    for labels in ([2, 10], [2.0, 10.0], ["2", "10"], ["2.0", " 10"]):
        assert names(read({"t": ["a", "b"], "y": labels}, model)) == ["2", "10"]


# Lists of labels.


@pytest.mark.parametrize(
    "cell",
    [["x", "y"], ("x", "y"), {"y", "x"}, frozenset("xy"), np.array(["x", "y"]), pl.Series(["x", "y"]), "['x', 'y']"],
    ids=lambda cell: type(cell).__name__,
)
def test_lists_may_have_any_type(cell: object) -> None:
    """A4: polars lists, sets, tuples and arrays."""
    rows = read({"t": ["a", "b"], "y": [cell, ["y"]]}, MultiLabel())
    assert rows.labels == [("x", "y"), ("y",)]


def test_a_column_of_lists_of_polars_and_arrow() -> None:
    """A4: the table is refused by no library."""
    columns = {"t": ["a", "b"], "y": [["x", "y"], []]}
    assert read(pl.DataFrame(columns), MultiLabel()).labels == [("x", "y"), ()]
    assert read(pa.table(columns), MultiLabel()).labels == [("x", "y"), ()]


def test_lists_written_to_csv_are_read_again(tmp_path: Path) -> None:
    """A2: as pandas writes them."""
    pd.DataFrame({"t": ["a", "b"], "y": [["x", "y"], []]}).to_csv(tmp_path / "d.csv", index=False)
    assert read(tmp_path / "d.csv", MultiLabel()).labels == [("x", "y"), ()]


def test_multi_hot_lists_need_names() -> None:
    """A2: 0 and 1 are no labels."""
    table = {"t": ["a", "b", "c"], "y": [[1, 0, 1], [0, 1, 0], [0, 0, 0]]}
    with pytest.raises(
        DataError, match=r"3 of 3 rows are invalid: .*a multi-hot list; name the label of each position"
    ):
        read(table, MultiLabel())
    rows = read(table, MultiLabel(label_columns=("c", "a", "b")))
    assert rows.labels == [("c", "b"), ("a",), ()]
    assert MultiLabel(label_columns=("c", "a", "b")).fitted(rows).labels == ("c", "a", "b")


def test_a_multi_hot_list_of_another_length_is_invalid() -> None:
    with pytest.raises(DataError, match=r"row 2, column 'y': found 2 values, expected a list of 3 values, 0 or 1 per"):
        read({"t": ["a", "b"], "y": [[1, 0, 1], [0, 1]]}, MultiLabel(label_columns=("a", "b", "c")))


def test_two_positions_that_are_always_both_labels() -> None:
    """A2: multi-hot lists of two positions are lists of the labels 0 and 1 too."""
    task = MultiLabel()
    rows = read({"t": ["a", "b"], "y": [[1, 0], [0, 1]]}, task)
    with pytest.raises(DataError, match=r"all 2 rows have the labels '0', '1'; nothing can be learned\. Name the pos"):
        task.check(rows)


def test_one_column_per_label(tmp_path: Path) -> None:
    """A4: columns of 0 and 1, as Kaggle has them, in the order given."""
    path = csv_file(tmp_path, "toxic,t,rude,unused\n1,a,0,x\n0,b,1,x\nFalse,c,1.0,x\n")
    task = new_task(label_columns=["rude", "toxic"])
    rows = read(path, task, None)
    assert rows.labels == [("toxic",), ("rude",), ("rude",)]
    assert task.fitted(rows).labels == ("rude", "toxic")
    assert task.record().label_columns == ("rude", "toxic")


def test_columns_of_labels_without_rows_are_kept_and_warned_of() -> None:
    task = new_task(label_columns=["x", "y"])
    rows = read({"t": ["a", "b"], "x": [1, 0], "y": [0, 0]}, task, None)
    assert task.fitted(rows).labels == ("x", "y")
    assert task.check(rows) == ["the table: no row has the labels 'y', so they cannot be learned"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["a", "a "], "the label name 'a' is given twice"),
        (["a", " "], "the label name ' ' cannot be used: the label is missing"),
        (["a|b", "c"], "contains the separator '|'"),
    ],
)
def test_impossible_names_of_labels_are_refused(columns: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        new_task(label_columns=columns)
    assert message in str(caught.value)


def test_names_of_labels_need_multi_label() -> None:
    with pytest.raises(ConfigError, match="label names need the task multi-label, not regression"):
        new_task("regression", label_columns=["a"])
    with pytest.raises(ConfigError, match="0/1 columns have no label separator"):
        new_task(None, "|", ["a"])


def test_a_separator_that_is_never_used_is_reported() -> None:
    """A2: a,b;c with the separator | would train on combinations."""
    task = MultiLabel(separator="|")
    assert task.check(read({"t": ["a", "b"], "y": ["x", "y"]}, task)) == [
        "the table: the label separator '|' occurs in no row, so every text has at most one label"
    ]
    rows = read({"t": ["a", "b", "c"], "y": ["x;y", "y", "z; x"]}, task)
    with pytest.raises(DataError) as caught:
        task.check(rows)
    assert str(caught.value) == (
        "the table: the label separator '|' occurs in no row, but ';' does in 'x;y', 'z; x'. Pass that one to "
        "--label-separator, or use --task single-label if each text has one label"
    )


# Invalid rows.


def test_all_invalid_rows_are_reported_at_once(tmp_path: Path) -> None:
    """A4: number, reasons and places."""
    bad = "".join(f"text {n},\n" for n in range(5))
    path = csv_file(tmp_path, f"t,y\na,x\n{bad}t,y\nb,['x']\nc,y\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}: 7 of 9 rows are invalid: column 'y': the label is missing (row 2 (line 3), row 3 (line 4), row 4 "
        "(line 5) and 2 more); the row repeats the header (row 7 (line 8)); column 'y': the label is a list written "
        "as text; for several labels per text use --task multi-label (row 8 (line 9)). Correct them, or leave them out "
        "with --drop-invalid"
    )


def test_invalid_rows_can_be_left_out_and_are_listed(tmp_path: Path) -> None:
    """A4: nothing is lost without a trace."""
    rows = read({"t": ["a", None, "c", "d"], "y": ["x", "y", float("nan"), "y"]}, drop_invalid=True)
    assert (rows.texts, names(rows)) == (["a", "d"], ["x", "y"])
    path = write_invalid(tmp_path / "m.bundle", rows.invalid)
    assert path == tmp_path / "m.bundle.invalid.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"source": "the table", "place": "row 2", "column": "t", "values": {"t": None, "y": "y"},
         "reason": "the text is missing (null); remove the row, or write an empty text"},
        {"source": "the table", "place": "row 3", "column": "y", "values": {"t": "c", "y": None},
         "reason": "the label is missing"},
    ]  # fmt: skip
    assert write_invalid(tmp_path / "m.bundle", rows.invalid) == path  # the same run again
    with pytest.raises(OutputExists, match=r"m\.bundle\.invalid\.jsonl already exists"):
        write_invalid(tmp_path / "m.bundle", rows.invalid[:1])
    assert write_invalid(tmp_path / "m.bundle", []) is None


def test_a_file_of_a_user_is_never_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "mine.txt", tmp_path / "m.invalid.jsonl"
    target.write_text("mine")
    link.symlink_to(target)
    rows = read({"t": ["a", None], "y": ["x", "y"]}, drop_invalid=True)
    with pytest.raises(OutputExists):
        write_invalid(tmp_path / "m", rows.invalid)
    assert target.read_text() == "mine"


def test_a_table_without_a_valid_row_is_refused() -> None:
    with pytest.raises(DataError, match="the table: all 2 rows are invalid: row 1: the label is missing"):
        read({"t": ["a", "b"], "y": [None, None]}, drop_invalid=True)


def test_unknown_labels_are_reported_with_their_rows() -> None:
    """A4: one unknown label is named with its row, and can be left out or kept."""
    table = {"t": ["a", "b", "c"], "y": ["x", "z", "w"]}
    model = SingleLabel(("x", "y"))
    with pytest.raises(
        DataError, match=r"2 of 3 rows are invalid: column 'y': unknown label 'z'; the model has 'x', 'y' \(row 2\);"
    ):
        read(table, model)
    assert names(read(table, model, drop_invalid=True)) == ["x"]
    assert names(read(table, model, keep_unknown=True)) == ["x", "z", "w"]


# Weights.


def test_weights_are_read_with_the_rows(tmp_path: Path) -> None:
    """A4: a column of weights, with texts of numbers as CSV has them."""
    assert read({"t": ["a", "b"], "y": ["x", "y"], "w": [1, 0.5]}, weight="w").weights == [1.0, 0.5]
    path = csv_file(tmp_path, "t,y,w\na,x,0\nb,y,2.5\n")
    assert read(path, weight="w").weights == [0.0, 2.5]
    assert read(path).weights is None


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), None, "much", True, 1e300])
def test_impossible_weights_are_invalid_rows(weight: object) -> None:
    with pytest.raises(DataError, match=r"row 2, column 'w': the weight is .*, expected a number of at least 0"):
        read({"t": ["a", "b"], "y": ["x", "y"], "w": [1, weight]}, weight="w")


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(DataError, match="the column 'w' is 0 in every row, so nothing would be learned"):
        read({"t": ["a", "b"], "y": ["x", "y"], "w": [0, 0]}, weight="w")


# Lists in Python.


def hugging_face_column(values: list[str]) -> object:
    return datasets.Dataset.from_dict({"c": values})["c"]


@pytest.mark.parametrize(
    "as_list", [list, tuple, np.array, pd.Series, pl.Series, pa.array, iter, hugging_face_column, pd.Index]
)
def test_texts_and_labels_may_be_two_lists(as_list: Any) -> None:
    """A8: train(texts, labels) and evaluate(model, (texts, labels))."""

    def pair() -> tuple[Any, Any]:
        return as_list(["a", "b"]), as_list(["x", "y"])

    for source in (labeled_source(*pair(), None, None), labeled_source(pair(), None, None, None)):
        rows = read_labeled(source.table, source.text, source.label, SingleLabel())
        assert (rows.texts, names(rows)) == (["a", "b"], ["x", "y"])
    assert read_valid_texts(pair()[0], "text", dialect=None, drop_invalid=False) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "b"], None, None, None), "the texts are a list, so their labels are needed too"),
        ((["a", "b"], ["x"], None, None), "there are 2 texts and 1 labels, expected one label per text"),
        (({"t": ["a"]}, None, None, "y"), "name the text column: text= in Python, --text on"),
        (({"t": ["a"]}, None, "t", None), "name the label column: label= in Python, --label on"),
        (({"t": ["a"]}, [], "t", None), "expected a list of the names of labels"),
        (({"t": ["a"]}, [1], "t", None), "expected a list of the names of labels"),
        ((None, None, "t", "y"), "the data is None (NoneType), expected a file, a table, or texts and labels"),
        ((5, None, "t", "y"), "the data is 5 (int), expected a file"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    """A8: one clear error."""
    with pytest.raises(ConfigError) as caught:
        labeled_source(*arguments)
    assert message in str(caught.value)


def test_a_matrix_needs_the_names_of_its_columns() -> None:
    """A4, A8: as scikit-learn's MultiLabelBinarizer makes it."""
    source = labeled_source((["a", "b"], np.array([[1, 0], [1, 1]])), ["music", "plot"], None, None)
    rows = read_labeled(source.table, source.text, source.label, new_task(label_columns=source.label_columns))
    assert rows.labels == [("music",), ("music", "plot")]


def test_invalid_rows_of_any_values_are_listed(tmp_path: Path) -> None:
    """A4: values that JSON does not have."""
    values = [np.int64(3), np.float32("nan"), b"x", {"a": np.int8(1)}, "\udce9", pd.Timestamp("2024-01-01")]
    rows = read({"t": [*values, "a", "b"], "y": ["x"] * 7 + ["y"]}, drop_invalid=True)
    path = write_invalid(tmp_path / "m", rows.invalid)
    assert path is not None
    found = [json.loads(line)["values"]["t"] for line in path.read_text().splitlines()]
    assert found == [3, None, "b'x'", {"a": 1}, "\udce9", "2024-01-01 00:00:00"]
