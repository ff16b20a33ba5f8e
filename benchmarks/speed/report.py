"""Put what was measured into the page on speed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.accuracy.outcomes import machine_told
from tools.pages import fill

WAYS = ("fastai", "torch", "exact", "cascade, exact", "int8", "cascade, int8")
SET_NAMES = {"imdb": "IMDb reviews", "trec6": "TREC questions"}
TARGETS = {"exact": (1.3, 2.5), "int8": (2.5, 8.0), "cascade, int8": (4.0, 10.0)}
"""Times fastai's ensemble, base size: texts/s on IMDb, and one text."""
SHARE_OF_LIMIT, EXECUTED = 0.75, 1.08


def write_report(results: Path, page: Path) -> None:
    """Fill the page's tables from the results there are, base first."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    fill(page, "speeds", "\n".join(line for result in found for line in _tables(result)))
    fill(page, "targets", "\n".join(line for result in found if result["size"] == "base" for line in _targets(result)))


def _tables(result: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    yield f"### {result['size']}"
    yield ""
    yield f"{machine_told(result['machine'])}; load before the run {result['machine']['load_before']}; {versions}."
    yield f"`{result['command']}`"
    for name, of_set in result["sets"].items():
        mean = of_set["tokens"] / of_set["texts"]
        yield ""
        yield f"**{of_set['texts']:,} {SET_NAMES[name]}** of {mean:,.0f} tokens on average"
        yield ""
        yield "| | texts/s | times fastai | one text, median | times as fast as fastai | 99 of 100 | differs by |"
        yield "|---|--:|--:|--:|--:|--:|--:|"
        theirs = of_set["fastai"]
        for way in WAYS:
            ours = of_set[way]
            cells = [
                f"{ours['texts_per_s']:,.1f}",
                f"{ours['texts_per_s'] / theirs['texts_per_s']:.2f}",
                f"{ours['single_p50_ms']:,.1f} ms",
                f"{theirs['single_p50_ms'] / ours['single_p50_ms']:.2f}",
                f"{ours['single_p99_ms']:,.1f} ms",
                _difference(way, ours),
            ]
            told = f"{way} ({ours['read_by_both']:.0%} read in both directions)" if "read_by_both" in ours else way
            yield f"| {told} | {' | '.join(cells)} |"
        yield ""
        limit, gflops = max(result["limits_gflops"].values()), of_set["exact"]["gflops"]
        yield (
            f"Exact executes {of_set['executed_share']:.3f} tokens for one that is needed, at {gflops:,.0f} GFLOP/s: "
            f"{gflops / limit:.0%} of the best library's matrix products."
        )
    yield ""
    libraries = ", ".join(f"{name} {limit:,.0f}" for name, limit in result["limits_gflops"].items())
    load_s = next(iter(result["sets"].values()))["exact"]["load_s"]
    yield f"Matrix products alone, in the model's shapes, GFLOP/s: {libraries}. "
    yield f"Loading takes {load_s:.2f} s, fastai's two learners {result['fastai_load_s']:.2f} s."
    yield ""


def _difference(way: str, found: dict[str, Any]) -> str:
    if way == "fastai":
        return f"{found['largest_difference_alone']:.0e} alone, {found['largest_difference_together']:.2g} in batches"
    if "largest_difference" in found:
        return f"{found['largest_difference']:.0e}"
    return "" if way.startswith("cascade") else "0"


def _targets(result: dict[str, Any]) -> Iterator[str]:
    imdb = result["sets"]["imdb"]
    yield "| target, base size, IMDb | wanted | reached |"
    yield "|---|--:|--:|"
    for way, (wanted, wanted_alone) in TARGETS.items():
        reached = imdb[way]["texts_per_s"] / imdb["fastai"]["texts_per_s"]
        alone = imdb["fastai"]["single_p50_ms"] / imdb[way]["single_p50_ms"]
        yield f"| {way}: texts/s, times fastai | {wanted:g} | {_marked(reached, wanted)} |"
        yield f"| {way}: one text, times as fast | {wanted_alone:g} | {_marked(alone, wanted_alone)} |"
    share = imdb["exact"]["gflops"] / max(result["limits_gflops"].values())
    yield f"| exact: share of the best library's products | {SHARE_OF_LIMIT:.2f} | {_marked(share, SHARE_OF_LIMIT)} |"
    executed = imdb["executed_share"]
    told = f"{executed:.3f}" if executed <= EXECUTED else f"**{executed:.3f}, missed**"
    yield f"| exact: tokens executed for one needed, at most | {EXECUTED:.2f} | {told} |"


def _marked(reached: float, wanted: float) -> str:
    return f"{reached:.2f}" if reached >= wanted else f"**{reached:.2f}, missed**"
