"""Print what every entrance costs per megabyte: ``python -m tests.hostile [ENTRANCE ...]``.

Columns: CPU seconds and megabytes of memory for a harmless file of a megabyte, and the most that a hostile file of the
cost tests takes, per megabyte of the file. A file of less than a megabyte counts as one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.hostile.entrances import ENTRANCES
from tests.hostile.measure import Cost, measurer
from tests.hostile.test_costs import HOSTILE, MB


def _per_megabyte(cost: Cost) -> tuple[float, float]:
    megabytes = max(1.0, cost.size_bytes / MB)
    return cost.seconds / megabytes, cost.peak_bytes / MB / megabytes


def main() -> None:
    """Measure all entrances, and print a table in Markdown."""
    print("| entrance | harmless: s/MB | MB/MB | hostile files | most s/MB | most MB/MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, measurer(Path(folder)) as measure:
        for name in sys.argv[1:] or ENTRANCES:
            entrance = ENTRANCES[name]
            seconds, memory = _per_megabyte(measure.cost(name, entrance.benign(MB)))
            costs = [_per_megabyte(measure.cost(name, make())) for other, _, make in HOSTILE if other == name]
            most = f"{max(s for s, _ in costs):.2f} | {max(m for _, m in costs):.0f}" if costs else "– | –"
            print(f"| {name} | {seconds:.2f} | {memory:.0f} | {len(costs)} | {most} |")


if __name__ == "__main__":
    main()
