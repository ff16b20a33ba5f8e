"""Read labeled and unlabeled texts from files or tables in memory.

In: paths, tables or sequences in memory, and a task that parses labels. Out: texts, labels and weights. All invalid
rows are reported at once, or left out. Does not know tokens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from bothways.data.dialect import Dialect
from bothways.data.invalid import refuse_invalid
from bothways.data.table import Chunk, Table
from bothways.data.tables import TableSource, open_table
from bothways.errors import ConfigError, DataError, quoted
from bothways.tasks.labels import KNOWN_SHOWN, as_list, listed, parse_number
from bothways.tasks.task import InvalidRow, Label, LabeledTexts, Task
from bothways.text.fields import Text, TextColumns, columns_of, columns_text, is_blank
from bothways.text.validation import check_text, is_missing, without_missing

_TEXT, _LABEL = "text", "label"
"""Columns of a table that is made of two lists."""
_STRINGS_KEPT = 10_000
_Cell = TypeVar("_Cell")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class LabeledSource:
    """Where labeled texts come from.

    Attributes:
        table: A path, or a table in memory.
        text: Text columns, in the order in which a model reads them.
        label: Label column; None for one 0/1 column per label.
        label_columns: The names of 0/1 columns, or of the positions of the multi-hot lists in ``label``.
    """

    table: TableSource
    text: tuple[str, ...]
    label: str | None
    label_columns: tuple[str, ...] = ()


_Cells = tuple[object, ...]
"""The cells of one row in the columns that are read."""


class InvalidCellError(Exception):
    """A cell cannot be used."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column


def read_labeled(
    source: TableSource,
    text: TextColumns,
    label: str | None,
    task: Task,
    *,
    dialect: Dialect | None = None,
    weight: str | None = None,
    drop_invalid: bool = False,
    keep_unknown: bool = False,
    known_in: str = "the model has",
    unknown_advice: str = "",
) -> LabeledTexts:
    """Return all labeled texts of a source.

    Labels that differ only by surrounding white space, Unicode form or invisible characters become equal.

    Args:
        source: A path, or a table in memory.
        text: Text column, or several. Texts of several columns are tuples.
        label: Label column; None for one 0/1 column per label, which ``task.label_columns`` names.
        task: Parses the labels. If it is fitted, other labels than its own are invalid.
        dialect: What the user states about a file.
        weight: Column of the weights of texts in the training loss; None for equal weights.
        drop_invalid: Leave invalid rows out. They are listed in the result.
        keep_unknown: Keep rows whose labels the fitted task does not know.
        known_in: What has the labels of the task, for the error about others.
        unknown_advice: What a user can do about others, for the same error.

    Raises:
        ConfigError: The label column is not named.
        DataError: A column is missing, rows are invalid, or there is no row.
    """
    labels = [label] if label is not None else list(task.label_columns)
    if not labels:
        raise ConfigError("name the label column with --label, or 0/1 columns with --labels")
    text_columns = columns_of(text)
    columns = [*text_columns, *labels, *([weight] if weight is not None else [])]
    label_option = "--label" if label is not None or task.target_names else "--labels"
    options = ["--text"] * len(text_columns) + [label_option] * len(labels)
    options = [*options, "--weight"][: len(columns)]

    parse = _label_parser(task, label, "" if keep_unknown else known_in, unknown_advice)
    chunks = _chunks(source, columns, options, dialect)
    rows = _labeled(source, chunks, _Columns(text_columns, labels, weight), parse, drop_invalid)
    return rows if task.labels else replace(rows, labels=task.unified(rows.labels))


def read_soft_labels(
    source: TableSource,
    text: TextColumns,
    label: str | None,
    task: Task,
    *,
    dialect: Dialect | None = None,
    weight: str | None = None,
    drop_invalid: bool = False,
) -> LabeledTexts:
    """Return all texts of a source with what a teacher predicts for them.

    A prediction is a column of probabilities per label, called ``probability_LABEL`` as ``bothways predict`` writes
    it, or ``LABEL``; for regression the column ``predicted_value``. A table without such columns has the predictions in
    the label column.

    Args:
        source: A path, or a table in memory.
        text: Text column, or several.
        label: Label column of a table without probabilities.
        task: The task, fitted to the training rows.
        dialect: What the user states about a file.
        weight: Column of the weights of texts in the training loss. A table without it has weights of 1.
        drop_invalid: Leave invalid rows out. They are listed in the result.

    Raises:
        DataError: A column is missing, rows are invalid, or there is no row.
    """
    texts = columns_of(text)
    with open_table(source, dialect) as table:
        predicted = task.soft_label_columns(table.columns)
        if predicted is None:
            predicted = _hard_labels(table, label, task)
            parse = _label_parser(task, label, "the training rows have", "")
        else:
            parse = partial(_cell, "", task.parse_soft)
        columns = _Columns(texts, predicted, weight if weight in table.columns else None)
        chunks = _table_chunks(table, columns.all, ["--text"] * len(texts))
        return _labeled(source, chunks, columns, parse, drop_invalid)


def _hard_labels(table: Table, label: str | None, task: Task) -> list[str]:
    """Return the label columns of a table without probabilities.

    Raises:
        DataError: The table has no such columns.
    """
    columns = [label] if label is not None else list(task.label_columns)
    if columns and set(columns) <= set(table.columns):
        return columns
    wanted = task.columns()[-max(1, len(task.labels)) :]
    for names in (wanted, task.labels):
        missing = [name for name in names if name not in table.columns]
        if 0 < len(missing) < len(names):
            raise DataError(f"{table.name} has probabilities of some labels, but no column {listed(missing)}")
    otherwise = f", or the label column {quoted(label)}" if label is not None else ""
    raise DataError(f"{table.name} has no soft labels. Expected the columns {listed(wanted, KNOWN_SHOWN)}{otherwise}")


@dataclass(frozen=True)
class _Columns:
    """The columns of labeled rows."""

    text: list[str]
    labels: list[str]
    weight: str | None

    @property
    def all(self) -> list[str]:
        return [*self.text, *self.labels, *([self.weight] if self.weight is not None else [])]


def _label_parser(
    task: Task, label: str | None, known_in: str, unknown_advice: str
) -> Callable[[Sequence[object]], Label]:
    """Return a function that returns the label in the label columns of a row.

    Args:
        task: Parses the labels.
        label: Label column; None for one 0/1 column per label.
        known_in: What has the labels of the task, for the error about others; empty to allow others.
        unknown_advice: What a user can do about others, for the same error.
    """
    known: dict[str, Label] = {}  # most labels occur many times

    def parse(cells: Sequence[object]) -> Label:
        cell = cells[0] if label is not None else list(cells)
        if type(cell) is str and cell in known:
            return known[cell]
        found = _cell(label or "", task.parse, cell)
        if known_in and (unknown := task.unknown(found)):
            raise InvalidCellError(
                label or "",
                f"unknown label {listed(unknown)}; {known_in} {listed(task.labels, KNOWN_SHOWN)}{unknown_advice}",
            )
        if type(cell) is str and len(known) < _STRINGS_KEPT:
            known[cell] = found
        return found

    return parse


def _labeled(
    source: TableSource,
    chunks: Iterable[tuple[str, Chunk, Iterator[_Cells]]],
    columns: _Columns,
    parse_labels: Callable[[Sequence[object]], Label],
    drop_invalid: bool,
) -> LabeledTexts:
    """Return labeled texts.

    Args:
        source: Where they come from.
        chunks: Its chunks, with the cells in ``columns.all``.
        columns: The columns.
        parse_labels: Returns the label in the label columns of a row.
        drop_invalid: Leave invalid rows out.

    Raises:
        DataError: Rows are invalid, there is no row, all texts are empty, or all weights are 0.
    """

    def parse(cells: _Cells) -> tuple[Text, Label, float]:
        if isinstance(cells[0], str) and cells[0] == columns.text[0]:
            _refuse_header(cells, columns.all)
        return (
            parse_text(cells[: len(columns.text)], columns.text),
            parse_labels(cells[len(columns.text) :][: len(columns.labels)]),
            1.0 if columns.weight is None else _cell(columns.weight, _parse_weight, cells[-1]),
        )

    name, parsed, invalid = _valid_rows(chunks, parse)
    if not drop_invalid:
        refuse_invalid(invalid, len(parsed) + len(invalid))
    _refuse_empty(source, name, parsed, invalid)
    texts = [each[0] for each in parsed]
    if all(map(is_blank, texts)):
        verb = "is" if len(columns.text) == 1 else "are"
        raise DataError(f"{name}: {columns_text(columns.text)} {verb} empty in every row")
    weights = None if columns.weight is None else [each[2] for each in parsed]
    if weights is not None and not any(weights):
        raise DataError(f"{name}: the column {quoted(columns.weight)} is 0 in every row, so nothing would be learned")
    return LabeledTexts(name, texts, [each[1] for each in parsed], weights, tuple(invalid))


def labeled_source(data: object, labels: object, text: TextColumns | None, label: str | None) -> LabeledSource:
    """Return where labeled texts come from, for any form in which a caller passes them.

    Args:
        data: A path or a table; or the texts, with their labels in ``labels``; or a tuple of texts and labels.
        labels: The label of each text if ``data`` holds texts. If it is a table, the names of 0/1 columns, or of the
            positions of multi-hot lists.
        text: Text column, or several. Needed for a table.
        label: Label column.

    Raises:
        ConfigError: The arguments do not go together; the message names what is missing.
    """
    texts, by_text, names = data, labels, None
    if isinstance(data, tuple) and len(data) == 2 and (first := as_column(data[0])) is not None:
        texts, by_text, names = first, data[1], labels
    are_paths = by_text is None and text is not None and label is not None and isinstance(data, list)
    if (values := as_column(texts)) is not None and not are_paths:
        found = as_column(by_text)
        if found is None:
            raise ConfigError("the texts are a list, so their labels are needed too: texts, labels")
        if len(found) != len(values):
            raise ConfigError(f"there are {len(values):,} texts and {len(found):,} labels, expected one label per text")
        columns, label = columns_of(text or _TEXT), label or _LABEL
        return LabeledSource({**_text_table(values, columns), label: found}, tuple(columns), label, _names(names))
    if text is None:
        raise ConfigError("name the text column: text= in Python, --text on the command line")
    if labels is None and label is None:
        raise ConfigError("name the label column: label= in Python, --label on the command line")
    return LabeledSource(as_table(data), tuple(columns_of(text)), label, _names(labels))


def _text_table(values: Sequence[object], columns: Sequence[str]) -> dict[str, list[object]]:
    """Return a list of texts as a table. The texts of several columns are tuples or lists with a string per column."""
    if len(columns) == 1:
        return {columns[0]: [*values]}
    rows = [value for value in values if isinstance(value, list | tuple) and len(value) == len(columns)]
    if len(rows) < len(values):
        wrong = next(value for value in values if value not in rows)
        raise DataError(f"a text is {quoted(wrong)}, expected one string for each of {columns_text(columns)}")
    return {column: list(cells) for column, cells in zip(columns, zip(*rows, strict=True), strict=True)}


def _names(labels: object) -> tuple[str, ...]:
    """Return the names of labels, none for None.

    Raises:
        ConfigError: It is not a list of strings.
    """
    if labels is None:
        return ()
    found = as_column(labels)
    if not found or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"labels is {quoted(labels)}, expected a list of the names of labels")
    return tuple(map(str, found))


def as_column(value: object) -> list[object] | None:
    """Return the values of a list, array, column or generator, or None for a path, a table or anything else."""
    if isinstance(value, str | bytes | Mapping) or hasattr(value, "columns") or hasattr(value, "column_names"):
        return None
    found = as_list(value)
    if found is None and isinstance(value, Sequence | Iterator | ValuesView) and not hasattr(value, "read"):
        found = list(value)  # a column of a Dataset, or a generator
    return None if found is None or (found and isinstance(found[0], Mapping)) else found


def as_table(data: object) -> TableSource:
    """Return a path or table as it is.

    Raises:
        ConfigError: It is neither.
    """
    is_table = isinstance(data, str | os.PathLike) or hasattr(data, "__getitem__")
    if data is None or isinstance(data, bytes) or not is_table:
        raise ConfigError(
            f"the data is {quoted(data)} ({type(data).__name__}), expected a file, a table, or texts and labels"
        )
    found: TableSource = data  # type: ignore[assignment]
    return found


def _valid_rows(
    chunks: Iterable[tuple[str, Chunk, Iterator[_Cells]]], parse: Callable[[_Cells], _Value]
) -> tuple[str, list[_Value], list[InvalidRow]]:
    """Return the name of the source, what valid rows parse to, and the invalid rows."""
    name: str = ""
    parsed: list[_Value] = []
    invalid: list[InvalidRow] = []
    for name, chunk, rows in chunks:
        for position, cells in enumerate(rows):
            try:
                parsed.append(parse(cells))
            except InvalidCellError as error:
                values = dict(zip(chunk.columns, chunk.rows[position], strict=True))
                number = len(parsed) + len(invalid) + 1
                invalid.append(InvalidRow(name, chunk.places[position], error.column, str(error), values, number))
    return name, parsed, invalid


def _refuse_empty(source: TableSource, name: str, parsed: Sequence[object], invalid: Sequence[InvalidRow]) -> None:
    if invalid and not parsed:
        raise DataError(f"{name}: all {len(invalid):,} rows are invalid: {invalid[0].place}: {invalid[0].reason}")
    if not parsed:
        path = os.fspath(source) if isinstance(source, str | os.PathLike) else "the table"
        raise DataError(f"{path} has no rows, expected texts with labels")


def _cell(column: str, parse: Callable[[_Cell], _Value], value: _Cell) -> _Value:
    try:
        return parse(value)
    except DataError as error:
        raise InvalidCellError(column, str(error)) from None


def _refuse_header(cells: _Cells, columns: Sequence[str]) -> None:
    if all(isinstance(cell, str) and cell == column for cell, column in zip(cells, columns, strict=True)):
        raise InvalidCellError("", "the row repeats the header")


def parse_text(cells: Sequence[object], columns: Sequence[str]) -> Text:
    """Return the text in the text columns of a row.

    Args:
        cells: One value per text column.
        columns: Text columns.

    Raises:
        InvalidCellError: A value is not a valid string, or all of them are missing.
    """
    if len(cells) == 1:
        (cell,) = cells
        return cell if type(cell) is str and cell.isascii() else _cell(columns[0], _parse_text, cell)
    found = zip(columns, without_missing(cells), strict=True)
    first, *others = (_cell(column, _parse_text, cell) for column, cell in found)
    return (first, *others) if others else first


def _parse_text(value: object) -> str:
    if is_missing(value):
        raise DataError("the text is missing (null); remove the row, or write an empty text")
    return check_text(value, "the text")


def _parse_weight(value: object) -> float:
    try:
        return parse_number(value)
    except DataError as error:
        raise DataError(f"the weight is {error}") from None


def read_unlabeled(source: TableSource, text: TextColumns, dialect: Dialect | None = None) -> list[Text]:
    """Return all texts of a source, regardless of its other columns. Texts of several columns are tuples.

    Args:
        source: A path, or a table in memory.
        text: Text column, or several.
        dialect: What the user states about a file.

    Raises:
        DataError: A column is missing, or texts are missing or not strings.
    """
    return read_valid_texts(source, text, dialect=dialect, drop_invalid=False, can_drop=False)[0]


def read_valid_texts(
    source: object, text: TextColumns, *, dialect: Dialect | None, drop_invalid: bool, can_drop: bool = True
) -> tuple[list[Text], list[InvalidRow]]:
    """Return all texts of a source, and the rows that were left out.

    Args:
        source: A path, a table in memory, or a list, array or Series of texts.
        text: Text column, or several. Texts of several columns are tuples.
        dialect: What the user states about a file.
        drop_invalid: Leave invalid rows out.
        can_drop: Whether a user can choose to, for the error.

    Raises:
        DataError: A column is missing, or texts are missing or not strings.
    """
    columns, values = columns_of(text), as_column(source)
    table = _text_table(values, columns) if values is not None else as_table(source)
    chunks = _chunks(table, columns, ["--text"] * len(columns), dialect)
    _, texts, invalid = _valid_rows(chunks, lambda cells: parse_text(cells, columns))
    if not drop_invalid:
        refuse_invalid(invalid, len(texts) + len(invalid), can_drop=can_drop)
    return texts, invalid


def iterate_texts(source: TableSource, text: TextColumns, dialect: Dialect | None = None) -> Iterator[Text]:
    """Yield the texts of a source one by one. Texts of several columns are tuples.

    Raises:
        DataError: As ``read_unlabeled``.
    """
    columns = columns_of(text)
    for name, chunk, rows in _chunks(source, columns, ["--text"] * len(columns), dialect):
        for position, cells in enumerate(rows):
            try:
                yield parse_text(cells, columns)
            except InvalidCellError as error:
                place = chunk.places[position]
                raise DataError(f"{name}, {place}, column {quoted(error.column)}: {error}") from None


def _chunks(
    source: TableSource, columns: list[str], options: list[str], dialect: Dialect | None
) -> Iterator[tuple[str, Chunk, Iterator[_Cells]]]:
    """Yield the name of the source, each chunk, and the cells of the given columns in its rows."""
    with open_table(source, dialect) as table:
        yield from _table_chunks(table, columns, options)


def _table_chunks(
    table: Table, columns: Sequence[str], options: Sequence[str]
) -> Iterator[tuple[str, Chunk, Iterator[_Cells]]]:
    """Yield what ``_chunks`` does for an open table. Columns without an option are known to be there."""
    for column, option in zip(columns, options, strict=False):
        table.require_column(column, option)
    for chunk in table.chunks(columns):
        yield table.name, chunk, zip(*(chunk.column(column) for column in columns), strict=True)
