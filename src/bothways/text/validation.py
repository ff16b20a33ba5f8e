"""Validate values that a caller passes as texts, as they are in lists, tables, rows of tables and requests.

The functions return a ``Text`` that can be cleaned and tokenized, or raise a ``TextError``. A model with several text
columns reads one string per column, so its texts are tuples. A model with one text column reads strings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np

from bothways.errors import TextError, quoted
from bothways.text.fields import Text, columns_text

_PANDAS_MISSING = ("NAType", "NaTType")
_COLUMNS_LISTED = 20


def is_missing(value: object) -> bool:
    """Return whether a cell is empty: None, NaN, or the missing values of pandas."""
    return (
        value is None
        or (isinstance(value, float | np.floating) and math.isnan(value))
        or type(value).__name__ in _PANDAS_MISSING
    )


def check_text(value: object, where: str) -> str:
    """Return a value as a plain string.

    Args:
        value: What a caller passed as a text.
        where: The name of the value in the error message, such as ``text 3`` or ``reviews.csv, row 3``.

    Raises:
        TextError: The value is not a string, or it contains a lone surrogate, which no encoding can represent.
    """
    if not isinstance(value, str):
        if is_missing(value):
            raise TextError(f"{where}: the text is missing (null). Leave it out, or write an empty text")
        hint = ". Decode it first" if isinstance(value, bytes) else ""
        raise TextError(f"{where} is {_describe(value)}, expected a string{hint}")
    text = str.__str__(value)  # a plain string, even if a subclass overrides __str__
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(
                f"{where} contains a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start + 1}. "
                "It is half of a character: repair the text where it was decoded"
            ) from None
    return text


def check_cells(cells: Sequence[object], where: str, columns: Sequence[str]) -> Text:
    """Return the text in the text columns of one row.

    A missing value in some of several columns is an empty field. A title that is missing does not make a row invalid.

    Args:
        cells: One value per text column.
        where: The name of the row in the error message, such as ``reviews.csv, row 3``.
        columns: Names of the text columns, at least one.

    Raises:
        TextError: A value is not a valid string, or all of them are missing.
    """
    values = without_missing([_plain(cell) for cell in cells])
    first, *others = (
        check_text(value, f"{where}, column {quoted(column)}") for value, column in zip(values, columns, strict=True)
    )
    return (first, *others) if others else first


def without_missing(cells: Sequence[object]) -> Sequence[object]:
    """Return the cells of a row's text columns, where missing ones are empty texts unless all of them are missing."""
    if all(map(is_missing, cells)):
        return cells
    return ["" if is_missing(cell) else cell for cell in cells]


def check_item(value: object, where: str, columns: Sequence[str] = ()) -> Text:
    """Return what a caller passed as one text.

    Args:
        value: A string, or a mapping from column names to strings; for several columns also a tuple or list with one
            string per column.
        where: The name of the value in the error message, such as ``text 3``.
        columns: Names of the model's text columns. Empty if they are not recorded; texts are then strings.

    Raises:
        TextError: The value is not a text for these columns.
    """
    value = _plain(value)
    if isinstance(value, Mapping) and columns:
        if missing := [column for column in columns if column not in value]:
            raise TextError(f"{where} has no column {quoted(missing[0])}, expected {columns_text(columns)}")
        return check_cells([value[column] for column in columns], where, columns)
    if len(columns) < 2:
        if columns and isinstance(value, list | tuple):
            found = f"{where} is a {type(value).__name__} of {len(value)} values"
            raise TextError(f"{found}, but this model reads {columns_text(columns)} only. Pass a string")
        return check_text(value, where)
    if is_missing(value):
        return check_text(value, where)
    cells = value if isinstance(value, list | tuple) else _row_of_array(value)
    if cells is None:
        raise TextError(
            f"{where} is {_describe(value)}, but this model reads {columns_text(columns)}. "
            "Pass a dict (JSON object) with these keys, or one string per column in this order"
        )
    if len(cells) != len(columns):
        raise TextError(f"{where} has {len(cells)} values, expected {len(columns)}: {columns_text(columns)}")
    return check_cells(cells, where, columns)


def check_texts(values: Iterable[object], columns: Sequence[str] = ()) -> Iterator[Text]:
    """Return an iterator that checks texts one by one. It never holds more than one text.

    Args:
        values: Any iterable of texts: strings, or for several columns mappings, tuples or lists. Or a table that has
            the model's text columns: a DataFrame, an Arrow table, a dict of lists.
        columns: Names of the model's text columns. Empty if they are not recorded.

    Raises:
        TextError: ``values`` is a single text, lacks a column or is not iterable (raised immediately), or one of the
            texts is not valid (raised when the iterator reaches it).
    """
    if isinstance(values, str | bytes) or getattr(values, "ndim", 1) == 0:
        raise TextError("got a single string, expected a list of texts. Use predict([text]) instead of predict(text)")
    if _is_table(values):
        rows = zip(*_columns_of(values, columns), strict=True)
        return (check_cells(cells, f"text {number}", columns) for number, cells in enumerate(rows))
    if not isinstance(values, Iterable):
        raise TextError(f"got {_describe(values)}, expected a list, array, Series or other iterable of texts")
    return (check_item(value, f"text {number}", columns) for number, value in enumerate(values))


def _is_table(values: object) -> bool:
    """Return whether iterating would yield keys, column names or whole columns instead of texts."""
    return isinstance(values, Mapping) or (
        (hasattr(values, "columns") or hasattr(values, "column_names")) and hasattr(values, "__getitem__")
    )


def _columns_of(table: Any, columns: Sequence[str]) -> list[Iterable[object]]:
    """Return the text columns of a table in memory.

    Raises:
        TextError: The text columns are not known, one is missing, or they are not columns.
    """
    kind = type(table).__name__
    if not columns:
        raise TextError(f"got a {kind}, expected a list of texts. Pass one of its columns")
    names: Iterable[object] = getattr(table, "column_names", None) or getattr(table, "columns", table)
    found = {str(name): name for name in names}
    if missing := [column for column in columns if column not in found]:
        more = ", …" if len(found) > _COLUMNS_LISTED else ""
        listed = ", ".join(map(quoted, [*found][:_COLUMNS_LISTED])) + more
        raise TextError(
            f"the {kind} has no column {quoted(missing[0])}, expected {columns_text(columns)}. "
            f"It has {listed or 'none'}"
        )
    values: list[Iterable[object]] = [table[found[column]] for column in columns]
    for column, cells in zip(columns, values, strict=True):
        if isinstance(cells, str | bytes):
            raise TextError(f"got a single row, expected a list of rows. Use predict([{{{quoted(column)}: …}}])")
        if hasattr(cells, "columns") or not isinstance(cells, Iterable):
            raise TextError(f"the {kind} has no single column {quoted(column)}, expected one value per row")
    lengths = [len(cells) for cells in values if isinstance(cells, Sized)]
    if len(set(lengths)) > 1:
        raise TextError(f"the columns of the {kind} have different lengths: {', '.join(map(str, lengths))}")
    return values


def _plain(value: object) -> object:
    """Return the Python value of an Arrow scalar, and any other value as it is."""
    as_python = getattr(value, "as_py", None)
    return as_python() if callable(as_python) else value


def _row_of_array(value: object) -> list[object] | None:
    """Return the values of a one-dimensional array, or None for anything else."""
    to_list = getattr(value, "tolist", None)
    return list(to_list()) if callable(to_list) and getattr(value, "ndim", 0) == 1 else None


def _describe(value: object) -> str:
    return f"{type(value).__name__} {quoted(value, 40)}"
