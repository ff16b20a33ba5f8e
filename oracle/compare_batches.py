"""Count what batches change, in fastai and in bothways: docs/fastai-batching.md. Run after `make parity`.

For the forward models that `make parity` trained: lets the real fastai predict texts alone and in batches
(`batching.py`), imports the same export, predicts the same texts in the same batches, and holds both against fastai's
own answer for each text alone. Prints a Markdown table; the last line is JSON.

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
    """Let fastai predict, predict, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=400, help="how many texts")
    parser.add_argument("--oracle", type=Path, default=HERE.parent / ".oracle", help="the environment of make oracle")
    arguments = parser.parse_args()
    print("| texts a batch | fastai 2: others | other label | fastai 1: others | other label | bothways: others |")
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
    """Return what each size of batch changes, in fastai and in bothways."""
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
