"""``bothways evaluate``: how good a bundle is on labelled rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

import bothways
from bothways.cli.options import BundlePath, choose_column, output_console
from bothways.data.labelled import read_labelled
from bothways.errors import DataError

Confusion = NDArray[np.int64]
"""Rows counted by true class (first axis) and predicted class (second axis), (C, C)."""


def evaluate(
    bundle: BundlePath,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled rows: CSV, TSV, JSONL or Parquet, also compressed.")
    ],
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the texts; else the one trained on.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the labels; else the one trained on.")
    ] = None,
) -> None:
    """Measure a bundle on labelled rows: each direction, the ensemble, and every class.

    Example: bothways evaluate reviews.bundle test.csv
    """
    model = bothways.load(bundle)
    record = model.manifest.training
    rows = read_labelled(
        data, choose_column(text, record.text_column, "--text"), choose_column(label, record.label_column, "--label")
    )
    number = {name: position for position, name in enumerate(model.labels)}
    unknown = sorted(set(rows.labels) - number.keys())
    if unknown:
        raise DataError(f"{data}: the label {unknown[0]!r} is none of the bundle's: {', '.join(model.labels)}")
    true = np.array([number[name] for name in rows.labels])
    probabilities = model.predict_proba_by_direction(rows.texts)
    console = output_console()
    console.print(f"{len(rows)} rows of {data}")
    console.print(_overview(probabilities, true))
    console.print(_classes(model.labels, confusion(true, probabilities["ensemble"].argmax(axis=1), len(model.labels))))


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Confusion:
    """Count rows by true and predicted class."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (true, predicted), 1)
    return counts


def class_measures(counts: Confusion) -> Iterator[tuple[float, float, float, int]]:
    """Give precision, recall, F1 (0 where nothing is predicted or true) and true rows of each class."""
    for position in range(len(counts)):
        hits = int(counts[position, position])
        predicted, true = int(counts[:, position].sum()), int(counts[position].sum())
        yield hits / max(1, predicted), hits / max(1, true), 2 * hits / max(1, predicted + true), true


def _overview(probabilities: dict[str, NDArray[np.float64]], true: NDArray[np.int64]) -> Table:
    table = Table()
    table.add_column("reads")
    for name in ("accuracy", "error", "macro F1", "log loss"):
        table.add_column(name, justify="right")
    for name, values in probabilities.items():
        accuracy = float((values.argmax(axis=1) == true).mean())
        scores = [f1 for _, _, f1, _ in class_measures(confusion(true, values.argmax(axis=1), values.shape[1]))]
        loss = float(-np.log(np.maximum(values[np.arange(len(true)), true], 1e-12)).mean())
        table.add_row(name, f"{accuracy:.2%}", f"{1 - accuracy:.2%}", f"{np.mean(scores):.4f}", f"{loss:.4f}")
    return table


def _classes(labels: tuple[str, ...], counts: Confusion) -> Table:
    table = Table(title="ensemble, class by class", title_justify="left")
    table.add_column("label")
    for name in ("precision", "recall", "F1", "rows", "most often taken for"):
        table.add_column(name, justify="right")
    for position, (precision, recall, f1, true) in enumerate(class_measures(counts)):
        wrong = counts[position].copy()
        wrong[position] = 0
        taken = f"{labels[int(wrong.argmax())]} ({wrong.max()})" if wrong.max() else ""
        table.add_row(labels[position], f"{precision:.1%}", f"{recall:.1%}", f"{f1:.3f}", str(true), taken)
    return table
