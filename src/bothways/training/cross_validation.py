"""``bothways.cross_validate``: train on all rows but one fold, and predict that fold, for each fold in turn.

In: labeled rows, and options of a training. Out: metrics per fold, and a prediction for each row by a model that was
not trained on it. Each fold is an ordinary training, so that all of it continues after an interruption (guarantee 7).
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways import strict_json
from bothways.arguments import as_flag, as_integer, as_names, as_path, as_text, checked, optional
from bothways.bundle.parity import ENSEMBLE
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.labeled import LabeledSource, labeled_source, read_labeled
from bothways.data.tables import TableSource
from bothways.errors import ConfigError, DataError, path_text
from bothways.evaluation.scored_rows import scored_rows
from bothways.files import replace_file, writing_failed
from bothways.runtime.classifier import Classifier
from bothways.tasks.labels import LabelValue
from bothways.tasks.metrics import Scores
from bothways.tasks.registry import new_task
from bothways.tasks.task import LabeledTexts, Task, TaskName, selected
from bothways.terminal import SafeConsole
from bothways.text.fields import TextColumns, fields_of
from bothways.training.api import train
from bothways.training.launch import require_torch

PREDICTIONS_FILE = "predictions.csv"
_SETTINGS_FILE = "folds.json"
_FEWEST, _MOST = 2, 100


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """The metrics of a cross-validation, and its out-of-fold predictions.

    Attributes:
        folds: Metrics of the ensemble per fold. A metric that is undefined on a fold is missing.
        rows: Number of rows per fold.
        labels: All labels, in the order of the columns of ``scores``. Empty for regression.
        fold_of: The fold of each row, from 1, (N,).
        scores: The ensemble's probabilities of each row, or its values, by a model that was not trained on the row,
            (N, C). That of a label without rows outside the fold is 0.
        predictions: A CSV file with row, fold, label and prediction of each row, without its text.
    """

    folds: tuple[dict[str, float], ...]
    rows: tuple[int, ...]
    labels: tuple[LabelValue, ...]
    fold_of: NDArray[np.int64]
    scores: Scores
    predictions: Path

    @property
    def mean(self) -> dict[str, float]:
        """Mean over the folds of each metric that is defined on all of them."""
        return {name: statistics.mean(values) for name, values in self._by_metric().items()}

    @property
    def standard_deviation(self) -> dict[str, float]:
        """Standard deviation over the folds (n - 1) of each metric that is defined on all of them."""
        return {name: statistics.stdev(values) for name, values in self._by_metric().items()}

    def _by_metric(self) -> dict[str, list[float]]:
        names = [name for name in self.folds[0] if all(name in fold for fold in self.folds)]
        return {name: [fold[name] for fold in self.folds] for name in names}


@checked(
    folds=as_integer,
    out=as_path,
    text=optional(as_names),
    label=optional(as_names),
    task=optional(as_text),
    label_separator=optional(as_text),
    weight=optional(as_text),
    drop_invalid=as_flag,
    seed=as_integer,
    progress=as_flag,
    **DIALECT_CHECKS,
)
def cross_validate(
    data: TableSource | Sequence[object],
    labels: Sequence[object] | None = None,
    *,
    folds: int = 5,
    out: str | os.PathLike[str],
    text: TextColumns | None = None,
    label: str | None = None,
    task: TaskName | None = None,
    label_separator: str | None = None,
    weight: str | None = None,
    drop_invalid: bool = False,
    seed: int = 0,
    progress: bool = True,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
    **training: Any,
) -> CrossValidation:
    """Train a model per fold on the rows of the other folds, and return metrics and out-of-fold predictions.

    Folds have about the same share of each label, and rows with the same text are in the same fold. A tenth of the
    other rows calibrates each model, so that no model has seen the rows that it predicts. The same call continues where
    an interrupted one stopped.

    Args:
        data: Labeled rows, as for ``train``.
        labels: Labels of a list of texts, or the names of columns of 0 and 1, as for ``train``.
        folds: Number of folds and trainings, 2 to 100.
        out: Folder for the out-of-fold predictions and the metrics of each fold.
        text: Text column, or several, as for ``train``.
        label: Label column, as for ``train``.
        task: ``single-label``, ``multi-label`` or ``regression``, as for ``train``.
        label_separator: The string between the labels of a text, for multi-label.
        weight: Column of the weights of texts in the training loss.
        drop_invalid: Leave rows without a usable text, label or weight out.
        seed: Random seed of folds and trainings, 0..4294967295.
        progress: Show progress on standard error.
        format: Format of all files. Defaults to that of each suffix.
        delimiter: Character between the fields of a text table.
        quotes: ``none`` or ``double``, as for ``train``.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names.
        training: Further options of ``train``: ``unlabeled``, ``soft_labels``, ``teacher``, ``pretrained``, ``size``,
            ``encoder``, ``directions``, ``config``, ``device``, ``force``.

    Raises:
        ConfigError: An option is invalid, or ``out`` has folds of other rows or options.
        DataError: The rows cannot be used, or there are too few texts for the folds.
        DependencyMissing: The libraries for training are not installed.
        BothwaysError: See ``train``. Folds that are complete are kept.
    """
    if not _FEWEST <= folds <= _MOST:
        raise ConfigError(f"folds is {folds}, expected a number from {_FEWEST} to {_MOST}")
    if unknown := sorted(set(training) - _OPTIONS):
        raise ConfigError(f"unknown option {unknown[0]}; cross_validate takes {', '.join(sorted(_OPTIONS))}")
    require_torch()
    source = labeled_source(data, labels, text, label)
    unfitted = new_task(task, label_separator, source.label_columns)
    dialect = Dialect(format, delimiter, quotes, encoding, header)
    rows = read_labeled(
        source.table, source.text, source.label, unfitted, weight=weight, drop_invalid=drop_invalid, dialect=dialect
    )
    unfitted.check(rows)
    folder, fold_of = Path(out), _fold_of(rows, unfitted, folds, seed)
    options = {**training, "task": unfitted.name, "seed": seed, "progress": progress}
    _claim(folder, rows, {**options, "folds": folds, "text": list(source.text)})
    console = SafeConsole(file=sys.stderr) if progress else None
    found = [
        _trained(folder, number, rows, fold_of, source, unfitted, options, console) for number in range(1, folds + 1)
    ]
    return _joined(found, rows, fold_of, unfitted.fitted(rows), folder)


_OPTIONS = frozenset(
    {"unlabeled", "soft_labels", "teacher", "pretrained", "size", "encoder", "directions", "config", "device", "force"}
)


@dataclass(frozen=True)
class _Fold:
    """The result of a fold, as its file holds it.

    Attributes:
        metrics: Of the ensemble.
        cells: What prediction adds to each row of the fold, by column.
        scores: The ensemble's scores of each row, in the order of ``names``.
        names: The outputs of the fold's model, and the labels of the fold that it does not know.
    """

    metrics: dict[str, float]
    cells: list[dict[str, Any]]
    scores: list[list[float]]
    names: list[str]


def _fold_of(rows: LabeledTexts, task: Task, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each row, from 1, (N,): a share of each label is set aside for one fold after the other.

    Raises:
        DataError: There are too few texts.
    """
    found = np.zeros(len(rows), dtype=np.int64)
    for number in range(1, folds):
        left = np.flatnonzero(found == 0)
        rest = selected(rows, (found == 0).tolist())
        with contextlib.suppress(DataError):  # no text can be set aside
            held = set(task.split(rest, 1 / (folds - number + 1), seed).valid.texts)
            found[left[[text in held for text in rest.texts]]] = number
    found[found == 0] = folds
    if len(np.unique(found)) < folds:
        raise DataError(f"{rows.name}: too few texts for {folds} folds; add rows, or choose fewer folds")
    return found


def _claim(folder: Path, rows: LabeledTexts, options: Mapping[str, object]) -> None:
    """Create the folder, and record what its folds are made of.

    Raises:
        ConfigError: It has folds of something else, or is not a folder.
    """
    from bothways.training.pipeline import digest_of  # noqa: PLC0415  (needs torch)

    settings = {
        "rows": digest_of([*rows.texts]),
        "labels": digest_of([*map(str, rows.labels), *map(str, rows.weights or ())]),
        "options": {name: _stable(value) for name, value in options.items() if name != "progress"},
    }
    content = strict_json.dump(settings).encode()
    path = folder / _SETTINGS_FILE
    try:
        folder.mkdir(exist_ok=True)
        if not path.exists() and any(folder.iterdir()):
            raise ConfigError(f"{path_text(folder)} exists and was not made by a cross-validation: move it")
        if not path.exists() or path.read_bytes() != content:
            if any(folder.glob("fold-*.json")):
                raise ConfigError(
                    f"{path_text(folder)} has folds of other rows or options: remove it, or choose another"
                )
            replace_file(path, content)
    except OSError as error:
        raise writing_failed(folder, error, is_output=True) from None


def _stable(value: object) -> object:
    """Return what identifies an option, as JSON holds it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(name): _stable(each) for name, each in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__


def _trained(
    folder: Path,
    number: int,
    rows: LabeledTexts,
    fold_of: NDArray[np.int64],
    source: LabeledSource,
    task: Task,
    options: Mapping[str, Any],
    console: SafeConsole | None,
) -> _Fold:
    """Return the result of a fold, which may be that of an earlier call."""
    path = folder / f"fold-{number}.json"
    if path.exists():
        return _Fold(**strict_json.parse(path.read_bytes()))  # type: ignore[arg-type]
    folds = int(fold_of.max())
    if console is not None:
        console.print(f"fold {number} of {folds}: {int((fold_of == number).sum()):,} of {len(rows):,} rows")
    outside, inside = (selected(rows, (is_in).tolist()) for is_in in (fold_of != number, fold_of == number))
    bundle = folder / f"fold-{number}.bundle"
    if bundle.exists():  # published, but not scored
        shutil.rmtree(bundle)
    record = task.record()
    names = list(source.label_columns) or None
    model = train(
        _table(outside, source.text, task),
        names,
        text=list(source.text),
        label=_LABEL,
        label_separator=record.separator,
        weight=None if outside.weights is None else _WEIGHT,
        out=bundle,
        **options,
    )
    found = _scored(model, inside)
    replace_file(path, strict_json.dump(asdict(found)).encode())
    for made in (bundle, folder / f"fold-{number}.bundle.run"):
        shutil.rmtree(made, ignore_errors=True)
    return found


_LABEL, _WEIGHT = "label of the row", "weight of the row"
"""Columns of the tables in memory, unlike the text columns of any file."""


def _table(rows: LabeledTexts, columns: Sequence[str], task: Task) -> dict[str, list[Any]]:
    """Return rows as a table in memory, which ``train`` reads as it read their source."""
    fields = zip(*map(fields_of, rows.texts), strict=True)
    table: dict[str, list[Any]] = {name: list(cells) for name, cells in zip(columns, fields, strict=True)}
    table[_LABEL] = [task.cell(label) for label in rows.labels]
    if rows.weights is not None:
        table[_WEIGHT] = list(rows.weights)
    return table


def _scored(model: Classifier, rows: LabeledTexts) -> _Fold:
    scored, columns = scored_rows(model, rows), model.task.columns()
    scores = scored.scores[ENSEMBLE]
    cells = [dict(zip(columns, model.task.cells(row[: model.task.outputs]), strict=True)) for row in scores]
    metrics = scored.task.metrics(scores, scored.targets).summary
    return _Fold(dict(metrics), cells, scores.tolist(), list(scored.task.output_names))


def _written(cell: object) -> object:
    return "|".join(map(str, cell)) if isinstance(cell, list) else cell


def _joined(
    folds: Sequence[_Fold], rows: LabeledTexts, fold_of: NDArray[np.int64], task: Task, folder: Path
) -> CrossValidation:
    """Write the out-of-fold predictions of all rows, and return everything."""
    scores, columns = np.zeros((len(rows), task.outputs)), task.columns()
    lines: list[list[object]] = [[] for _ in range(len(rows))]
    for number, fold in enumerate(folds, start=1):
        places = np.flatnonzero(fold_of == number)
        for place, cells, row in zip(places.tolist(), fold.cells, fold.scores, strict=True):
            by_name = dict(zip(fold.names, row, strict=True))
            scores[place] = [by_name.get(name, 0.0) for name in task.output_names]
            lines[place] = [
                place + 1,
                number,
                _written(task.cell(rows.labels[place])),
                *(cells.get(column, 0.0) for column in columns),
            ]
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([["row", "fold", "label", *columns], *lines])
    replace_file(folder / PREDICTIONS_FILE, buffer.getvalue().encode())
    sizes = tuple(int((fold_of == number).sum()) for number in range(1, len(folds) + 1))
    return CrossValidation(
        tuple(fold.metrics for fold in folds), sizes, task.label_values, fold_of, scores, folder / PREDICTIONS_FILE
    )
