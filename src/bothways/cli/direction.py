"""``bothways direction``: infer which way a fastai model reads."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.options import FastaiTokenizer, Language, SentencePiece, output_console
from bothways.data.corpus import Corpus
from bothways.errors import quoted
from bothways.interop.direction import MIN_Z_SCORE


def direction(
    model: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Model of fastai: export.pkl, saved weights (.pth), a folder or an archive."
        ),
    ],
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Vocabulary (.pkl or .json) of a .pth file. Defaults to the .pkl file in its folder."
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Texts in the model's language, separated by blank lines. Defaults to built-in samples.",
        ),
    ] = None,
    tokenizer: FastaiTokenizer = None,
    language: Language = None,
    sentencepiece: SentencePiece = None,
) -> None:
    """Infer which way a fastai model reads.

    Compares the loss of text read forward with that of text read backward. Works on language models, encoders and
    fine-tuned classifiers. Exits with 1 if the weights do not show a direction.

    Example: bothways direction bwd/export.pkl
    """
    own = list(Corpus([texts], "text").read()) if texts is not None else None
    verdict = bothways.infer_direction(
        model, vocabulary=vocabulary, tokenizer=tokenizer, language=language, sentencepiece=sentencepiece, texts=own
    )
    table = Table(title=f"{model}: {verdict.tokens} tokens read in both directions", title_justify="left")
    table.add_column("read")
    table.add_column("loss (nats per token)", justify="right")
    table.add_row("forward", f"{verdict.forward_loss:.3f}")
    table.add_row("backward", f"{verdict.backward_loss:.3f}")
    console = output_console()
    console.print(table)
    sample = {"composed": "random sentences composed from the vocabulary", "given": str(texts)}
    console.print(
        f"Texts: {sample.get(verdict.sample, f'built-in samples in {quoted(verdict.sample)}')}. "
        f"The vocabulary covers {verdict.coverage:.0%} of their tokens."
    )
    margin = f"{verdict.margin:.3f} nats per token (|z| = {abs(verdict.z_score):.1f})"
    if verdict.direction is None:
        console.print(
            f"No verdict: the losses differ by {margin}, below the threshold of {MIN_Z_SCORE:g} standard deviations. "
            "Try --texts with texts like those the model was trained on."
        )
        raise typer.Exit(1)
    console.print(f"The model reads {verdict.direction}: that loss is lower by {margin}.")


def verdict_row(verdict: bothways.DirectionVerdict) -> tuple[str, str]:
    """Return the table cells for a verdict: the direction that the weights show, and the z-score without its sign."""
    found = "not clear" if verdict.direction is None else str(verdict.direction)
    return found, f"{abs(verdict.z_score):.1f}"
