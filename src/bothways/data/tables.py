"""Read and write tables of texts in chunks of rows: CSV, TSV, JSON lines and Parquet.

Values are read exactly as they are in the file ("NA" and "01" stay text), together with each row's position for error
messages. Memory use does not depend on the size of the file.
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
from typing import IO, Any, ClassVar, Literal

from bothways import strict_json
from bothways.errors import ConfigError, DataError
from bothways.files import (
    COMPRESSIONS,
    STANDARD_STREAM,
    open_for_reading,
    open_for_writing,
    require_pyarrow,
    split_suffix,
)

CHUNK_ROWS = 256
"""Maximum number of rows per chunk."""
LARGEST_FIELD_CHARACTERS = 256 * 1024 * 1024
LARGEST_LINE_BYTES = 256 * 1024 * 1024
TableFormat = Literal["csv", "tsv", "jsonl", "parquet"]
FORMATS: dict[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}

Values = Sequence[object]

_SURROGATE = re.compile("[\ud800-\udfff]")
_COLUMNS_LISTED = 20


class Chunk:
    """Consecutive rows of a table.

    Attributes:
        columns: Column names, in order.
        rows: One list of values per row, in the order of the columns.
        places: The position of each row for error messages, such as ``row 3 (line 4)``.
        source: What the rows were read from, for a writer of the same format: an Arrow record batch (Parquet), a list
            of objects (JSON lines) or None (CSV and TSV).
    """

    def __init__(self, columns: Sequence[str], rows: list[Values], places: Sequence[str], source: Any = None) -> None:
        self.columns = tuple(columns)
        self.rows = rows
        self.places = places
        self.source = source

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[object]:
        """Return the values of one column, in row order."""
        position = self.columns.index(name)
        return [row[position] for row in self.rows]


class Table(ABC):
    """A file of rows that is read once, from start to end.

    Attributes:
        format: ``csv``, ``tsv``, ``jsonl`` or ``parquet``.
        path: The path as it was passed.
        name: The name of the file in error messages.
        columns: Column names, in order. JSON lines: the keys of the first object.
    """

    format: ClassVar[str]

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        self.path = path
        self.name = "standard input" if path == STANDARD_STREAM else path
        self._stream = stream
        self.columns: tuple[str, ...] = ()

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, at most ``CHUNK_ROWS`` at a time.

        Raises:
            DataError: A row can't be read. The message names the file, the row and the column.
        """

    @abstractmethod
    def writer(self, stream: IO[bytes], added: Sequence[str]) -> AbstractContextManager[TableWriter]:
        """Return a context manager with a writer for this table's columns and the added ones.

        Args:
            stream: The stream to write to.
            added: Names of the added columns.
        """

    def require_column(self, name: str, option: str) -> None:
        """Raise an error if the table lacks a column.

        Args:
            name: The column.
            option: The option that chooses the column, for the error message.

        Raises:
            DataError: The table has no such column. The message lists the columns it has.
        """
        if name not in self.columns:
            listed = [column if len(column) <= 40 else column[:37] + "..." for column in self.columns[:_COLUMNS_LISTED]]
            found = ", ".join(map(repr, listed)) or "none"
            if len(self.columns) > _COLUMNS_LISTED:
                found += f" and {len(self.columns) - _COLUMNS_LISTED} more"
            hint = self._delimiter_hint()
            raise DataError(f"{self.name} has no column {name!r}. It has {found}{hint}. Choose a column with {option}")

    def _delimiter_hint(self) -> str:
        return ""


class TableWriter(ABC):
    """Writes the chunks of one table with added columns."""

    @abstractmethod
    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        """Write the rows of a chunk, each followed by its values of the added columns.

        Args:
            chunk: A chunk of the table.
            added: One value per row, by column name.

        Raises:
            DataError: A JSON object already has a key with the name of an added column.
        """


def format_of(path: str, given: str | None = None) -> str:
    """Return the format of a file: csv, tsv, jsonl or parquet.

    Args:
        path: A path, with or without a compression suffix, or ``-`` for standard input.
        given: The format that the user chose. Defaults to the format of the path's suffix, and to CSV for standard
            input.

    Raises:
        ConfigError: The suffix is unknown.
    """
    if given is not None:
        return given
    suffix, _ = split_suffix(path)
    if path == STANDARD_STREAM:
        return "csv"
    if suffix not in FORMATS:
        raise ConfigError(
            f"{path}: unknown file format {suffix!r}. Expected a suffix {', '.join(FORMATS)} "
            f"(optionally followed by {', '.join(COMPRESSIONS)})"
        )
    return FORMATS[suffix]


@contextlib.contextmanager
def open_table(path: str, file_format: str | None = None) -> Iterator[Table]:
    """Open a table and read its column names. ``Table.chunks`` reads the rows.

    Args:
        path: A file of any supported format, also compressed, or ``-`` for standard input.
        file_format: See ``format_of``.

    Raises:
        ConfigError: The format is unknown, or a Parquet file is compressed or standard input.
        DataError: The file can't be read, is empty or is not valid in its format.
        DependencyMissing: The format or compression needs pyarrow, which is not installed.
    """
    kind = _TABLES[format_of(path, file_format)]
    with open_for_reading(path) as stream:
        yield kind(path, stream)


def check_output(table: Table, path: str, added: Sequence[str]) -> None:
    """Raise an error if a table's rows with added columns cannot be written to a path, whether or not it exists.

    Args:
        table: The table whose chunks are written.
        path: The file to create, or ``-`` for standard output.
        added: Names of the added columns.

    Raises:
        ConfigError: ``path`` has another format than the table, or is a compressed Parquet file.
        DataError: The table already has one of the columns.
    """
    if path != STANDARD_STREAM:
        if format_of(path) != table.format:
            raise ConfigError(
                f"{path} is a {format_of(path)} file, but the input is {table.format}. Use the same format for --out"
            )
        if table.format == "parquet" and (compression := split_suffix(path)[1]):
            raise ConfigError(f"{path}: {_PARQUET_IS_COMPRESSED}. Remove the suffix {compression}")
    taken = [column for column in added if column in table.columns]
    if taken:
        raise DataError(f"{table.name} already has a column {taken[0]!r}. Rename or drop it first")


@contextlib.contextmanager
def open_writer(table: Table, path: str, added: Sequence[str]) -> Iterator[TableWriter]:
    """Open a writer for a table's rows with added columns. The file appears only if the block succeeds.

    Args:
        table: The table whose chunks are written.
        path: The file to create, or ``-`` for standard output.
        added: Names of the added columns.

    Raises:
        ConfigError: ``path`` has another format than the table, or its folder does not exist.
        OutputExists: ``path`` already exists.
        DataError: The table already has one of the columns, or the disk is full.
    """
    check_output(table, path, added)
    with open_for_writing(path) as stream, table.writer(stream, added) as writer:
        yield writer


_UTF_8_ADVICE = "Save the file as UTF-8"
_UTF_16 = f"looks like UTF-16, expected UTF-8. {_UTF_8_ADVICE}"
_NOT_UTF_8 = f"not valid UTF-8. {_UTF_8_ADVICE}"
_DELIMITERS = {
    ",": ("commas", "rename the file to .csv"),
    "\t": ("tabs", "rename the file to .tsv"),
    ";": ("semicolons", "save it with commas as .csv"),
    "|": ("vertical bars", "save it with commas as .csv"),
}


class CsvTable(Table):
    """Comma-separated values with a header line (RFC 4180)."""

    format = "csv"
    delimiter = ","

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        super().__init__(path, stream)
        csv.field_size_limit(LARGEST_FIELD_CHARACTERS)
        # Bytes that are not UTF-8 become lone surrogates here. _check_utf8 reports them with their row and column.
        lines = _Lines(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        first = next(lines, "")
        if "\0" in first or first.startswith(("\udcff\udcfe", "\udcfe\udcff")):
            raise DataError(f"{self.name} {_UTF_16}")
        self._reader = csv.reader(itertools.chain([first], lines), delimiter=self.delimiter, strict=True)
        header = next(self._records(), None)
        if header is None:
            raise DataError(f"{self.name} is empty, expected a header line with column names")
        self.columns = tuple(header)
        self._check_utf8(header, "header")
        _refuse_duplicate_columns(self.columns, self.name)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows. Blank lines are skipped."""
        numbered = enumerate(self._records(), start=1)
        while True:
            rows: list[Values] = []
            places: list[str] = []
            for number, row in itertools.islice(numbered, CHUNK_ROWS):
                place = f"row {number} (line {self._reader.line_num})"
                if len(row) != len(self.columns):
                    raise DataError(
                        f"{self.name}, {place}: found {len(row)} fields, expected {len(self.columns)} as in the "
                        "header. Quote fields that contain the delimiter or a line break"
                    )
                self._check_utf8(row, place)
                rows.append(row)
                places.append(place)
            if not rows:
                return
            yield Chunk(self.columns, rows, places)

    def writer(self, stream: IO[bytes], added: Sequence[str]) -> AbstractContextManager[TableWriter]:
        """Return a writer with the same delimiter. It writes the header immediately."""
        return contextlib.nullcontext(_CsvWriter(stream, self.delimiter, (*self.columns, *added)))

    def _records(self) -> Iterator[list[str]]:
        try:
            for row in self._reader:
                if row:  # an empty list is a blank line
                    yield row
        except csv.Error as error:
            raise DataError(
                f"{self.name}, line {self._reader.line_num}: not valid {self.format.upper()}: {error}. "
                "Check for missing or unescaped quotation marks"
            ) from None

    def _check_utf8(self, row: Sequence[str], place: str) -> None:
        for column, value in enumerate(row):
            if not value.isascii() and _SURROGATE.search(value):
                name = repr(self.columns[column]) if column < len(self.columns) else str(column + 1)
                raise DataError(f"{self.name}, {place}, column {name}: {_NOT_UTF_8}")

    def _delimiter_hint(self) -> str:
        for delimiter, (name, advice) in _DELIMITERS.items():
            if len(self.columns) == 1 and delimiter != self.delimiter and delimiter in self.columns[0]:
                return f" (its columns seem to be separated by {name}: {advice})"
        return ""


class TsvTable(CsvTable):
    """Tab-separated values with a header line, quoted like CSV."""

    format = "tsv"
    delimiter = "\t"


class _Lines(io.TextIOWrapper):
    """Lines of a stream that the caller owns. Closing this wrapper does not close the stream."""

    def close(self) -> None:
        pass


class _UnixLines:
    """Receives complete lines that end with CR LF and writes them as UTF-8 lines that end with LF."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        self._stream.write(line.removesuffix("\r\n").encode() + b"\n")


class _CsvWriter(TableWriter):
    def __init__(self, stream: IO[bytes], delimiter: str, columns: Sequence[str]) -> None:
        # Before Python 3.13, csv quotes only the line breaks that occur in lineterminator. This one contains both.
        self._writer = csv.writer(_UnixLines(stream), delimiter=delimiter, lineterminator="\r\n")
        self._writer.writerow(columns)

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        new_columns = zip(*added.values(), strict=True) if added else itertools.repeat(())
        self._writer.writerows([*row, *new] for row, new in zip(chunk.rows, new_columns, strict=bool(added)))


class JsonlTable(Table):
    """One JSON object per line."""

    format = "jsonl"

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        super().__init__(path, stream)
        self._numbered = enumerate(iter(lambda: stream.readline(LARGEST_LINE_BYTES), b""), start=1)
        self._first = next(self._objects(), None)
        if self._first is None:
            raise DataError(f"{self.name} is empty, expected one JSON object per line")
        self.columns = tuple(self._first[1])

    def chunks(self) -> Iterator[Chunk]:
        """Yield all objects as rows. A chunk has every column that at least one of its objects has."""
        objects = itertools.chain([self._first] if self._first else [], self._objects())
        while batch := list(itertools.islice(objects, CHUNK_ROWS)):
            columns = tuple(dict.fromkeys(itertools.chain(self.columns, *(value for _, value in batch))))
            rows: list[Values] = [[value.get(column) for column in columns] for _, value in batch]
            yield Chunk(columns, rows, [place for place, _ in batch], source=[value for _, value in batch])

    def writer(self, stream: IO[bytes], added: Sequence[str]) -> AbstractContextManager[TableWriter]:
        """Return a writer of objects. The added keys come last."""
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
                raise DataError(f"{self.name}, {place}: found {kind}, expected a JSON object")
            yield place, value


_JSON_KINDS = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def _json_problem(line: bytes, error: ValueError) -> str:
    if len(line) >= LARGEST_LINE_BYTES:
        return f"longer than {LARGEST_LINE_BYTES} bytes. Write one JSON object per line"
    if b"\0" in line or line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _UTF_16
    if isinstance(error, UnicodeDecodeError):
        return _NOT_UTF_8
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
                raise DataError(f"{self._name}, {place}: already has a key {min(taken)!r}. Rename or drop it first")
            try:
                line = strict_json.dump({**value, **new}).encode()
            except UnicodeEncodeError:  # another column contains a lone surrogate: write it escaped, as it was read
                line = json.dumps({**value, **new}).encode()
            self._stream.write(line + b"\n")


_PARQUET_IS_COMPRESSED = "compressed Parquet files are not supported, as Parquet compresses its own columns"


class ParquetTable(Table):
    """An Apache Parquet file. Needs pyarrow."""

    format = "parquet"

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        super().__init__(path, stream)
        self._arrow: Any = require_pyarrow("Parquet")
        from pyarrow import parquet  # noqa: PLC0415  (an optional dependency)

        if path == STANDARD_STREAM:
            raise ConfigError("Parquet can't be read from standard input. Pass the path of a file")
        if split_suffix(path)[1]:
            raise ConfigError(f"{path}: {_PARQUET_IS_COMPRESSED}. Decompress the file first")
        try:
            self._file = parquet.ParquetFile(stream)
        except (self._arrow.ArrowException, OSError) as error:
            raise DataError(f"{self.name} is not a valid Parquet file: {error}") from None
        self.columns = tuple(self._file.schema_arrow.names)
        _refuse_duplicate_columns(self.columns, self.name)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, each chunk with the Arrow record batch that it was read from."""
        number = 0
        batches = self._file.iter_batches(batch_size=CHUNK_ROWS)
        while True:
            try:
                batch = next(batches, None)
            except (self._arrow.ArrowException, OSError) as error:
                raise DataError(
                    f"{self.name}, after row {number}: the file is damaged. Copy or download it again ({error})"
                ) from None
            if batch is None:
                return
            rows: list[Values] = list(zip(*(_python_values(column) for column in batch.columns), strict=True))
            places = [f"row {n}" for n in range(number + 1, number + 1 + batch.num_rows)]
            number += batch.num_rows
            yield Chunk(self.columns, rows, places, source=batch)

    @contextlib.contextmanager
    def writer(self, stream: IO[bytes], added: Sequence[str]) -> Iterator[TableWriter]:
        """Yield a writer of this table's columns, with their types and metadata, and of the added columns."""
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
        """Write the footer of the file."""
        if self._file is None:  # without a row the types of the added columns are unknown
            self._open([self._arrow.null()] * len(self._added))
        self._file.close()

    def abandon(self) -> None:
        """Prevent any further write, including the one in pyarrow's finalizer. Has no effect after ``close``."""
        if self._file is not None:
            self._file.is_open = False

    def _open(self, added_types: Sequence[Any]) -> None:
        from pyarrow import parquet  # noqa: PLC0415  (an optional dependency)

        for name, kind in zip(self._added, added_types, strict=True):
            self._schema = self._schema.append(self._arrow.field(name, kind))
        self._file = parquet.ParquetWriter(self._stream, self._schema)


def _python_values(column: Any) -> list[object]:
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_python_value(scalar) for scalar in column]


def _python_value(scalar: Any) -> object:
    """Return an Arrow value as a Python value, or ``Unreadable`` if there is none (invalid UTF-8, the year 20000)."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return Unreadable()


class Unreadable:
    """Placeholder for a value that Python can't represent.

    It is not a string, so it is rejected as a text or label. In any other column it does no harm.
    """

    def __repr__(self) -> str:
        return "(is it valid UTF-8?)"


def _refuse_duplicate_columns(columns: Sequence[str], name: str) -> None:
    for column, count in Counter(columns).items():
        if count > 1:
            raise DataError(f"{name} has {count} columns named {column!r}. Rename all but one")


_TABLES: dict[str, type[Table]] = {"csv": CsvTable, "tsv": TsvTable, "jsonl": JsonlTable, "parquet": ParquetTable}
