"""Evaluate a model on labeled rows: metrics per direction, for the ensemble and per class, with confidence intervals.

Input: a model, and a file or table of labeled rows. Output: an ``Evaluation``, which contains plain Python data only.
The metrics are those of scikit-learn, computed by the model's task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bothways.arguments import as_flag, as_names, checked, one_of, optional
from bothways.bundle.parity import ENSEMBLE
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.invalid import as_json
from bothways.data.tables import TableSource
from bothways.errors import DependencyMissing
from bothways.evaluation.inputs import LabelColumns, ModelSource, load_model, read_rows
from bothways.evaluation.scored_rows import ScoredRows, scored_rows
from bothways.tasks.labels import LabelValue
from bothways.tasks.metrics import ClassMetrics, Scores
from bothways.tasks.task import InvalidRow, Targets, Task, TaskName
from bothways.text.fields import TextColumns

if TYPE_CHECKING:
    import pandas

RESAMPLES = 1000
CONFIDENCE = 0.95
_SEED = 0


UnknownLabels = Literal["error", "count"]
"""What to do with rows whose labels the model does not know."""


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The metrics of a model on labeled rows.

    Attributes:
        data: Name of the file, or ``the table`` for a table in memory.
        rows: Number of rows.
        task: Task of the model.
        labels: All labels, in the order of the classes and of the confusion matrix. Empty for regression.
        digest: SHA-256 that identifies the bundle.
        summary: Metrics by direction and for ``ensemble``. A metric that is undefined on these rows is missing. With
            early exit, a direction that did not read every text is missing.
        intervals: Lower and upper bound of the 95 % confidence interval of the ensemble's headline metrics (percentile
            bootstrap over rows, 1,000 resamples, fixed seed).
        classes: Metrics of the ensemble per class, in the order of the labels. Empty for regression.
        targets: Metrics of the ensemble per target, by its name. Empty unless a regression has several targets. Their
            means are in ``summary``.
        confusion: Number of rows by true class (outer list) and predicted class (inner list) of the ensemble. None
            unless every text has exactly one label.
        invalid: Rows that were left out.
        unknown: Number of rows with labels that the model does not know. They count as errors, and ``labels`` ends with
            these labels.
    """

    data: str
    rows: int
    task: TaskName
    labels: tuple[LabelValue, ...]
    digest: str
    summary: dict[str, dict[str, float]]
    intervals: dict[str, tuple[float, float]]
    classes: tuple[ClassMetrics, ...] = ()
    targets: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: list[list[int]] | None = None
    invalid: tuple[InvalidRow, ...] = ()
    unknown: int = 0

    def __repr__(self) -> str:
        metrics = (f"{name}={self.summary[ENSEMBLE][name]:.4g}" for name in self.intervals)
        return f"Evaluation(data={self.data!r}, rows={self.rows}, {', '.join(metrics)})"

    def __str__(self) -> str:
        metrics = (
            f"{name} {self.summary[ENSEMBLE][name]:.4g} ({low:.4g} to {high:.4g})"
            for name, (low, high) in self.intervals.items()
        )
        return f"{', '.join(metrics)} on {self.rows:,} rows of {self.data}"

    def to_dict(self) -> dict[str, object]:
        """Return all fields as lists, dicts, strings and finite numbers, ready for ``json.dumps``."""
        return {
            **asdict(replace(self, invalid=())),
            "labels": list(self.labels),
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "classes": [asdict(each) for each in self.classes],
            "invalid": [as_json(row) for row in self.invalid],
        }

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas DataFrame: one row per class. For regression one row per direction, or per target if several.

        Raises:
            DependencyMissing: pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415  (an optional library)
        except ImportError:
            raise DependencyMissing("to_frame needs pandas: pip install pandas. to_dict needs nothing") from None
        if self.classes:
            return pandas.DataFrame([asdict(each) for each in self.classes]).set_index("label")
        return pandas.DataFrame.from_dict(self.targets or self.summary, orient="index")


@checked(
    text=optional(as_names),
    label=optional(as_names),
    unknown_labels=one_of("error", "count"),
    drop_invalid=as_flag,
    **DIALECT_CHECKS,
)
def evaluate(
    model: ModelSource,
    data: TableSource | tuple[Sequence[object], Sequence[object]],
    *,
    text: TextColumns | None = None,
    label: LabelColumns | None = None,
    unknown_labels: UnknownLabels = "error",
    drop_invalid: bool = False,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> Evaluation:
    """Evaluate a model on labeled rows.

    Args:
        model: A loaded model, evaluated with its precision and early exit, or the directory of a bundle.
        data: Labeled rows: a table in a file, or in memory (docs/tables.md). Or a
            tuple of texts and their labels.
        text: Text column, or several. Defaults to those used in training.
        label: Label column; for regression the column of the target, or one per target in their order. Defaults to the
            one used in training.
        unknown_labels: ``error`` refuses labels that the model does not know. ``count`` counts their rows as errors.
        drop_invalid: Leave rows without a usable text or label out. The result lists them.
        format: Format of a file. Defaults to that of its suffix.
        delimiter: Character between the fields of a text table, such as ``;``. Defaults to a tab for TSV, or a comma.
        quotes: ``none`` if quotation marks are ordinary characters, ``double`` if they enclose fields in any case.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names. Otherwise its columns are named ``1``, ``2`` and so on.

    Returns:
        Metrics per direction, for the ensemble and per class.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: A column is not named, and the bundle does not record it.
        DataError: The rows cannot be read, or have labels that the model does not know. All such rows are named.
    """
    classifier = load_model(model)
    dialect = Dialect(format, delimiter, quotes, encoding, header)
    rows = read_rows(
        classifier.manifest,
        data,
        text,
        label,
        dialect,
        drop_invalid=drop_invalid,
        keep_unknown=unknown_labels == "count",
        unknown_advice="; --unknown-labels count counts such rows as errors",
    )
    return evaluation_of(scored_rows(classifier, rows))


def evaluation_of(scored: ScoredRows) -> Evaluation:
    """Return the metrics of rows with scores."""
    task, targets = scored.task, scored.targets
    by_direction = {name: task.metrics(values, targets) for name, values in scored.complete.items()}
    ensemble = by_direction[ENSEMBLE]
    return Evaluation(
        data=scored.rows.name,
        rows=len(scored.rows),
        task=task.name,
        labels=task.label_values,
        digest=scored.digest,
        summary={name: metrics.summary for name, metrics in by_direction.items()},
        intervals=confidence_intervals(task, scored.scores[ENSEMBLE], targets),
        classes=ensemble.classes,
        targets={name: dict(found) for name, found in ensemble.targets.items()},
        confusion=None if ensemble.confusion is None else ensemble.confusion.tolist(),
        invalid=scored.rows.invalid,
        unknown=scored.unknown,
    )


def confidence_intervals(task: Task, scores: Scores, targets: Targets) -> dict[str, tuple[float, float]]:
    """Return the 95 % confidence interval of each headline metric, by the percentile bootstrap over rows.

    Resamples on which a metric is undefined do not count for it.

    Args:
        task: Defines the metrics.
        scores: Scores of the rows, (N, C).
        targets: Targets of the rows.
    """
    found: dict[str, list[float]] = defaultdict(list)
    headline = task.resampled_headline(scores, targets)
    for rows in resamples(len(scores)):
        for name, value in headline(rows).items():
            found[name].append(value)
    return {name: percentiles(values) for name, values in found.items()}


def resamples(count: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each resample of a bootstrap, (N,), always the same ones."""
    rng = np.random.default_rng(_SEED)
    for _ in range(RESAMPLES):
        yield rng.integers(0, count, count)


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the bounds of the 95 % interval of the values of a bootstrap."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    return low, high
