"""``bothways train``: train a model on a file of labeled texts and write it to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bothways
from bothways.cli.metrics import print_trained
from bothways.cli.options import (
    Config,
    DelimiterOption,
    DeviceOption,
    DropInvalid,
    EncoderOption,
    EncodingOption,
    FormatOption,
    LogTo,
    NoHeaderOption,
    Plot,
    QuotesOption,
    Seed,
    output_console,
)
from bothways.tasks.task import TaskName
from bothways.training.choices import Directions, Size


def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Labeled rows: CSV, JSON lines, Parquet, Excel and others; see docs/tables.md."
        ),
    ],
    text: Annotated[
        list[str], typer.Option(metavar="COLUMN", help="Text column. Repeat it for several, in the order to read them.")
    ],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Bundle to create. Must not exist yet.")],
    label: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Label column, or the target for regression.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Columns of 0 and 1, one per label, for multi-label. With --label: names of its multi-hot positions.",
        ),
    ] = None,
    task: Annotated[
        TaskName | None,
        typer.Option(
            help="What to predict. Defaults to multi-label with --label-separator or --labels, single-label otherwise."
        ),
    ] = None,
    label_separator: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Separator of the labels of a text, such as |, for multi-label."),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Weights of rows in the training loss. Defaults to equal weights."),
    ] = None,
    drop_invalid: DropInvalid = False,
    valid: Annotated[
        str | None, typer.Option(metavar="FILE", help="Validation rows. Defaults to a tenth of DATA.")
    ] = None,
    unlabeled: Annotated[
        str | None, typer.Option(metavar="FILE", help="More texts, used by the language models only.")
    ] = None,
    soft_labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="More texts with the probabilities of a teacher, one column per label as predict writes, or labels.",
        ),
    ] = None,
    pretrained: Annotated[
        str,
        typer.Option(
            metavar="PACK",
            help="Pack or classifier to start from: auto (en-small for English texts, otherwise none), en-small, "
            "a path, hf://USER/PACK, or none.",
        ),
    ] = "auto",
    size: Annotated[Size | None, typer.Option(help="Size of a model trained from scratch. Defaults to small.")] = None,
    encoder: EncoderOption = None,
    directions: Annotated[Directions, typer.Option(help="Reading directions to train.")] = "both",
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
    """Train a classifier or a regression model.

    The bundle contains one model per direction. It is verified in a fresh process before it is published. A run that
    was killed continues when the same command is run again. A model that is no better than the same prediction for
    every text is not published without --force.

    Invalid rows are reported all at once. With --drop-invalid they are left out and listed in BUNDLE.invalid.jsonl.

    Several text columns are joined with the field token: --text title --text body

    Example: bothways train reviews.csv --text review --label sentiment --out reviews.bundle
    """
    model = bothways.train(
        data,
        [name.strip() for name in labels.split(",")] if labels is not None else None,
        text=text,
        label=label,
        task=task,
        label_separator=label_separator,
        weight=weight,
        drop_invalid=drop_invalid,
        out=out,
        valid=valid,
        unlabeled=unlabeled,
        soft_labels=soft_labels,
        pretrained=pretrained,
        size=size,
        encoder=encoder,
        directions=directions,
        seed=seed,
        config=config,
        device=device,
        plot=plot,
        log_to=log_to,
        format=table_format,
        delimiter=delimiter,
        quotes=quotes,
        encoding=encoding,
        header=not no_header,
        force=force,
    )
    print_trained(output_console(), out, model.manifest.training)
