"""``bothways distill``: train a smaller model on the predictions of a larger one."""

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
from bothways.training.choices import Directions, Size


def distill(
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="Bundle whose predictions are learned.")],
    data: Annotated[
        str,
        typer.Argument(metavar="TEXTS", help="Texts without labels: CSV, JSON lines, Parquet, Excel and others."),
    ],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Bundle to create. Must not exist yet.")],
    text: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Text column. Defaults to that of the teacher.")
    ] = None,
    valid: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Labeled rows to validate on. Defaults to a tenth of TEXTS."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Label column of --valid. Defaults to that of the teacher.")
    ] = None,
    pretrained: Annotated[
        str, typer.Option(metavar="PACK", help="Pack to start from: en-small, a path, hf://USER/PACK, or none.")
    ] = "none",
    size: Annotated[Size | None, typer.Option(help="Size of a model trained from scratch. Defaults to tiny.")] = None,
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
    """Train a smaller model on a bundle's predictions.

    The teacher predicts the probabilities of TEXTS, and the new model learns them. Metrics are measured on a tenth of
    TEXTS with the labels of the teacher, or on the labeled rows of --valid.

    Example: bothways distill reviews.bundle more.csv --size tiny --out fast.bundle
    """
    model = bothways.distill(
        teacher,
        data,
        out=out,
        text=text,
        valid=valid,
        label=label,
        pretrained=pretrained,
        size=size,
        encoder=encoder,
        directions=directions,
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
    what = "agreement with the teacher" if valid is None else "metrics"
    print_trained(output_console(), out, model.manifest.training, what)
