"""``bothways early-exit``: calibrate when one direction is enough."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import bothways
from bothways.cli.options import (
    BundlePath,
    DelimiterOption,
    DropInvalid,
    EncodingOption,
    FormatOption,
    HeaderOption,
    QuotesOption,
    TrainedLabelColumn,
    TrainedTextColumns,
    output_console,
)


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
    header: HeaderOption = True,
) -> None:
    """Calibrate early exit on labeled rows.

    Early exit skips the second direction when the first is confident. The calibrated bundle is written to a new
    directory. Early exit stays off by default: turn it on with `predict --early-exit`, `serve --early-exit`, or
    load(early_exit=True) in Python.

    Example: bothways early-exit reviews.bundle held_out.csv --out fast.bundle
    """
    with Console(file=sys.stderr).status("reading the rows in both directions"):  # shown on terminals only
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
            header=header,
        )
    table = Table(title=f"{out}: {found.first} first, on {found.rows:,} rows", title_justify="left")
    for title in ("confidence above", "read in both directions", "accuracy", ""):
        table.add_column(title, justify="right" if title else "left")
    rows = [(p.threshold, p.read_by_both, p.accuracy, "") for p in found.curve if p.threshold != found.threshold]
    rows.append((found.threshold, found.read_by_both, found.accuracy, "<- chosen"))
    for threshold, read_by_both, accuracy, remark in sorted(rows):
        table.add_row(f"{threshold:.4f}", f"{read_by_both:.1%}", f"{accuracy:.2%}", remark)
    console = output_console()
    console.print(table)
    console.print(f"Accuracy with both directions for every text: {found.accuracy_of_ensemble:.2%}")
    console.print(f"Next: bothways predict {out} FILE --early-exit --out FILE")
