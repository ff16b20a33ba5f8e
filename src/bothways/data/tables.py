"""Open tables of any kind, and files to which their rows are written with added columns.

Values are read exactly as they are in the file ("NA" and "01" stay text), together with each row's position for error
messages. Memory use does not depend on the size of the file.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

from bothways.data.arrow_files import ArrowFileTable, ParquetTable
from bothways.data.delimited import DelimitedTable
from bothways.data.dialect import FORMATS, Dialect, TableFormat, format_of
from bothways.data.excel import ExcelTable
from bothways.data.json_files import JsonTable
from bothways.data.memory import open_memory
from bothways.data.storage import is_pattern, is_url
from bothways.data.table import Chunk, Table, TableWriter, Values
from bothways.errors import ConfigError, DataError, path_text, quoted
from bothways.files import STANDARD_STREAM, open_for_reading, open_for_writing, split_suffix, zip_member


class ColumnsByName(Protocol):
    """A table in memory, such as a DataFrame, an Arrow table or a Dataset of Hugging Face."""

    def __getitem__(self, name: Any, /) -> Any:
        """Return a column."""


TableSource = (
    str
    | os.PathLike[str]
    | Sequence[str | os.PathLike[str]]
    | Mapping[str, Any]
    | Sequence[Mapping[str, Any]]
    | ColumnsByName
)
"""A path, a pattern such as ``data/*.csv``, a list of paths, or a table in memory: a dict of lists, a list of dicts, a
DataFrame of pandas or polars, an Arrow table or a Dataset of Hugging Face."""

_TEXT_FORMATS = ("csv", "tsv")
_SEEKABLE_FORMATS = ("parquet", "arrow", "excel")
_JSON = re.compile(rb'\s*(\[\s*\{|\{\s*")')
_HEAD_BYTES = 512
_SIGNATURES = {
    b"PK\x03\x04": "an Excel file or a zip archive. Pass --format excel, or rename it to end in .xlsx or .zip",
    b"PAR1": "a Parquet file. Pass --format parquet",
    b"ARROW1\0\0": "an Arrow or Feather file. Pass --format arrow",
    b"\xff\xff\xff\xff": "an Arrow stream. Pass --format arrow",
    b"\x1f\x8b": "compressed with gzip. Rename it to end in .gz",
    b"BZh91AY&SY": "compressed with bzip2. Rename it to end in .bz2",
    b"\xfd7zXZ\0": "compressed with xz. Rename it to end in .xz",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard. Rename it to end in .zst",
    b"\xd0\xcf\x11\xe0": "an old Excel file (.xls) or an encrypted one. Save it as .xlsx or CSV",
    b"%PDF-": "a PDF file. Export its table as CSV",
    b"SQLite format 3\0": "an SQLite database. Export its table as CSV",
    b"version https://git-lfs": "a pointer of Git LFS. Download the file itself with git lfs pull",
    b"<!doctype html": "a web page. Download the file itself",
    b"<html": "a web page. Download the file itself",
}
"""First bytes of files that are no text tables, in lower case where they are text, and what the file is."""


@contextlib.contextmanager
def open_table(source: TableSource, dialect: Dialect | None = None) -> Iterator[Table]:
    """Open a table and read its column names. ``Table.chunks`` reads the rows.

    Args:
        source: A file of any supported format, also compressed, ``-`` for standard input, a pattern such as
            ``data/*.csv``, a list of paths, or a table in memory.
        dialect: What the user states about files. Defaults to what follows from their names.

    Raises:
        ConfigError: The format is unknown, or an option does not fit the format.
        DataError: The file can't be read, is empty or is not valid in its format, several files have different columns,
            or ``source`` is not a table.
        DependencyMissing: The format or compression needs a library that is not installed.
    """
    paths = _paths(source)
    if paths is None:
        yield open_memory(source)
    elif len(paths) == 1:
        with open_file(paths[0], dialect) as table:
            yield table
    else:
        yield _SeveralFiles(path_text(source) if isinstance(source, str) else f"{len(paths)} files", paths, dialect)


@contextlib.contextmanager
def open_file(path: str, dialect: Dialect | None = None) -> Iterator[Table]:
    """Open a table in one file, or in standard input, and read its column names.

    Args:
        path: The file, or ``-``.
        dialect: See ``open_table``.

    Raises:
        ConfigError: See ``open_table``.
        DataError: See ``open_table``.
        DependencyMissing: See ``open_table``.
    """
    refuse_url(path)
    stated = dialect or Dialect()
    compression = split_suffix(path)[1]
    inner = inner_name(path)
    table_format = format_of(inner if split_suffix(inner)[0] in FORMATS else path, stated)
    name = "standard input" if path == STANDARD_STREAM else path_text(path)
    stated.require_fit(table_format, name)
    stated = replace(stated, format=table_format)
    with open_for_reading(path, FORMATS) as stream:
        if table_format in _SEEKABLE_FORMATS:
            with _seekable(stream) as content:
                yield _BINARY_TABLES[table_format](name, content, stated)
            return
        refuse_other_kinds(name, stream, table_format)
        if table_format in _TEXT_FORMATS:
            yield DelimitedTable(name, stream, stated)
        else:
            yield JsonTable(name, stream, stated, os.path.getsize(path) if compression else None)  # noqa: PTH202


_BINARY_TABLES: dict[TableFormat, type[ParquetTable | ArrowFileTable | ExcelTable]] = {
    "parquet": ParquetTable,
    "arrow": ArrowFileTable,
    "excel": ExcelTable,
}


class _SeveralFiles(Table):
    """Files with the same columns, one after the other."""

    def __init__(self, name: str, paths: Sequence[str], dialect: Dialect | None) -> None:
        super().__init__(name)
        self._paths = paths
        self._dialect = dialect
        with open_file(paths[0], dialect) as table:
            self.columns = table.columns

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield the rows of all files, in the order of the first file's columns."""
        for path in self._paths:
            with open_file(path, self._dialect) as table:
                missing = sorted({*self.columns} ^ {*table.columns})
                if missing:
                    raise DataError(
                        f"{self._paths[0]} and {path} have different columns: only one of them has {quoted(missing[0])}"
                    )
                for chunk in table.chunks(columns or self.columns):
                    names = columns or self.columns
                    rows: list[Values] = list(zip(*(chunk.column(name) for name in names), strict=True))
                    yield Chunk(names, rows, [f"{path_text(path)}, {place}" for place in chunk.places])


def inner_name(path: str) -> str:
    """Return the name of the file in a zip archive, or the path of any other file."""
    return zip_member(path, FORMATS) if split_suffix(path)[1] == ".zip" else path


def refuse_url(path: str) -> None:
    """Raise an error if a path is a URL.

    Raises:
        DataError: It is.
    """
    if is_url(path):
        raise DataError(f"{path} is a URL, expected the path of a file. Download the file first")


def matching_paths(path: str) -> list[str]:
    """Return the path of a file, or the sorted paths of the files that match a pattern such as ``data/*.csv``.

    Raises:
        DataError: No file matches, or the path is a URL.
    """
    refuse_url(path)
    if not is_pattern(path):
        return [path]
    found = sorted(match for match in glob.glob(path, recursive=True) if Path(match).is_file())  # noqa: PTH207
    if not found:
        raise DataError(f"no file matches the pattern {path}")
    return found


def _paths(source: TableSource) -> list[str] | None:
    """Return the paths of a source, or None for a table in memory."""
    if isinstance(source, str | os.PathLike):
        return matching_paths(os.fspath(source))
    if isinstance(source, list | tuple) and source and all(isinstance(each, str | os.PathLike) for each in source):
        paths = [os.fspath(each) for each in source]
        missing = next((path for path in paths if not os.path.lexists(path)), None)
        if missing is not None:
            raise DataError(
                f"file not found: {missing[:80]}. A list of strings is a list of paths. For texts and labels in lists, "
                "pass {'text': texts, 'label': labels}"
            )
        return paths
    return None


def refuse_other_kinds(name: str, stream: IO[bytes], table_format: TableFormat | None = None) -> None:
    """Raise an error if the first bytes of a stream show that it contains something else than its name says.

    Raises:
        DataError: The stream is a file of another kind. The message names it, and the way to read it.
    """
    peek = getattr(stream, "peek", None)
    head: bytes = peek(_HEAD_BYTES)[:_HEAD_BYTES] if peek is not None else b""
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature) or head.lstrip()[: len(signature)].lower() == signature:
            raise DataError(f"{name} is {kind}")
    if table_format in _TEXT_FORMATS and _JSON.match(head):
        raise DataError(f"{name} contains JSON. Pass --format json")


@contextlib.contextmanager
def _seekable(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield a stream, or a temporary copy of a stream that is compressed or standard input."""
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO) and stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        yield copy


def check_output(table: Table, path: str, added: Sequence[str], dialect: Dialect | None = None) -> None:
    """Raise an error if a table's rows with added columns cannot be written to a path, whether or not it exists.

    Args:
        table: The table whose chunks are written.
        path: The file to create, or ``-`` for standard output.
        added: Names of the added columns.
        dialect: What the user states about the input. The output has the same dialect.

    Raises:
        ConfigError: ``path`` has another format than the table.
        DataError: The table already has one of the columns.
    """
    stated = dialect or Dialect()
    is_stated = stated.format is not None or stated.delimiter is not None
    if path != STANDARD_STREAM and not (is_stated and split_suffix(path)[0] not in FORMATS):
        found = format_of(path)
        allowed = _TEXT_FORMATS if is_stated and table.format in _TEXT_FORMATS else (table.format,)
        if found not in allowed:
            raise ConfigError(
                f"{path_text(path)} is a {found} file, but the input is {table.format}. Use the same format for --out"
            )
    taken = [column for column in added if column in table.columns]
    if taken:
        raise DataError(f"{table.name} already has a column {quoted(taken[0])}. Rename or drop it first")


@contextlib.contextmanager
def open_writer(table: Table, path: str, added: Sequence[str], dialect: Dialect | None = None) -> Iterator[TableWriter]:
    """Open a writer for a table's rows with added columns. The file appears only if the block succeeds.

    Args:
        table: The table whose chunks are written.
        path: The file to create, or ``-`` for standard output.
        added: Names of the added columns.
        dialect: See ``check_output``.

    Raises:
        ConfigError: ``path`` has another format than the table, or its folder does not exist.
        OutputExists: ``path`` already exists.
        DataError: The table already has one of the columns, or the disk is full.
    """
    check_output(table, path, added, dialect)
    with open_for_writing(path) as stream, table.writer(stream, added) as writer:
        yield writer
