"""Compare the speed and memory of two versions of bothways on the same bundle and texts, in one run.

Run: .venv/bin/python benchmarks/before_after.py --before OLD/src --after NEW/src BUNDLE TEXTS.csv [--rounds 3]

Each round runs ``bothways bench --json`` with both versions, one after the other, so that a machine that becomes slower
or faster affects both. The table has medians over the rounds, and the ratio after/before with its range over the
rounds. The last line is JSON. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

METRICS = {
    "texts/s": "texts_per_s",
    "single text, median (p50), ms": "single_p50_ms",
    "single text, p99, ms": "single_p99_ms",
    "load time, s": "load_s",
    "peak memory, MiB": "peak_mib",
}
"""Rows of the table, and the keys of ``bothways bench --json``."""
_EARLY_EXIT_KEYS = ("uses_early_exit", "is_cascade")
"""The key for early exit now, and in versions before it was renamed."""

Results = dict[str, dict[str, float]]
"""Metrics by configuration, such as "int8, early exit"."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle that both versions can read")
    parser.add_argument("texts", type=Path, metavar="TEXTS.csv", help="texts to predict")
    parser.add_argument("--before", type=Path, required=True, metavar="SRC", help="src folder of the old version")
    parser.add_argument("--after", type=Path, required=True, metavar="SRC", help="src folder of the new version")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each version; 3 by default")
    parser.add_argument("--texts", dest="max_texts", type=int, default=1000, help="texts per run; 1000 by default")
    arguments = parser.parse_args()
    rounds: list[tuple[Results, Results]] = []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        before, after = (
            bench(source.resolve(), arguments.bundle.resolve(), arguments.texts.resolve(), arguments.max_texts)
            for source in (arguments.before, arguments.after)
        )
        rounds.append((before, after))
    print("\n".join(table(rounds)))
    print(json.dumps([{"before": before, "after": after} for before, after in rounds]))


def bench(source: Path, bundle: Path, texts: Path, max_texts: int) -> Results:
    """Run ``bothways bench --json`` with the version in a source folder, and return its metrics."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    check_source(source, environment)
    command = [sys.executable, "-P", "-m", "bothways", "bench", str(bundle), str(texts), "--texts", str(max_texts)]
    finished = subprocess.run([*command, "--json"], env=environment, check=False, stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        sys.exit(f"bothways bench failed with the sources in {source}")
    return {configuration(speed): metrics(speed) for speed in json.loads(finished.stdout)["speeds"]}


def check_source(source: Path, environment: Mapping[str, str]) -> None:
    """Exit with an error unless Python imports bothways from a source folder."""
    command = [sys.executable, "-P", "-c", "import bothways; print(bothways.__file__)"]
    imported = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()
    if not Path(imported).is_relative_to(source):
        sys.exit(f"{source} is not a source folder of bothways: Python imports {imported}")


def configuration(speed: Mapping[str, Any]) -> str:
    """Return the name of a configuration: its precision, and whether early exit is on."""
    return str(speed["precision"]) + ", early exit" * any(speed.get(key) for key in _EARLY_EXIT_KEYS)


def metrics(speed: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of the table from one result of ``bothways bench --json``."""
    return {key: float(speed[key]) for key in METRICS.values()}


def table(rounds: Sequence[tuple[Results, Results]]) -> list[str]:
    """Return the lines of a Markdown table that compares two versions.

    Args:
        rounds: Results before and after, per round.
    """
    lines = ["| | | before | after | after / before | range |", "|---|---|--:|--:|--:|--:|"]
    for name in rounds[0][0]:
        for metric, key in METRICS.items():
            pairs = [(before[name][key], after[name][key]) for before, after in rounds]
            before, after = (statistics.median(values) for values in zip(*pairs, strict=True))
            ratios = sorted(new / old for old, new in pairs)
            ratio, least, most = statistics.median(ratios), ratios[0], ratios[-1]
            lines.append(
                f"| {name} | {metric} | {before:,.2f} | {after:,.2f} | {ratio:.2f} | {least:.2f} to {most:.2f} |"
            )
    return lines


if __name__ == "__main__":
    main()
