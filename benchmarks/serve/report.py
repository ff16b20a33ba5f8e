"""Write the results into the page on serving."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.accuracy.outcomes import describe_machine
from tools.pages import fill

SET_NAMES = {"imdb": "IMDb reviews", "trec6": "TREC questions"}
PEER = "fastai behind FastAPI"


def write_report(results: Path, page: Path) -> None:
    """Fill the tables of the page from the results in a folder, base first."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    fill(page, "comparison with fastai", "\n".join(line for result in found for line in _table(result)))


def _table(result: dict[str, Any]) -> Iterator[str]:
    sizes = {"base": "400/1152/3", "small": "256/512/3"}
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    yield f"**A model of {sizes[result['size']]}, two directions.** {describe_machine(result['machine'])};"
    yield f"load before the run {result['machine']['load_before']}; {versions}. `{result['command']}`"
    yield ""
    yield "| texts | clients | server | texts/s | × fastai | p50 | p99 | p99: × as fast |"
    yield "|---|--:|---|--:|--:|--:|--:|--:|"
    for name, title in SET_NAMES.items():
        for clients, theirs in result["servers"][PEER][name].items():
            for server, of_server in result["servers"].items():
                ours = of_server[name][clients]
                yield (
                    f"| {title} | {clients} | {server} | {ours['texts_per_s']:,.1f} "
                    f"| {ours['texts_per_s'] / theirs['texts_per_s']:.1f} | {ours['p50_ms']:,.0f} ms "
                    f"| {ours['p99_ms']:,.0f} ms | {theirs['p99_ms'] / ours['p99_ms']:.1f} |"
                )
    yield ""
    memory = ", ".join(f"{server} {of_server['memory_mib']:,}" for server, of_server in result["servers"].items())
    yield f"Resident memory after the run, in MiB: {memory}."
    yield ""
