"""``bothways pretrain``: train language models on a corpus and write them to a pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bothways
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
from bothways.errors import path_text
from bothways.training.choices import Directions, Size


def pretrain(
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...", help="Plain text (blank lines between texts), or tables; see docs/tables.md."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="PACK", help="Pack to create. Must not exist yet.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Text column, for all formats but plain text.")] = "text",
    about: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Description of the corpus and its license, for the pack's card.")
    ] = None,
    continue_from: Annotated[
        str | None,
        typer.Option(
            "--continue",
            metavar="PACK",
            help="Pack to continue training from. It fixes the model size. With another --encoder, its layers are new.",
        ),
    ] = None,
    size: Annotated[Size | None, typer.Option(help="Model size. Defaults to small.")] = None,
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
) -> None:
    """Train language models on a corpus.

    The pack contains one model per direction. Start a classifier from it with `bothways train --pretrained PACK`.

    Example: bothways pretrain articles.jsonl more.txt.gz --out articles.pack
    """
    bothways.pretrain(
        corpus,
        out=out,
        text=text,
        about=about,
        continue_from=continue_from,
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
    )
    output_console().print(
        f"Next: bothways train DATA --text COLUMN --label COLUMN --out BUNDLE --pretrained {path_text(out)}"
    )
