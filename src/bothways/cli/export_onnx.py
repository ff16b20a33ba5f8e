"""``bothways export-onnx``: write a bundle as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.options import BundlePath, output_console
from bothways.errors import path_text


def export_onnx(
    bundle: BundlePath,
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="ONNX file to create. Must not exist yet.")],
) -> None:
    """Write a bundle as one ONNX file.

    The graph contains both directions and their reading orders, for runtimes other than bothways. Its inputs are token
    ids and lengths, its outputs probabilities, or values for regression. It is written only if it reproduces the
    bundle's parity record. docs/onnx.md shows a complete program that runs it.

    Example: bothways export-onnx reviews.bundle --out reviews.onnx
    """
    result = bothways.export_onnx(bundle, out=out)
    table = Table(
        title=f"{path_text(out)}: {result.size_bytes:,} bytes, {result.texts} texts verified", title_justify="left"
    )
    table.add_column("output")
    table.add_column("largest difference", justify="right")
    for name, difference in result.differences.items():
        table.add_row(name, f"{difference:.2e}")
    output_console().print(table)
