"""``bothways import-fastai``: from models of fastai to a bundle or pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.direction import verdict_row
from bothways.cli.options import Language, output_console
from bothways.text.reading import Direction


def import_fastai(
    forward: Annotated[
        str,
        typer.Argument(
            metavar="FORWARD",
            help="export.pkl of fastai v1 or v2, saved weights (.pth), a folder, an archive, or wt103-fwd. "
            "A single model may read either way.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Where the bundle appears; nothing may be there.")],
    backward: Annotated[
        str | None, typer.Argument(metavar="BACKWARD", help="The same for the model that reads backward.")
    ] = None,
    direction: Annotated[
        Direction | None,
        typer.Option(help="Which way a single model reads, if neither its file nor its weights tell."),
    ] = None,
    vocabulary: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="The words (.pkl or .json) of a .pth; once, or once for each model."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="A label of a classifier's .pth; once for each, in their order."),
    ] = None,
    language: Language = None,
) -> None:
    """Turn one or two models of fastai into a bundle that gives fastai's predictions without fastai, spaCy or pickle.

    Classifiers become a bundle, language models and encoders a pack for `bothways train --pretrained`. Nothing in the
    files is executed. Which way each model reads is checked against its weights.

    Example: bothways import-fastai fwd/export.pkl bwd/export.pkl --out reviews.bundle
    """
    result = bothways.import_fastai(
        forward,
        backward,
        out=out,
        direction=direction,
        vocabulary=vocabulary or (),
        labels=label or (),
        language=language,
    )
    table = Table(title=f"{out}: a {result.kind}", title_justify="left")
    for name in ("file", "made by", "reads", "known by", "its weights", "margin"):
        table.add_column(name)
    for model in result.models:
        read, margin = verdict_row(model.verdict)
        table.add_row(model.name, model.library, model.direction, model.known_by, read, margin)
    console = output_console()
    console.print(table)
    for model in result.models:
        for remark in model.remarks:
            console.print(f"Note: {remark}")
    if result.kind == "classifier":
        console.print(f"Next: bothways verify {out} · bothways predict {out} FILE --out FILE")
    else:
        console.print(f"Next: bothways train DATA --text COLUMN --label COLUMN --out BUNDLE --pretrained {out}")
