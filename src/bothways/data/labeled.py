"""Read labeled and unlabeled texts from files or tables in memory.

In: paths, or tables in memory, and a task that parses labels. Out: texts and labels. Errors name file, row and column.
Does not know tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bothways.data.tables import open_table
from bothways.errors import DataError
from bothways.tasks.task import Label, LabeledTexts, Task
from bothways.text.fields import Text, TextColumns, columns_of, columns_text, is_blank
from bothways.text.validation import check_cells

TableSource = str | os.PathLike[str] | Mapping[str, Any]
"""A path, or a table in memory: anything that returns a column by its name, such as a dict of lists or a DataFrame."""


def read_labeled(source: TableSource, text: TextColumns, label_column: str, task: Task) -> LabeledTexts:
    """Return all labeled texts of a source.

    Args:
        source: A path, or a table in memory.
        text: The text column, or several. Texts of several columns are tuples.
        label_column: The column of the labels.
        task: Parses the labels.

    Raises:
        DataError: A column is missing, a text or label is missing or of a wrong kind, or there is no row.
    """
    texts: list[Text] = []
    labels: list[Label] = []
    columns = columns_of(text)
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else "the table"
    for name, place, *cells, label in _rows(source, [*columns, label_column], [*["--text"] * len(columns), "--label"]):
        texts.append(check_cells(cells, f"{name}, {place}", columns))
        labels.append(task.parse(label, f"{name}, {place}, column {label_column!r}"))
    if not texts:
        raise DataError(f"{name} has no rows, expected texts with labels")
    if all(map(is_blank, texts)):
        raise DataError(f"{name}: {columns_text(columns)} {'is' if len(columns) == 1 else 'are'} empty in every row")
    return LabeledTexts(name, texts, labels)


def read_unlabeled(source: TableSource, text: TextColumns) -> list[Text]:
    """Return all texts of a source, regardless of its other columns.

    Raises:
        DataError: The column is missing, or a text is missing or not a string.
    """
    return list(iterate_texts(source, text))


def iterate_texts(source: TableSource, text: TextColumns) -> Iterator[Text]:
    """Yield the texts of a source one by one. Texts of several columns are tuples.

    Raises:
        DataError: As ``read_unlabeled``.
    """
    columns = columns_of(text)
    for name, place, *cells in _rows(source, columns, ["--text"] * len(columns)):
        yield check_cells(cells, f"{name}, {place}", columns)


def _rows(source: TableSource, columns: list[str], options: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield name, place and the values of the given columns of each row."""
    if isinstance(source, str | os.PathLike):
        with open_table(os.fspath(source)) as table:
            for column, option in zip(columns, options, strict=True):
                table.require_column(column, option)
            for chunk in table.chunks():
                for place, *values in zip(chunk.places, *(chunk.column(column) for column in columns), strict=True):
                    yield table.name, place, *values
        return
    values_by_column = []
    for column in columns:
        try:
            values_by_column.append(list(_python_values(source[column])))
        except (KeyError, TypeError, IndexError):
            raise DataError(f"the table has no column {column!r}") from None
    if len({len(values) for values in values_by_column}) > 1:
        raise DataError(f"the columns {' and '.join(columns)} have different numbers of rows")
    for number, row in enumerate(zip(*values_by_column, strict=True), start=1):
        yield "the table", f"row {number}", *row


def _python_values(column: Any) -> Iterable[object]:
    """Return plain Python values of a list, array, Series or Arrow column.

    Raises:
        DataError: The column is a single string.
    """
    if isinstance(column, str | bytes):
        raise DataError(f"a column of the table is the string {column[:20]!r}, expected one value per row")
    for method in ("to_pylist", "tolist"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)
