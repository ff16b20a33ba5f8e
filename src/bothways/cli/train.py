"""``bothways train``: train a model on a file of labeled texts and write it to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bothways
from bothways.cli.metrics import metric_texts, metrics_table
from bothways.cli.options import (
    Config,
    DelimiterOption,
    DeviceOption,
    EncodingOption,
    FormatOption,
    HeaderOption,
    QuotesOption,
    Seed,
    output_console,
)
from bothways.tasks.task import TaskName
from bothways.training.choices import Directions, Size


def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labeled rows: CSV, TSV, JSONL or Parquet.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Text column.")],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="Label column, or the target for regression.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Bundle to create. Must not exist yet.")],
    task: Annotated[
        TaskName | None,
        typer.Option(
            help="What to predict. Defaults to multi-label with --label-separator, and to single-label otherwise."
        ),
    ] = None,
    label_separator: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Separator of the labels of a text, such as |, for multi-label."),
    ] = None,
    valid: Annotated[
        str | None, typer.Option(metavar="FILE", help="Validation rows. Defaults to a tenth of DATA.")
    ] = None,
    unlabeled: Annotated[
        str | None, typer.Option(metavar="FILE", help="More texts, used by the language models only.")
    ] = None,
    pretrained: Annotated[
        str, typer.Option(metavar="PACK", help="Pack to start from: en-small (English), a path, or none.")
    ] = "en-small",
    size: Annotated[
        Size | None, typer.Option(help="Model size, with --pretrained none only. Defaults to small.")
    ] = None,
    directions: Annotated[Directions, typer.Option(help="Reading directions to train.")] = "both",
    seed: Seed = 0,
    config: Config = None,
    device: DeviceOption = "cpu",
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    header: HeaderOption = True,
) -> None:
    """Train a classifier or a regression model.

    The bundle contains one model per direction. It is verified in a fresh process before it is published. A run that
    was killed continues when the same command is run again.

    Example: bothways train reviews.csv --text review --label sentiment --out reviews.bundle
    """
    model = bothways.train(
        data,
        text=text,
        label=label,
        task=task,
        label_separator=label_separator,
        out=out,
        valid=valid,
        unlabeled=unlabeled,
        pretrained=pretrained,
        size=size,
        directions=directions,
        seed=seed,
        config=config,
        device=device,
        format=table_format,
        delimiter=delimiter,
        quotes=quotes,
        encoding=encoding,
        header=header,
    )
    console = output_console()
    validation = {name: metric_texts(metrics) for name, metrics in model.manifest.training.validation.items()}
    console.print(metrics_table("direction", validation, f"{out}: metrics on the validation rows"))
    console.print(
        f"Next: bothways evaluate {out} FILE · bothways predict {out} FILE --out FILE · bothways verify {out}"
    )
