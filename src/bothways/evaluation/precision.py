"""Compare a bundle's predictions in int8 with those in float32 on labeled rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from bothways.arguments import as_flag, as_names, as_path, checked, optional
from bothways.bundle.hub import local_path
from bothways.bundle.parity import ENSEMBLE
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.tables import TableSource
from bothways.evaluation.inputs import LabelColumns, read_rows
from bothways.runtime.classifier import load
from bothways.tasks.task import InvalidRow
from bothways.text.fields import TextColumns


@dataclass(frozen=True)
class PrecisionComparison:
    """How the metrics of the ensemble change with the precision.

    Attributes:
        data: Name of the file, or ``the table`` for a table in memory.
        rows: Number of rows.
        metrics: The task's headline metrics by precision.
        changed_labels: Number of rows that get other labels in int8 than in float32. 0 for regression.
        invalid: Rows that were left out.
    """

    data: str
    rows: int
    metrics: dict[str, dict[str, float]]
    changed_labels: int
    invalid: tuple[InvalidRow, ...] = ()


@checked(bundle=as_path, text=optional(as_names), label=optional(as_names), drop_invalid=as_flag, **DIALECT_CHECKS)
def compare_precision(
    bundle: str | os.PathLike[str],
    data: TableSource | tuple[Sequence[object], Sequence[object]],
    *,
    text: TextColumns | None = None,
    label: LabelColumns | None = None,
    drop_invalid: bool = False,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> PrecisionComparison:
    """Evaluate a bundle in float32 and in int8 on the same labeled rows.

    Args:
        bundle: Directory of a bundle.
        data: Labeled rows: a table in a file, or in memory (docs/tables.md).
        text: Text column, or several. Defaults to those used in training.
        label: Label column; for regression the column of the target, or one per target in their order. Defaults to the
            one used in training.
        drop_invalid: Leave rows without a usable text or label out. The result lists them.
        format: Format of a file. Defaults to that of its suffix.
        delimiter: Character between the fields of a text table, such as ``;``. Defaults to a tab for TSV, or a comma.
        quotes: ``none`` if quotation marks are ordinary characters, ``double`` if they enclose fields in any case.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names. Otherwise its columns are named ``1``, ``2`` and so on.

    Returns:
        The headline metrics in each precision, and how many rows get other labels.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: A column is not named, and the bundle does not record it, or int8 is not usable on this machine.
        DataError: The rows cannot be read, or have labels that the model does not know.
    """
    folder = local_path(bundle)
    exact, quantized = load(folder), load(folder, precision="int8")
    task = exact.task
    dialect = Dialect(format, delimiter, quotes, encoding, header)
    rows = read_rows(exact.manifest, data, text, label, dialect, drop_invalid=drop_invalid)
    targets = task.targets(rows)
    scores = {model.precision: model.scores_by_direction(rows.texts)[ENSEMBLE] for model in (exact, quantized)}
    return PrecisionComparison(
        data=rows.name,
        rows=len(rows),
        metrics={precision: task.headline_metrics(values, targets) for precision, values in scores.items()},
        changed_labels=sum(
            task.decide(ours).chosen != task.decide(theirs).chosen
            for ours, theirs in zip(scores[quantized.precision], scores[exact.precision], strict=True)
        ),
        invalid=rows.invalid,
    )
