"""``bothways early-exit``: when one direction is enough."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import bothways
from bothways.cli.options import BundlePath, TrainedLabelColumn, TrainedTextColumn, output_console


def early_exit(
    bundle: BundlePath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labelled rows that the bundle was not trained on.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Where the new bundle appears; nothing may be there.")],
    text: TrainedTextColumn = None,
    label: TrainedLabelColumn = None,
    loss: Annotated[float, typer.Option(metavar="POINTS", help="Of accuracy, in points, that may be lost.")] = 0.1,
) -> None:
    """Choose on labeled rows when one direction is sure enough, so that the other one need not read the text.

    Writes the bundle with that choice to another place. It is used only where it is asked for: predict --early-exit, in
    Python load(cascade=True).

    Example: bothways early-exit reviews.bundle held_out.csv --out fast.bundle
    """
    with Console(file=sys.stderr).status("reading the rows in both directions"):  # nothing where it is no terminal
        found = bothways.fit_early_exit(bundle, data, out=out, text=text, label=label, largest_loss=loss / 100)
    table = Table(title=f"{out}: {found.first} first, on {found.rows} rows", title_justify="left")
    for column in ("sure above", "read in both directions", "accuracy", ""):
        table.add_column(column, justify="right" if column else "left")
    rows = [(p.threshold, p.read_by_both, p.accuracy, "") for p in found.curve if p.threshold != found.threshold]
    rows.append((found.threshold, found.read_by_both, found.accuracy, "<- chosen"))
    for threshold, read_by_both, accuracy, remark in sorted(rows):
        table.add_row(f"{threshold:.4f}", f"{read_by_both:.1%}", f"{accuracy:.2%}", remark)
    console = output_console()
    console.print(table)
    console.print(f"Both directions always: {found.accuracy_of_ensemble:.2%}")
    console.print(f"Next: bothways predict {out} FILE --early-exit --out FILE")
