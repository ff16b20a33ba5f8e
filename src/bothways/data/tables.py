"""Read and write tables of texts piece by piece: CSV, TSV, JSON lines and Parquet.

In: a path. Out: chunks of rows, every value as it stands in the file ("NA" and "01" stay text), with the place of each
row for error messages. Memory stays the same for a file of any size. Knows nothing of labels or models.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any, ClassVar

from bothways import strict_json
from bothways.errors import ConfigError, DataError
from bothways.files import STANDARD_STREAM, open_for_reading, open_for_writing, require_pyarrow, split_suffix

CHUNK_ROWS = 256
LARGEST_FIELD_CHARACTERS = 256 * 1024 * 1024
LARGEST_LINE_BYTES = 256 * 1024 * 1024
FORMATS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}

Values = Sequence[object]

_SURROGATE = re.compile("[\ud800-\udfff]")
_COLUMNS_LISTED = 20


class Chunk:
    """Some consecutive rows of a table, in order.

    Attributes:
        columns: Column names, in order.
        rows: One list of values a row, in the order of the columns.
        places: Where each row stands, for messages: ``row 3 (line 4)``.
        source: The Arrow record batch these rows came from, None for other formats.
    """

    def __init__(self, columns: Sequence[str], rows: list[Values], places: Sequence[str], source: Any = None) -> None:
        self.columns = tuple(columns)
        self.rows = rows
        self.places = places
        self.source = source

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[object]:
        """Return one column's values, in row order."""
        position = self.columns.index(name)
        return [row[position] for row in self.rows]


class Table(ABC):
    """A file of rows, read once from start to end."""

    format: ClassVar[str]

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        self.path = path
        self.name = "standard input" if path == STANDARD_STREAM else path
        self._stream = stream
        self.columns: tuple[str, ...] = ()

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """Return all rows, at most ``CHUNK_ROWS`` at a time.

        Raises:
            DataError: A row can't be read; the message names file, row and column.
        """

    @abstractmethod
    def writer(self, stream: IO[bytes], added: Sequence[str]) -> AbstractContextManager[TableWriter]:
        """Return a writer for its columns and the added ones; its block writes the file's end."""

    def require_column(self, name: str, option: str) -> None:
        """Refuse a column that is not there.

        Raises:
            DataError: The table has no such column; the message lists those it has.
        """
        if name not in self.columns:
            listed = [column if len(column) <= 40 else column[:37] + "..." for column in self.columns[:_COLUMNS_LISTED]]
            found = ", ".join(map(repr, listed)) or "none"
            if len(self.columns) > _COLUMNS_LISTED:
                found += f" and {len(self.columns) - _COLUMNS_LISTED} more"
            hint = self._delimiter_hint()
            raise DataError(f"{self.name} has no column {name!r}; it has {found}{hint}; name the column with {option}")

    def _delimiter_hint(self) -> str:
        return ""


class TableWriter(ABC):
    """Writes chunks of one table with columns added."""

    @abstractmethod
    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        """Write a chunk's rows, each with its added values after its own."""


def format_of(path: str, given: str | None = None) -> str:
    """Return the format of a path by its suffix: csv, tsv, jsonl or parquet.

    Args:
        path: A path, with or without a compression's suffix, or ``-``.
        given: The format as told by the user; wins over the suffix. Standard input is CSV unless it is given.

    Raises:
        ConfigError: The suffix is none of those.
    """
    if given is not None:
        return given
    suffix, _ = split_suffix(path)
    if path == STANDARD_STREAM:
        return "csv"
    if suffix not in FORMATS:
        raise ConfigError(
            f"{path}: can't tell the format from the suffix {suffix!r}, expected one of {', '.join(FORMATS)} "
            "(also with .gz, .bz2, .xz or .zst)"
        )
    return FORMATS[suffix]


@contextlib.contextmanager
def open_table(path: str, file_format: str | None = None) -> Iterator[Table]:
    """Return the table in a file; its columns are known at once, its rows are read by ``chunks``.

    Raises:
        ConfigError: The format can't be told.
        DataError: The file can't be read, is empty or is not of its format.
    """
    kind = _TABLES[format_of(path, file_format)]
    with open_for_reading(path) as stream:
        yield kind(path, stream)


@contextlib.contextmanager
def open_writer(table: Table, path: str, added: Sequence[str]) -> Iterator[TableWriter]:
    """Return a writer for a table's rows with columns added; the file appears when the block ends well.

    Raises:
        ConfigError: ``path`` has another format than the table, or exists.
        DataError: The table already has one of the columns, or the disk is full.
    """
    if path != STANDARD_STREAM:
        if format_of(path) != table.format:
            raise ConfigError(
                f"{path} is {format_of(path)}, but the input is {table.format}: give --out the same suffix"
            )
        if table.format == "parquet" and split_suffix(path)[1]:
            raise ConfigError(f"{path}: {_PARQUET_IS_COMPRESSED}; leave the second suffix out")
    taken = [column for column in added if column in table.columns]
    if taken:
        raise DataError(f"{table.name} already has the column {taken[0]!r}: rename or drop it first")
    with open_for_writing(path) as stream, table.writer(stream, added) as writer:
        yield writer


_UTF_16 = "it looks like UTF-16, expected UTF-8: save it as UTF-8 and try again"
_DELIMITERS = {
    ",": ("commas", "name the file .csv"),
    "\t": ("tabs", "name the file .tsv"),
    ";": ("semicolons", "save it with commas as .csv"),
    "|": ("bars", "save it with commas as .csv"),
}


class CsvTable(Table):
    """Comma-separated values with a header line, as in RFC 4180."""

    format = "csv"
    delimiter = ","

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        super().__init__(path, stream)
        csv.field_size_limit(LARGEST_FIELD_CHARACTERS)
        # Bytes that are not UTF-8 become lone surrogates here, so that they can be told by row and column later.
        lines = _Lines(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        first = next(lines, "")
        if "\0" in first or first.startswith(("\udcff\udcfe", "\udcfe\udcff")):
            raise DataError(f"{self.name}: {_UTF_16}")
        self._reader = csv.reader(itertools.chain([first], lines), delimiter=self.delimiter, strict=True)
        header = next(self._records(), None)
        if header is None:
            raise DataError(f"{self.name} is empty, expected a header line with column names")
        self.columns = tuple(header)
        self._check_utf8(header, "the header")
        _refuse_duplicate_columns(self.columns, self.name)

    def chunks(self) -> Iterator[Chunk]:
        """Return all rows; a blank line is none."""
        numbered = enumerate(self._records(), start=1)
        while True:
            rows: list[Values] = []
            places: list[str] = []
            for number, row in itertools.islice(numbered, CHUNK_ROWS):
                place = f"row {number} (line {self._reader.line_num})"
                if len(row) != len(self.columns):
                    raise DataError(
                        f"{self.name}, {place}: {len(row)} fields, expected {len(self.columns)} as in the header; "
                        "quote fields that hold the delimiter or a line break"
                    )
                self._check_utf8(row, place)
                rows.append(row)
                places.append(place)
            if not rows:
                return
            yield Chunk(self.columns, rows, places)

    def writer(self, stream: IO[bytes], added: Sequence[str]) -> AbstractContextManager[TableWriter]:
        """Return a writer with the same delimiter, whose header is written at once."""
        return contextlib.nullcontext(_CsvWriter(stream, self.delimiter, (*self.columns, *added)))

    def _records(self) -> Iterator[list[str]]:
        try:
            for row in self._reader:
                if row:  # a blank line is no row
                    yield row
        except csv.Error as error:
            raise DataError(f"{self.name}, line {self._reader.line_num}: not {self.format.upper()}: {error}") from None

    def _check_utf8(self, row: Sequence[str], place: str) -> None:
        for column, value in enumerate(row):
            if not value.isascii() and _SURROGATE.search(value):
                name = repr(self.columns[column]) if column < len(self.columns) else str(column + 1)
                raise DataError(
                    f"{self.name}, {place}, column {name}: not valid UTF-8; save the file as UTF-8 and try again"
                )

    def _delimiter_hint(self) -> str:
        for delimiter, (name, advice) in _DELIMITERS.items():
            if len(self.columns) == 1 and delimiter != self.delimiter and delimiter in self.columns[0]:
                return f" (it looks as if {name} separate its columns: {advice})"
        return ""


class TsvTable(CsvTable):
    """Tab-separated values with a header line, quoted like CSV."""

    format = "tsv"
    delimiter = "\t"


class _Lines(io.TextIOWrapper):
    """The lines of a stream that belongs to somebody else: letting go of them doesn't close it."""

    def close(self) -> None:
        pass


class _UnixLines:
    """Takes whole lines of text that end with CR LF, and writes them in UTF-8 with LF."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        self._stream.write(line.removesuffix("\r\n").encode() + b"\n")


class _CsvWriter(TableWriter):
    def __init__(self, stream: IO[bytes], delimiter: str, columns: Sequence[str]) -> None:
        # Before Python 3.13, csv quotes only the line breaks that its own lines end with, so it is told both.
        self._writer = csv.writer(_UnixLines(stream), delimiter=delimiter, lineterminator="\r\n")
        self._writer.writerow(columns)

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        new_columns = zip(*added.values(), strict=True) if added else itertools.repeat(())
        self._writer.writerows([*row, *new] for row, new in zip(chunk.rows, new_columns, strict=bool(added)))


class JsonlTable(Table):
    """One JSON object a line."""

    format = "jsonl"

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        super().__init__(path, stream)
        self._numbered = enumerate(iter(lambda: stream.readline(LARGEST_LINE_BYTES), b""), start=1)
        self._first = next(self._objects(), None)
        if self._first is None:
            raise DataError(f"{self.name} is empty, expected one JSON object a line")
        self.columns = tuple(self._first[1])

    def chunks(self) -> Iterator[Chunk]:
        """Return all objects; a chunk also has the columns that only some of its objects have."""
        objects = itertools.chain([self._first] if self._first else [], self._objects())
        while batch := list(itertools.islice(objects, CHUNK_ROWS)):
            columns = tuple(dict.fromkeys(itertools.chain(self.columns, *(value for _, value in batch))))
            rows: list[Values] = [[value.get(column) for column in columns] for _, value in batch]
            yield Chunk(columns, rows, [place for place, _ in batch], source=[value for _, value in batch])

    def writer(self, stream: IO[bytes], added: Sequence[str]) -> AbstractContextManager[TableWriter]:
        """Return a writer of objects whose last keys are the added ones."""
        return contextlib.nullcontext(_JsonlWriter(stream, self.name))

    def _objects(self) -> Iterator[tuple[str, dict[str, object]]]:
        for number, line in self._numbered:
            if not line.strip():
                continue
            place = f"line {number}"
            try:
                value = strict_json.parse(line)
            except ValueError as error:
                raise DataError(f"{self.name}, {place}: {_json_problem(line, error)}") from None
            if not isinstance(value, dict):
                kind = _JSON_KINDS[type(value)]
                raise DataError(f"{self.name}, {place}: a JSON {kind}, expected an object with the text")
            yield place, value


_JSON_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def _json_problem(line: bytes, error: ValueError) -> str:
    if len(line) >= LARGEST_LINE_BYTES:
        return f"longer than {LARGEST_LINE_BYTES} bytes; write one object a line"
    if b"\0" in line or line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _UTF_16
    if isinstance(error, UnicodeDecodeError):
        return "not valid UTF-8; save the file as UTF-8 and try again"
    return f"not strict JSON: {error}"


class _JsonlWriter(TableWriter):
    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        for position, value in enumerate(chunk.source):
            new = {name: values[position] for name, values in added.items()}
            if taken := value.keys() & new.keys():
                place = chunk.places[position]
                raise DataError(f"{self._name}, {place}: already has the key {min(taken)!r}: rename it")
            try:
                line = strict_json.dump({**value, **new}).encode()
            except UnicodeEncodeError:  # another column holds half a surrogate pair: it goes out escaped, as it came
                line = json.dumps({**value, **new}).encode()
            self._stream.write(line + b"\n")


_PARQUET_IS_COMPRESSED = "Parquet compresses its own columns"


class ParquetTable(Table):
    """An Apache Parquet file; needs pyarrow."""

    format = "parquet"

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        super().__init__(path, stream)
        self._arrow: Any = require_pyarrow("Parquet")
        from pyarrow import parquet  # noqa: PLC0415  (an extra)

        if path == STANDARD_STREAM:
            raise ConfigError("a Parquet file can't be read from standard input: give its path")
        if split_suffix(path)[1]:
            raise ConfigError(f"{path}: {_PARQUET_IS_COMPRESSED}; decompress the file first")
        try:
            self._file = parquet.ParquetFile(stream)
        except (self._arrow.ArrowException, OSError) as error:
            raise DataError(f"{self.name} is not a readable Parquet file: {error}") from None
        self.columns = tuple(self._file.schema_arrow.names)
        _refuse_duplicate_columns(self.columns, self.name)

    def chunks(self) -> Iterator[Chunk]:
        """Return all rows, with the Arrow batch that they came in."""
        number = 0
        batches = self._file.iter_batches(batch_size=CHUNK_ROWS)
        while True:
            try:
                batch = next(batches, None)
            except (self._arrow.ArrowException, OSError) as error:
                raise DataError(f"{self.name}, after row {number}: {error}") from None
            if batch is None:
                return
            rows: list[Values] = list(zip(*(_python_values(column) for column in batch.columns), strict=True))
            places = [f"row {n}" for n in range(number + 1, number + 1 + batch.num_rows)]
            number += batch.num_rows
            yield Chunk(self.columns, rows, places, source=batch)

    @contextlib.contextmanager
    def writer(self, stream: IO[bytes], added: Sequence[str]) -> Iterator[TableWriter]:
        """Return a writer of this table's columns with their types and metadata, and the added ones."""
        writer = _ParquetWriter(stream, self._arrow, self._file.schema_arrow, added)
        try:
            yield writer
            writer.close()
        finally:
            writer.abandon()


class _ParquetWriter(TableWriter):
    def __init__(self, stream: IO[bytes], arrow: Any, schema: Any, added: Sequence[str]) -> None:
        self._stream = stream
        self._arrow = arrow
        self._schema = schema
        self._added = added
        self._file: Any = None

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        arrays = [self._arrow.array(added[name]) for name in self._added]
        if self._file is None:
            self._open([values.type for values in arrays])
        columns = [*chunk.source.columns, *arrays]
        self._file.write_batch(self._arrow.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Write what the format wants at its end."""
        if self._file is None:  # no row has told the types
            self._open([self._arrow.null()] * len(self._added))
        self._file.close()

    def abandon(self) -> None:
        """Let nothing more be written, not even when this object is forgotten; nothing to do after ``close``."""
        if self._file is not None:
            self._file.is_open = False

    def _open(self, added_types: Sequence[Any]) -> None:
        from pyarrow import parquet  # noqa: PLC0415  (an extra)

        for name, kind in zip(self._added, added_types, strict=True):
            self._schema = self._schema.append(self._arrow.field(name, kind))
        self._file = parquet.ParquetWriter(self._stream, self._schema)


def _python_values(column: Any) -> list[object]:
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_python_value(scalar) for scalar in column]


def _python_value(scalar: Any) -> object:
    """Return a value; what Python can't hold (invalid UTF-8, the year 20000) is of no use as a text or label."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return Unreadable()


class Unreadable:
    """Stands for a value that Python can't hold; no text, so it is refused where a text or label is wanted."""

    def __repr__(self) -> str:
        return "(is it valid UTF-8?)"


def _refuse_duplicate_columns(columns: Sequence[str], name: str) -> None:
    for column, count in Counter(columns).items():
        if count > 1:
            raise DataError(f"{name} has the column {column!r} twice: rename one of them")


_TABLES: dict[str, type[Table]] = {"csv": CsvTable, "tsv": TsvTable, "jsonl": JsonlTable, "parquet": ParquetTable}
