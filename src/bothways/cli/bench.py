"""``bothways bench``: measure speed and memory of a bundle on this machine."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways import strict_json
from bothways.bundle.hub import local_path
from bothways.bundle.read import read_manifest
from bothways.cli.options import (
    BundlePath,
    DelimiterOption,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    QuotesOption,
    TrainedTextColumns,
    output_console,
)
from bothways.data.dialect import Dialect
from bothways.data.labeled import read_unlabeled
from bothways.evaluation.benchmark import Benchmark, SpeedResult
from bothways.evaluation.inputs import choose_text_columns
from bothways.terminal import SafeConsole


def bench(
    bundle: BundlePath,
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="File with typical texts. Defaults to synthetic texts."),
    ] = None,
    text: TrainedTextColumns = None,
    max_texts: Annotated[int, typer.Option("--texts", metavar="N", min=10, help="Maximum number of texts.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Measure speed and memory on this machine.

    Reports throughput, the latency of single texts and peak memory in float32 and int8, and recommends one of the two.
    If the bundle has an early exit, both are also measured with it.

    Run it on the machine that will serve the bundle, with nothing else running. It predicts every
    text at least seven times per configuration.

    Example: bothways bench reviews.bundle reviews.csv
    """
    texts = None
    if data is not None:
        columns = choose_text_columns(text, read_manifest(local_path(bundle)).training.text_columns)
        texts = read_unlabeled(data, columns, Dialect(table_format, delimiter, quotes, encoding, not no_header))
    with SafeConsole(file=sys.stderr).status("measuring") as status:  # shows nothing unless stderr is a terminal
        found = bothways.benchmark(
            bundle, texts, max_texts=max_texts, on_progress=lambda step: status.update(f"measuring: {step}")
        )
    console = output_console()
    if as_json:
        console.print(strict_json.dump(asdict(found)))
        return
    console.print(_table(found))
    console.print(
        f"Limit: {found.limit_gflops:,.1f} GFLOP/s, the same matrix products alone in float32 "
        f"with {found.limit_library}."
    )
    console.print(f"Advice: {found.advice}.")


def _table(found: Benchmark) -> Table:
    texts = f"{found.texts:,} texts of {found.tokens / found.texts:,.0f} tokens on average"
    table = Table(title=f"{found.bundle}: {texts}, {found.cores} cores", title_justify="left")
    table.add_column("")
    columns = [_cells(speed, found) for speed in found.speeds]
    for speed in found.speeds:
        table.add_column(
            f"{speed.precision}, early exit" if speed.uses_early_exit else speed.precision, justify="right"
        )
    for name in columns[0]:
        table.add_row(name, *(cells[name] for cells in columns))
    return table


def _cells(speed: SpeedResult, found: Benchmark) -> dict[str, str]:
    cells = {
        "texts/s": f"{speed.texts_per_s:,.1f}",
        "tokens/s, all directions": f"{speed.tokens_per_s:,.0f}",
        "single text, median (p50)": f"{speed.single_p50_ms:,.1f} ms",
        "single text, p99": f"{speed.single_p99_ms:,.1f} ms",
        "load time": f"{speed.load_s:.2f} s",
        "peak memory": f"{speed.peak_mib:,.0f} MiB",
        "texts read in both directions": f"{speed.read_by_both:.0%}",
        "padding overhead": f"{speed.padding_overhead:.3f}",
        "matrix products": f"{speed.gflops:,.1f} GFLOP/s",
        "share of the float32 limit": f"{speed.gflops / found.limit_gflops:.0%}",
        "largest difference from float32": f"{speed.largest_difference:.1e}",
    }
    if any(other.read_by_linear for other in found.speeds):
        cells["texts read in no direction"] = f"{speed.read_by_linear:.0%}"
    if speed.changed_labels is not None:
        cells["changed labels"] = f"{speed.changed_labels} of {found.texts}"
    return cells
