"""``bothways train``: from a file of labeled texts to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.options import Config, Device, DeviceName, DirectionsName, Seed, SizeName, output_console


def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help="CSV, TSV, JSONL or Parquet, also compressed.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="The column of the texts.")],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="The column of the labels.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Where the bundle appears; nothing may be there.")],
    label_separator: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Any number of labels a text, with this between them, such as |.")
    ] = None,
    valid: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows to validate on; else a tenth of DATA is set aside.")
    ] = None,
    unlabeled: Annotated[str | None, typer.Option(metavar="FILE", help="More texts, for the language models.")] = None,
    pretrained: Annotated[
        str, typer.Option(metavar="PACK", help="The pack to start from: en-small (English), a path, or none.")
    ] = "en-small",
    size: Annotated[SizeName | None, typer.Option(help="How large the models are, with --pretrained none.")] = None,
    directions: Annotated[DirectionsName, typer.Option(help="Which models to train.")] = DirectionsName.BOTH,
    seed: Seed = 0,
    config: Config = None,
    device: Device = DeviceName.CPU,
) -> None:
    """Train a classifier in both directions and publish it as a bundle.

    Example: bothways train reviews.csv --text review --label sentiment --out reviews.bundle
    """
    model = bothways.train(
        data,
        text=text,
        label=label,
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
    )
    table = Table(title=f"{out}: on the validation rows", title_justify="left")
    table.add_column("reads")
    for column in ("accuracy", "loss", *(["macro-F1"] if model.is_multi_label else [])):
        table.add_column(column, justify="right")
    for name, metrics in model.manifest.training.validation.items():
        macro_f1 = [f"{metrics['macro_f1']:.3f}"] if "macro_f1" in metrics else []
        table.add_row(name, f"{metrics['accuracy']:.1%}", f"{metrics['loss']:.3f}", *macro_f1)
    console = output_console()
    console.print(table)
    console.print(
        f"Next: bothways evaluate {out} FILE · bothways predict {out} FILE --out FILE · bothways verify {out}"
    )
