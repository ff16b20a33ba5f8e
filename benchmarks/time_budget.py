"""Train with several time budgets, and compare what each trains, takes and is worth on other rows.

Run: .venv/bin/python -m benchmarks.time_budget TRAIN.csv TEST.csv text label 3m 10m
Each budget is a training of its own with the seed 0. Nothing else should run on the machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bothways
from bothways.arguments import seconds_of
from bothways.bundle.parity import ENSEMBLE


def main() -> None:
    """Print a line per budget."""
    train, test, text, label, *budgets = sys.argv[1:]
    print("| budget | epochs: language models | classifiers | size | taken, s | share of the budget | accuracy |")
    print("|---|--:|--:|---|--:|--:|--:|", flush=True)
    for budget in budgets:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            out = Path(folder) / "m.bundle"
            model = bothways.train(train, text=text, label=label, out=out, time_budget=budget)
            taken = time.monotonic() - began
            found = bothways.evaluate(model, test)
            used: Any = model.manifest.training.hyperparameters
            epochs = used["language_model"]["epochs"], used["classifier"]["epochs"]
            accuracy, size = found.summary[ENSEMBLE]["accuracy"], model.manifest.training.size or "of the pack"
            print(
                f"| {budget} | {epochs[0]} | {epochs[1]} | {size} | {taken:.0f} "
                f"| {taken / seconds_of(budget):.0%} | {accuracy:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
