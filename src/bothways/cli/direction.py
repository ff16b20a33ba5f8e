"""``bothways direction``: which way does a model read?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.options import Language, output_console
from bothways.data.corpus import Corpus


def direction(
    model: Annotated[
        str, typer.Argument(metavar="FILE", help="export.pkl, saved weights (.pth), a folder or an archive of fastai.")
    ],
    vocabulary: Annotated[
        str | None, typer.Option(metavar="FILE", help="The words (.pkl or .json) of a .pth; else the .pkl beside it.")
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Texts in the model's language, blank lines between; else samples of ours."),
    ] = None,
    language: Language = None,
) -> None:
    """Tell which way a model of fastai reads, from its weights alone; abstains rather than guesses.

    Works on language models, encoders and fine-tuned classifiers. Exits with 1 if the weights don't tell.

    Example: bothways direction bwd/export.pkl
    """
    own = list(Corpus([texts], "text").read()) if texts is not None else None
    verdict = bothways.infer_direction(model, vocabulary=vocabulary, language=language, texts=own)
    table = Table(title=f"{model}: {verdict.tokens} tokens read both ways", title_justify="left")
    table.add_column("read")
    table.add_column("surprise (nats a token)", justify="right")
    table.add_row("forward", f"{verdict.forward_surprise:.3f}")
    table.add_row("backward", f"{verdict.backward_surprise:.3f}")
    console = output_console()
    console.print(table)
    sample = {"composed": "senseless sentences of its own words", "given": str(texts)}
    console.print(
        f"Texts: {sample.get(verdict.sample, f'samples in {verdict.sample!r}')}; "
        f"the model knows {verdict.known:.0%} of their tokens."
    )
    margin = f"{verdict.margin:.3f} nats a token, {abs(verdict.deviations):.1f} times what chance gives"
    if verdict.direction is None:
        console.print(f"No verdict: a margin of {margin}, is too small to tell. Try --texts with texts of its kind.")
        raise typer.Exit(1)
    console.print(f"It reads {verdict.direction}: less surprising by {margin}.")


def verdict_row(verdict: bothways.DirectionVerdict) -> tuple[str, str]:
    """Return what a table shows of a verdict: what the weights say, and by how much."""
    if verdict.direction is None:
        return "don't tell", f"{abs(verdict.deviations):.1f} x chance"
    return f"read {verdict.direction}", f"{abs(verdict.deviations):.1f} x chance"
