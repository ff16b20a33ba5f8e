"""Write the results of benchmarks/speed into docs/speed.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.accuracy.outcomes import describe_machine
from tools.pages import fill

CONFIGURATIONS = {
    "fastai": "fastai",
    "torch": "PyTorch (eager)",
    "exact": "float32",
    "cascade, exact": "float32, early exit",
    "int8": "int8",
    "cascade, int8": "int8, early exit",
}
"""Keys of the results, and their names in the tables."""
SET_NAMES = {"imdb": "IMDb reviews", "trec6": "TREC questions"}
TARGETS = {"exact": (1.3, 2.5), "int8": (2.5, 8.0), "cascade, int8": (4.0, 10.0)}
"""Targets for texts/s and single texts on IMDb, base size, as multiples of fastai's ensemble."""
SHARE_OF_LIMIT, PADDING_OVERHEAD = 0.75, 1.08


def write_report(results: Path, page: Path) -> None:
    """Update the tables of the page from all results in a folder, base first."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    fill(page, "speeds", "\n".join(line for result in found for line in _tables(result)))
    fill(page, "targets", "\n".join(line for result in found if result["size"] == "base" for line in _targets(result)))


def _tables(result: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    yield f"### {result['size']}"
    yield ""
    yield f"{describe_machine(result['machine'])}; load before the run {result['machine']['load_before']}; {versions}."
    yield f"`{result['command']}`"
    for name, of_set in result["sets"].items():
        mean = of_set["tokens"] / of_set["texts"]
        yield ""
        yield f"**{of_set['texts']:,} {SET_NAMES[name]}** of {mean:,.0f} tokens on average"
        yield ""
        yield "| | texts/s | × fastai | single text, median (p50) | × fastai | single text, p99 | largest difference |"
        yield "|---|--:|--:|--:|--:|--:|--:|"
        theirs = of_set["fastai"]
        for key, name_shown in CONFIGURATIONS.items():
            ours = of_set[key]
            cells = [
                f"{ours['texts_per_s']:,.1f}",
                f"{ours['texts_per_s'] / theirs['texts_per_s']:.2f}",
                f"{ours['single_p50_ms']:,.1f} ms",
                f"{theirs['single_p50_ms'] / ours['single_p50_ms']:.2f}",
                f"{ours['single_p99_ms']:,.1f} ms",
                _difference(key, ours),
            ]
            share = f" ({ours['read_by_both']:.0%} read in both directions)" if "read_by_both" in ours else ""
            yield f"| {name_shown}{share} | {' | '.join(cells)} |"
        yield ""
        limit, gflops = max(result["limits_gflops"].values()), of_set["exact"]["gflops"]
        yield (
            f"float32: padding overhead {of_set['executed_share']:.3f}, {gflops:,.0f} GFLOP/s, "
            f"which is {gflops / limit:.0%} of the fastest library's matrix products."
        )
    yield ""
    libraries = ", ".join(f"{name} {limit:,.0f}" for name, limit in result["limits_gflops"].items())
    load_s = next(iter(result["sets"].values()))["exact"]["load_s"]
    yield f"Matrix products alone, in the shapes of the model, in GFLOP/s: {libraries}. "
    yield f"Load time: {load_s:.2f} s, fastai's two learners {result['fastai_load_s']:.2f} s."
    yield ""


def _difference(key: str, found: dict[str, Any]) -> str:
    if key == "fastai":
        alone, together = found["largest_difference_alone"], found["largest_difference_together"]
        return f"{alone:.0e} for single texts, {together:.2g} in batches"
    if "largest_difference" in found:
        return f"{found['largest_difference']:.0e}"
    return "" if key.startswith("cascade") else "0"


def _targets(result: dict[str, Any]) -> Iterator[str]:
    imdb = result["sets"]["imdb"]
    yield "| base size, IMDb | target | reached |"
    yield "|---|--:|--:|"
    for key, (throughput_target, single_target) in TARGETS.items():
        throughput = imdb[key]["texts_per_s"] / imdb["fastai"]["texts_per_s"]
        single = imdb["fastai"]["single_p50_ms"] / imdb[key]["single_p50_ms"]
        name = CONFIGURATIONS[key]
        yield f"| {name}: texts/s, × fastai | {throughput_target:g} | {_reached(throughput, throughput_target)} |"
        yield f"| {name}: single text, × fastai | {single_target:g} | {_reached(single, single_target)} |"
    share = imdb["exact"]["gflops"] / max(result["limits_gflops"].values())
    of_limit = "float32: share of the fastest library's matrix products"
    yield f"| {of_limit} | {SHARE_OF_LIMIT:.2f} | {_reached(share, SHARE_OF_LIMIT)} |"
    overhead = imdb["executed_share"]
    reached = f"{overhead:.3f}" if overhead <= PADDING_OVERHEAD else f"**{overhead:.3f}, missed**"
    yield f"| float32: padding overhead, at most | {PADDING_OVERHEAD:.2f} | {reached} |"


def _reached(value: float, target: float) -> str:
    return f"{value:.2f}" if value >= target else f"**{value:.2f}, missed**"
