"""``bothways push``: upload a bundle to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bothways
from bothways.cli.options import output_console


def push(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Directory of a bundle or pack.")],
    repository: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="Repository. It is created if it does not exist.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    license_name: Annotated[
        str | None,
        typer.Option("--license", metavar="NAME", help="License for the card, such as mit. Defaults to none."),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Language of the texts for the card, such as en. Can be repeated."),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Evaluation for the card, from bothways evaluate --out. Defaults to none."
        ),
    ] = None,
) -> None:
    """Upload a bundle to the Hugging Face Hub.

    The files of the bundle are uploaded unchanged, with a card that the Hub shows: what the bundle is for, its metrics
    with confidence intervals, and its limits. A bundle that the repository
    contains is replaced. The token is that of HF_TOKEN or of hf auth login. Needs bothways[hub].

    Example: bothways push reviews.bundle user/reviews --language en
    """
    reference = bothways.push_to_hub(
        bundle, repository, private=private, license=license_name, language=language, evaluation=evaluation
    )
    console = output_console()
    console.print(f"Uploaded to {reference}")
    console.print(f"Next: bothways verify {reference}")
