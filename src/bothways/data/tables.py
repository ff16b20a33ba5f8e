"""Open tables of any kind, and files to which their rows are written with added columns.

Values are read exactly as they are in the file ("NA" and "01" stay text), together with each row's position for error
messages. Memory use does not depend on the size of the file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bothways.data.arrow_files import ParquetTable
from bothways.data.delimited import DelimitedTable
from bothways.data.dialect import Dialect, TableFormat, format_of
from bothways.data.json_lines import JsonlTable
from bothways.data.memory import MemoryTable
from bothways.data.table import Table, TableWriter
from bothways.errors import ConfigError, DataError
from bothways.files import STANDARD_STREAM, open_for_reading, open_for_writing, split_suffix

TableSource = str | os.PathLike[str] | Mapping[str, Any]
"""A path, or a table in memory: anything that returns a column by its name, such as a dict of lists or a DataFrame."""

_TABLES: dict[TableFormat, type[DelimitedTable | JsonlTable | ParquetTable]] = {
    "csv": DelimitedTable,
    "tsv": DelimitedTable,
    "jsonl": JsonlTable,
    "parquet": ParquetTable,
}


@contextlib.contextmanager
def open_table(source: TableSource, dialect: Dialect | None = None) -> Iterator[Table]:
    """Open a table and read its column names. ``Table.chunks`` reads the rows.

    Args:
        source: A file of any supported format, also compressed, ``-`` for standard input, or a table in memory.
        dialect: What the user states about a file. Defaults to what follows from its name.

    Raises:
        ConfigError: The format is unknown, or a Parquet file is compressed or standard input.
        DataError: The file can't be read, is empty or is not valid in its format.
        DependencyMissing: The format or compression needs a library that is not installed.
    """
    if not isinstance(source, str | os.PathLike):
        yield MemoryTable(source)
        return
    path, stated = os.fspath(source), dialect or Dialect()
    table_format = format_of(path, stated)
    if table_format not in _TABLES:
        raise ConfigError(f"{path}: {table_format} files are not supported yet")
    if table_format == "parquet" and (path == STANDARD_STREAM or split_suffix(path)[1]):
        raise ConfigError(f"{path}: Parquet can't be read from standard input or compressed. Decompress the file first")
    with open_for_reading(path) as stream:
        name = "standard input" if path == STANDARD_STREAM else path
        yield _TABLES[table_format](name, stream, replace(stated, format=table_format))


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
            raise ConfigError(f"{path}: Parquet compresses its own columns. Remove the suffix {compression}")
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
