"""``bothways verify``: does a bundle give its trainer's numbers on this machine?"""

from __future__ import annotations

import typer
from rich.table import Table

import bothways
from bothways.cli.options import BundlePath, output_console


def verify(bundle: BundlePath) -> None:
    """Replay a bundle's proof on this machine and show the largest difference in each direction.

    Exits with 1 if it does not give the trainer's numbers.

    Example: bothways verify reviews.bundle
    """
    result = bothways.verify(bundle)
    what = "probability" if result.kind == "classifier" else "loss (nats a token)"
    table = Table(title=f"{bundle}: {result.texts} texts replayed", title_justify="left")
    table.add_column("reads")
    table.add_column(f"largest difference of a {what}", justify="right")
    table.add_column("allowed", justify="right")
    for name, difference in result.differences.items():
        table.add_row(name, f"{difference:.2e}", f"{result.limit:.0e}")
    console = output_console()
    console.print(table)
    if not result.passed:
        console.print(f"FAILED: {result.problem}")
        raise typer.Exit(1)
    console.print("Passed: the same tokens and the trainer's numbers.")
