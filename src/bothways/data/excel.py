"""Read and write Excel workbooks (.xlsx) with openpyxl.

The rows of the only sheet with data are read. Formulas are read as their last values. Formats are not kept.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from bothways.data.delimited import Places
from bothways.data.dialect import Dialect
from bothways.data.table import CHUNK_ROWS, Chunk, Table, TableWriter, Values
from bothways.errors import DataError, DependencyMissing, quoted
from bothways.files import library_errors

_LAST_ROW = 1_048_576
_MOST_FILES = 10_000
_FREE_BYTES = 8 * 1024 * 1024
_LARGEST_EXPANSION = 30
_LONGEST_CELL = 32_767
_MOST_EMPTY_CELLS = 50_000_000
"""A few bytes can stand for many empty cells."""
_BLOCK_BYTES = 1 << 20
_LONGEST_TAG = 16
_FORMULA = re.compile(rb"<(\w+:)?f[ />]")
_ERRORS = {"#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A"}


class ExcelTable(Table):
    """The rows of a workbook. Empty cells are empty strings, as in CSV, and cells with an error are None."""

    def __init__(self, name: str, stream: IO[bytes], dialect: Dialect) -> None:
        super().__init__(name, "excel")
        openpyxl = _openpyxl()
        self._has_header = dialect.header
        problem = f"{name} is not a valid Excel file (.xlsx)"
        with library_errors(problem):
            _refuse_bomb(name, stream)
            with warnings.catch_warnings():  # about styles and other parts that are not read
                warnings.simplefilter("ignore")
                workbook = openpyxl.load_workbook(stream, read_only=True, data_only=True, keep_links=False)
            sheets = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
            filled = [(sheet, *top) for sheet in sheets if (top := _first_row(sheet)) is not None]
        if len(filled) != 1:
            found = ", ".join(repr(sheet.title) for sheet, *_ in filled[:10])
            raise DataError(
                f"{name} has several sheets with data: {found}. Save the one to read as a file of its own"
                if filled
                else f"{name} is empty, expected a sheet with column names and rows"
            )
        ((self._sheet, self._line, first),) = filled
        self._formulas: Any = None
        with library_errors(problem):
            if _has_formulas(stream):
                self._formulas = openpyxl.load_workbook(stream, read_only=True)[self._sheet.title]
                self._formulas.reset_dimensions()
        if self._has_header:
            self.columns = tuple("" if value is None else str(value) for value in first)
        else:
            self.columns = tuple(str(number) for number in range(1, len(first) + 1))

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield all rows. Rows without any value are skipped."""
        first = self._line + 1 if self._has_header else self._line
        width = len(self.columns) + 1
        formulas = _rows(self._formulas, first, width) if self._formulas is not None else itertools.repeat(())
        numbered = enumerate(zip(_rows(self._sheet, first, width), formulas, strict=False), start=first)
        number, empty = 0, 0
        while True:
            rows: list[Values] = []
            lines: list[int] = []
            with library_errors(f"{self.name}, after row {number}: the file is damaged"):
                for line, (values, formula) in numbered:
                    if any(cell is not None and value is None for value, cell in zip(values, formula, strict=False)):
                        raise DataError(
                            f"{self.name}, row {line}: a formula has no stored value. Open the file in Excel and save "
                            "it, or save texts that begin with = as CSV"
                        )
                    empty += values.count(None)
                    if empty > _MOST_EMPTY_CELLS:
                        raise DataError(f"{self.name}, row {line}: has too many empty cells before it. Save it as CSV")
                    if values.count(None) < len(values):
                        rows.append(values)
                        lines.append(line)
                    if len(rows) == CHUNK_ROWS:
                        break
            if not rows:
                return
            places = Places(number, lines)
            for position, values in enumerate(rows):
                if len(values) > len(self.columns) and values[-1] is not None:
                    raise DataError(
                        f"{self.name}, {places[position]}: has a value beyond the last column "
                        f"{quoted(self.columns[-1])}"
                    )
            number += len(rows)
            yield Chunk(self.columns, [_plain(values, len(self.columns)) for values in rows], places)

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


def _refuse_bomb(name: str, stream: IO[bytes]) -> None:
    """Raise an error if a workbook expands to far more than its size. openpyxl reads some of its parts as a whole."""
    with zipfile.ZipFile(stream) as archive:
        parts = archive.infolist()
        size = sum(part.file_size for part in parts)
        largest = max(_FREE_BYTES, _LARGEST_EXPANSION * sum(part.compress_size for part in parts))
    stream.seek(0)
    if size > largest or len(parts) > _MOST_FILES:
        raise DataError(f"{name} expands to {size:,} bytes, which is not plausible for a table. Save it as CSV")


def _has_formulas(stream: IO[bytes]) -> bool:
    """Return whether a workbook has formulas. A program that does not compute them stores no values with them."""
    with zipfile.ZipFile(stream) as archive:
        for part in archive.namelist():
            if part.startswith("xl/worksheets/") and part.endswith(".xml"):
                tail = b""
                with archive.open(part) as content:
                    while data := content.read(_BLOCK_BYTES):
                        if _FORMULA.search(tail + data):
                            return True
                        tail = data[-_LONGEST_TAG:]
    return False


def _first_row(sheet: Any) -> tuple[int, list[object]] | None:
    """Return the first row with a value, up to its last value, and its number."""
    sheet.reset_dimensions()  # they may be wrong
    for line, values in enumerate(_rows(sheet, 1, None), start=1):
        width = max((column for column, value in enumerate(values, start=1) if value is not None), default=0)
        if width:
            return line, list(values[:width])
    return None


def _rows(sheet: Any, first: int, width: int | None) -> Iterator[Sequence[object]]:
    rows = sheet.iter_rows(min_row=first, max_col=width, values_only=True)
    return itertools.islice(rows, _LAST_ROW)  # a row may claim any number


def _plain(values: Sequence[object], width: int) -> Values:
    row = ["" if value is None else None if value in _ERRORS else value for value in values[:width]]
    return row + [""] * (width - len(row))
