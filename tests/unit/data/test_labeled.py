from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from bothways.data.labeled import (
    LabeledTexts,
    check_labels,
    read_labeled,
    read_unlabeled,
    split_by_label,
    split_with_file,
)
from bothways.errors import DataError, TextError


def csv_file(folder: Path, content: str, name: str = "d.csv") -> str:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return str(path)


def jsonl_file(folder: Path, *rows: object) -> str:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows(*pairs: tuple[str, str], name: str = "d.csv") -> LabeledTexts:
    return LabeledTexts(name, [text for text, _ in pairs], [label for _, label in pairs])


# Reading.


def test_texts_and_labels_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "n,text,label\n1,b,x\n2,a,y\n3,,x\n")
    read = read_labeled(path, "text", "label")
    assert (read.name, read.texts, read.labels, len(read)) == (path, ["b", "a", ""], ["x", "y", "x"], 3)
    assert read_unlabeled(path, "label") == ["x", "y", "x"]


def test_a_file_may_be_given_as_a_path(tmp_path: Path) -> None:
    path = Path(csv_file(tmp_path, "text,label\na,x\n"))
    assert read_labeled(path, "text", "label").name == str(path)


def test_a_label_stays_what_stands_in_the_file(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "text,label\na,NA\nb,01\nc,1\nd,null\ne,1.0\nf, x \ng,None\n")
    assert read_labeled(path, "text", "label").labels == ["NA", "01", "1", "null", "1.0", " x ", "None"]


def test_a_text_na_is_a_text(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "text,label\nNA,x\nnull,y\n")
    assert read_labeled(path, "text", "label").texts == ["NA", "null"]


def test_integer_and_boolean_labels_become_text(tmp_path: Path) -> None:
    path = jsonl_file(
        tmp_path, {"t": "a", "l": 1}, {"t": "b", "l": True}, {"t": "c", "l": "01"}, {"t": "d", "l": False}
    )
    assert read_labeled(path, "t", "l").labels == ["1", "true", "01", "false"]


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
    with pytest.raises(DataError, match=r"d\.csv: the column 'text' is empty in every row$"):
        read_labeled(csv_file(tmp_path, content), "text", "label")


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.csv has no row, expected texts with labels$"):
        read_labeled(csv_file(tmp_path, "text,label\n"), "text", "label")


@pytest.mark.parametrize("label", ["", " ", "\t"])
def test_a_missing_label_is_told_by_its_row(tmp_path: Path, label: str) -> None:
    path = csv_file(tmp_path, f"text,label\na,x\n\nb,{label}\n")
    with pytest.raises(DataError, match=r"d\.csv, row 2 \(line 4\), column 'label': the label is missing; label the"):
        read_labeled(path, "text", "label")


@pytest.mark.parametrize("row", [{"t": "b", "l": None}, {"t": "b"}])
def test_a_label_of_null_is_missing(tmp_path: Path, row: object) -> None:
    path = jsonl_file(tmp_path, {"t": "a", "l": "x"}, row)
    with pytest.raises(DataError, match=r"d\.jsonl, line 2, column 'l': the label is missing"):
        read_labeled(path, "t", "l")


@pytest.mark.parametrize("row", [{"t": None, "l": "y"}, {"l": "y"}])
def test_a_text_of_null_is_missing(tmp_path: Path, row: object) -> None:
    path = jsonl_file(tmp_path, {"t": "a", "l": "x"}, row)
    with pytest.raises(DataError, match=r"d\.jsonl, line 2, column 't': the text is missing \(null\); remove the row"):
        read_labeled(path, "t", "l")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"t": 5, "l": "x"}, r"line 1, column 't' is int 5, expected a string"),
        ({"t": ["a"], "l": "x"}, r"line 1, column 't' is list \['a'\], expected a string"),
        ({"t": "a", "l": 1.5}, r"line 1, column 'l' is float 1\.5, expected a string"),
        ({"t": "a", "l": ["x"]}, r"line 1, column 'l' is list \['x'\], expected a string"),
        ({"t": "a\ud83d", "l": "x"}, r"line 1, column 't' contains a lone surrogate \(U\+D83D\) at character 2"),
        ({"t": "a", "l": "\ud83d"}, r"line 1, column 'l' contains a lone surrogate"),
    ],
)
def test_what_is_no_text_or_label_is_told_by_its_place(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(TextError, match=message):
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
    assert (read.name, read.texts, read.labels) == ("the table", ["a", "b", ""], ["x", "y", "NA"])
    assert read_labeled(table(COLUMNS), "text", "n").labels == ["1", "2", "3"]
    assert all(type(value) is str for value in [*read.texts, *read.labels])


@pytest.mark.parametrize("table", TABLES)
def test_a_column_that_a_table_lacks_is_named(table: Any) -> None:
    with pytest.raises(DataError, match=r"^the table has no column 'review'$"):
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
    assert read_labeled(table, "text", "label").labels == ["3", "true", "x"]


def test_pandas_categories_are_labels() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.Categorical(["x", "y"])})
    assert read_labeled(frame, "text", "label").labels == ["x", "y"]


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"^the columns text and label have different numbers of rows$"):
        read_labeled({"text": ["a"], "label": ["x", "y"]}, "text", "label")


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the table has no row, expected texts with labels$"):
        read_labeled({"text": [], "label": []}, "text", "label")


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"t": ["a", "b"], "l": pa.array([0, 1], pa.int8())}), tmp_path / "d.parquet")
    assert read_labeled(tmp_path / "d.parquet", "t", "l").labels == ["0", "1"]


# Labels that nothing can be learnt from.


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"^d\.csv: all 2 rows have the label 'x', expected at least two classes$"):
        check_labels(rows(("a", "x"), ("b", "x")))


def test_a_class_with_one_row_is_refused() -> None:
    with pytest.raises(DataError, match=r"^d\.csv: the label 'y' has only 1 row with one text, expected at least 2 "):
        check_labels(rows(("a", "x"), ("b", "x"), ("c", "y")))


def test_a_class_with_two_rows_of_one_text_is_refused() -> None:
    with pytest.raises(DataError, match=r"^d\.csv: the label 'y' has only 2 rows with one text, expected at least 2 "):
        check_labels(rows(("a", "x"), ("b", "x"), ("c", "y"), ("c", "y")))


def test_two_different_texts_a_class_are_enough() -> None:
    assert check_labels(rows(("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"))) == []


@pytest.mark.parametrize(
    ("one", "other"), [("pos", "Pos"), ("pos", "pos "), ("a b", "ab"), ("Straße", "STRASSE"), ("x", "\u00a0x")]
)
def test_labels_that_differ_by_white_space_or_case_are_warned_of(one: str, other: str) -> None:
    labels = [one, one, other, other, "neg", "neg"]
    data = LabeledTexts("d.csv", list("abcdef"), labels)
    first, second = sorted([one, other])
    assert check_labels(data) == [
        f"d.csv: the labels {first!r} and {second!r} differ only by white space or case; "
        "they are taken as different classes"
    ]


# Splitting.


def split_of(pairs: list[tuple[str, str]], share: float = 0.1, seed: int = 0) -> tuple[LabeledTexts, LabeledTexts]:
    split = split_by_label(rows(*pairs), share, seed)
    return split.train, split.valid


MANY = [(f"text {number}", "xyy"[number % 3]) for number in range(300)]


def test_a_share_of_each_class_is_set_aside() -> None:
    train, valid = split_of(MANY, share=0.2)
    assert Counter(valid.labels) == {"x": 20, "y": 40}
    assert Counter(train.labels) == {"x": 80, "y": 160}


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert split_of(MANY, seed=7) == split_of(MANY, seed=7)
    assert split_of(MANY, seed=7)[1].texts != split_of(MANY, seed=8)[1].texts


def test_a_split_does_not_depend_on_the_order_of_the_rows() -> None:
    assert set(split_of(MANY)[1].texts) == set(split_of(MANY[::-1])[1].texts)


def test_the_smallest_class_has_a_text_on_both_sides() -> None:
    train, valid = split_of([*MANY, ("rare 1", "z"), ("rare 2", "z")])
    assert train.labels.count("z") == valid.labels.count("z") == 1


labeled_pairs = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=4, max_size=30)


@given(labeled_pairs, st.floats(0.05, 0.95), st.integers(0, 9))
def test_every_row_is_on_one_side_and_rows_of_one_text_stay_together(
    pairs: list[tuple[str, str]], share: float, seed: int
) -> None:
    train, valid = split_of(pairs, share, seed)
    found = [*zip(train.texts, train.labels, strict=True), *zip(valid.texts, valid.labels, strict=True)]
    assert Counter(found) == Counter(pairs)
    assert not set(train.texts) & set(valid.texts)


def is_learnable(pairs: list[tuple[str, str]]) -> bool:
    texts = {label: {text for text, other in pairs if other == label} for _, label in pairs}
    return len(texts) > 1 and all(len(each) > 1 for each in texts.values())


@given(labeled_pairs.filter(is_learnable), st.floats(0.05, 0.95), st.integers(0, 9))
def test_something_is_validated_and_never_on_a_class_that_was_not_trained(
    pairs: list[tuple[str, str]], share: float, seed: int
) -> None:
    train, valid = split_of(pairs, share, seed)
    assert set(train.labels) == {label for _, label in pairs}
    assert len(valid) > 0


def test_a_class_that_shares_all_its_texts_with_another_is_still_trained() -> None:
    pairs = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "x"), ("a", "y"), ("b", "y")]
    for seed in range(20):
        train, valid = split_of(pairs, share=0.5, seed=seed)
        assert set(train.labels) == {"x", "y"}
        assert 1 <= len(set(valid.texts)) <= 2


def test_texts_with_several_labels_are_warned_of_with_their_number() -> None:
    pairs = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("b", "y"), ("c", "x"), ("d", "y"), ("d", "y")]
    split = split_by_label(rows(*pairs), 0.1, 0)
    assert split.warnings == ["d.csv: 2 texts stand there with more than one label"]
    assert split_by_label(rows(("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")), 0.1, 0).warnings == []


def test_a_file_of_validation_rows_is_taken_as_it_is() -> None:
    train, valid = rows(("a", "x"), ("b", "y")), rows(("c", "x"), name="v.csv")
    split = split_with_file(train, valid)
    assert (split.train, split.valid, split.warnings) == (train, valid, [])


def test_texts_on_both_sides_are_warned_of_with_their_number() -> None:
    train = rows(("a", "x"), ("b", "y"), ("b", "x"))
    valid = rows(("a", "x"), ("c", "x"), ("b", "y"), name="v.csv")
    assert split_with_file(train, valid).warnings == [
        "d.csv: 1 texts stand there with more than one label",
        "v.csv: 2 of 3 texts are also in d.csv: validation will look too good",
    ]


def test_a_validation_label_that_is_not_trained_is_refused() -> None:
    with pytest.raises(DataError, match=r"^v\.csv: the label 'z' does not occur in d\.csv$"):
        split_with_file(rows(("a", "x"), ("b", "y")), rows(("c", "z"), name="v.csv"))


def test_a_lone_string_is_no_column_of_a_table_in_memory() -> None:
    with pytest.raises(DataError, match="a column of the table is the string 'abc', expected one value for each row"):
        read_labeled({"text": "abc", "label": ["a", "b", "c"]}, "text", "label")


def test_a_text_in_the_labels_column_is_refused_before_training() -> None:
    with pytest.raises(DataError, match="row 2, column 'label': a label of 1001 characters, expected at most 1000"):
        read_labeled({"text": ["a", "b"], "label": ["x", "y" * 1001]}, "text", "label")
