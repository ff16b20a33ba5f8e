from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from bothways.data import labeled
from bothways.data.labeled import labeled_source, read_unlabeled
from bothways.errors import DataError
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import LabeledTexts


def csv_file(folder: Path, content: str, name: str = "d.csv") -> str:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return str(path)


def jsonl_file(folder: Path, *rows: object) -> str:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read_labeled(source: Any, text: str, label: str) -> LabeledTexts:
    return labeled.read_labeled(source, text, label, SingleLabel())


def names(rows: LabeledTexts) -> list[str]:
    """Return the only label of each row."""
    return [label for (label,) in rows.label_sets]


# Reading.


def test_texts_and_labels_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "n,text,label\n1,b,x\n2,a,y\n3,,x\n")
    read = read_labeled(path, "text", "label")
    assert (read.name, read.texts, names(read), len(read)) == (path, ["b", "a", ""], ["x", "y", "x"], 3)
    assert read_unlabeled(path, "label") == ["x", "y", "x"]


def test_a_file_may_be_given_as_a_path(tmp_path: Path) -> None:
    path = Path(csv_file(tmp_path, "text,label\na,x\n"))
    assert read_labeled(path, "text", "label").name == str(path)


def test_a_label_stays_what_stands_in_the_file(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "text,label\na,NA\nb,01\nc,1\nd,null\ne,1.0\nf, x \ng,None\n")
    assert names(read_labeled(path, "text", "label")) == ["NA", "01", "1", "null", "1.0", "x", "None"]


def test_a_text_na_is_a_text(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "text,label\nNA,x\nnull,y\n")
    assert read_labeled(path, "text", "label").texts == ["NA", "null"]


def test_integer_and_boolean_labels_become_text(tmp_path: Path) -> None:
    path = jsonl_file(
        tmp_path, {"t": "a", "l": 1}, {"t": "b", "l": True}, {"t": "c", "l": "01"}, {"t": "d", "l": False}
    )
    assert names(read_labeled(path, "t", "l")) == ["1", "true", "01", "false"]


@pytest.mark.parametrize(("column", "option"), [("text", "--text"), ("label", "--label")])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, column: str, option: str) -> None:
    there = {"text", "label"} - {column}
    path = csv_file(tmp_path, f"id,{''.join(there)}\n1,a\n")
    with pytest.raises(
        DataError, match=rf"d\.csv has no column '{column}'\. It has 'id', .*\. Choose a column with {option}$"
    ):
        read_labeled(path, "text", "label")


def test_a_missing_column_of_unlabelled_texts_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column 'text'"):
        read_unlabeled(csv_file(tmp_path, "review\na\n"), "text")


@pytest.mark.parametrize("content", ["text,label\n,x\n,y\n", 'text,label\n" ",x\n"\t\n",y\n'])
def test_a_column_without_any_text_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"d\.csv: the text column 'text' is empty in every row$"):
        read_labeled(csv_file(tmp_path, content), "text", "label")


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.csv has no rows, expected texts with labels$"):
        read_labeled(csv_file(tmp_path, "text,label\n"), "text", "label")


@pytest.mark.parametrize("label", ["", " ", "\t"])
def test_a_missing_label_is_told_by_its_row(tmp_path: Path, label: str) -> None:
    path = csv_file(tmp_path, f"text,label\na,x\n\nb,{label}\n")
    with pytest.raises(DataError, match=r"d\.csv, row 2 \(line 4\), column 'label': the label is missing\. Correct"):
        read_labeled(path, "text", "label")


@pytest.mark.parametrize("row", [{"t": "b", "l": None}, {"t": "b"}])
def test_a_label_of_null_is_missing(tmp_path: Path, row: object) -> None:
    path = jsonl_file(tmp_path, {"t": "a", "l": "x"}, row)
    with pytest.raises(DataError, match=r"d\.jsonl, line 2, column 'l': the label is missing"):
        read_labeled(path, "t", "l")


@pytest.mark.parametrize("row", [{"t": None, "l": "y"}, {"l": "y"}])
def test_a_text_of_null_is_missing(tmp_path: Path, row: object) -> None:
    path = jsonl_file(tmp_path, {"t": "a", "l": "x"}, row)
    with pytest.raises(DataError, match=r"d\.jsonl, line 2, column 't': the text is missing \(null\)"):
        read_labeled(path, "t", "l")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"t": 5, "l": "x"}, r"line 1, column 't': the text is int 5, expected a string"),
        ({"t": ["a"], "l": "x"}, r"line 1, column 't': the text is list \['a'\], expected a string"),
        (
            {"t": "a", "l": ["x"]},
            r"line 1, column 'l': the label is a list, expected one label; for several .* multi-label",
        ),
        (
            {"t": "a\ud83d", "l": "x"},
            r"line 1, column 't': the text contains a lone surrogate \(U\+D83D\) at character 2",
        ),
        ({"t": "a", "l": "\ud83d"}, r"line 1, column 'l': the label contains a lone surrogate"),
    ],
)
def test_what_is_no_text_or_label_is_told_by_its_place(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_labeled(jsonl_file(tmp_path, row), "t", "l")


# Tables in memory.

COLUMNS = {"text": ["a", "b", ""], "label": ["x", "y", "NA"], "n": [1, 2, 3]}


def as_dict(columns: dict[str, list[Any]]) -> Any:
    return columns


def as_arrays(columns: dict[str, list[Any]]) -> Any:
    return {name: np.array(values) for name, values in columns.items()}


def as_tuples(columns: dict[str, list[Any]]) -> Any:
    return {name: tuple(values) for name, values in columns.items()}


TABLES = [as_dict, as_tuples, as_arrays, pd.DataFrame, pa.table]


@pytest.mark.parametrize("table", TABLES)
def test_tables_in_memory_are_read_like_files(table: Any) -> None:
    read = read_labeled(table(COLUMNS), "text", "label")
    assert (read.name, read.texts, names(read)) == ("the table", ["a", "b", ""], ["x", "y", "NA"])
    assert names(read_labeled(table(COLUMNS), "text", "n")) == ["1", "2", "3"]
    assert all(type(value) is str for value in [*read.texts, *names(read)])


@pytest.mark.parametrize("table", TABLES)
def test_a_column_that_a_table_lacks_is_named(table: Any) -> None:
    with pytest.raises(DataError, match=r"^the table has no column 'review'\. It has 'text', 'label', 'n'\. Choose"):
        read_labeled(table(COLUMNS), "review", "label")


@pytest.mark.parametrize("table", [as_dict, pd.DataFrame, pa.table])
@pytest.mark.parametrize(("column", "what"), [("text", "the text is missing"), ("label", "the label is missing")])
def test_a_missing_value_of_a_table_is_told_by_its_row(table: Any, column: str, what: str) -> None:
    columns = {**COLUMNS, column: ["a", None, "c"]}
    with pytest.raises(DataError, match=rf"^the table, row 2, column '{column}': {what}"):
        read_labeled(table(columns), "text", "label")


@pytest.mark.parametrize("missing", [float("nan"), np.nan, pd.NA, pd.NaT], ids=repr)
def test_missing_values_of_pandas_are_missing_labels(missing: object) -> None:
    with pytest.raises(DataError, match=r"^the table, row 2, column 'label': the label is missing"):
        read_labeled({"text": ["a", "b"], "label": ["x", missing]}, "text", "label")


def test_numpy_values_in_a_list_are_labels_too() -> None:
    table = {"text": ["a", "b", "c"], "label": [np.int64(3), np.True_, np.str_("x")]}
    assert names(read_labeled(table, "text", "label")) == ["3", "true", "x"]


def test_pandas_categories_are_labels() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.Categorical(["x", "y"])})
    assert names(read_labeled(frame, "text", "label")) == ["x", "y"]


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"^the columns of the table have different numbers of rows: 'text' has 1"):
        read_labeled({"text": ["a"], "label": ["x", "y"]}, "text", "label")


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the table has no rows, expected texts with labels$"):
        read_labeled({"text": [], "label": []}, "text", "label")


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"t": ["a", "b"], "l": pa.array([0, 1], pa.int8())}), tmp_path / "d.parquet")
    assert names(read_labeled(tmp_path / "d.parquet", "t", "l")) == ["0", "1"]


def test_a_lone_string_is_no_column_of_a_table_in_memory() -> None:
    with pytest.raises(DataError, match="the column 'text' of the table is the string 'abc', expected one value"):
        read_labeled({"text": "abc", "label": ["a", "b", "c"]}, "text", "label")


def test_a_text_in_the_labels_column_is_refused_before_training() -> None:
    with pytest.raises(DataError, match="row 2, column 'label': the label has 1001 characters, expected at most 1000"):
        read_labeled({"text": ["a", "b"], "label": ["x", "y" * 1001]}, "text", "label")


# Several text columns.


def read_fields(source: Any, **options: Any) -> LabeledTexts:
    return labeled.read_labeled(source, ["title", "body"], "label", SingleLabel(), **options)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "memory"])
def test_texts_of_several_columns_are_tuples_in_the_order_named(tmp_path: Path, suffix: str) -> None:
    rows = [{"body": "b", "label": "x", "title": "a"}, {"body": "", "label": "y", "title": "c"}]
    source: Any = {name: [row[name] for row in rows] for name in rows[0]}
    if suffix != "memory":
        source = tmp_path / f"d.{suffix}"
        lines = [json.dumps(row) for row in rows] if suffix == "jsonl" else ["body,label,title", "b,x,a", ",y,c"]
        source.write_text("\n".join(lines) + "\n")
    assert read_fields(source).texts == [("a", "b"), ("c", "")]
    assert read_unlabeled(source, ["body", "title"]) == [("b", "a"), ("", "c")]


def test_a_missing_value_in_one_of_several_columns_is_an_empty_text() -> None:
    table = {"title": ["a", None, None], "body": [None, "b", None], "label": ["x", "y", "y"]}
    with pytest.raises(DataError, match=r"row 3, column 'title': the text is missing \(null\)"):
        read_fields(table)
    found = read_fields(table, drop_invalid=True)
    assert found.texts == [("a", ""), ("", "b")]
    assert [row.column for row in found.invalid] == ["title"]


def test_columns_that_are_all_empty_are_refused() -> None:
    with pytest.raises(DataError, match="the text columns 'title' and 'body' are empty in every row"):
        read_fields({"title": ["", " "], "body": ["", ""], "label": ["x", "y"]})


def test_lists_of_tuples_become_columns() -> None:
    source = labeled_source([("a", "b"), ("c", "d")], ["x", "y"], ["title", "body"], None)
    assert source.table == {"title": ["a", "c"], "body": ["b", "d"], "label": ["x", "y"]}
    assert source.text == ("title", "body")
    with pytest.raises(DataError, match=r"a text is \('c',\), expected one string for each of"):
        labeled_source([("a", "b"), ("c",)], ["x", "y"], ["title", "body"], None)
