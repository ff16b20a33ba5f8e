"""``bothways audit``: find label errors, duplicates, leaks and unusual texts in labeled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways import strict_json
from bothways.cli.options import (
    DelimiterOption,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    QuotesOption,
    Seed,
    output_console,
)
from bothways.errors import shown
from bothways.files import open_for_writing, refuse_unusable
from bothways.tasks.task import TaskName
from bothways.text.fields import fields_of
from bothways.training.audit_page import TITLES, audit_csv, audit_html

_FINDINGS_SHOWN, _CONFUSIONS_SHOWN, _LONGEST_TEXT = 3, 5, 90


def audit(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Labeled rows: CSV, JSON lines, Parquet, Excel and others; see docs/tables.md."
        ),
    ],
    text: Annotated[list[str], typer.Option(metavar="COLUMN", help="Text column. Repeat it for several.")],
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Label column, or the target for regression.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Columns of 0 and 1, one per label, for multi-label.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar="FILE", help="Test rows, to find texts that are in both. No labels needed.")
    ] = None,
    task: Annotated[
        TaskName | None,
        typer.Option(
            help="What a label is. Defaults to multi-label with --label-separator or --labels, single-label otherwise."
        ),
    ] = None,
    label_separator: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Separator of the labels of a text, such as |, for multi-label."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="CSV file of all findings to create. Must not exist yet.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Page to create, for a browser. Must not exist yet.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    seed: Seed = 0,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Find label errors, duplicates and leaks in rows.

    Prints the number of findings of each kind and the most suspicious ones: label errors, texts with conflicting
    labels, texts that are also in the test rows, duplicates, near-duplicates, unusual texts and invalid rows. Then the
    classes that are confused most often. Label errors are rows for which a linear model that has not seen them finds
    another label more probable. The data is not changed. FILE.csv and FILE.html contain texts of the data.

    Example: bothways audit reviews.csv --text review --label sentiment --test test.csv --page audit.html
    """
    for file in (out, page):
        if file is not None:
            refuse_unusable(file)
    found = bothways.audit(
        data,
        [name.strip() for name in labels.split(",")] if labels is not None else None,
        text=text,
        label=label,
        test=test,
        task=task,
        label_separator=label_separator,
        seed=seed,
        format=table_format,
        delimiter=delimiter,
        quotes=quotes,
        encoding=encoding,
        header=not no_header,
    )
    for file, content in ((out, audit_csv), (page, audit_html)):
        if file is not None:
            with open_for_writing(str(file)) as stream:
                stream.write(content(found))
    console = output_console()
    if as_json:
        console.print(strict_json.dump(found.to_dict()))
        return
    console.print(f"{found.rows:,} rows of {found.data}")
    for note in found.notes:
        console.print(f"note: {note}")
    console.print(_findings(found))
    if found.confusions:
        console.print(_confusions(found))
    for file in (out, page):
        if file is not None:
            console.print(f"Written: {file}. It contains texts of the data.")


def _findings(found: bothways.Audit) -> Table:
    """Return the number of findings of each kind, with the first ones."""
    table = Table()
    for title in ("finding", "rows", "row", "label", "suggestion or reason", "text"):
        table.add_column(title, justify="right" if title.startswith("row") else "left")
    for kind, count in found.counts.items():
        name, number = TITLES[kind], f"{count:,}"
        if not count:
            table.add_row(name, number)
        for each in found.of_kind(kind)[:_FINDINGS_SHOWN]:
            other = "" if each.other_row is None else f"row {each.other_row}"
            why = "; ".join(filter(None, [each.suggestion, other, each.reason]))
            text = shown(" · ".join(fields_of(each.text)), _LONGEST_TEXT)
            table.add_row(name, number, f"{each.row}", each.label, why, text)
            name = number = ""
        table.add_section()
    return table


def _confusions(found: bothways.Audit) -> Table:
    """Return the pairs of classes that are confused most often."""
    table = Table(title="confused classes", title_justify="left")
    table.add_column("label")
    table.add_column("predicted")
    table.add_column("rows", justify="right")
    table.add_column("share of the label", justify="right")
    for each in found.confusions[:_CONFUSIONS_SHOWN]:
        table.add_row(each.label, each.predicted, f"{each.rows:,}", f"{each.share:.1%}")
    return table
