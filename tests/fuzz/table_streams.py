"""Tables as streams in memory. What the name of a file means is decided once, and not for every case."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import IO

from bothways.data import tables
from bothways.data.delimited import DelimitedTable
from bothways.data.dialect import FORMATS, Dialect, format_of
from bothways.data.json_files import JsonTable
from bothways.data.table import Table
from bothways.files import open_for_reading, split_suffix
from tests.hostile.entrances import ENTRANCES, Entrance


def stream_entrance(name: str) -> Entrance:
    """Return the entrance of a table that reads its content as ``open_file`` does, if possible without a file."""
    entrance = ENTRANCES[name]
    suffix, compression = split_suffix(entrance.file_name)
    dialect = Dialect(format=format_of(f"x{suffix}", Dialect()))
    read = _read_compressed if compression else _read_plain
    return Entrance(entrance.file_name, partial(read, dialect), entrance.benign)


def _read_plain(dialect: Dialect, path: Path) -> object:
    return _rows(_table(io.BufferedReader(io.BytesIO(path.read_bytes())), dialect, None))


def _read_compressed(dialect: Dialect, path: Path) -> object:
    with open_for_reading(str(path), FORMATS) as stream:
        return _rows(_table(stream, dialect, path.stat().st_size))


def _table(stream: IO[bytes], dialect: Dialect, compressed_bytes: int | None) -> Table:
    assert dialect.format is not None
    if dialect.format in tables._BINARY_TABLES:
        return tables._BINARY_TABLES[dialect.format]("the table", stream, dialect)
    tables.refuse_other_kinds("the table", stream, dialect.format)
    if dialect.format in tables._TEXT_FORMATS:
        return DelimitedTable("the table", stream, dialect)
    return JsonTable("the table", stream, dialect, compressed_bytes)


def _rows(table: Table) -> int:
    return sum(len(chunk) for chunk in table.chunks())
