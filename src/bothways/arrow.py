"""Score Arrow record batches, which Spark, Ray, Daft, Dask and databases pass around. Needs pyarrow.

In: record batches with texts. Out: the same batches in their order, with the predictions of a bundle as additional
columns. A row whose text cannot be used stays a row, with the reason in a column.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, Unpack, get_args

from bothways.arguments import as_flag, as_integer, as_names, as_path, as_text, checked, optional
from bothways.bundle.hub import absolute, local_path, pinned
from bothways.data.arrow_files import python_values
from bothways.data.labeled import InvalidCellError, parse_text
from bothways.errors import ConfigError, DataError, quoted
from bothways.evaluation.inputs import choose_text_columns
from bothways.evaluation.predicted_rows import output_columns, predicted_rows
from bothways.files import require_pyarrow
from bothways.runtime.classifier import Classifier, load, require_digest
from bothways.runtime.encoder import Precision
from bothways.text.fields import Text, TextColumns, columns_of

if TYPE_CHECKING:
    import pyarrow

ERROR_COLUMN = "predicted_error"
Errors = Literal["column", "raise"]
_MODELS_KEPT = 4
"""Models that a process keeps. One that scores with more bundles in turns loads them again."""
_COLUMNS_LISTED = 20

_Key = tuple[str, bool, Precision, int]
"""The digest of a bundle, and the options with which it is loaded."""
_models: OrderedDict[_Key, Classifier] = OrderedDict()
_lock = threading.Lock()


class Options(TypedDict, total=False):
    """Options of a ``Scorer``."""

    text: TextColumns | None
    columns: Sequence[str] | None
    errors: Errors
    abstain: bool
    early_exit: bool
    precision: Precision
    threads: int


class _Group(NamedTuple):
    """A record batch, and for each of its rows the reason why its text cannot be used, if there is one."""

    batch: Any
    errors: list[str | None]


class Scorer:
    """Scores record batches with a bundle: ``scorer(batches)``. Can be sent to other processes.

    A sent scorer is the path of the bundle, its digest and the options. A process loads the bundle when it first scores
    and keeps the model, also for other scorers of the same digest and options.

    Attributes:
        bundle: Path of the bundle, or a reference to a commit on the Hub, from which each process downloads it.
        digest: Its identity. Another bundle at the same path is refused.
        text_columns: The text columns, in the order in which the model reads them.
    """

    @checked(
        bundle=as_path,
        text=optional(as_names),
        columns=optional(as_names),
        errors=as_text,
        abstain=as_flag,
        early_exit=as_flag,
        precision=as_text,
        threads=as_integer,
    )
    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        text: TextColumns | None = None,
        columns: Sequence[str] | None = None,
        errors: Errors = "column",
        abstain: bool = False,
        early_exit: bool = False,
        precision: Precision = "float32",
        threads: int = 1,
    ) -> None:
        """Load a bundle and check the options.

        Args:
            bundle: The bundle's directory, which all processes must find at this path, or a reference to the Hub.
            text: Text column, or several. Defaults to those used in training.
            columns: Which of the columns that ``bothways.score`` adds to add, in this order. Defaults to all of them.
            errors: What becomes of a row whose text cannot be used, for example because it is missing: ``column`` keeps
                it with empty predictions and the reason in ``predicted_error``; ``raise`` raises ``DataError``.
            abstain: Leave the decision empty for texts that the model cannot read or otherwise abstains from, as in
                ``bothways.score``.
            early_exit: See ``bothways.load``.
            precision: See ``bothways.load``.
            threads: See ``bothways.load``. 1 by default, because engines run a process per core.

        Raises:
            BundleError: There is no bundle at the path, or it cannot be read.
            ConfigError: The text columns are not named and the bundle does not record them, or an option has an
                impossible value.
            DependencyMissing: pyarrow is not installed.
        """
        require_pyarrow("Arrow")
        if errors not in get_args(Errors):
            raise ConfigError(f"errors is {quoted(errors)}, expected 'column' or 'raise'")
        self.bundle = absolute(pinned(bundle, local_path(bundle)))
        model = load(self.bundle, early_exit=early_exit, precision=precision, threads=threads)
        self.digest = model.digest
        self._key: _Key = (model.digest, early_exit, precision, threads)
        self.text_columns = choose_text_columns(text, model.text_columns)
        known = output_columns(model, abstain=abstain)
        self._columns = known if columns is None else columns_of(columns)
        if unknown := [name for name in self._columns if name not in known]:
            raise ConfigError(f"the model has no column {quoted(unknown[0])}. It has {', '.join(map(quoted, known))}")
        self._added = {name: known[name] for name in self._columns}
        self._keeps_errors, self._abstain = errors == "column", abstain
        if self._keeps_errors:
            self._added[ERROR_COLUMN] = str
        _keep(self._key, model)

    def schema(self, schema: pyarrow.Schema) -> pyarrow.Schema:
        """Return the schema of the scored batches: that of the given ones, and the added columns.

        Args:
            schema: Schema of the batches to score.

        Raises:
            DataError: There is no text column, or there is a column with the name of an added one.
        """
        arrow = require_pyarrow("Arrow")
        for name in self.text_columns:
            if schema.names.count(name) != 1:
                found = ", ".join(map(quoted, schema.names[:_COLUMNS_LISTED])) or "none"
                raise DataError(f"the batches have no column {quoted(name)}. They have {found}. Choose one with text=")
        for name in self._added:
            if name in schema.names:
                raise DataError(f"the batches already have a column {quoted(name)}. Rename or drop it first")
        types = {str: arrow.string(), float: arrow.float64(), int: arrow.int64(), bool: arrow.bool_()}
        for name, kind in self._added.items():
            schema = schema.append(arrow.field(name, types[kind]))
        return schema

    def __call__(self, batches: Iterable[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        """Yield each batch with the added columns.

        Args:
            batches: Record batches of one schema, also without an end. Some are read ahead.

        Raises:
            BundleError: The bundle is not at its path, cannot be read, or is another one than when this was made.
            DataError: A text cannot be used and ``errors`` is ``raise``; or see ``schema``.
        """
        model = self._model()
        known = list(output_columns(model, abstain=self._abstain))
        positions = [known.index(name) for name in self._columns]
        for group, rows in predicted_rows(model, self._groups(batches), abstain=self._abstain):
            yield self._scored(group, rows, positions)

    def _model(self) -> Classifier:
        with _lock:  # threads of one process wait for the first to load the bundle
            model = _models.get(self._key)
            if model is None:
                digest, early_exit, precision, threads = self._key
                model = load(self.bundle, early_exit=early_exit, precision=precision, threads=threads)
                require_digest(model.digest, digest, self.bundle, "the scorer")
            _keep(self._key, model)
            return model

    def _groups(self, batches: Iterable[Any]) -> Iterator[tuple[_Group, list[Text]]]:
        """Yield each batch with its usable texts."""
        before = 0
        for batch in batches:
            if not hasattr(batch, "num_rows"):
                raise DataError(f"got a {type(batch).__name__}, expected record batches, or a table of pyarrow")
            self.schema(batch.schema)
            cells = zip(*(python_values(batch.column(name)) for name in self.text_columns), strict=True)
            texts: list[Text] = []
            errors: list[str | None] = []
            for row, values in enumerate(cells, start=before + 1):
                try:
                    texts.append(parse_text(values, self.text_columns))
                    errors.append(None)
                except InvalidCellError as error:
                    errors.append(f"column {quoted(error.column)}: {error}")
                    if not self._keeps_errors:
                        raise DataError(f"row {row:,}, {errors[-1]}. Correct it, or pass errors='column'") from None
            before += batch.num_rows
            yield _Group(batch, errors), texts

    def _scored(self, group: _Group, rows: list[list[object]], positions: list[int]) -> Any:
        """Return a batch with the added columns. Rows with an error have no predictions.

        Args:
            group: The batch.
            rows: The values of all output columns for each usable text.
            positions: Positions of the added columns among them.
        """
        import pyarrow  # noqa: PLC0415  (an optional dependency)

        predicted = iter(rows)
        nothing: list[object] = [None] * len(self._added)
        values = [next(predicted) if error is None else nothing for error in group.errors]
        columns = [[row[position] for row in values] for position in positions]
        if self._keeps_errors:
            columns.append(list(group.errors))
        schema = self.schema(group.batch.schema)
        kinds = schema.types[len(group.batch.schema) :]
        arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        return pyarrow.RecordBatch.from_arrays([*group.batch.columns, *arrays], schema=schema)


def _keep(key: _Key, model: Classifier) -> None:
    """Keep a model as the one that was used last, and forget those that were not used for longest."""
    _models[key] = model
    _models.move_to_end(key)
    while len(_models) > _MODELS_KEPT:
        _models.popitem(last=False)


def score(
    batches: Iterable[pyarrow.RecordBatch] | pyarrow.Table | pyarrow.RecordBatch,
    bundle: str | os.PathLike[str],
    **options: Unpack[Options],
) -> Iterator[pyarrow.RecordBatch]:
    """Return an iterator over record batches with the predictions of a bundle as additional columns.

    The columns are those of ``bothways.score``, and ``predicted_error``. All rows and columns are kept in their order.

    Args:
        batches: Record batches of one schema, or a Table, RecordBatch or RecordBatchReader of pyarrow. May be without
            an end.
        bundle: The bundle's directory.
        **options: See ``Scorer``.

    Raises:
        BundleError: See ``Scorer``.
        ConfigError: See ``Scorer``.
        DataError: A text cannot be used and ``errors`` is ``raise``, there is no text column, a column has the name of
            an added one, or there is something else than a batch. Raised when it is reached.
        DependencyMissing: pyarrow is not installed.
    """
    scorer = Scorer(bundle, **options)
    if hasattr(batches, "to_batches"):  # a table
        return scorer(batches.to_batches())
    return scorer([batches] if hasattr(batches, "num_rows") else batches)
