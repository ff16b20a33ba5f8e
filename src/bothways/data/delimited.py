"""Read and write text tables: CSV, TSV and other delimiters, with and without quotation marks.

Guarantees that rows are never merged or lost silently. A row is returned exactly as it was written, or refused with its
line and the option that reads it.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Protocol

from bothways.data.dialect import Dialect, Quotes
from bothways.data.lines import LARGEST_LINE_CHARACTERS, Lines
from bothways.data.table import CHUNK_ROWS, Chunk, Table, TableWriter, Values
from bothways.errors import DataError, quoted

_NUMBER = re.compile(r"\s*[-+]?\d+(\.\d+)?\s*")
_LONGEST_NAME_WORDS = 3
_NO_QUOTES = "If quotation marks are ordinary characters in this file, pass --quotes none"
_LEAST_LIKE_ROWS = 0.8
"""Share of lines that swallowed rows have at least. Some lines of a real field read as rows by chance."""
_DELIMITERS = {",": ("commas", "','"), "\t": ("tabs", "tab"), ";": ("semicolons", "';'"), "|": ("bars", "'|'")}
_CSV_ERRORS = {
    "new-line character seen": "a carriage return is not at the end of the line. Quote the field, or remove it",
    "field larger": f"a field has more than {LARGEST_LINE_CHARACTERS:,} characters. Is a quotation mark never closed? "
    f"{_NO_QUOTES}",
    "unexpected end of data": f"a quotation mark opens a field that is never closed. {_NO_QUOTES}",
    "expected after": "a field that begins with a quotation mark continues after the closing one. Double the quotation "
    f"marks inside a quoted field. {_NO_QUOTES}",
}


class _RowReader(Protocol):
    """Splits lines into rows, like ``csv.reader``."""

    @property
    def line_num(self) -> int:
        """Number of lines read so far."""

    def __iter__(self) -> Iterator[list[str]]:
        """Return the reader."""

    def __next__(self) -> list[str]:
        """Return the next row. A blank line is an empty list."""


class DelimitedTable(Table):
    """Fields that are separated by commas, tabs or another character (RFC 4180), with or without quotation marks."""

    def __init__(self, name: str, stream: IO[bytes], dialect: Dialect) -> None:
        self._delimiter = dialect.delimiter or ("\t" if dialect.format == "tsv" else ",")
        super().__init__(name, "tsv" if self._delimiter == "\t" else "csv")
        self._dialect = dialect
        self._lines = Lines(name, stream, dialect.encoding)
        lines = itertools.chain.from_iterable(self._lines)
        self._reader: _RowReader
        if dialect.quotes == "none":
            self._reader = _UnquotedReader(lines, self._delimiter)
        else:
            csv.field_size_limit(LARGEST_LINE_CHARACTERS)
            self._reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        self._judge = _Judge(name, self._lines, self._delimiter)
        self._row = 0
        self._blank = 0
        self._first = self._first_row()
        if dialect.header:
            self.columns = tuple(self._first)
            self._check_encoding(self._first, "header")
        else:
            self.columns = tuple(str(number) for number in range(1, len(self._first) + 1))
        self._judge.begin(len(self.columns))

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield all rows. Blank lines are rows of a table with one column, and are skipped in others."""
        pending: list[tuple[int, list[str]]] = []
        if not self._dialect.header:
            blank = self._blank if len(self.columns) == 1 else 0
            pending = [(line, [""]) for line in range(self._blank + 1 - blank, self._blank + 1)]
            pending.append((self._blank + 1, self._first))
        while True:
            rows: list[Values] = [row for _, row in pending]
            lines = [line for line, _ in pending]
            pending = []
            self._read_rows(rows, lines)
            if not rows:
                return
            places = Places(self._row, lines)
            if self._lines.is_damaged:
                for row, place in zip(rows, places, strict=True):
                    self._check_encoding(row, place)
            if len(self.columns) == 1 and self._dialect.quotes == "none":
                self._check_returns(rows, places)
            self._row += len(rows)
            yield Chunk(self.columns, rows, places)

    def writer(self, stream: IO[bytes], added: Sequence[str]) -> AbstractContextManager[TableWriter]:
        """Return a writer of the same dialect. It writes the header immediately."""
        columns = [*self.columns, *added] if self._dialect.header else []
        return contextlib.nullcontext(
            _DelimitedWriter(self.name, stream, self._delimiter, self._dialect.quotes, self._lines.encoding, columns)
        )

    def _first_row(self) -> list[str]:
        """Return the first row that is not blank, and count the blank lines before it."""
        try:
            for row in self._reader:
                if row:
                    if self._reader.line_num > self._blank + 1:
                        self._judge.width = len(row)
                        self._judge.check(self._blank + 1, self._reader.line_num, row, 0)
                    self._lines.done = self._reader.line_num
                    return row
                self._blank += 1
        except csv.Error as error:
            raise self._not_valid(error, self._blank + 1) from None
        raise DataError(f"{self.name} is empty, expected a header line with column names")

    def _read_rows(self, rows: list[Values], lines: list[int]) -> None:
        """Append rows and the numbers of their first lines, until there are enough for a chunk."""
        width, reader, source, judge = len(self.columns), self._reader, self._lines, self._judge
        is_judged = self._dialect.quotes is None
        before = source.done
        try:
            for row in reader:
                line, last = before + 1, reader.line_num
                if last > line and is_judged:
                    judge.check(line, last, row, self._row + len(rows) + 1)
                if source.has_mixed_ends and is_judged and (row or width == 1):
                    judge.check_end(last)
                before = source.done = last
                if not row:
                    if width > 1:
                        continue
                    row = [""]  # noqa: PLW2901  (what the blank line means)
                if len(row) != width:
                    place = Places(self._row, [*lines, line])[-1]
                    raise DataError(f"{self.name}, {place}: {self._wrong_width(row, line, last)}")
                rows.append(row)
                lines.append(line)
                if len(rows) >= CHUNK_ROWS:
                    return
        except csv.Error as error:
            raise self._not_valid(error, before + 1) from None

    def _wrong_width(self, row: Sequence[str], line: int, last: int) -> str:
        """Return how a row has too few or too many fields, and what may be the reason."""
        where = "header" if self._dialect.header else "first row"
        problem = f"found {len(row)} fields, expected {len(self.columns)} as in the {where}. "
        if self._dialect.quotes == "none":
            return f"{problem}Pass the delimiter of the file with --delimiter"
        problem += "Quote fields that contain the delimiter or a line break"
        has_quotes = any('"' in text for text in self._lines.between(line, last))
        return f"{problem}. {_NO_QUOTES}" if has_quotes else problem

    def _not_valid(self, error: csv.Error, line: int) -> DataError:
        problem = next((text for part, text in _CSV_ERRORS.items() if part in str(error)), str(error))
        last = self._reader.line_num
        place = f"line {line}" if last <= line else f"lines {line} to {last}"
        return DataError(f"{self.name}, {place}: {problem}")

    def _check_encoding(self, row: Sequence[object], place: str) -> None:
        for column, value in enumerate(row):
            name = quoted(self.columns[column]) if column < len(self.columns) else str(column + 1)
            self._lines.check(str(value), f"{place}, column {name}")

    def _check_returns(self, rows: Sequence[Values], places: Sequence[str]) -> None:
        """Refuse carriage returns within a line of the only column, which end lines in other programs."""
        for row, place in zip(rows, places, strict=True):
            if "\r" in str(row[0]):
                raise DataError(f"{self.name}, {place}: a carriage return does not end the line. Remove it")

    def _column_hint(self) -> str:
        if len(self.columns) == 1:
            for delimiter, (name, option) in _DELIMITERS.items():
                if delimiter != self._delimiter and delimiter in self.columns[0]:
                    return f" (its columns seem to be separated by {name}: pass --delimiter {option})"
        like_row = any(_NUMBER.fullmatch(name) or len(name.split()) > _LONGEST_NAME_WORDS for name in self.columns)
        return " (if its first line is a row, pass --no-header)" if self._dialect.header and like_row else ""


class Places(Sequence[str]):
    """The positions of consecutive rows, such as ``row 3 (line 4)``. They become text when they are needed."""

    def __init__(self, rows_before: int, lines: Sequence[int]) -> None:
        self._rows_before = rows_before
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._lines, start=self._rows_before + 1):
            yield f"row {number} (line {line})"

    def __getitem__(self, index: int | slice) -> str:
        assert isinstance(index, int)
        position = range(len(self._lines))[index]
        return f"row {self._rows_before + position + 1} (line {self._lines[position]})"


class _UnquotedReader:
    """Splits each line at the delimiter. Quotation marks are ordinary characters."""

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self.line_num = 0

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        line = next(self._lines)
        self.line_num += 1
        line = line.removesuffix("\n").removesuffix("\r")
        return line.split(self._delimiter) if line else []


class _Judge:
    """Decides whether a quoted field over several lines is one field, or rows that a stray quotation mark swallowed.

    In a file without quoting, every line has the same number of delimiters. So a field is refused if each of its lines
    also reads as a row, unless other lines show that quotation marks enclose fields in this file. Even then it is
    refused if most of its lines have values that rows have, such as a label.

    Attributes:
        width: Number of columns.
    """

    def __init__(self, name: str, lines: Lines, delimiter: str) -> None:
        self.width = 0
        self._name = name
        self._lines = lines
        self._delimiter = delimiter
        self._is_quoted = False
        self._known: tuple[int, list[set[str]]] = (0, [])

    def begin(self, width: int) -> None:
        """Set the number of columns, after the first row. A quoted name shows that quotation marks enclose fields."""
        self.width = width
        self._is_quoted = self._is_quoted or self._lines.between(self._lines.done, self._lines.done)[0].startswith('"')

    def check(self, first: int, last: int, row: Sequence[str], number: int) -> None:
        """Raise an error if the lines of a row over several lines may be rows of their own.

        Args:
            first: Number of the first line of the row.
            last: Number of its last line.
            row: The fields of the row.
            number: Number of the row, or 0 for the header.

        Raises:
            DataError: The lines also read as rows.
        """
        if self.width > 1 and self._delimiter not in "".join(row):
            self._is_quoted = True  # the delimiters of one row are spread over several lines
            return
        lines = self._lines.between(first, last)
        like_rows = [line.count(self._delimiter) for line in lines].count(self.width - 1)
        if like_rows < _LEAST_LIKE_ROWS * len(lines):
            self._is_quoted = True
            return
        are_rows = like_rows == len(lines)
        if (self._has_quoted_fields() or not are_rows) and not self._is_familiar(lines, row, like_rows):
            self._is_quoted = self._is_quoted or not are_rows
            return
        place = f"row {number}" if number else "header"
        raise DataError(
            f"{self._name}, {place}: a quotation mark opens a field in line {first} and the next one closes it in line "
            f"{last}, but the lines in between also read as rows. {_NO_QUOTES}. If the field really has several "
            "lines, pass --quotes double"
        )

    def check_end(self, number: int) -> None:
        """Raise an error if a row ends with CR LF in a file with LF, because the CR may belong to its last field.

        Raises:
            DataError: The row does.
        """
        if self._lines.between(number, number)[0].endswith("\r\n"):
            raise DataError(
                f"{self._name}, line {number}: ends with CR LF, but the first line with LF. Make the line ends equal. "
                "If no text ends with a carriage return, pass --quotes double"
            )

    def _has_quoted_fields(self) -> bool:
        """Return whether some line up to the end of the block is a row only with its quotation marks."""
        for block in () if self._is_quoted else self._lines.blocks:
            filled = sum(1 for line in block.lines if line.rstrip("\r\n"))
            if block.text.count(self._delimiter) != filled * (self.width - 1):
                self._is_quoted = True
        return self._is_quoted

    def _is_familiar(self, lines: Sequence[str], row: Sequence[str], like_rows: int) -> bool:
        """Return whether half of the lines have a value that rows have, where only text would be in a real field.

        A real field begins in the first line, which has real values before it, and ends in the last, which has real
        values after it. So only the columns after it in the first line and before it in the last line count.
        """
        within = [column for column, value in enumerate(row) if "\n" in value or "\r" in value]
        others = self.width - len(within)
        after, before = others and within[0] < self.width - 1, others and within[-1] > 0
        candidates = (len(lines) - 2) * bool(others) + bool(after) + bool(before)
        if 2 * like_rows < candidates or not candidates:
            return False
        known = self._known_values()
        familiar = 0
        for number, line in enumerate(lines):
            first = within[0] + 1 if number == 0 else 0
            end = min(within[-1], self.width) if number == len(lines) - 1 else self.width
            chosen = [column for column in range(first, end) if column not in within]
            if chosen and line.count(self._delimiter) == self.width - 1:
                fields = line.split(self._delimiter)
                kinds = [(column, _kind(fields[column])) for column in chosen]
                familiar += any(kind in known[column] for column, kind in kinds if kind)
        return 2 * familiar >= candidates

    def _known_values(self) -> list[set[str]]:
        """Return the values by column of the rows without quotation marks, in the blocks that are held."""
        if self._known[0] != self._lines.blocks[-1].first:
            lines = [line for block in self._lines.blocks for line in block.lines]
            found: list[set[str]] = [set() for _ in range(self.width)]
            read = lines[: self._lines.done - self._lines.blocks[0].first + 1]
            is_inside = sum(line.count('"') for line in read) % 2  # the first block may begin within a field
            for line in lines:
                if '"' in line:
                    is_inside = (is_inside + line.count('"')) % 2
                elif not is_inside and len(fields := line.split(self._delimiter)) == self.width:
                    for values, field in zip(found, fields, strict=True):
                        values.add(_kind(field))
            self._known = (self._lines.blocks[-1].first, found)
        return self._known[1]


def _kind(value: str) -> str:
    """Return a value without what differs between rows of one kind: white space, and the digits of a number."""
    return "0" if _NUMBER.fullmatch(value) else value.strip(' "\r\n')


class _DelimitedWriter(TableWriter):
    def __init__(
        self, name: str, stream: IO[bytes], delimiter: str, quotes: Quotes | None, encoding: str, columns: Sequence[str]
    ) -> None:
        self._name = name
        self._stream = stream
        self._delimiter = delimiter
        self._quotes = quotes
        self._encoding = encoding
        self._encoder = codecs.getincrementalencoder(encoding)("strict")  # writes a byte order mark once
        self._lines = _Collected()
        # Before Python 3.13, csv quotes only the line breaks that occur in lineterminator. This one contains both.
        self._csv = csv.writer(self._lines, delimiter=delimiter, lineterminator="\r\n")
        if columns:
            self._write([columns], ["header"], len(columns))

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        new_columns = zip(*added.values(), strict=True) if added else itertools.repeat(())
        rows = [[*row, *new] for row, new in zip(chunk.rows, new_columns, strict=bool(added))]
        self._write(rows, chunk.places, len(added))

    def _write(self, rows: Sequence[Sequence[object]], places: Sequence[str], added: int) -> None:
        if self._quotes != "none":
            self._csv.writerows(rows)
        else:
            self._write_unquoted(rows, places, added)
        try:
            self._stream.write(self._encoder.encode("".join(self._lines.lines)))
        except UnicodeEncodeError as error:
            end, character = 0, error.object[error.start]
            for place, line in zip(places, self._lines.lines, strict=True):
                end += len(line)
                if end > error.start:
                    raise DataError(
                        f"{self._name}, {place}: {quoted(character)} of a prediction can't be written "
                        f"in {self._encoding}. "
                        "Save the input as UTF-8"
                    ) from None
        self._lines.lines = []

    def _write_unquoted(self, rows: Sequence[Sequence[object]], places: Sequence[str], added: int) -> None:
        for row, place in zip(rows, places, strict=True):
            cells = [str(value) for value in row]
            for cell in cells[len(cells) - added :]:
                if self._delimiter in cell or "\n" in cell or "\r" in cell:
                    raise DataError(
                        f"{self._name}, {place}: {quoted(cell)} of a prediction contains a delimiter "
                        "or a line end, which "
                        "cannot be written without quotation marks. Save the input as CSV, JSON lines or Parquet"
                    )
            self._lines.lines.append(self._delimiter.join(cells) + "\n")


class _Collected:
    """Receives complete lines that end with CR LF and keeps them as lines that end with LF."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line.removesuffix("\r\n") + "\n")
