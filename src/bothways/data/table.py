"""The interface of a table that is read once, from start to end, and of a writer of its rows with added columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any

from bothways.data.dialect import TableFormat
from bothways.errors import ConfigError, DataError, quoted

CHUNK_ROWS = 256
"""Maximum number of rows per chunk."""
Values = Sequence[object]
_COLUMNS_LISTED = 20


class Chunk:
    """Consecutive rows of a table.

    Attributes:
        columns: Column names, in order.
        rows: One list of values per row, in the order of the columns.
        places: The position of each row for error messages, such as ``row 3 (line 4)``.
        source: What the rows were read from, for a writer of the same format: an Arrow record batch (Parquet), a list
            of objects (JSON) or None.
    """

    def __init__(self, columns: Sequence[str], rows: list[Values], places: Sequence[str], source: Any = None) -> None:
        self.columns = tuple(columns)
        self.rows = rows
        self.places = places
        self.source = source

    def __len__(self) -> int:
        return len(self.rows)

    def selected(self, positions: Sequence[int]) -> Chunk:
        """Return a chunk with the rows at these positions only."""
        source = self.source
        if isinstance(source, list):
            source = [source[position] for position in positions]
        elif source is not None:
            source = source.take(positions)  # a record batch
        return Chunk(
            self.columns, [self.rows[each] for each in positions], [self.places[each] for each in positions], source
        )

    def column(self, name: str) -> list[object]:
        """Return the values of one column, in row order."""
        position = self.columns.index(name)
        return [row[position] for row in self.rows]


class Numbered(Sequence[str]):
    """The positions of consecutive rows, such as ``row 3``. They become text when they are needed."""

    def __init__(self, before: int, count: int) -> None:
        self._numbers = range(before + 1, before + 1 + count)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return (f"row {number}" for number in self._numbers)

    def __getitem__(self, index: int | slice) -> str:
        assert isinstance(index, int)
        return f"row {self._numbers[index]}"


class Table(ABC):
    """Rows of a file, or of a table in memory, that are read once from start to end.

    Attributes:
        name: What the table is called in messages: the path of the file, ``standard input`` or ``the table``.
        columns: Column names, in order. JSON: the keys of the first object.
        format: Format of the file. None for a table in memory.
    """

    def __init__(self, name: str, table_format: TableFormat | None = None) -> None:
        self.name = name
        self.format = table_format
        self.columns: tuple[str, ...] = ()

    @abstractmethod
    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield all rows, at most ``CHUNK_ROWS`` at a time.

        Args:
            columns: The only columns that are needed. A chunk may leave out others. Defaults to all columns.

        Raises:
            DataError: A row can't be read. The message names the table, the row and the column.
        """

    def writer(self, stream: IO[bytes], added: Sequence[str]) -> AbstractContextManager[TableWriter]:
        """Return a context manager with a writer for this table's columns and the added ones.

        Args:
            stream: The stream to write to.
            added: Names of the added columns.

        Raises:
            ConfigError: The table is not a file.
        """
        raise ConfigError(f"{self.name} is in memory, expected the path of a file. Use predict for a list of texts")

    def require_column(self, name: str, option: str) -> None:
        """Raise an error unless the table has exactly one column of a name.

        Args:
            name: The column.
            option: The option that chooses the column, for the error message.

        Raises:
            DataError: The table has no such column, or several. The message lists the columns it has.
        """
        count = self.columns.count(name)
        if count > 1:
            raise DataError(f"{self.name} has {count} columns named {quoted(name)}. Rename all but one")
        if count:
            return
        listed = [column if len(column) <= 40 else column[:37] + "..." for column in self.columns[:_COLUMNS_LISTED]]
        found = ", ".join(map(repr, listed)) or "none"
        if len(self.columns) > _COLUMNS_LISTED:
            found += f" and {len(self.columns) - _COLUMNS_LISTED} more"
        raise DataError(
            f"{self.name} has no column {quoted(name)}. It has {found}{self._column_hint()}. Choose a "
            f"column with {option}"
        )

    def _column_hint(self) -> str:
        """Return what may have caused that a column is missing, in parentheses, or an empty string."""
        return ""


class TableWriter(ABC):
    """Writes the chunks of one table with added columns."""

    @abstractmethod
    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]]) -> None:
        """Write the rows of a chunk, each followed by its values of the added columns.

        Args:
            chunk: A chunk of the table.
            added: One value per row, by column name.

        Raises:
            DataError: A JSON object already has a key with the name of an added column, or a value cannot be written
                in the format of the table.
        """
