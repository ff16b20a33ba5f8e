"""``bothways label-next``: choose unlabeled texts to label."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways import strict_json
from bothways.cli.options import (
    BundlePath,
    DelimiterOption,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    QuotesOption,
    Seed,
    TrainedTextColumns,
    output_console,
)
from bothways.errors import shown
from bothways.files import open_for_writing, refuse_unusable
from bothways.text.fields import fields_of

_SHOWN, _LONGEST_TEXT = 10, 100
_COLUMNS = ("row", "uncertainty", "predicted_label", "text")


def label_next(
    bundle: BundlePath,
    data: Annotated[
        str,
        typer.Argument(metavar="TEXTS", help="Texts without labels: CSV, JSON lines, Parquet, Excel and others."),
    ],
    number: Annotated[int, typer.Option(min=1, help="Number of texts to choose.")] = 100,
    text: TrainedTextColumns = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="CSV file to create. Must not exist yet.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    seed: Seed = 0,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Choose unlabeled texts to label next.

    Chooses texts that the bundle is unsure of and that differ from each other, in the order in which to label them. The
    same text is never chosen twice. FILE.csv has the columns row, uncertainty, predicted_label and text.

    Example: bothways label-next reviews.bundle unlabeled.csv --number 100 --out next.csv
    """
    if out is not None:
        refuse_unusable(out)
    found = bothways.label_next(
        bundle,
        data,
        number=number,
        text=text,
        seed=seed,
        format=table_format,
        delimiter=delimiter,
        quotes=quotes,
        encoding=encoding,
        header=not no_header,
    )
    if out is not None:
        with open_for_writing(str(out)) as stream:
            stream.write(_csv(found))
    console = output_console()
    if as_json:
        console.print(strict_json.dump([each.to_dict() for each in found]))
        return
    table = Table(title=f"{len(found):,} texts to label", title_justify="left")
    for title in ("row", "uncertainty", "predicted", "text"):
        table.add_column(title, justify="right" if title in ("row", "uncertainty") else "left")
    for each in found[:_SHOWN]:
        shown_text = shown(" · ".join(fields_of(each.text)), _LONGEST_TEXT)
        table.add_row(f"{each.row}", f"{each.uncertainty:.2f}", ", ".join(each.predicted), shown_text)
    console.print(table)
    if out is not None:
        console.print(f"Written: {out}")


def _csv(found: list[bothways.NextText]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for each in found:
        text = "\n".join(fields_of(each.text))
        writer.writerow([each.row, f"{each.uncertainty:.4f}", "|".join(each.predicted), text])
    return file.getvalue().encode()
