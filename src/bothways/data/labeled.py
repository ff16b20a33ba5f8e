"""Read labeled and unlabeled texts from files or tables in memory.

In: paths, or tables in memory, and a task that parses labels. Out: texts and labels. Errors name file, row and column.
Does not know tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from bothways.data.dialect import Dialect
from bothways.data.tables import TableSource, open_table
from bothways.errors import DataError
from bothways.tasks.classification import is_missing
from bothways.tasks.task import Label, LabeledTexts, Task
from bothways.text.validation import check_text


def read_labeled(
    source: TableSource, text_column: str, label_column: str, task: Task, *, dialect: Dialect | None = None
) -> LabeledTexts:
    """Return all labeled texts of a source.

    Args:
        source: A path, or a table in memory.
        text_column: The column of the texts.
        label_column: The column of the labels.
        task: Parses the labels.
        dialect: What the user states about a file.

    Raises:
        DataError: A column is missing, a text or label is missing or of a wrong kind, or there is no row.
    """
    texts: list[str] = []
    labels: list[Label] = []
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else "the table"
    for name, place, text, label in _rows(source, [text_column, label_column], ["--text", "--label"], dialect):
        texts.append(_text(text, name, place, text_column))
        labels.append(task.parse(label, f"{name}, {place}, column {label_column!r}"))
    if not texts:
        raise DataError(f"{name} has no rows, expected texts with labels")
    if not any(text.strip() for text in texts):
        raise DataError(f"{name}: the column {text_column!r} is empty in every row")
    return LabeledTexts(name, texts, labels)


def read_unlabeled(source: TableSource, text_column: str, dialect: Dialect | None = None) -> list[str]:
    """Return all texts of a source, regardless of its other columns.

    Args:
        source: A path, or a table in memory.
        text_column: The column of the texts.
        dialect: What the user states about a file.

    Raises:
        DataError: The column is missing, or a text is missing or not a string.
    """
    return list(iterate_texts(source, text_column, dialect))


def iterate_texts(source: TableSource, text_column: str, dialect: Dialect | None = None) -> Iterator[str]:
    """Yield the texts of a source one by one.

    Raises:
        DataError: As ``read_unlabeled``.
    """
    for name, place, text in _rows(source, [text_column], ["--text"], dialect):
        yield _text(text, name, place, text_column)


def _rows(
    source: TableSource, columns: list[str], options: list[str], dialect: Dialect | None
) -> Iterator[tuple[Any, ...]]:
    """Yield name, place and the values of the given columns of each row."""
    with open_table(source, dialect) as table:
        for column, option in zip(columns, options, strict=True):
            table.require_column(column, option)
        for chunk in table.chunks(columns):
            for place, *values in zip(chunk.places, *(chunk.column(column) for column in columns), strict=True):
                yield table.name, place, *values


def _text(value: object, name: str, place: str, column: str) -> str:
    where = f"{name}, {place}, column {column!r}"
    if is_missing(value):
        raise DataError(f"{where}: the text is missing (null); remove the row, or write an empty text")
    return check_text(value, where)
