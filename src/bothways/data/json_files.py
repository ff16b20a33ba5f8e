"""Read and write JSON lines, and JSON documents that contain a table.

A document is an array of objects, objects one after the other, or one object with a list per column. Arrays and
sequences are read object by object, so that memory use does not depend on the size of the file.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO

from bothways import strict_json
from bothways.data.dialect import Dialect
from bothways.data.lines import UTF_16_MARKS, not_in_encoding
from bothways.data.table import CHUNK_ROWS, Chunk, Table, TableWriter, Values
from bothways.errors import DataError, quoted

LARGEST_LINE_BYTES = 64 * 1024 * 1024
"""A longer line or object is refused: it would need too much memory."""
LARGEST_DOCUMENT_CHARACTERS = 256 * 1024 * 1024
"""Limit for an object with a list per column, which is read as a whole."""
_FREE_CHARACTERS = 3 * 1024 * 1024
_CHARACTERS_PER_BYTE = 3
_FREE_ROWS = 500_000
_ROWS_PER_BYTE = 1
"""What a compressed file may contain, and what it may in proportion to its size. Lists of empty lists compress well."""
_MOST_KEYS = 10_000
_BLOCK_BYTES = 1 << 16
_SPACE = " \t\r\n"
_UTF_16 = "looks like UTF-16, expected UTF-8. Pass --encoding utf-16"
_JSON_LINES = "Write one JSON object per line (.jsonl)"

Record = dict[str, object]
Records = Iterator[tuple[str, Record]]
"""Objects, each with its position."""


class JsonTable(Table):
    """JSON objects, one per row. Objects may have different keys."""

    def __init__(self, name: str, stream: IO[bytes], dialect: Dialect, compressed_bytes: int | None = None) -> None:
        """Read the first object.

        Args:
            name: What the file is called in messages.
            stream: The content.
            dialect: Its format, ``json`` or ``jsonl``, and its encoding.
            compressed_bytes: Size of the file if it is compressed.
        """
        super().__init__(name, dialect.format)
        self._encoding = dialect.encoding or "utf-8"
        self._is_array = False
        self._most_rows: int | None = None
        if compressed_bytes is not None:
            self._most_rows = max(_FREE_ROWS, _ROWS_PER_BYTE * compressed_bytes)
        if dialect.format == "jsonl":
            self._records = _json_lines(name, stream, dialect.encoding)
        else:
            largest = LARGEST_DOCUMENT_CHARACTERS
            if compressed_bytes is not None:
                largest = min(largest, max(_FREE_CHARACTERS, _CHARACTERS_PER_BYTE * compressed_bytes))
            document = _Document(name, stream, dialect.encoding, largest)
            self._records = document.records()
            self._is_array = not document.is_sequence
        first = next(self._records, None)
        if first is None:
            raise DataError(f"{name} is empty, expected {'one JSON object per line' if self._is_lines else 'objects'}")
        self.columns = tuple(first[1])
        self._records = itertools.chain([first], self._records)

    @property
    def _is_lines(self) -> bool:
        return self.format == "jsonl"

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield all objects as rows. A chunk has every column that at least one of its objects has."""
        number, keys = 0, set(self.columns)
        while batch := list(itertools.islice(self._records, CHUNK_ROWS)):
            number += len(batch)
            if self._most_rows is not None and number > self._most_rows:
                raise DataError(
                    f"{self.name} expands to more than {self._most_rows:,} rows, which is not plausible for its size. "
                    "If you trust it, decompress it first"
                )
            if columns is None:
                names = tuple(dict.fromkeys(itertools.chain(self.columns, *(value for _, value in batch))))
                keys.update(names)
                if len(keys) > _MOST_KEYS:
                    raise DataError(f"{self.name}, up to {batch[-1][0]}: has more than {_MOST_KEYS:,} different keys")
            else:
                names = tuple(columns)
            rows: list[Values] = [[value.get(name) for name in names] for _, value in batch]
            yield Chunk(names, rows, [place for place, _ in batch], source=[value for _, value in batch])

    def writer(self, stream: IO[bytes], added: Sequence[str]) -> AbstractContextManager[TableWriter]:
        """Return a writer of objects. The added keys come last."""
        if not self._is_array:
            return contextlib.nullcontext(_ObjectWriter(stream, self.name, self._encoding))
        return _array_writer(stream, self.name, self._encoding)


def _json_lines(name: str, stream: IO[bytes], encoding: str | None) -> Records:
    lines: Iterator[bytes] = iter(lambda: stream.readline(LARGEST_LINE_BYTES), b"")
    if encoding not in (None, "utf-8"):
        lines = _transcoded(name, stream, str(encoding))
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            value = strict_json.parse(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
        except ValueError as error:
            raise DataError(f"{name}, {place}: {_problem(line, error)}") from None
        yield place, _checked_object(value, name, place)


def _transcoded(name: str, stream: IO[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the lines of a stream as UTF-8."""
    lines = codecs.getreader(encoding)(stream)
    for number in itertools.count(1):
        try:
            line = lines.readline(LARGEST_LINE_BYTES)
        except UnicodeError:
            raise DataError(f"{name}, line {number}: {not_in_encoding(encoding)}") from None
        if not line:
            return
        yield line.encode("utf-8", "surrogatepass")


def _checked_object(value: object, name: str, place: str) -> Record:
    if isinstance(value, dict):
        return value
    hint = ". If the file is one JSON document, pass --format json" if place == "line 1" else ""
    raise DataError(f"{name}, {place}: found {_JSON_KINDS[type(value)]}, expected a JSON object{hint}")


_JSON_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def _problem(line: bytes, error: ValueError) -> str:
    if len(line) >= LARGEST_LINE_BYTES:
        return f"longer than {LARGEST_LINE_BYTES:,} bytes. Write one JSON object per line"
    if b"\0" in line or line.startswith(UTF_16_MARKS):
        return _UTF_16
    if isinstance(error, UnicodeDecodeError):
        return not_in_encoding(None)
    if line.lstrip().startswith((b"[", b"{")):
        return f"not strict JSON: {error}. If the file is one JSON document, pass --format json"
    return f"not strict JSON: {error}"


class _Document:
    """Reads the objects of a JSON document from a stream.

    Attributes:
        is_sequence: Whether the objects follow each other without being in an array.
    """

    def __init__(self, name: str, stream: IO[bytes], encoding: str | None, largest: int) -> None:
        self._name = name
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self._encoding = encoding
        codec = "utf-8-sig" if encoding in (None, "utf-8") else str(encoding)
        self._decoder = codecs.getincrementaldecoder(codec)("strict")
        self._largest = largest
        self._text = ""
        self._position = 0
        self._is_complete = False
        self._row = 0
        self._first = self._peek()
        self.is_sequence = self._first == "{" and not self._is_single

    def records(self) -> Records:
        """Yield the objects, each with its position."""
        if not self._first:
            return iter(())
        if self._first == "[":
            return self._array()
        if self._first == "{":
            return self._sequence() if self.is_sequence else _records_of(self._single, self._name)
        raise DataError(f"{self._name} is not a JSON document, expected an array of objects")

    def _array(self) -> Records:
        self._position += 1
        if self._peek() == "]":
            return
        while True:
            yield self._next_object(LARGEST_LINE_BYTES)
            separator = self._peek()
            self._position += 1
            if separator == "]":
                break
            if separator != ",":
                raise DataError(f"{self._name}, after row {self._row}: expected a comma or the end of the array")
        if self._peek():
            raise DataError(f"{self._name}, after row {self._row}: expected the end of the file after the array")

    def _sequence(self) -> Records:
        self._row = 1
        yield "row 1", self._single
        while self._peek():
            yield self._next_object(LARGEST_LINE_BYTES)

    @property
    def _is_single(self) -> bool:
        """Whether the document is one object. Reads it."""
        _, self._single = self._next_object(self._largest)
        self._row = 0
        return not self._peek()

    def _next_object(self, largest: int) -> tuple[str, Record]:
        self._row += 1
        place = f"row {self._row}"
        self._peek()
        while True:
            try:
                value, end = strict_json.parse_at(self._text, self._position)
            except ValueError as error:
                pending = len(self._text) - self._position
                if pending > largest:
                    problem = f"longer than {largest:,} characters, or not strict JSON: {error}. {_JSON_LINES}"
                elif self._is_complete:
                    problem = f"not strict JSON: {error}"
                else:
                    self._read_more(min(max(_BLOCK_BYTES, pending), largest + 1 - pending))
                    continue
                raise DataError(f"{self._name}, {place}: {problem}") from None
            self._position = end
            return place, _checked_object(value, self._name, place)

    def _peek(self) -> str:
        """Return the next character that is not white space, or an empty string at the end."""
        while True:
            text, position = self._text, self._position
            while position < len(text) and text[position] in _SPACE:
                position += 1
            self._position = position
            if position < len(text):
                return text[position]
            if self._is_complete:
                return ""
            self._read_more(_BLOCK_BYTES)

    def _read_more(self, size: int) -> None:
        """Read at least some bytes, and forget what was parsed."""
        parts, count = [self._text[self._position :]], 0
        while count < size and not self._is_complete:
            data = self._read(size)
            self._is_complete = not data
            if not self._row and self._encoding is None and (data.startswith(UTF_16_MARKS) or b"\0" in data[:2]):
                raise DataError(f"{self._name} {_UTF_16}")
            try:
                parts.append(self._decoder.decode(data, self._is_complete))
            except UnicodeError:
                raise DataError(f"{self._name}, after row {self._row}: {not_in_encoding(self._encoding)}") from None
            count += len(data)
        self._text, self._position = "".join(parts), 0


def _records_of(document: Record, name: str) -> Records:
    """Yield the rows of an object with a list per column, or with a list of objects, or of an object that is a row.

    Raises:
        DataError: The columns have different lengths, or an object of a list is none.
    """
    values = list(document.values())
    tables = [value for value in values if isinstance(value, list) and value and isinstance(value[0], dict)]
    columns: Mapping[str, Sequence[object]]
    if len(tables) == 1:
        for number, value in enumerate(tables[0], start=1):
            yield f"row {number}", _checked_object(value, name, f"row {number}")
        return
    if values and all(isinstance(value, list) for value in values):
        columns = {key: value for key, value in document.items() if isinstance(value, list)}
    elif values and all(isinstance(value, dict) for value in values):  # to_json of pandas: a value per index
        index = [key for value in values[:1] if isinstance(value, dict) for key in value]
        columns = {key: [value.get(i) for i in index] for key, value in document.items() if isinstance(value, dict)}
    else:
        yield "row 1", document
        return
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{quoted(key)} has {length}" for key, length in itertools.islice(lengths.items(), 10))
        raise DataError(f"{name}: its columns have different numbers of values: {found}. {_JSON_LINES}")
    for number, row in enumerate(zip(*columns.values(), strict=True), start=1):
        yield f"row {number}", dict(zip(columns, row, strict=True))


class _ObjectWriter(TableWriter):
    """Writes objects, with a separator between them."""

    def __init__(self, stream: IO[bytes], name: str, encoding: str, separator: str = "") -> None:
        self._stream = stream
        self._name = name
        self._encoder = codecs.getincrementalencoder(encoding)("strict")
        self._separator = separator
        self._is_first = True

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        for position, value in enumerate(chunk.source):
            new = {name: values[position] for name, values in added.items()}
            if taken := value.keys() & new.keys():
                place = chunk.places[position]
                raise DataError(
                    f"{self._name}, {place}: already has a key {quoted(min(taken))}. Rename or drop it first"
                )
            row = {**value, **new}
            try:
                data = self._encoder.encode(strict_json.dump(row))
            except UnicodeEncodeError:  # a lone surrogate in another column, or not in the encoding: write it escaped
                data = self._encoder.encode(json.dumps(row))
            if not self._is_first:
                self._stream.write(self._encoder.encode(self._separator))
            self._stream.write(data)
            if not self._separator:
                self._stream.write(self._encoder.encode("\n"))
            self._is_first = False


@contextlib.contextmanager
def _array_writer(stream: IO[bytes], name: str, encoding: str) -> Iterator[TableWriter]:
    encoder = codecs.getincrementalencoder(encoding)("strict")
    stream.write(encoder.encode("[\n"))
    yield _ObjectWriter(stream, name, encoding, ",\n")
    stream.write(encoder.encode("\n]\n"))
