"""``bothways import-fastai``: convert fastai models to a bundle or pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

import bothways
from bothways.cli.direction import verdict_row
from bothways.cli.options import FastaiTokenizer, SentencePiece, output_console
from bothways.errors import path_text
from bothways.tasks.task import TaskName
from bothways.text.reading import Direction


def import_fastai(
    forward: Annotated[
        str,
        typer.Argument(
            metavar="FORWARD",
            help="Model that reads forward: export.pkl of fastai v1 or v2, saved weights (.pth), a folder, an archive, "
            "or wt103-fwd. A single model may read in either direction.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Bundle to create. Must not exist yet.")],
    backward: Annotated[
        str | None, typer.Argument(metavar="BACKWARD", help="Model that reads backward, in the same forms.")
    ] = None,
    direction: Annotated[
        Direction | None,
        typer.Option(help="Direction of a single model, if neither its file nor its weights show it."),
    ] = None,
    vocabulary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Vocabulary (.pkl or .json) of a .pth file. Once for all models, or once per model."
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL",
            help="Label of a classifier's .pth file, or name of a target. Repeat for each class or target, in order.",
        ),
    ] = None,
    tokenizer: FastaiTokenizer = None,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE", help="spaCy's code of the language, such as en. Needed for a .pth file that spaCy split."
        ),
    ] = None,
    probabilities: Annotated[
        Literal["softmax", "sigmoid"] | None,
        typer.Option(
            help="Import with a softmax, or a sigmoid for multi-label, if learn.predict returns raw scores, because of "
            "the learner's loss."
        ),
    ] = None,
    task: Annotated[TaskName | None, typer.Option(help="What a classifier's .pth file predicts.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Probability from which on a label is assigned, for multi-label. Defaults to that of learn.predict.",
        ),
    ] = None,
    y_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH", help="y_range of a regression's .pth file of fastai 2, or none if it was made without."
        ),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="fastai's cleaning rules of a .pth file, separated by commas. Defaults to all rules of its version. "
            "For an export that first calls functions of yours: the rules after those, which you then call yourself.",
        ),
    ] = None,
    sentencepiece: SentencePiece = None,
) -> None:
    """Convert fastai models to a bundle or pack.

    The bundle makes fastai's predictions without fastai, spaCy or pickle. Classifiers become a bundle. Language models
    and encoders become a pack for `bothways train --pretrained`. Nothing in the files is executed. The direction of
    each model is checked against its weights.

    Example: bothways import-fastai fwd/export.pkl bwd/export.pkl --out reviews.bundle
    """
    result = bothways.import_fastai(
        forward,
        backward,
        out=out,
        direction=direction,
        vocabulary=vocabulary or (),
        labels=label or (),
        tokenizer=tokenizer,
        language=language,
        probabilities=probabilities,
        task=task,
        threshold=threshold,
        y_range=y_range,
        rules=None if rules is None else [name for name in rules.split(",") if name],
        sentencepiece=sentencepiece,
    )
    table = Table(title=f"{path_text(out)}: {result.kind}", title_justify="left")
    for name in ("file", "saved by", "reads", "known by", "weights show", "|z|"):
        table.add_column(name)
    for model in result.models:
        shown, z_score = verdict_row(model.verdict)
        table.add_row(model.name, model.library, model.direction, model.known_by, shown, z_score)
    console = output_console()
    console.print(table)
    for model in result.models:
        for remark in model.remarks:
            console.print(f"Note: {remark}")
    if result.kind == "classifier":
        console.print(f"Next: bothways verify {path_text(out)} · bothways predict {path_text(out)} FILE --out FILE")
    else:
        console.print(
            f"Next: bothways train DATA --text COLUMN --label COLUMN --out BUNDLE --pretrained {path_text(out)}"
        )
