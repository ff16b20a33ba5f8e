"""Evaluate a model on labeled rows: metrics per direction, for the ensemble and per class, with confidence intervals.

Input: a model, and a file or table of labeled rows. Output: an ``Evaluation``, which contains plain Python data only.
The metrics are those of scikit-learn, computed by the model's task.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from bothways.bundle.parity import ENSEMBLE
from bothways.data.dialect import Dialect, Quotes, TableFormat
from bothways.data.labeled import read_labeled
from bothways.data.tables import TableSource
from bothways.errors import DependencyMissing
from bothways.evaluation.inputs import ModelSource, choose_column, load_model
from bothways.tasks.labels import LabelValue
from bothways.tasks.metrics import ClassMetrics, Scores
from bothways.tasks.task import Targets, Task, TaskName

if TYPE_CHECKING:
    import pandas

RESAMPLES = 1000
CONFIDENCE = 0.95
_SEED = 0


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
        confusion: Number of rows by true class (outer list) and predicted class (inner list) of the ensemble. None
            unless every text has exactly one label.
    """

    data: str
    rows: int
    task: TaskName
    labels: tuple[LabelValue, ...]
    digest: str
    summary: dict[str, dict[str, float]]
    intervals: dict[str, tuple[float, float]]
    classes: tuple[ClassMetrics, ...] = ()
    confusion: list[list[int]] | None = None

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
            **asdict(self),
            "labels": list(self.labels),
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "classes": [asdict(each) for each in self.classes],
        }

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas DataFrame: one row per class, or one row per direction for regression.

        Raises:
            DependencyMissing: pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415  (an optional library)
        except ImportError:
            raise DependencyMissing("to_frame needs pandas: pip install pandas. to_dict needs nothing") from None
        if self.classes:
            return pandas.DataFrame([asdict(each) for each in self.classes]).set_index("label")
        return pandas.DataFrame.from_dict(self.summary, orient="index")


def evaluate(
    model: ModelSource,
    data: TableSource,
    *,
    text: str | None = None,
    label: str | None = None,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> Evaluation:
    """Evaluate a model on labeled rows.

    Args:
        model: A loaded model, evaluated with its precision and early exit, or the directory of a bundle.
        data: Labeled rows: a CSV, TSV, JSONL or Parquet file, or a table in memory (a dict of lists, a DataFrame).
        text: Text column. Defaults to the one used in training.
        label: Label column, or the target for regression. Defaults to the one used in training.
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
        DataError: The rows cannot be read, or have labels that the model does not know.
    """
    classifier = load_model(model)
    record, task = classifier.manifest.training, classifier.task
    text_column = choose_column(text, record.text_column, "text")
    label_column = choose_column(label, record.label_column, "label")
    dialect = Dialect(format, delimiter, quotes, encoding, header)
    rows = read_labeled(data, text_column, label_column, task, dialect=dialect)
    targets = task.targets(rows)
    scores = classifier.scores_by_direction(rows.texts)
    read_all = {name: values for name, values in scores.items() if not np.isnan(values).any()}
    by_direction = {name: task.metrics(values, targets) for name, values in read_all.items()}
    ensemble = by_direction[ENSEMBLE]
    return Evaluation(
        data=rows.name,
        rows=len(rows),
        task=task.name,
        labels=task.label_values,
        digest=classifier.digest,
        summary={name: metrics.summary for name, metrics in by_direction.items()},
        intervals=confidence_intervals(task, scores[ENSEMBLE], targets),
        classes=ensemble.classes,
        confusion=None if ensemble.confusion is None else ensemble.confusion.tolist(),
    )


def confidence_intervals(task: Task, scores: Scores, targets: Targets) -> dict[str, tuple[float, float]]:
    """Return the 95 % confidence interval of each headline metric, by the percentile bootstrap over rows.

    Resamples on which a metric is undefined do not count for it.

    Args:
        task: Defines the metrics.
        scores: Scores of the rows, (N, C).
        targets: Targets of the rows.
    """
    rng = np.random.default_rng(_SEED)
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(scores), len(scores))
        for name, value in task.headline_metrics(scores[rows], targets[rows]).items():
            found[name].append(value)
    tail = (1 - CONFIDENCE) / 2
    bounds = {name: np.quantile(values, [tail, 1 - tail]).tolist() for name, values in found.items()}
    return {name: (low, high) for name, (low, high) in bounds.items()}
