"""Read and write Parquet files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from bothways.data.dialect import Dialect
from bothways.data.table import CHUNK_ROWS, Chunk, Table, TableWriter, Values
from bothways.errors import DataError
from bothways.files import require_pyarrow


class ParquetTable(Table):
    """An Apache Parquet file. Needs pyarrow."""

    def __init__(self, name: str, stream: IO[bytes], dialect: Dialect) -> None:
        super().__init__(name, "parquet")
        self._arrow: Any = require_pyarrow("Parquet")
        from pyarrow import parquet  # noqa: PLC0415  (an optional dependency)

        try:
            self._file = parquet.ParquetFile(stream)
        except (self._arrow.ArrowException, OSError) as error:
            raise DataError(f"{self.name} is not a valid Parquet file: {error}") from None
        self.columns = tuple(self._file.schema_arrow.names)

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield all rows, each chunk with the Arrow record batch that it was read from."""
        number = 0
        batches = self._file.iter_batches(batch_size=CHUNK_ROWS)
        while True:
            try:
                batch = next(batches, None)
            except (self._arrow.ArrowException, OSError) as error:
                raise DataError(
                    f"{self.name}, after row {number}: the file is damaged. Copy or download it again ({error})"
                ) from None
            if batch is None:
                return
            rows: list[Values] = list(zip(*(_python_values(column) for column in batch.columns), strict=True))
            places = [f"row {n}" for n in range(number + 1, number + 1 + batch.num_rows)]
            number += batch.num_rows
            yield Chunk(self.columns, rows, places, source=batch)

    @contextlib.contextmanager
    def writer(self, stream: IO[bytes], added: Sequence[str]) -> Iterator[TableWriter]:
        """Yield a writer of this table's columns, with their types and metadata, and of the added columns."""
        writer = _ParquetWriter(stream, self._arrow, self._file.schema_arrow, added)
        try:
            yield writer
            writer.close()
        finally:
            writer.abandon()


class _ParquetWriter(TableWriter):
    def __init__(self, stream: IO[bytes], arrow: Any, schema: Any, added: Sequence[str]) -> None:
        self._stream = stream
        self._arrow = arrow
        self._schema = schema
        self._added = added
        self._file: Any = None

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        arrays = [self._arrow.array(added[name]) for name in self._added]
        if self._file is None:
            # A column that is empty so far becomes text: anything that comes later can be written as text.
            self._open(
                [self._arrow.string() if values.type == self._arrow.null() else values.type for values in arrays]
            )
        types = [self._schema.field(name).type for name in self._added]
        columns = [*chunk.source.columns, *(values.cast(kind) for values, kind in zip(arrays, types, strict=True))]
        self._file.write_batch(self._arrow.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Write the footer of the file."""
        if self._file is None:  # without a row the types of the added columns are unknown
            self._open([self._arrow.null()] * len(self._added))
        self._file.close()

    def abandon(self) -> None:
        """Prevent any further write, including the one in pyarrow's finalizer. Has no effect after ``close``."""
        if self._file is not None:
            self._file.is_open = False

    def _open(self, added_types: Sequence[Any]) -> None:
        from pyarrow import parquet  # noqa: PLC0415  (an optional dependency)

        for name, kind in zip(self._added, added_types, strict=True):
            self._schema = self._schema.append(self._arrow.field(name, kind))
        self._file = parquet.ParquetWriter(self._stream, self._schema)


def _python_values(column: Any) -> list[object]:
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
