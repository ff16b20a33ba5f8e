"""The fastText baseline, run in a process in its own environment.

Input: a task. Output: an ``Outcome``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from benchmarks.accuracy import validation
from benchmarks.accuracy.outcomes import SINGLE, Outcome, Spent
from benchmarks.accuracy.sets import Rows, Task

ROOT = Path(__file__).parents[2]


def run(task: Task, seed: int, python: Path, folder: Path) -> Outcome:
    """Let fastText choose its settings, fit and predict.

    Args:
        task: Task to learn.
        seed: Random seed of the validation rows and of fastText.
        python: Python of the environment with fastText.
        folder: Folder for the files exchanged with the process. Removed at the end.

    Raises:
        FileNotFoundError: The environment does not exist.
    """
    if not python.exists():
        raise FileNotFoundError(
            f"{python} is missing: create the environment of fastText first (benchmarks/accuracy/README.md)"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    number = {label: position for position, label in enumerate(task.labels)}

    def packed(rows: Rows) -> dict[str, object]:
        return {"texts": rows.texts, "labels": [[number[label] for label in row] for row in rows.labels]}

    content = {
        "classes": len(task.labels),
        "is_multi_label": task.is_multi_label,
        "seed": seed,
        "parts": [[packed(fit), packed(valid)] for fit, valid in validation.parts(task, seed)],
        "train": packed(task.train),
        "test": task.test.texts,
    }
    (folder / "task.json").write_text(json.dumps(content), encoding="utf-8")
    command = [str(python), "-m", "benchmarks.accuracy.fasttext_process", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    made = json.loads((folder / "made.json").read_text(encoding="utf-8"))
    test, valid = np.load(folder / "test.npy"), np.load(folder / "valid.npy")
    shutil.rmtree(folder)
    return Outcome(
        test={SINGLE: test},
        train=Spent(**made["train"]),
        predict=Spent(**made["predict"]),
        rows={"training": len(task.train), "validation": len(task.valid) if task.valid else 0},
        facts={
            "chosen": made["chosen"],
            "chosen_on": validation.described(task, seed),
            "validation": made["validation"],
            "threads": 1,
        },
        packages=made["versions"],
        valid={SINGLE: valid} if task.is_multi_label else {},
        valid_rows=validation.joined(task, seed) if task.is_multi_label else None,
    )
