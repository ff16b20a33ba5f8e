"""``bothways packs``: list the packs of pretrained language models, or download one."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.options import output_console
from bothways.errors import path_text


def packs(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Pack to download: a name of the list, or hf://USER/NAME@REVISION."),
    ] = None,
) -> None:
    """List language-model packs, or download one.

    Lists the packs that are part of bothways, those that the project has published on the Hugging Face Hub, and others
    that were downloaded. With NAME, downloads a pack and prints its path. Then train --pretrained NAME finds it.

    Example: bothways packs hf://user/words
    """
    console = output_console()
    if name is not None:
        console.print(path_text(bothways.download_pack(name)))
        console.print(f"Next: bothways train DATA --text COLUMN --label COLUMN --out BUNDLE --pretrained {name}")
        return
    table = Table()
    for title in ("name", "languages", "size", "digest", "where"):
        table.add_column(title, justify="right" if title == "size" else "left")
    for pack in bothways.list_packs():
        if pack.path is None:
            where = f"not downloaded: bothways packs {pack.name}"
        else:
            where = "part of bothways" if pack.reference is None else "downloaded"
        size = f"{pack.size_bytes / 1e6:,.0f} MB"
        table.add_row(pack.name, ", ".join(pack.languages) or "not recorded", size, pack.digest[:16], where)
    console.print(table)
