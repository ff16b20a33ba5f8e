"""``bothways early-exit``: calibrate when one direction is enough."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.bundle.manifest import EarlyExit, EarlyExitPoint
from bothways.cli.options import (
    BundlePath,
    DelimiterOption,
    DropInvalid,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    QuotesOption,
    TrainedLabelColumn,
    TrainedTextColumns,
    output_console,
)
from bothways.errors import path_text
from bothways.tasks.metrics import metric_text
from bothways.terminal import SafeConsole


def early_exit(
    bundle: BundlePath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labeled rows that were not used in training.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Bundle to create. Must not exist yet.")],
    text: TrainedTextColumns = None,
    label: TrainedLabelColumn = None,
    loss: Annotated[float, typer.Option(metavar="POINTS", help="Accuracy loss to accept, in percentage points.")] = 0.1,
    drop_invalid: DropInvalid = False,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Calibrate early exit on labeled rows.

    Early exit skips the second direction when the first is confident, and both when a linear model of the bundle is.
    The calibrated bundle is written to a new directory. Early exit stays off by default: turn it on with
    `predict --early-exit`, `serve --early-exit`, or load(early_exit=True) in Python.

    Example: bothways early-exit reviews.bundle held_out.csv --out fast.bundle
    """
    with SafeConsole(file=sys.stderr).status("reading the rows in both directions"):  # shown on terminals only
        found = bothways.fit_early_exit(
            bundle,
            data,
            out=out,
            text=text,
            label=label,
            largest_loss=loss / 100,
            drop_invalid=drop_invalid,
            format=table_format,
            delimiter=delimiter,
            quotes=quotes,
            encoding=encoding,
            header=not no_header,
        )
    order = f"{found.first} first" if found.linear is None else f"linear model first, then {found.first}"
    table = Table(title=f"{path_text(out)}: {order}, on {found.rows:,} rows", title_justify="left")
    for title in ("confidence above", "read in both directions", "accuracy", "macro F1", ""):
        table.add_column(title, justify="right" if title else "left")
    points: list[tuple[EarlyExit | EarlyExitPoint, str]]
    points = [(point, "") for point in found.curve if point.threshold != found.threshold]
    for point, remark in sorted([*points, (found, "<- chosen")], key=lambda pair: pair[0].threshold):
        macro_f1 = metric_text("macro_f1", point.macro_f1)
        accuracy = metric_text("accuracy", point.accuracy)
        table.add_row(f"{point.threshold:.4f}", f"{point.read_by_both:.1%}", accuracy, macro_f1, remark)
    console = output_console()
    console.print(table)
    if found.linear is not None:
        console.print(
            f"Read in no direction: {found.linear.read_by_linear:.1%}, where the linear model has a confidence above "
            f"{found.linear.threshold:.4f}"
        )
    console.print(
        "With both directions for every text: "
        f"accuracy {metric_text('accuracy', found.accuracy_of_ensemble)}, "
        f"macro F1 {metric_text('macro_f1', found.macro_f1_of_ensemble)}"
    )
    console.print(f"Next: bothways predict {path_text(out)} FILE --early-exit --out FILE")
