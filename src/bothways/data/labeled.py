"""Read labeled and unlabeled texts from files or tables in memory.

In: paths, tables or sequences in memory, and a task that parses labels. Out: texts, labels and weights. All invalid
rows are reported at once, or left out. Does not know tokens.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bothways.data.dialect import Dialect
from bothways.data.invalid import refuse_invalid
from bothways.data.tables import TableSource, open_table
from bothways.errors import ConfigError, DataError
from bothways.tasks.labels import is_missing, listed
from bothways.tasks.task import InvalidRow, Label, LabeledTexts, Task
from bothways.text.validation import check_text

_LARGEST_WEIGHT = 1e30
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _Row:
    """A row: where it comes from, the cells of the columns that are read, and all its values by column."""

    name: str
    place: str
    cells: Sequence[object]
    values: Mapping[str, object]


class _InvalidCellError(Exception):
    """A cell cannot be used."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column


def read_labeled(
    source: TableSource,
    text: str,
    label: str | None,
    task: Task,
    *,
    dialect: Dialect | None = None,
    weight: str | None = None,
    drop_invalid: bool = False,
    keep_unknown: bool = False,
) -> LabeledTexts:
    """Return all labeled texts of a source.

    Labels that differ only by surrounding white space, Unicode form or invisible characters become equal.

    Args:
        source: A path, or a table in memory.
        text: Text column.
        label: Label column; None for one 0/1 column per label, which ``task.label_columns`` names.
        task: Parses the labels. If it is fitted, other labels than its own are invalid.
        dialect: What the user states about a file.
        weight: Column of the weights of texts in the training loss; None for equal weights.
        drop_invalid: Leave invalid rows out. They are listed in the result.
        keep_unknown: Keep rows whose labels the fitted task does not know.

    Raises:
        ConfigError: The label column is not named.
        DataError: A column is missing, rows are invalid, or there is no row.
    """
    labels = [label] if label is not None else list(task.label_columns)
    if not labels:
        raise ConfigError("name the label column with --label, or 0/1 columns with --labels")
    columns = [text, *labels, *([weight] if weight is not None else [])]
    options = ["--text", *("--label" if label is not None else "--labels" for _ in labels), "--weight"][: len(columns)]

    def parse(row: _Row) -> tuple[str, Label, float]:
        _refuse_header(row, columns)
        cells = row.cells[1 : 1 + len(labels)]
        found = _cell(label or ", ".join(labels[:3]), task.parse, cells[0] if label is not None else list(cells))
        if not keep_unknown and (unknown := task.unknown(found)):
            raise _InvalidCellError(label or "", f"unknown label {listed(unknown)}; known are {listed(task.labels)}")
        return (
            _cell(text, _parse_text, row.cells[0]),
            found,
            1.0 if weight is None else _cell(weight, _parse_weight, row.cells[-1]),
        )

    name, parsed, invalid = _valid_rows(_rows(source, columns, options, dialect), parse)
    if not drop_invalid:
        refuse_invalid(invalid, len(parsed) + len(invalid))
    _refuse_empty(source, name, parsed, invalid)
    texts = [each[0] for each in parsed]
    if not any(each.strip() for each in texts):
        raise DataError(f"{name}: the column {text!r} is empty in every row")
    weights = None if weight is None else [each[2] for each in parsed]
    if weights is not None and not any(weights):
        raise DataError(f"{name}: the column {weight!r} is 0 in every row, so nothing would be learned")
    found = [each[1] for each in parsed]
    return LabeledTexts(name, texts, found if task.labels else task.unified(found), weights, tuple(invalid))


def _valid_rows(rows: Iterable[_Row], parse: Callable[[_Row], _Value]) -> tuple[str, list[_Value], list[InvalidRow]]:
    """Return the name of the source, what valid rows parse to, and the invalid rows."""
    name, parsed, invalid = "", [], []
    for row in rows:
        name = row.name
        try:
            parsed.append(parse(row))
        except _InvalidCellError as error:
            invalid.append(InvalidRow(row.name, row.place, error.column, str(error), row.values))
    return name, parsed, invalid


def _refuse_empty(source: TableSource, name: str, parsed: Sequence[object], invalid: Sequence[InvalidRow]) -> None:
    if invalid and not parsed:
        raise DataError(f"{name}: all {len(invalid):,} rows are invalid: {invalid[0].place}: {invalid[0].reason}")
    if not parsed:
        path = os.fspath(source) if isinstance(source, str | os.PathLike) else "the table"
        raise DataError(f"{path} has no rows, expected texts with labels")


def _cell(column: str, parse: Callable[[object], _Value], value: object) -> _Value:
    try:
        return parse(value)
    except DataError as error:
        raise _InvalidCellError(column, str(error)) from None


def _refuse_header(row: _Row, columns: Sequence[str]) -> None:
    if all(cell == column for cell, column in zip(row.cells, columns, strict=True) if isinstance(cell, str)) and all(
        isinstance(cell, str) for cell in row.cells
    ):
        raise _InvalidCellError("", "the row repeats the header")


def _parse_text(value: object) -> str:
    if is_missing(value):
        raise DataError("the text is missing (null); remove the row, or write an empty text")
    return check_text(value, "the text")


def _parse_weight(value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) or is_missing(value) else float(str(value))
    except ValueError:
        number = math.nan
    if not 0 <= number <= _LARGEST_WEIGHT:
        raise DataError(f"the weight is {str(value)[:40]!r}, expected a number of at least 0")
    return number


def read_unlabeled(source: TableSource, text_column: str, dialect: Dialect | None = None) -> list[str]:
    """Return all texts of a source, regardless of its other columns.

    Args:
        source: A path, or a table in memory.
        text_column: Text column.
        dialect: What the user states about a file.

    Raises:
        DataError: The column is missing, or texts are missing or not strings.
    """
    _, texts, invalid = _valid_rows(
        _rows(source, [text_column], ["--text"], dialect), lambda row: _cell(text_column, _parse_text, row.cells[0])
    )
    refuse_invalid(invalid, len(texts) + len(invalid))
    return texts


def iterate_texts(source: TableSource, text_column: str, dialect: Dialect | None = None) -> Iterator[str]:
    """Yield the texts of a source one by one.

    Raises:
        DataError: As ``read_unlabeled``.
    """
    for row in _rows(source, [text_column], ["--text"], dialect):
        try:
            yield _cell(text_column, _parse_text, row.cells[0])
        except _InvalidCellError as error:
            raise DataError(f"{row.name}, {row.place}, column {text_column!r}: {error}") from None


def _rows(source: TableSource, columns: list[str], options: list[str], dialect: Dialect | None) -> Iterator[_Row]:
    """Yield each row with the cells of the given columns."""
    with open_table(source, dialect) as table:
        for column, option in zip(columns, options, strict=True):
            table.require_column(column, option)
        for chunk in table.chunks(columns):
            cells = zip(*(chunk.column(column) for column in columns), strict=True)
            for place, row, values in zip(chunk.places, cells, chunk.rows, strict=True):
                yield _Row(table.name, place, row, dict(zip(chunk.columns, values, strict=True)))
