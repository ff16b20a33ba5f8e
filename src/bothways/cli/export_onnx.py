"""``bothways export-onnx``: a bundle as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.options import BundlePath, output_console


def export_onnx(
    bundle: BundlePath,
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="Where the file appears; nothing may be there.")],
) -> None:
    """Write a bundle as one ONNX file with both directions inside, for runtimes that are not ours.

    Its inputs are tokens as written and their lengths, its outputs probabilities; it is written only if it gives the
    numbers of the bundle's proof. docs/onnx.md has a whole program that runs it.

    Example: bothways export-onnx reviews.bundle --out reviews.onnx
    """
    result = bothways.export_onnx(bundle, out=out)
    table = Table(title=f"{out}: {result.size_bytes:,} bytes, {result.texts} texts replayed", title_justify="left")
    table.add_column("output")
    table.add_column("largest difference of a probability", justify="right")
    for name, difference in result.differences.items():
        table.add_row(name, f"{difference:.2e}")
    output_console().print(table)
