"""``bothways pretrain``: from a corpus to a pack of language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bothways
from bothways.cli.options import Config, Device, DeviceName, DirectionsName, Seed, SizeName, output_console


def pretrain(
    corpus: Annotated[
        list[str],
        typer.Argument(metavar="CORPUS...", help="Plain text (blank lines between texts), JSONL, Parquet, CSV or TSV."),
    ],
    out: Annotated[Path, typer.Option(metavar="PACK", help="Where the pack appears; nothing may be there.")],
    text: Annotated[
        str, typer.Option(metavar="COLUMN", help="The column of the texts, for all but plain text.")
    ] = "text",
    about: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the corpus is and its license, for the pack's card.")
    ] = None,
    continue_from: Annotated[
        str | None, typer.Option("--continue", metavar="PACK", help="A pack to go on from; it decides the sizes.")
    ] = None,
    size: Annotated[SizeName | None, typer.Option(help="How large the models are: small, if not said.")] = None,
    directions: Annotated[DirectionsName, typer.Option(help="Which models to train.")] = DirectionsName.BOTH,
    seed: Seed = 0,
    config: Config = None,
    device: Device = DeviceName.CPU,
) -> None:
    """Train language models on a corpus and publish them as one pack, for `bothways train --pretrained`.

    Example: bothways pretrain articles.jsonl more.txt.gz --out articles.pack
    """
    bothways.pretrain(
        corpus,
        out=out,
        text=text,
        about=about,
        continue_from=continue_from,
        size=size,
        directions=directions,
        seed=seed,
        config=config,
        device=device,
    )
    output_console().print(f"Next: bothways train DATA --text COLUMN --label COLUMN --out BUNDLE --pretrained {out}")
