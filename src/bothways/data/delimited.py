"""Read and write CSV and TSV."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO

from bothways.data.dialect import Dialect
from bothways.data.table import CHUNK_ROWS, Chunk, Table, TableWriter, Values
from bothways.errors import DataError

LARGEST_FIELD_CHARACTERS = 256 * 1024 * 1024
_SURROGATE = re.compile("[\ud800-\udfff]")
_UTF_8_ADVICE = "Save the file as UTF-8"
_UTF_16 = f"looks like UTF-16, expected UTF-8. {_UTF_8_ADVICE}"
_NOT_UTF_8 = f"not valid UTF-8. {_UTF_8_ADVICE}"
_DELIMITERS = {
    ",": ("commas", "rename the file to .csv"),
    "\t": ("tabs", "rename the file to .tsv"),
    ";": ("semicolons", "save it with commas as .csv"),
    "|": ("vertical bars", "save it with commas as .csv"),
}


class DelimitedTable(Table):
    """Values that are separated by commas, tabs or another character (RFC 4180)."""

    def __init__(self, name: str, stream: IO[bytes], dialect: Dialect) -> None:
        self._delimiter = dialect.delimiter or ("\t" if dialect.format == "tsv" else ",")
        super().__init__(name, "tsv" if self._delimiter == "\t" else "csv")
        encoding = "utf-8-sig" if dialect.encoding in (None, "utf-8") else dialect.encoding
        csv.field_size_limit(LARGEST_FIELD_CHARACTERS)
        # Bytes that are not UTF-8 become lone surrogates here. _check_utf8 reports them with their row and column.
        lines = _Lines(stream, encoding=encoding, errors="surrogateescape", newline="")
        first = next(lines, "")
        if "\0" in first or first.startswith(("\udcff\udcfe", "\udcfe\udcff")):
            raise DataError(f"{self.name} {_UTF_16}")
        self._reader = csv.reader(itertools.chain([first], lines), delimiter=self._delimiter, strict=True)
        header = next(self._records(), None)
        if header is None:
            raise DataError(f"{self.name} is empty, expected a header line with column names")
        self.columns = tuple(header)
        self._check_utf8(header, "header")

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
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
        return contextlib.nullcontext(_CsvWriter(stream, self._delimiter, (*self.columns, *added)))

    def _records(self) -> Iterator[list[str]]:
        try:
            for row in self._reader:
                if row:  # an empty list is a blank line
                    yield row
        except csv.Error as error:
            raise DataError(
                f"{self.name}, line {self._reader.line_num}: not valid {str(self.format).upper()}: {error}. "
                "Check for missing or unescaped quotation marks"
            ) from None

    def _check_utf8(self, row: Sequence[str], place: str) -> None:
        for column, value in enumerate(row):
            if not value.isascii() and _SURROGATE.search(value):
                name = repr(self.columns[column]) if column < len(self.columns) else str(column + 1)
                raise DataError(f"{self.name}, {place}, column {name}: {_NOT_UTF_8}")

    def _column_hint(self) -> str:
        for delimiter, (name, advice) in _DELIMITERS.items():
            if len(self.columns) == 1 and delimiter != self._delimiter and delimiter in self.columns[0]:
                return f" (its columns seem to be separated by {name}: {advice})"
        return ""


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
