"""Compare Spark, Ray, Daft and Dask with one and two workers, on two cores that nothing else uses.

Run after make build/engines/.complete and, for the bundle, make demo:
python -m benchmarks.engines demo/out/messages.bundle demo/messages.csv
The first rows of the table are scored, by each engine twice: the second time without its start.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow
from benchmarks.engines.engines import ENGINES
from pyarrow import parquet

import bothways

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "engines" / "bin" / "python"
ROWS = 200


def measured(engine: str, workers: int, bundle: Path, source: Path) -> dict[str, Any]:
    """Return what ``benchmarks.engines.process`` prints."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "PYSPARK_PYTHON": str(PYTHON)}
    command = [str(PYTHON), "-m", "benchmarks.engines.process", engine, str(workers), str(bundle), str(source)]
    finished = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a table in Markdown."""
    bundle, data = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    with data.open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:ROWS]
    expected = bothways.load(bundle).predict_proba(texts).max(axis=1).tolist()
    columns = ["same bits", "texts/s, 1 worker", "texts/s, 2 workers", "efficiency", "first call, s", "MiB per worker"]
    print(f"| engine | {' | '.join(columns)} |\n|---|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "texts.parquet")
        parquet.write_table(pyarrow.table({"id": range(len(texts)), "text": texts}), source)
        for engine in ENGINES:
            one, two = (measured(engine, workers, bundle, source) for workers in (1, 2))
            is_same = all(
                [found["probabilities"][str(row)] for row in range(len(texts))] == expected for found in (one, two)
            )
            speeds = [len(texts) / found["seconds"][1] for found in (one, two)]
            print(
                f"| {engine} | {'yes' if is_same else 'NO'} | {speeds[0]:.1f} | {speeds[1]:.1f} "
                f"| {speeds[1] / speeds[0] / 2:.0%} | {one['seconds'][0] - one['seconds'][1]:.1f} "
                f"| {max(one['peak_mib'], two['peak_mib']):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
