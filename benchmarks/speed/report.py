"""Write the results of benchmarks/speed into docs/speed.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
QRNN_TARGETS = {"exact": (2.5, 10.0), "int8": (8.0, None), "cascade, int8": (14.0, None)}
QRNN_SINGLE_MS = 30
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
        rows = [(key, name_shown, of_set[key]) for key, name_shown in CONFIGURATIONS.items()]
        rows += [
            (key, f"QRNN, {CONFIGURATIONS[key]}", of_set["qrnn"][key])
            for key in CONFIGURATIONS
            if key in of_set["qrnn"]
        ]
        for key, name_shown, ours in rows:
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
    of_set = next(iter(result["sets"].values()))
    load_s, qrnn_load_s = of_set["exact"]["load_s"], of_set["qrnn"]["exact"]["load_s"]
    lstm, qrnn = result["memory_mib"]["lstm"], result["memory_mib"]["qrnn"]
    yield f"Matrix products alone, in the shapes of the LSTM, in GFLOP/s: {libraries}. "
    learners_s = result["fastai_load_s"]
    yield f"Load time: LSTM {load_s:.2f} s, QRNN {qrnn_load_s:.2f} s, fastai's two learners {learners_s:.2f} s. "
    yield (
        f"Largest memory of a process in float32 after loading and after 200 reviews: LSTM {lstm['loaded']} and "
        f"{lstm['predicted']} MiB, QRNN {qrnn['loaded']} and {qrnn['predicted']} MiB."
    )
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
    yield from _beside_fastai(imdb, imdb["fastai"], TARGETS, "")
    share = imdb["exact"]["gflops"] / max(result["limits_gflops"].values())
    of_limit = "float32: share of the fastest library's matrix products"
    yield f"| {of_limit} | {SHARE_OF_LIMIT:.2f} | {_reached(share, SHARE_OF_LIMIT)} |"
    overhead = imdb["executed_share"]
    reached = f"{overhead:.3f}" if overhead <= PADDING_OVERHEAD else f"**{overhead:.3f}, missed**"
    yield f"| float32: padding overhead, at most | {PADDING_OVERHEAD:.2f} | {reached} |"
    yield from _beside_fastai(imdb["qrnn"], imdb["fastai"], QRNN_TARGETS, "QRNN, ")
    single_ms = imdb["qrnn"]["exact"]["single_p50_ms"]
    reached = f"{single_ms:.1f} ms" if single_ms <= QRNN_SINGLE_MS else f"**{single_ms:.1f} ms, missed**"
    yield f"| QRNN, float32: single text, median, at most | {QRNN_SINGLE_MS} ms | {reached} |"


def _beside_fastai(
    ours: dict[str, Any], fastai: dict[str, Any], targets: Mapping[str, tuple[float, float | None]], prefix: str
) -> Iterator[str]:
    for key, (throughput_target, single_target) in targets.items():
        throughput = ours[key]["texts_per_s"] / fastai["texts_per_s"]
        name = f"{prefix}{CONFIGURATIONS[key]}"
        yield f"| {name}: texts/s, × fastai | {throughput_target:g} | {_reached(throughput, throughput_target)} |"
        if single_target is not None:
            single = fastai["single_p50_ms"] / ours[key]["single_p50_ms"]
            yield f"| {name}: single text, × fastai | {single_target:g} | {_reached(single, single_target)} |"


def _reached(value: float, target: float) -> str:
    return f"{value:.2f}" if value >= target else f"**{value:.2f}, missed**"
