"""Read tables in memory like files: dicts of lists, lists of dicts, DataFrames and Arrow tables.

In: anything that returns a column by its name. Out: a ``Table`` of plain Python values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bothways.data.table import CHUNK_ROWS, Chunk, Table, Values
from bothways.errors import DataError

_NAME = "the table"


class MemoryTable(Table):
    """A table in memory. Columns are converted when they are read."""

    def __init__(self, source: Any) -> None:
        super().__init__(_NAME)
        self._source = source
        names = source if isinstance(source, Mapping) else getattr(source, "column_names", None)
        self.columns = tuple(source.columns if names is None else names)

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield all rows of the given columns."""
        names = list(self.columns if columns is None else columns)
        values = [list(_python_values(self._source[name])) for name in names]
        if len({len(column) for column in values}) > 1:
            raise DataError(f"the columns {' and '.join(names)} have different numbers of rows")
        rows: list[Values] = list(zip(*values, strict=True))
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            yield Chunk(names, chunk, [f"row {number}" for number in range(start + 1, start + 1 + len(chunk))])


def _python_values(column: Any) -> Iterable[object]:
    """Return plain Python values of a list, array, Series or Arrow column.

    Raises:
        DataError: The column is a single string.
    """
    if isinstance(column, str | bytes):
        raise DataError(f"a column of the table is the string {column[:20]!r}, expected one value per row")
    for method in ("to_pylist", "tolist"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)
