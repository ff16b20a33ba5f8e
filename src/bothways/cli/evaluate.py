"""``bothways evaluate``: how good a bundle is on labeled rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

import bothways
from bothways.cli.options import (
    BundlePath,
    TrainedLabelColumn,
    TrainedTextColumn,
    choose_column,
    label_separator,
    output_console,
)
from bothways.data.labeled import label_numbers, read_labeled, read_multi_labeled
from bothways.tasks.metrics import (
    Confusion,
    Decisions,
    LabelCounts,
    Probabilities,
    calibration_error,
    class_counts,
    confusion,
    label_counts,
    label_measures,
    log_loss,
)


def evaluate(
    bundle: BundlePath,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled rows: CSV, TSV, JSONL or Parquet, also compressed.")
    ],
    text: TrainedTextColumn = None,
    label: TrainedLabelColumn = None,
) -> None:
    """Measure a bundle on labeled rows: each direction, the ensemble, and every class.

    Of a multi-label bundle each label has its threshold, also where a direction is measured alone. ECE is the expected
    calibration error: how far probabilities are from how often they come true.

    Example: bothways evaluate reviews.bundle test.csv
    """
    model = bothways.load(bundle)
    record = model.manifest.training
    columns = choose_column(text, record.text_column, "--text"), choose_column(label, record.label_column, "--label")
    if model.is_multi_label:
        _evaluate_multi_label(model, data, *columns)
    else:
        _evaluate_single_label(model, data, *columns)


def _evaluate_single_label(model: bothways.Classifier, data: str, text: str, label: str) -> None:
    rows = read_labeled(data, text, label)
    number = label_numbers(model.labels, rows.labels, data)
    true = np.array([number[name] for name in rows.labels])
    probabilities = model.predict_proba_by_direction(rows.texts)
    counts = confusion(true, probabilities["ensemble"].argmax(axis=1), len(model.labels))
    _print(data, len(rows), _overview(probabilities, true), _classes(model.labels, counts))


def _evaluate_multi_label(model: bothways.Classifier, data: str, text: str, label: str) -> None:
    rows = read_multi_labeled(data, text, label, label_separator(model.manifest))
    number = label_numbers(model.labels, (name for names in rows.labels for name in names), data)
    true = np.zeros((len(rows), len(model.labels)), dtype=np.bool_)
    for row, names in zip(true, rows.labels, strict=True):
        row[[number[name] for name in names]] = True
    probabilities = model.predict_proba_by_direction(rows.texts)
    chosen = {name: values >= np.array(model.manifest.thresholds) for name, values in probabilities.items()}
    counts = label_counts(true, chosen["ensemble"])
    _print(data, len(rows), _multi_label_overview(probabilities, chosen, true), _each_label(model.labels, counts))


def _print(data: str, rows: int, *tables: Table) -> None:
    console = output_console()
    console.print(f"{rows} rows of {data}")
    for table in tables:
        console.print(table)


def _table_of(first: str, *others: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _overview(probabilities: dict[str, Probabilities], true: NDArray[np.int64]) -> Table:
    table = _table_of("reads", "accuracy", "error", "macro F1", "log loss", "ECE")
    for name, values in probabilities.items():
        predicted = values.argmax(axis=1)
        accuracy = float((predicted == true).mean())
        macro_f1 = class_counts(confusion(true, predicted, values.shape[1])).macro_f1
        loss = log_loss(values, true)
        error = calibration_error(values.max(axis=1), predicted == true)
        metrics = (f"{accuracy:.2%}", f"{1 - accuracy:.2%}", f"{macro_f1:.4f}", f"{loss:.4f}", f"{error:.4f}")
        table.add_row(name, *metrics)
    return table


def _multi_label_overview(
    probabilities: dict[str, Probabilities], chosen: dict[str, Decisions], true: Decisions
) -> Table:
    table = _table_of("reads", "macro F1", "micro F1", "subset accuracy", "ECE")
    for name, values in probabilities.items():
        counts = label_counts(true, chosen[name])
        right = float((chosen[name] == true).all(axis=1).mean())
        metrics = (f"{counts.macro_f1:.4f}", f"{counts.micro_f1:.4f}", f"{right:.2%}")
        table.add_row(name, *metrics, f"{calibration_error(values, true):.4f}")
    return table


def _classes(labels: tuple[str, ...], counts: Confusion) -> Table:
    table = _table_of("label", *_LABEL_COLUMNS, "most often taken for", title="ensemble, class by class")
    for position, cells in enumerate(_label_cells(class_counts(counts))):
        wrong = counts[position].copy()
        wrong[position] = 0
        taken = f"{labels[int(wrong.argmax())]} ({wrong.max()})" if wrong.max() else ""
        table.add_row(labels[position], *cells, taken)
    return table


def _each_label(labels: tuple[str, ...], counts: LabelCounts) -> Table:
    table = _table_of("label", *_LABEL_COLUMNS, title="ensemble, label by label")
    for label, cells in zip(labels, _label_cells(counts), strict=True):
        table.add_row(label, *cells)
    return table


_LABEL_COLUMNS = ("precision", "recall", "F1", "rows")


def _label_cells(counts: LabelCounts) -> Iterable[tuple[str, str, str, str]]:
    for precision, recall, f1, true in label_measures(counts):
        yield f"{precision:.1%}", f"{recall:.1%}", f"{f1:.3f}", str(true)
