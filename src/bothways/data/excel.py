"""Read and write Excel workbooks (.xlsx).

The rows of the only sheet with data are read. Formulas are read as their last values. Formats are not kept.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from bothways.data.delimited import Places
from bothways.data.dialect import Dialect
from bothways.data.table import CHUNK_ROWS, Chunk, Table, TableWriter, Values
from bothways.data.workbook import NO_VALUE, Row, Sheet, Workbook
from bothways.errors import DataError, DependencyMissing, quoted, shown
from bothways.files import library_errors

_MOST_FILES = 10_000
_FREE_BYTES = 4 * 1024 * 1024
_LARGEST_EXPANSION = 30
_LONGEST_CELL = 32_767
_MOST_EMPTY_CELLS = 20_000_000
_EMPTY_CELLS_PER_BYTE = 20
"""A few bytes can stand for many empty cells."""
_SHEETS_TO_NAME = 10
_ERRORS = {"#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A"}


class ExcelTable(Table):
    """The rows of a workbook. Empty cells are empty strings, as in CSV, and cells with an error are None."""

    def __init__(self, name: str, stream: IO[bytes], dialect: Dialect) -> None:
        super().__init__(name, "excel")
        _openpyxl()  # for dates, and to write
        self._has_header = dialect.header
        self._problem = f"{name} is not a valid Excel file (.xlsx)"
        filled: list[tuple[Sheet, int, list[object]]] = []
        with library_errors(self._problem):
            size = _refuse_bomb(name, stream)
            self._most_empty = max(_MOST_EMPTY_CELLS, _EMPTY_CELLS_PER_BYTE * size)
            self._workbook = Workbook(stream)
            for sheet in {sheet.path: sheet for sheet in self._workbook.sheets if sheet.is_visible}.values():
                if len(filled) < _SHEETS_TO_NAME and (top := _first_row(self._workbook.rows(sheet))) is not None:
                    filled.append((sheet, *top))
        if len(filled) != 1:
            found = ", ".join(repr(shown(sheet.title, 40)) for sheet, *_ in filled)
            raise DataError(
                f"{name} has several sheets with data: {found}. Save the one to read as a file of its own"
                if filled
                else f"{name} is empty, expected a sheet with column names and rows"
            )
        ((self._sheet, self._line, first),) = filled
        if self._has_header:
            self.columns = tuple("" if value is None else str(value) for value in first)
        else:
            self.columns = tuple(str(number) for number in range(1, len(first) + 1))

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield all rows. Rows without any value are skipped."""
        width = len(self.columns)
        numbered = self._workbook.rows(self._sheet)
        number, empty = 0, 0
        while True:
            rows: list[Values] = []
            lines: list[int] = []
            with library_errors(f"{self.name}, after row {number}: the file is damaged"):
                for line, cells in numbered:
                    if line < self._line + self._has_header:
                        continue
                    self._refuse(cells, f"{self.name}, row {number + len(rows) + 1} (line {line})")
                    values = [_plain(cells.get(column)) for column in range(1, width + 1)]
                    empty += max(0, width - len(cells))
                    if empty > self._most_empty:
                        raise DataError(f"{self.name}, row {line}: has too many empty cells before it. Save it as CSV")
                    if any(column <= width for column in cells):
                        rows.append(values)
                        lines.append(line)
                    if len(rows) == CHUNK_ROWS:
                        break
            if not rows:
                return
            places = Places(number, lines)
            number += len(rows)
            yield Chunk(self.columns, rows, places)

    def _refuse(self, cells: Mapping[int, object], place: str) -> None:
        """Raise an error if a row has a formula without a value, or a value next to the last column."""
        if any(value is NO_VALUE for column, value in cells.items() if column <= len(self.columns)):
            raise DataError(
                f"{place}: a formula has no stored value. Open the file in Excel and save it, or save texts that begin "
                "with = as CSV"
            )
        if len(self.columns) + 1 in cells:
            raise DataError(f"{place}: has a value beyond the last column {quoted(self.columns[-1])}")

    @contextlib.contextmanager
    def writer(self, stream: IO[bytes], added: Sequence[str]) -> Iterator[TableWriter]:
        """Yield a writer of one sheet with the values of this one."""
        writer = _ExcelWriter(stream, self.name)
        try:
            if self._has_header:
                writer.append([*self.columns, *added], "header")
            yield writer
            writer.save()
        finally:
            writer.abandon()


class _ExcelWriter(TableWriter):
    def __init__(self, stream: IO[bytes], name: str) -> None:
        openpyxl = _openpyxl()
        from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415  (an optional dependency)

        self._stream = stream
        self._name = name
        self._workbook = openpyxl.Workbook(write_only=True)
        self._sheet = self._workbook.create_sheet("Sheet1")
        self._cell = WriteOnlyCell
        self._is_saved = False

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        new_columns = zip(*added.values(), strict=True) if added else itertools.repeat(())
        for row, new, place in zip(chunk.rows, new_columns, chunk.places, strict=False):
            self.append([*row, *new], place)

    def append(self, values: Sequence[object], place: str) -> None:
        """Write one row.

        Raises:
            DataError: A value cannot be written in Excel.
        """
        with library_errors(f"{self._name}, {place}: a value can't be written to an Excel file"):
            self._sheet.append([self._text(value, place) if isinstance(value, str) else value for value in values])

    def _text(self, value: str, place: str) -> Any:
        if len(value) > _LONGEST_CELL:
            raise DataError(
                f"{self._name}, {place}: a text has more than {_LONGEST_CELL:,} characters, the limit of Excel. "
                "Save the input as CSV"
            )
        if not value:
            return None
        if not value.startswith("="):
            return value
        cell = self._cell(self._sheet, value)
        cell.data_type = "s"  # a text that begins with = is no formula
        return cell

    def save(self) -> None:
        """Write the workbook to the stream, through a temporary file: a zip archive is not written in order."""
        self._is_saved = True
        with tempfile.TemporaryFile() as copy:
            self._workbook.save(copy)
            copy.seek(0)
            shutil.copyfileobj(copy, self._stream)

    def abandon(self) -> None:
        """Remove the temporary file of openpyxl, unless the workbook was saved."""
        if not self._is_saved:
            with tempfile.TemporaryFile() as nowhere:
                self._workbook.save(nowhere)


def _openpyxl() -> Any:
    try:
        import openpyxl  # noqa: PLC0415  (an optional dependency)
    except ImportError:
        raise DependencyMissing("Excel files need openpyxl: pip install 'bothways[excel]'") from None
    return openpyxl


def _refuse_bomb(name: str, stream: IO[bytes]) -> int:
    """Return the size of a workbook in bytes. Raise an error if it expands to far more."""
    with zipfile.ZipFile(stream) as archive:
        parts = archive.infolist()
        content = sum(part.file_size for part in parts)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if content > max(_FREE_BYTES, _LARGEST_EXPANSION * size) or len(parts) > _MOST_FILES:
        raise DataError(f"{name} expands to {content:,} bytes, which is not plausible for a table. Save it as CSV")
    return size


def _first_row(rows: Iterator[Row]) -> tuple[int, list[object]] | None:
    """Return the first row with a value, up to its last value, and its number."""
    for line, cells in rows:
        values = [cells.get(column) for column in range(1, max(cells) + 1)]
        return line, [None if value is NO_VALUE else value for value in values]
    return None


def _plain(value: object) -> object:
    """Return the value of a cell. Empty cells are empty strings, and cells with an error None."""
    return "" if value is None else None if value in _ERRORS else value
