"""Read tables in memory like files.

In: a dict of lists, a list of dicts, a DataFrame of pandas or polars, an Arrow table or a Dataset of Hugging Face.
Out: a ``Table`` of plain Python values. No library is imported: what it offers shows what a table is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bothways.data.arrow_files import ArrowTable, ClassNames, class_names
from bothways.data.table import CHUNK_ROWS, Chunk, Numbered, Table, Values
from bothways.errors import DataError, quoted

NAME = "the table"
_EXPECTED = "expected a path, a DataFrame, a dict of lists, a list of dicts, an Arrow table or a Dataset"


def open_memory(source: Any) -> Table:
    """Return a table in memory as a ``Table``.

    Raises:
        DataError: ``source`` is not a table.
    """
    kind = type(source).__name__
    if kind in ("DatasetDict", "IterableDatasetDict"):
        splits = ", ".join(map(quoted, source))
        raise DataError(f"got a {kind} with the splits {splits}, expected one of them, such as data['train']")
    if isinstance(source, list | tuple):
        return _from_rows(source)
    if hasattr(source, "with_format") and hasattr(source, "features"):
        return DatasetTable(source)
    if hasattr(source, "to_batches") or kind == "RecordBatch":
        return ArrowMemoryTable(source)
    names, columns = _columns_of(source)
    return ColumnsTable(names, columns)


def _columns_of(source: Any) -> tuple[Sequence[object], Sequence[Any]]:
    """Return the names and the columns of a table.

    Raises:
        DataError: ``source`` is not a table.
    """
    if isinstance(source, Mapping):
        return list(source), list(source.values())
    if hasattr(source, "collect_schema") and hasattr(source, "collect") and not hasattr(source, "to_dicts"):
        source = source.collect()  # a LazyFrame
    if hasattr(source, "get_columns"):  # polars
        return list(source.columns), list(source.get_columns())
    if hasattr(source, "columns") and hasattr(source, "iloc"):  # pandas
        return list(source.columns), [source.iloc[:, number] for number in range(source.shape[1])]
    if getattr(getattr(source, "dtype", None), "names", None):  # a structured array
        return list(source.dtype.names), [source[name] for name in source.dtype.names]
    raise DataError(f"got a {type(source).__name__}, {_EXPECTED}")


class ColumnsTable(Table):
    """A table with one list, array or Series per column. Columns are converted when they are read."""

    def __init__(self, names: Sequence[object], columns: Sequence[Any]) -> None:
        super().__init__(NAME)
        self.columns = tuple(map(str, names))
        self._values = columns

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """Yield all rows of the given columns."""
        names = self.columns if columns is None else tuple(dict.fromkeys(columns))
        chosen = self._values if columns is None else [self._values[self.columns.index(name)] for name in names]
        values = [_python_values(name, column) for name, column in zip(names, chosen, strict=True)]
        lengths = {name: len(column) for name, column in zip(names, values, strict=True)}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{quoted(name)} has {length}" for name, length in list(lengths.items())[:10])
            raise DataError(f"the columns of the table have different numbers of rows: {found}")
        rows: list[Values] = list(zip(*values, strict=True))
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            yield Chunk(names, chunk, Numbered(start, len(chunk)))


class ArrowMemoryTable(ArrowTable):
    """A Table or RecordBatch of pyarrow."""

    def __init__(self, source: Any) -> None:
        self._source = source
        super().__init__(NAME, None, source.schema, class_names(source.schema))

    def batches(self, columns: Sequence[str] | None) -> Iterator[Any]:
        """Yield slices of the table, which may have several chunks per column."""
        for start in range(0, self._source.num_rows, CHUNK_ROWS):
            yield self._source.slice(start, CHUNK_ROWS)


class DatasetTable(ArrowTable):
    """A Dataset of Hugging Face, in its order, with its filters."""

    def __init__(self, source: Any) -> None:
        self._source = source.with_format("arrow")
        features = source.features
        if features is None:
            raise DataError(f"the features of this {type(source).__name__} are unknown. Pass a list of its rows")
        names = {str(name): _names_of(feature) for name, feature in features.items()}
        found: ClassNames = {name: classes for name, classes in names.items() if classes}
        super().__init__(NAME, None, features.arrow_schema, found)

    def batches(self, columns: Sequence[str] | None) -> Iterator[Any]:
        """Yield tables of the given columns only, because others may be costly to read."""
        source = self._source if columns is None else self._source.select_columns(list(dict.fromkeys(columns)))
        return iter(source.iter(batch_size=CHUNK_ROWS))


def _names_of(feature: Any) -> list[str]:
    """Return the class names of a feature of Hugging Face, or of the elements of a list."""
    if type(feature).__name__ == "ClassLabel":
        return list(feature.names or ())
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    return [] if inner is None or isinstance(inner, dict) else _names_of(inner)


def _from_rows(source: Sequence[Any]) -> Table:
    """Return a table of rows, each of which is a dict. Rows may lack a key."""
    for number, row in enumerate(source, start=1):
        if not isinstance(row, Mapping):
            hint = ". For texts and labels in lists, pass {'text': texts, 'label': labels}" if number == 1 else ""
            raise DataError(f"row {number} of the list is a {type(row).__name__}, expected a dict per row{hint}")
    names = list(dict.fromkeys(key for row in source for key in row))
    return ColumnsTable(names, [[row.get(name) for row in source] for name in names])


def _python_values(name: str, column: Any) -> list[object]:
    """Return plain Python values of a list, array, Series or Arrow column.

    Raises:
        DataError: The column is a single string, or not a sequence of values.
    """
    if isinstance(column, str | bytes) or not hasattr(column, "__iter__") or isinstance(column, Mapping):
        found = f"the string {quoted(column, 20)}" if isinstance(column, str | bytes) else f"a {type(column).__name__}"
        raise DataError(f"the column {quoted(name)} of the table is {found}, expected one value per row")
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return [_plain(value) for value in column]


def _plain(value: Any) -> object:
    """Return a value of numpy or torch in a list as the Python value."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
