"""``bothways lr-find``: the loss of each stage by learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.options import (
    Config,
    DelimiterOption,
    DeviceOption,
    DropInvalid,
    EncoderOption,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    QuotesOption,
    Seed,
    output_console,
)
from bothways.errors import path_text
from bothways.tasks.metrics import UNDEFINED
from bothways.tasks.task import TaskName
from bothways.training.choices import Size


def lr_find(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labeled rows, as for train.")],
    text: Annotated[list[str], typer.Option(metavar="COLUMN", help="Text column, repeatable.")],
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Label column, or the target for regression.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Columns of 0 and 1, one per label, for multi-label.")
    ] = None,
    task: Annotated[TaskName | None, typer.Option(help="What to predict, as for train.")] = None,
    label_separator: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Separator of the labels of a text, for multi-label.")
    ] = None,
    drop_invalid: DropInvalid = False,
    unlabeled: Annotated[
        str | None, typer.Option(metavar="FILE", help="More texts, used by the language model only.")
    ] = None,
    pretrained: Annotated[str, typer.Option(metavar="PACK", help="Pack to start from, as for train.")] = "auto",
    size: Annotated[Size | None, typer.Option(help="Size of a model trained from scratch. Defaults to small.")] = None,
    encoder: EncoderOption = None,
    seed: Seed = 0,
    config: Config = None,
    device: DeviceOption = "cpu",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the curves, as PNG, SVG or PDF (needs bothways[plot])."),
    ] = None,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Plot the loss by learning rate.

    About 100 steps of each stage are taken with a rising learning rate, in one direction, until the loss diverges.
    Nothing is kept. The table shows where the loss falls fastest, and what train would use. Other learning rates are
    set in a --config file.

    Example: bothways lr-find reviews.csv --text review --label sentiment --plot rates.png
    """
    curves = bothways.lr_find(
        data,
        [name.strip() for name in labels.split(",")] if labels is not None else None,
        text=text,
        label=label,
        task=task,
        label_separator=label_separator,
        drop_invalid=drop_invalid,
        unlabeled=unlabeled,
        pretrained=pretrained,
        size=size,
        encoder=encoder,
        seed=seed,
        config=config,
        device=device,
        plot=plot,
        format=table_format,
        delimiter=delimiter,
        quotes=quotes,
        encoding=encoding,
        header=not no_header,
    )
    table = Table(title="Learning rates", title_justify="left")
    for column in ("stage", "steps", "loss falls fastest at", "lowest loss at", "train uses"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for curve in curves:
        steps = len(curve.learning_rates)
        lowest = f"{curve.learning_rates[curve.smoothed.argmin()]:.2g}" if steps else UNDEFINED
        fastest = UNDEFINED if curve.steepest is None else f"{curve.steepest:.2g}"
        table.add_row(curve.stage, str(steps), fastest, lowest, f"{curve.current:.2g}")
    console = output_console()
    console.print(table)
    if plot is not None:
        console.print(f"Picture: {path_text(plot)}")
