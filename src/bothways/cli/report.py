"""``bothways report``: an HTML page about how good a bundle is on labeled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bothways
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
from bothways.evaluation.evaluate import UnknownLabels


def report(
    bundle: BundlePath,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Labeled rows: CSV, JSON lines, Parquet, Excel and others; see docs/tables.md."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="HTML file to create. Must not exist yet.")],
    against: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Another bundle to compare with, row by row.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Training rows, for an estimated learning curve (needs bothways[train])."),
    ] = None,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="Show the texts of listed rows. Defaults to row numbers only.")
    ] = False,
    text: TrainedTextColumns = None,
    label: TrainedLabelColumn = None,
    unknown_labels: Annotated[
        UnknownLabels,
        typer.Option(help="Labels that the model does not know: refuse them, or count their rows as errors."),
    ] = "error",
    drop_invalid: DropInvalid = False,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Write an evaluation report as one HTML page.

    The page shows the metrics with 95 % confidence intervals, confusions, calibration, precision and recall, the error
    by confidence and by length, how the directions compare, and the most confident mistakes. It loads nothing and runs
    no script. Its metrics are those of bothways evaluate.

    Example: bothways report reviews.bundle test.csv --out report.html
    """
    found = bothways.report(
        bundle,
        data,
        out=out,
        against=against,
        train=train,
        with_texts=with_texts,
        text=text,
        label=label,
        unknown_labels=unknown_labels,
        drop_invalid=drop_invalid,
        format=table_format,
        delimiter=delimiter,
        quotes=quotes,
        encoding=encoding,
        header=not no_header,
    )
    console = output_console()
    console.print(str(found))
    if found.against is not None:
        rows = found.against.rows
        console.print(
            f"Against {found.against.name}: {rows.better:,} rows improved, {rows.worse:,} worsened, "
            f"{rows.equal:,} unchanged, p-value {rows.p_value:.4g}"
        )
    console.print(f"Report: {path_text(out)}")
