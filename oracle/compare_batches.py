"""Count the predictions that batching changes in fastai and in bothways (docs/fastai-batching.md).

For the forward models that `make parity` trained: the real fastai predicts texts alone and in batches (`batching.py`).
Then the same export is imported and predicts the same texts in the same batches. Both are compared with fastai's own
prediction for each text alone. Prints a Markdown table. The last line is JSON.
Run it after `make parity`.

Run: .venv/bin/python oracle/compare_batches.py [--count 400]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import bothways

HERE = Path(__file__).resolve().parent
NAMES = {"2": "2.8.12", "1": "1.0.61"}
TOLERANCE = 1e-3


def main() -> None:
    """Predict with fastai and with bothways, compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=400, help="number of texts")
    parser.add_argument("--oracle", type=Path, default=HERE.parent / ".oracle", help="the environment of make oracle")
    arguments = parser.parse_args()
    print(
        "| texts per batch | fastai 2: other probabilities | other label | fastai 1: other probabilities | other label "
        "| bothways: other probabilities |"
    )
    print("|---|---|---|---|---|---|")
    found = {version: batches_of(version, arguments.oracle.absolute(), arguments.count) for version in NAMES}
    for size in found["2"]:
        cells = [
            f"{100 * found[version][size][name] / arguments.count:.1f} %"
            for version in NAMES
            for name in ("differ", "other_label")
        ]
        ours = max(found[version][size]["ours_differ"] for version in NAMES)
        print(f"| {size} | {' | '.join(cells)} | {100 * ours / arguments.count:.1f} % |")
    largest = {version: max(row["ours_largest"] for row in rows.values()) for version, rows in found.items()}
    print(json.dumps({"texts": arguments.count, "largest_difference_of_ours": largest, "batches": found}))


def batches_of(version: str, oracle: Path, count: int) -> dict[str, dict[str, Any]]:
    """Return the counts of changed predictions per batch size, in fastai and in bothways."""
    folder = oracle / "parity" / version
    dump = folder / "alone.jsonl"
    command = [str(oracle / "bin" / "python"), str(HERE / "batching.py"), "--fastai", version, "--count", str(count)]
    command += ["--model", str(folder / "forward.pkl"), "--dump", str(dump)]
    if data := os.environ.get("BOTHWAYS_DATA"):
        command += ["--texts", str(Path(data) / "imdb" / "test.parquet")]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    theirs: dict[str, dict[str, Any]] = json.loads(finished.stdout.splitlines()[-1])["batches"]

    rows = [json.loads(line) for line in dump.read_text(encoding="utf-8").splitlines()]
    texts, alone = [row["text"] for row in rows], np.array([row["probabilities"] for row in rows])
    model = bothways.load(folder / "imported.bundle")
    for size, found in theirs.items():
        starts = range(0, len(texts), int(size))
        parts = [model.predict_proba_by_direction(texts[start : start + int(size)])["forward"] for start in starts]
        difference = np.abs(np.concatenate(parts) - alone).max(axis=1)
        found["ours_differ"] = int((difference > TOLERANCE).sum())
        found["ours_largest"] = float(difference.max())
    return theirs


if __name__ == "__main__":
    main()
