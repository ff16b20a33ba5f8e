"""``bothways abstention``: calibrate from which texts a model abstains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.bundle.manifest import AbstentionPoint
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
from bothways.terminal import SafeConsole


def abstention(
    bundle: BundlePath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labeled rows that were not used in training.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Bundle to create. Must not exist yet.")],
    risk: Annotated[float, typer.Option(metavar="SHARE", help="Share of the answers that may be wrong.")] = 0.05,
    alpha: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the label sets that may lack the correct label.")
    ] = 0.05,
    text: TrainedTextColumns = None,
    label: TrainedLabelColumn = None,
    drop_invalid: DropInvalid = False,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Calibrate abstention on labeled rows.

    The model then abstains from texts that are out of domain or about which it is not confident, so that at most the
    stated share of its answers is wrong, with 98 % probability. Single-label models also get label sets. The calibrated
    bundle is written to a new directory. `predict --abstain` uses it, and a server reports it with every prediction.

    Example: bothways abstention reviews.bundle held_out.csv --risk 0.05 --out careful.bundle
    """
    with SafeConsole(file=sys.stderr).status("reading the rows"):  # shown on terminals only
        found = bothways.fit_abstention(
            bundle,
            data,
            risk,
            out=out,
            alpha=alpha,
            text=text,
            label=label,
            drop_invalid=drop_invalid,
            format=table_format,
            delimiter=delimiter,
            quotes=quotes,
            encoding=encoding,
            header=not no_header,
        )
    table = Table(title=f"{path_text(out)}: tested on {found.rows:,} rows", title_justify="left")
    for title in ("confidence from", "answered", "wrong answers", ""):
        table.add_column(title, justify="right" if title else "left")
    points: list[tuple[AbstentionPoint, str]]
    points = [(point, "") for point in found.curve if point.threshold != found.threshold]
    for point, remark in sorted([*points, (found, "<- chosen")], key=lambda pair: pair[0].threshold):
        table.add_row(f"{point.threshold:.4f}", f"{point.answered:.1%}", f"{point.measured_risk:.1%}", remark)
    console = output_console()
    console.print(table)
    console.print(
        f"Wrong answers: at most {found.risk:.1%} with 98 % probability, {found.risk_of_all:.1%} without abstention"
    )
    console.print(f"Out of domain: {found.domain.flagged:.1%} of these rows")
    if found.label_sets is not None:
        sets = found.label_sets
        console.print(
            f"Label sets: {1 - sets.alpha:.1%} have the correct label, {sets.mean_size:.2f} labels per set on average"
        )
    console.print(f"Next: bothways predict {path_text(out)} FILE --abstain --out FILE")
