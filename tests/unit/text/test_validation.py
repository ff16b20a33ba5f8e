from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import ConfigError, DataError, TextError
from bothways.text.fields import columns_of
from bothways.text.validation import check_text, check_texts


def test_a_text_comes_back_as_it_is() -> None:
    assert check_text("naïve 😀", "text 0") == "naïve 😀"


@given(st.lists(st.text()))
def test_texts_come_back_in_order(texts: list[str]) -> None:
    assert list(check_texts(texts)) == texts


def test_the_error_names_the_text_and_what_it_is() -> None:
    with pytest.raises(TextError, match=r"^reviews\.csv, row 3 is int 7, expected a string$"):
        check_text(7, "reviews.csv, row 3")


def test_the_error_for_bytes_says_to_decode_them() -> None:
    with pytest.raises(TextError, match=r"^text 1 is bytes b'abc', expected a string\. Decode it first$"):
        list(check_texts(["fine", b"abc"]))


def test_a_long_value_is_shown_in_short() -> None:
    with pytest.raises(TextError) as caught:
        check_text(["word"] * 10_000, "text 0")
    assert len(str(caught.value)) < 90


def test_a_lone_surrogate_is_reported_with_its_place() -> None:
    with pytest.raises(TextError, match=r"^text 0 contains a lone surrogate \(U\+D83D\) at character 4\."):
        check_text("añb\ud83d!", "text 0")


def test_text_errors_are_data_errors() -> None:
    with pytest.raises(DataError):
        check_text(None, "text 0")


@pytest.mark.parametrize("lone", ["a text", b"a text"])
def test_one_string_instead_of_a_list_is_refused_at_once(lone: object) -> None:
    with pytest.raises(TextError, match=r"Use predict\(\[text\]\)"):
        check_texts(lone)  # type: ignore[arg-type]


def test_a_value_that_is_not_iterable_is_refused_at_once() -> None:
    with pytest.raises(TextError, match="got int 3, expected a list"):
        check_texts(3)  # type: ignore[arg-type]


def test_a_dictionary_is_refused_because_only_its_keys_would_be_read() -> None:
    with pytest.raises(TextError, match=r"got a dict, expected a list of texts\. Pass one of its columns"):
        check_texts({"text": ["a", "b"]})


def test_texts_are_taken_one_at_a_time() -> None:
    taken: list[int] = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(1)
            yield "a"

    checked = check_texts(endless())
    assert not taken
    assert next(checked) == "a"
    assert len(taken) == 1


def test_an_array_without_dimensions_is_one_string() -> None:
    with pytest.raises(TextError, match="got a single string"):
        check_texts(np.array("text"))


# A8: what predict accepts.

ROWS: list[dict[str, Any]] = [
    {"title": "a", "body": "b", "id": 1},
    {"title": None, "body": "c", "id": 2},
    {"title": "d", "body": "", "id": 3},
]
PAIRS = [("a", "b"), ("", "c"), ("d", "")]
COLUMNS = ("title", "body")


def as_dict_of_lists(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


TABLES: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "list of dicts": lambda rows: rows,
    "dict of lists": as_dict_of_lists,
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": pa.Table.from_pylist,
    "record batch": pa.RecordBatch.from_pylist,
    "hugging face": datasets.Dataset.from_list,
}


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_a8_tables_are_read_by_their_text_columns(make: Callable[[list[dict[str, Any]]], Any]) -> None:
    assert list(check_texts(make(ROWS), COLUMNS)) == PAIRS
    assert list(check_texts(make(ROWS), ["body"])) == ["b", "c", ""]
    with pytest.raises(TextError, match=r"has no column 'author', expected the text columns 'title' and 'author'"):
        list(check_texts(make(ROWS), ["title", "author"]))


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_a8_a_row_without_any_text_is_named(make: Callable[[list[dict[str, Any]]], Any]) -> None:
    rows = [ROWS[0], {"title": None, "body": None, "id": 2}]
    with pytest.raises(TextError, match=r"^text 1, column 'title': the text is missing \(null\)"):
        list(check_texts(make(rows), COLUMNS))


@pytest.mark.parametrize(
    "make",
    [list, np.array, pd.Series, pl.Series, pa.array, lambda texts: pa.chunked_array([[text] for text in texts]), iter],
    ids=["list", "numpy", "pandas", "polars", "arrow", "chunked", "iterator"],
)
def test_a8_columns_of_every_library_are_texts(make: Callable[[list[str]], Any]) -> None:
    assert list(check_texts(make(["a", "b"]), ["text"])) == ["a", "b"]
    column = datasets.Dataset.from_dict({"text": ["a", "b"]})["text"]
    assert list(check_texts(column, ["text"])) == ["a", "b"]


@pytest.mark.parametrize(
    "values",
    [["a", None], pd.Series(["a", None]), pd.Series(["a", pd.NA]), pl.Series(["a", None]), pa.array(["a", None])],
    ids=["list", "pandas", "pandas NA", "polars", "arrow"],
)
def test_a8_a_null_in_a_column_is_named_by_its_position(values: Any) -> None:
    with pytest.raises(
        TextError, match=r"^text 1: the text is missing \(null\)\. Leave it out, or write an empty text$"
    ):
        list(check_texts(values))


@pytest.mark.parametrize("rows", [PAIRS, [list(pair) for pair in PAIRS], np.array(PAIRS), iter(PAIRS)])
def test_rows_may_be_tuples_in_the_order_of_the_columns(rows: Any) -> None:
    assert list(check_texts(rows, COLUMNS)) == PAIRS


@pytest.mark.parametrize(
    ("value", "columns", "message"),
    [
        ("a", COLUMNS, "^text 0 is str 'a', but this model reads the text columns 'title' and 'body'. Pass a dict"),
        (b"a", COLUMNS, "^text 0 is bytes b'a', but this model reads the text columns"),
        (None, COLUMNS, r"^text 0: the text is missing \(null\)"),
        (("a",), COLUMNS, "^text 0 has 1 values, expected 2: the text columns 'title' and 'body'$"),
        (("a", "b", "c"), COLUMNS, "^text 0 has 3 values, expected 2"),
        (("a", 5), COLUMNS, "^text 0, column 'body' is int 5, expected a string$"),
        (("a", "\ud800"), COLUMNS, "^text 0, column 'body' contains a lone surrogate"),
        ({"title": "a"}, COLUMNS, "^text 0 has no column 'body', expected the text columns 'title' and 'body'$"),
        (("a", "b"), ["text"], "^text 0 is a tuple of 2 values, but this model reads the text column 'text' only"),
        ({"x": "a"}, ["text"], "^text 0 has no column 'text', expected the text column 'text'$"),
        ({"text": "a"}, [], "^text 0 is dict"),
        (["a"], [], "^text 0 is list"),
    ],
)
def test_a_text_for_other_columns_is_refused(value: object, columns: Sequence[str], message: str) -> None:
    with pytest.raises(TextError, match=message):
        list(check_texts([value], columns))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"title": "a", "body": "b"},
            r"^got a single row, expected a list of rows\. Use predict\(\[\{'title': …\}\]\)$",
        ),
        ({"title": ["a"], "body": []}, "^the columns of the dict have different lengths: 1, 0$"),
        ({"title": ["a"], "body": 5}, "^the dict has no single column 'body'"),
        ({}, "^the dict has no column 'title', expected the text columns 'title' and 'body'. It has none$"),
        (pd.DataFrame([["a", "b", "c"]], columns=["title", "body", "body"]), "has no single column 'body'"),
    ],
)
def test_a_table_that_is_ambiguous_is_refused_at_once(table: Any, message: str) -> None:
    with pytest.raises(TextError, match=message):
        check_texts(table, COLUMNS)


def test_columns_named_by_numbers_are_found() -> None:
    assert list(check_texts(pd.DataFrame([["a", "b"]], columns=[1, 2]), ["1", "2"])) == [("a", "b")]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (None, "the text column is None, expected a name or a list of names"),
        (["a", 3], "the text column is 3, expected"),
        ([], "no text column is named"),
        (["a", "b", "a"], "the text column 'a' is named twice"),
    ],
)
def test_text_columns_are_names(named: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        columns_of(named)
    assert columns_of("a") == columns_of(("a",)) == ["a"]
