"""``bothways update``: train a bundle further, with new rows and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.metrics import metrics_table
from bothways.cli.options import (
    BundlePath,
    Config,
    DelimiterOption,
    DeviceOption,
    EncodingOption,
    FormatOption,
    LogTo,
    NoHeaderOption,
    Plot,
    QuotesOption,
    Seed,
    output_console,
)
from bothways.errors import path_text
from bothways.tasks.metrics import UNDEFINED, metric_text, metric_texts
from bothways.training.update import Update

_MOST_LABELS = 20


def update(
    bundle: BundlePath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="New labeled rows. Their new labels become classes.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Bundle to create. Must not exist yet.")],
    old: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Labeled rows of the earlier training, so that they are not forgotten."),
    ] = None,
    unlabeled: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Texts without labels, which keep the predictions of the old bundle."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Label that the new model no longer has. Repeatable.")
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(metavar="POINTS", help="Largest loss of F1 of a label to publish, in percentage points."),
    ] = 5.0,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="COLUMN", help="Text column, repeatable. Defaults to that of the bundle."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Label column. Defaults to that of the bundle.")
    ] = None,
    seed: Seed = 0,
    config: Config = None,
    device: DeviceOption = "cpu",
    plot: Plot = None,
    log_to: LogTo = None,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Publish a model that is no better than a constant prediction.")
    ] = False,
) -> None:
    """Train a bundle further, with new rows or classes.

    Training starts from the weights of BUNDLE, which stays as it is. Metrics before and after are measured on a tenth
    of DATA and of the rows of --old. Nothing is published if a class loses more than --max-drop.

    Example: bothways update reviews.bundle new.csv --old reviews.csv --out new.bundle
    """
    found = bothways.update(
        bundle,
        data,
        out=out,
        old=old,
        unlabeled=unlabeled,
        remove=remove,
        max_drop=max_drop / 100,
        text=text,
        label=label,
        seed=seed,
        config=config,
        device=device,
        force=force,
        plot=plot,
        log_to=log_to,
        format=table_format,
        delimiter=delimiter,
        quotes=quotes,
        encoding=encoding,
        header=not no_header,
    )
    console = output_console()
    rows: dict[str, dict[str, str]] = {}
    for name, group in (("new", found.new), ("old", found.old)):
        if group is not None:
            shown = {
                moment: {key: metrics[key] for key in found.model.task.headline if key in metrics}
                for moment, metrics in (("before", group.before), ("after", group.after))
            }
            rows |= {f"{name} rows, {moment}": metric_texts(metrics) for moment, metrics in shown.items()}
    console.print(metrics_table("validation rows", rows, f"{path_text(out)}: before and after the update"))
    if found.labels:
        console.print(_labels_table(found))
    name = path_text(out)
    console.print(f"Next: bothways evaluate {name} FILE · bothways predict {name} FILE --out FILE")


def _labels_table(found: Update) -> Table:
    """Return a table of the labels that changed the most."""
    shown = sorted(found.labels, key=lambda each: (each.before or 0.0) - (each.after or 0.0), reverse=True)
    title = "F1 per class on all validation rows"
    if len(shown) > _MOST_LABELS:
        title = f"F1 of {_MOST_LABELS} of {len(shown):,} classes on all validation rows, largest loss first"
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for column in ("rows", "before", "after"):
        table.add_column(column, justify="right")
    table.add_column("")
    for each in shown[:_MOST_LABELS]:
        remark = "new" if each.label in found.added else "removed" if each.label in found.removed else ""
        texts = [UNDEFINED if value is None else metric_text("macro_f1", value) for value in (each.before, each.after)]
        table.add_row(str(each.label), f"{each.rows:,}", *texts, remark)
    return table
