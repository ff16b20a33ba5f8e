"""Read and write JSON lines."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO

from bothways import strict_json
from bothways.data.delimited import _NOT_UTF_8, _UTF_16
from bothways.data.dialect import Dialect
from bothways.data.table import CHUNK_ROWS, Chunk, Table, TableWriter, Values
from bothways.errors import DataError

LARGEST_LINE_BYTES = 256 * 1024 * 1024


class JsonlTable(Table):
    """One JSON object per line."""

    def __init__(self, name: str, stream: IO[bytes], dialect: Dialect) -> None:
        super().__init__(name, "jsonl")
        self._numbered = enumerate(iter(lambda: stream.readline(LARGEST_LINE_BYTES), b""), start=1)
        self._first = next(self._objects(), None)
        if self._first is None:
            raise DataError(f"{self.name} is empty, expected one JSON object per line")
        self.columns = tuple(self._first[1])

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
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
