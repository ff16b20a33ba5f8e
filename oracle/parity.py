"""Compare imported models with the real fastai that made them: `make parity`.

Trains classifiers in both directions with fastai 2.8.12 and with fastai 1.0.61 on real texts (IMDb where BOTHWAYS_DATA
names the data sets, the demo's messages elsewhere), lets fastai export them and predict 1,000 texts and the edge
cases one by one, imports the exports, and compares. Prints ids that differ, the largest difference of a probability,
labels that differ, and the direction that the weights of each model show. The last line is JSON. Exits with 1 if
ids or labels differ, a probability differs by more than 1e-5, or a direction is inferred wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import bothways
from bothways.text.reading import Direction

HERE = Path(__file__).resolve().parent
LARGEST_DIFFERENCE = 1e-5
NAMES = {"2": "2.8.12", "1": "1.0.61"}


def main() -> None:
    """Train, import, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=1000, help="real texts to predict, besides the nasty ones")
    parser.add_argument("--oracle", type=Path, default=HERE.parent / ".oracle", help="the environment of make oracle")
    parser.add_argument("--keep", action="store_true", help="take the models and predictions of the last run")
    arguments = parser.parse_args()
    started = time.monotonic()
    folder = arguments.oracle / "parity"
    if not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
        train(arguments.oracle, folder, arguments.count)
    results = [result for version in NAMES for result in compared(version, folder / version)]
    show(results)
    passed = all(
        result["different_ids"] == 0
        and result["different_labels"] == 0
        and result["largest_difference"] <= LARGEST_DIFFERENCE
        and result["verdict"] in ("none", result["direction"])
        for result in results
    )
    print(json.dumps({"passed": passed, "minutes": round((time.monotonic() - started) / 60, 1), "results": results}))
    sys.exit(0 if passed else 1)


def train(oracle: Path, folder: Path, count: int) -> None:
    """Train and predict with both versions of fastai, in parallel on one core each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONPATH", None)
    python = str(oracle.absolute() / "bin" / "python")
    running = []
    for version in NAMES:
        out = (folder / version).absolute()
        out.mkdir(parents=True)
        command = [python, str(HERE / "parity_models.py"), version, str(out), str(count)]
        running.append(subprocess.Popen(command, env=environment))
    statuses = [process.wait() for process in running]
    if any(statuses):
        sys.exit("the real fastai failed: see above")


def compared(version: str, folder: Path) -> list[dict[str, Any]]:
    """Import the two exports of a version into one bundle, and return the result of each direction's comparison."""
    bundle = folder / "imported.bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    imported = bothways.import_fastai(folder / "forward.pkl", folder / "backward.pkl", out=bundle)
    model = bothways.load(bundle)
    results = []
    for direction, made in zip(Direction, imported.models, strict=True):
        rows = [json.loads(line) for line in (folder / f"{direction}.jsonl").read_text().splitlines()]
        # fastai 2 passes over windows that begin with a typed xxpad; see docs/fastai.md
        rows = [row for row in rows if "xxpad" not in row["text"].lower()]
        ours = model.predict_proba_by_direction([row["text"] for row in rows])[str(direction)]
        theirs = np.array([row["probabilities"] for row in rows])
        ids = [model.tokenizer.tokenize(row["text"]).ids.tolist() for row in rows]
        results.append(
            {
                "fastai": NAMES[version],
                "direction": str(direction),
                "texts": len(rows),
                "tokens": sum(map(len, ids)),
                "different_ids": sum(found != row["ids"] for found, row in zip(ids, rows, strict=True)),
                "largest_difference": float(np.abs(ours - theirs).max()),
                "different_labels": int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()),
                "verdict": str(made.verdict.direction or "none").lower(),
                "z_score": round(made.verdict.z_score, 1),
                "known_by": made.known_by,
            }
        )
    return results


def show(results: list[dict[str, Any]]) -> None:
    """Print a table."""
    table = Table(title="bothways against fastai, text by text", title_justify="left")
    for name in ("fastai", "reads", "texts", "tokens", "other ids", "largest difference", "other labels"):
        table.add_column(name, justify="left" if name in ("fastai", "reads") else "right")
    table.add_column("weights show (|z|)")
    table.add_column("direction known by")
    for result in results:
        table.add_row(
            result["fastai"],
            result["direction"],
            f"{result['texts']:,}",
            f"{result['tokens']:,}",
            str(result["different_ids"]),
            f"{result['largest_difference']:.1e}",
            str(result["different_labels"]),
            f"{result['verdict']} ({abs(result['z_score'])})",
            result["known_by"],
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
