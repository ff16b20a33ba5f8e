"""``bothways predict``: from a file of texts to the same file with labels and probabilities."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import bothways
from bothways.cli.options import (
    BundlePath,
    FormatName,
    PrecisionName,
    PrecisionOption,
    TrainedTextColumn,
    choose_column,
    label_separator,
)
from bothways.data.tables import Chunk, Table, open_table, open_writer
from bothways.errors import ConfigError
from bothways.files import STANDARD_STREAM
from bothways.text.validation import check_text

LABEL_COLUMN = "predicted_label"
PROBABILITY_COLUMN = "predicted_probability"
LABELS_COLUMN = "predicted_labels"
READ_COLUMN = "predicted_read"
CLASS_COLUMN_PREFIX = "probability_"


def predict(
    bundle: BundlePath,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="CSV, TSV, JSONL or Parquet, also compressed; - is standard input.")
    ],
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Same format as DATA; nothing may be there; - is standard output.")
    ],
    text: TrainedTextColumn = None,
    input_format: Annotated[
        FormatName | None, typer.Option("--format", help="Format of DATA if its name does not tell; else CSV for -.")
    ] = None,
    early_exit: Annotated[
        bool,
        typer.Option("--early-exit", help="Read in one direction only where that is enough (bothways early-exit)."),
    ] = False,
    precision: PrecisionOption = PrecisionName.FLOAT32,
) -> None:
    """Classify every row of a file, of any size: adds the label or labels and the probability of each.

    All columns and the order of the rows stay. Added: predicted_label, predicted_probability, probability_LABEL. Of a
    multi-label bundle: predicted_labels, with the separator that it was trained on (else |) between them, and
    probability_LABEL. With --early-exit also predicted_read: which directions read the text.

    Example: bothways predict reviews.bundle new.csv --out scored.csv
    """
    if out != STANDARD_STREAM and data == out:
        raise ConfigError(f"{out} is the input itself: choose another --out")
    model = bothways.load(bundle, early_exit=early_exit, precision=precision.value)
    told = [LABELS_COLUMN] if model.is_multi_label else [LABEL_COLUMN, PROBABILITY_COLUMN]
    told += [READ_COLUMN] if early_exit else []
    added = [*told, *(f"{CLASS_COLUMN_PREFIX}{label}" for label in model.labels)]
    with open_table(data, input_format) as table:
        column = choose_column(text, model.manifest.training.text_column, "--text")
        table.require_column(column, "--text")
        with open_writer(table, out, added) as writer, _progress() as progress:
            task = progress.add_task("predict", total=None, rows=0)
            rows = 0
            for chunk, columns in _predicted_chunks(model, table, column):
                writer.write(chunk, dict(zip(added, columns, strict=True)))
                rows += len(chunk)
                progress.update(task, rows=rows)
    if out != STANDARD_STREAM:
        sys.stderr.write(f"{rows} rows to {out}\n")


def _predicted_chunks(
    model: bothways.Classifier, table: Table, column: str
) -> Iterator[tuple[Chunk, list[list[object]]]]:
    """Return each chunk with its added columns; chunks are read ahead of their predictions to keep the slots full."""
    waiting: list[Chunk] = []

    def texts() -> Iterator[str]:
        for chunk in table.chunks():
            values = [
                check_text(value, f"{table.name}, {place}, column {column!r}")
                for value, place in zip(chunk.column(column), chunk.places, strict=True)
            ]
            waiting.append(chunk)
            yield from values

    separator = label_separator(model.manifest)
    rows: list[list[object]] = []
    for prediction in model.stream(texts()):
        joined = separator.join(prediction.chosen)
        told = [joined] if model.is_multi_label else [prediction.label, prediction.probability]
        told += [prediction.read] if model.early_exit else []
        rows.append([*told, *prediction.probabilities["ensemble"].tolist()])
        if len(rows) == len(waiting[0]):
            yield waiting.pop(0), [list(values) for values in zip(*rows, strict=True)]
            rows = []


def _progress() -> Progress:
    console = Console(file=sys.stderr)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]} rows"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
