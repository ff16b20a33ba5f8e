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
from bothways.cli.options import BundlePath, TrainedTextColumn, choose_column, output_console
from bothways.data.labeled import read_unlabeled
from bothways.evaluation.benchmark import Bench, Speed
from bothways.evaluation.benchmark import bench as measure


def bench(
    bundle: BundlePath,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Texts like yours; else some of the tokenizer's own pieces.")
    ] = None,
    text: TrainedTextColumn = None,
    count: Annotated[int, typer.Option("--texts", min=10, help="How many texts at most.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure texts a second, the time of a single text and memory, in float32 and int8, and say which one to use here.

    If the bundle has a cascade, both are measured with it as well.

    Run it where you want to serve, with nothing else running: it predicts the texts a dozen times.

    Example: bothways bench reviews.bundle reviews.csv
    """
    texts = None
    if data is not None:
        manifest, _ = read_manifest(bundle)
        texts = read_unlabeled(data, choose_column(text, manifest.training.text_column, "--text"))
    with Console(file=sys.stderr).status("measuring") as status:  # nothing where it is no terminal
        found = measure(bundle, texts, count, lambda what: status.update(f"measuring: {what}"))
    console = output_console()
    if as_json:
        console.print(strict_json.dump(asdict(found)))
        return
    texts_told = f"{found.texts:,} texts of {found.tokens / found.texts:,.0f} tokens on average"
    table = Table(title=f"{bundle}: {texts_told}, {found.cores} cores", title_justify="left")
    table.add_column("")
    columns = [_cells(speed, found) for speed in found.speeds]
    for speed in found.speeds:
        table.add_column(f"{speed.precision}, cascade" if speed.uses_early_exit else speed.precision, justify="right")
    for what in columns[0]:
        table.add_row(what, *(cells[what] for cells in columns))
    console.print(table)
    console.print(f"The same matrix products alone, in float32 by {found.limit_by}: {found.limit_gflops:,.1f} GFLOP/s.")
    console.print(f"Advice: {found.advice}.")


def _cells(speed: Speed, found: Bench) -> dict[str, str]:
    return {
        "texts a second": f"{speed.texts_per_s:,.1f}",
        "tokens a second, all directions together": f"{speed.tokens_per_s:,.0f}",
        "one text alone: half take at most": f"{speed.single_p50_ms:,.1f} ms",
        "one text alone: 99 of 100 take at most": f"{speed.single_p99_ms:,.1f} ms",
        "loading": f"{speed.load_s:.2f} s",
        "most memory": f"{speed.peak_mib:,.0f} MiB",
        "texts that both directions read": f"{speed.read_by_both:.0%}",
        "tokens executed for one that is needed": f"{speed.executed_share:.3f}",
        "matrix products": f"{speed.gflops:,.1f} GFLOP/s",
        "share of the machine's float32 limit": f"{speed.gflops / found.limit_gflops:.0%}",
        "largest difference of a probability": f"{speed.largest_difference:.1e}",
        "labels that change": f"{speed.changed_labels} of {found.texts}",
    }
