"""Read Arrow record batches, from Parquet, Arrow IPC and Feather files and from memory, and write them.

Class names that Hugging Face stores beside a column of numbers (``ClassLabel``) are read instead of the numbers.
"""

from __future__ import annotations

import contextlib
import os
import struct
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from bothways import strict_json
from bothways.data.dialect import Dialect, TableFormat
from bothways.data.table import CHUNK_ROWS, Chunk, Numbered, Table, TableWriter, Values
from bothways.errors import DataError, shown
from bothways.files import library_errors, require_pyarrow

ClassNames = dict[str, list[str]]
"""Names of the classes of a column of numbers, by the column's name."""
_FREE_ROWS = 500_000
_MOST_ROWS_PER_BYTE = 1
_FREE_BYTES = 32 * 1024 * 1024
_LARGEST_EXPANSION = 64
_LIKELY_EXPANSION = 8
"""What a file may expand to, and what it may in proportion to its size. A dictionary stores equal values once."""
_ARROW_FILE = b"ARROW1"
_FILE_TAIL_BYTES = 10
"""An Arrow file ends with the size of its footer and ``ARROW1``."""
_BLOCK_BYTES, _BUFFER_BYTES = 24, 16
"""Sizes of what refers to a message in the footer of a file, and to a buffer in the metadata of a message."""
_LENGTH_BYTES = 8
"""A compressed buffer begins with its decompressed size."""
_DAMAGED = "the file is damaged. Copy or download it again"


class ArrowTable(Table):
    """Record batches of one schema. Needs pyarrow."""

    def __init__(self, name: str, table_format: TableFormat | None, schema: Any, class_names: ClassNames) -> None:
        super().__init__(name, table_format)
        self._schema = schema
        self._class_names = class_names
        self._size: int | None = None
        self.columns = tuple(schema.names)

    def _refuse_expansion(self, rows: int, content: int) -> None:
        """Refuse a file that expands to far more than its own size.

        Args:
            rows: Number of rows.
            content: Size of their values in bytes.
        """
        size = self._size
        if size is None:  # a table in memory
            return
        if rows > max(_FREE_ROWS, _MOST_ROWS_PER_BYTE * size) or content > max(_FREE_BYTES, _LARGEST_EXPANSION * size):
            amount = f"{rows:,} rows and " if rows else ""
            raise DataError(
                f"{self.name} has {size:,} bytes, but expands to {amount}{content:,} bytes. If you trust it, "
                "write it again as CSV"
            )

    @abstractmethod
    def batches(self, columns: Sequence[str] | None) -> Iterator[Any]:
        """Yield record batches of at most ``CHUNK_ROWS`` rows, with at least the given columns."""

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield all rows, each chunk with the Arrow record batch that it was read from."""
        number = content = 0
        batches = self.batches(columns)
        while True:
            with library_errors(f"{self.name}, after row {number}: {_DAMAGED}"):
                batch = next(batches, None)
                if batch is None:
                    return
                names = batch.schema.names
                self._refuse_expansion(number + batch.num_rows, content + _plain_bytes(batch))
                values = [self._values(name, column) for name, column in zip(names, batch.columns, strict=True)]
                for column, found in zip(batch.columns, values, strict=True):
                    if hasattr(column, "dictionary"):
                        content += sum(len(value) for value in found if isinstance(value, str))
                content += _plain_bytes(batch)
            self._refuse_expansion(number + batch.num_rows, content)
            rows: list[Values] = list(zip(*values, strict=True)) if values else [()] * batch.num_rows
            yield Chunk(names, rows, Numbered(number, batch.num_rows), source=batch)
            number += batch.num_rows

    def _values(self, name: str, column: Any) -> list[object]:
        values = python_values(column)
        names = self._class_names.get(name)
        return values if names is None else [_class_name(value, names) for value in values]


class ParquetTable(ArrowTable):
    """An Apache Parquet file."""

    def __init__(self, name: str, stream: IO[bytes], dialect: Dialect) -> None:
        require_pyarrow("Parquet")
        from pyarrow import parquet  # noqa: PLC0415  (an optional dependency)

        with library_errors(f"{name} is not a valid Parquet file"):
            self._file = parquet.ParquetFile(stream)
            schema, metadata = self._file.schema_arrow, self._file.metadata
            texts = [field.name for field in schema if str(field.type) in ("string", "large_string")]
            content = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
            if texts and content > _LIKELY_EXPANSION * _size(stream):
                # As dictionaries, in which equal texts are stored once. This is ten times slower.
                self._file = parquet.ParquetFile(stream, read_dictionary=texts)
            super().__init__(name, "parquet", schema, class_names(schema))
            rows = metadata.num_rows
        self._size = _size(stream)
        self._refuse_expansion(rows, content)

    def batches(self, columns: Sequence[str] | None) -> Iterator[Any]:
        """Yield the record batches."""
        has_paths = any("." in name for name in self.columns)  # pyarrow takes "a.b" for a field b of a structure a
        selected = None if columns is None or has_paths else list(columns)
        return iter(self._file.iter_batches(batch_size=CHUNK_ROWS, columns=selected))

    @contextlib.contextmanager
    def writer(self, stream: IO[bytes], added: Sequence[str]) -> Iterator[TableWriter]:
        """Yield a writer of this table's columns, with their types and metadata, and of the added columns."""
        writer = _ParquetWriter(stream, self.name, self._schema, added)
        try:
            yield writer
            writer.close()
        finally:
            writer.abandon()


class ArrowFileTable(ArrowTable):
    """An Arrow IPC file, a Feather file (version 2) or an Arrow IPC stream."""

    def __init__(self, name: str, stream: IO[bytes], dialect: Dialect) -> None:
        arrow = require_pyarrow("Arrow")
        self._is_file = stream.read(len(_ARROW_FILE)) == _ARROW_FILE
        stream.seek(0)
        with library_errors(f"{name} is not a valid Arrow or Feather file"):
            self._reader = (arrow.ipc.open_file if self._is_file else arrow.ipc.open_stream)(stream)
            schema = self._reader.schema
            super().__init__(name, "arrow", schema, class_names(schema))
            self._size = _size(stream)
            self._check_messages(stream)
            if not self._is_file:
                stream.seek(0)
                self._reader = arrow.ipc.open_stream(stream)

    def _check_messages(self, stream: IO[bytes]) -> None:
        """Refuse dictionaries and batches that are large together, before any of them is decompressed."""
        content = 0
        for message in _messages_of_file(stream) if self._is_file else _messages_of_stream(stream):
            content += _decompressed_bytes(message)
            self._refuse_expansion(0, content)

    def batches(self, columns: Sequence[str] | None) -> Iterator[Any]:
        """Yield slices of the record batches."""
        if self._is_file:
            whole = (self._reader.get_batch(number) for number in range(self._reader.num_record_batches))
        else:
            whole = iter(self._reader)
        for batch in whole:
            batch.validate(full=True)  # a damaged offset would crash the process
            for start in range(0, batch.num_rows, CHUNK_ROWS):
                yield batch.slice(start, CHUNK_ROWS)

    @contextlib.contextmanager
    def writer(self, stream: IO[bytes], added: Sequence[str]) -> Iterator[TableWriter]:
        """Yield a writer of the same kind, file or stream."""
        writer = _ArrowWriter(stream, self.name, self._schema, added, self._is_file)
        yield writer
        writer.close()


class _ParquetWriter(TableWriter):
    def __init__(self, stream: IO[bytes], name: str, schema: Any, added: Sequence[str]) -> None:
        self._stream = stream
        self._name = name
        self._schema = schema
        self._added = added
        self._arrow = require_pyarrow("Parquet")
        self._file: Any = None

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        arrays = [self._arrow.array(added[name]) for name in self._added]
        if self._file is None:
            # A column that is empty so far becomes text: anything that comes later can be written as text.
            self._begin(
                [self._arrow.string() if values.type == self._arrow.null() else values.type for values in arrays]
            )
        try:
            types = [self._schema.field(name).type for name in self._added]
            read = zip(chunk.source.columns, self._schema, strict=False)
            known = [column if column.type == field.type else column.cast(field.type) for column, field in read]
            columns = [*known, *(values.cast(kind) for values, kind in zip(arrays, types, strict=True))]
            self._file.write_batch(self._arrow.RecordBatch.from_arrays(columns, schema=self._schema))
        except self._arrow.ArrowException as error:
            if isinstance(error, OSError):  # of the disk
                raise
            raise DataError(f"{self._name} can't be written again in its format: {shown(str(error))}") from None

    def close(self) -> None:
        """Write the footer of the file."""
        if self._file is None:  # without a row the types of the added columns are unknown
            self._begin([self._arrow.null()] * len(self._added))
        self._file.close()

    def abandon(self) -> None:
        """Prevent any further write, including the one in pyarrow's finalizer. Has no effect after ``close``."""
        if self._file is not None:
            self._file.is_open = False

    def _begin(self, added_types: Sequence[Any]) -> None:
        for name, kind in zip(self._added, added_types, strict=True):
            self._schema = self._schema.append(self._arrow.field(name, kind))
        self._file = self._open()

    def _open(self) -> Any:
        from pyarrow import parquet  # noqa: PLC0415  (an optional dependency)

        return parquet.ParquetWriter(self._stream, self._schema)


class _ArrowWriter(_ParquetWriter):
    """Writes an Arrow IPC file or stream."""

    def __init__(self, stream: IO[bytes], name: str, schema: Any, added: Sequence[str], is_file: bool) -> None:
        super().__init__(stream, name, schema, added)
        self._is_file = is_file

    def _open(self) -> Any:
        new = self._arrow.ipc.new_file if self._is_file else self._arrow.ipc.new_stream
        return new(self._stream, self._schema)


def class_names(schema: Any) -> ClassNames:
    """Return the class names that Hugging Face stores in the metadata of a schema."""
    try:
        match strict_json.parse((schema.metadata or {})[b"huggingface"]):
            case {"info": {"features": dict(features)}}:
                found = {str(name): _names_of(feature) for name, feature in features.items()}
                return {name: names for name, names in found.items() if names}
    except (KeyError, ValueError):
        pass
    return {}


def _names_of(feature: object) -> list[str]:
    """Return the class names of a feature, or of the elements of a list."""
    match feature:
        case {"_type": "ClassLabel", "names": list(names)} if all(isinstance(name, str) for name in names):
            return names
        case {"feature": inner} | [inner]:
            return _names_of(inner)
    return []


def _class_name(value: object, names: Sequence[str]) -> object:
    """Return the name of a class number, of each in a list. -1 means that there is no label."""
    if isinstance(value, list):
        return [_class_name(each, names) for each in value]
    if not isinstance(value, int) or value >= len(names):
        return value
    return names[value] if value >= 0 else None


def _messages_of_stream(stream: IO[bytes]) -> Iterator[Any]:
    """Yield the messages of an Arrow stream: its schema, dictionaries and batches, still compressed."""
    arrow = require_pyarrow("Arrow")
    stream.seek(0)
    reader = arrow.ipc.MessageReader.open_stream(arrow.PythonFile(stream, mode="r"))
    with contextlib.suppress(StopIteration, EOFError, arrow.ArrowInvalid):  # the reader of batches reports damage
        while True:
            yield reader.read_next_message()


def _messages_of_file(stream: IO[bytes]) -> Iterator[Any]:
    """Yield the dictionaries and batches that the footer of an Arrow file refers to, still compressed.

    Raises:
        ValueError: The footer refers to a message twice.
    """
    arrow = require_pyarrow("Arrow")
    end = stream.seek(-_FILE_TAIL_BYTES, os.SEEK_END)
    length = int.from_bytes(stream.read(_FILE_TAIL_BYTES)[:4], "little")
    stream.seek(end - length)
    footer = _Flatbuffer(stream.read(length))
    places = [footer.number("q", place) for field in (2, 3) for place in footer.items(footer.root, field, _BLOCK_BYTES)]
    if len(set(places)) < len(places):
        raise ValueError("its footer refers to a message twice")
    for place in places:
        stream.seek(place)
        yield arrow.ipc.read_message(arrow.PythonFile(stream, mode="r"))


class _Flatbuffer:
    """The fields of a flatbuffer. A table in it begins with the distance to the places of its fields."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.root = self.number("I", 0)

    def number(self, kind: str, place: int) -> int:
        """Return a number of a kind of ``struct`` at a place."""
        return int(struct.unpack_from(f"<{kind}", self._data, place)[0])

    def inner(self, table: int, index: int) -> int:
        """Return the place of a table or list in a field of a table, or 0 if the field is absent."""
        fields = table - self.number("i", table)
        entry = 4 + 2 * index
        distance = self.number("H", fields + entry) if entry < self.number("H", fields) else 0
        place = table + distance
        return place + self.number("I", place) if distance else 0

    def items(self, table: int, index: int, size_bytes: int) -> range:
        """Return the places of the items of a list, each of a fixed size."""
        place = self.inner(table, index)
        count = self.number("I", place) if place else 0
        if count * size_bytes > len(self._data):
            raise ValueError("a list of its metadata is longer than the metadata")
        return range(place + 4, place + 4 + count * size_bytes, size_bytes)


def _decompressed_bytes(message: Any) -> int:
    """Return the size of a dictionary or batch after it is decompressed. pyarrow decompresses it as a whole."""
    data, body = _Flatbuffer(message.metadata.to_pybytes()), message.body
    batch = data.inner(data.root, 2)
    if message.type == "dictionary":
        batch = data.inner(batch, 1)
    elif message.type != "record batch":
        return 0
    if body is None:
        return 0
    if not data.inner(batch, 3):  # not compressed
        return int(body.size)
    total, view = 0, memoryview(body)
    for place in data.items(batch, 2, _BUFFER_BYTES):
        start, length = data.number("q", place), data.number("q", place + 8)
        if length >= _LENGTH_BYTES:
            total += max(length, int.from_bytes(view[start : start + _LENGTH_BYTES], "little", signed=True))
    return total


def _plain_bytes(batch: Any) -> int:
    """Return the size of the columns that are no dictionaries."""
    return sum(column.nbytes for column in batch.columns if not hasattr(column, "dictionary"))


def _size(stream: IO[bytes]) -> int:
    position = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(position)
    return size


def python_values(column: Any) -> list[object]:
    """Return the values of an Arrow column, with ``Unreadable`` where Python has no such value."""
    if hasattr(column, "dictionary"):  # which can be that of the whole file, and contain long values many times
        places = column.indices.unique()
        known = dict(zip(places.to_pylist(), python_values(column.dictionary.take(places)), strict=True))
        return [known[place] for place in column.indices.to_pylist()]
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
