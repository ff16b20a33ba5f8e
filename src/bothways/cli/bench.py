"""``bothways bench``: how fast a bundle predicts on this machine."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bothways import strict_json
from bothways.bundle.read import read_manifest
from bothways.cli.options import BundlePath, choose_column, output_console
from bothways.data.labelled import read_unlabelled
from bothways.runtime.bench import Bench
from bothways.runtime.bench import bench as measure


def bench(
    bundle: BundlePath,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Texts like yours; else some of the tokenizer's own pieces.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the texts; else the one trained on.")
    ] = None,
    count: Annotated[int, typer.Option("--texts", min=10, help="How many texts at most.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure texts a second, the time of a single text, memory, and how near that is to what the machine can do.

    Run it where you want to serve, with nothing else running: it takes some times as long as predicting the texts once.

    Example: bothways bench reviews.bundle reviews.csv
    """
    texts = None
    if data is not None:
        manifest, _ = read_manifest(bundle)
        texts = read_unlabelled(data, choose_column(text, manifest.training.text_column, "--text"))
    with Console(file=sys.stderr).status("measuring") as status:  # nothing where it is no terminal
        found = measure(bundle, texts, count, lambda what: status.update(f"measuring: {what}"))
    console = output_console()
    if as_json:
        console.print(strict_json.dump({**asdict(found), "limit_share": found.limit_share}))
        return
    title = (
        f"{bundle}: {found.texts:,} texts of {found.tokens / found.texts:,.0f} tokens on average, {found.cores} cores"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column(found.precision, justify="right")
    for what, value in _rows(found):
        table.add_row(what, value)
    console.print(table)


def _rows(found: Bench) -> list[tuple[str, str]]:
    return [
        ("texts a second", f"{found.texts_per_s:,.1f}"),
        ("tokens a second, all directions together", f"{found.tokens_per_s:,.0f}"),
        ("one text alone: half take at most", f"{found.single_p50_ms:,.1f} ms"),
        ("one text alone: 99 of 100 take at most", f"{found.single_p99_ms:,.1f} ms"),
        ("loading", f"{found.load_s:.2f} s"),
        ("most memory", f"{found.peak_mib:,.0f} MiB"),
        ("tokens executed for one that is needed", f"{found.executed_share:.3f}"),
        ("matrix products", f"{found.gflops:,.1f} GFLOP/s"),
        (f"these products alone, by {found.limit_by}", f"{found.limit_gflops:,.1f} GFLOP/s"),
        ("share of that which is reached", f"{found.limit_share:.0%}"),
    ]
