"""What a method gives back, and the file that is kept of it: numbers only, one JSON file a run, written at once.

In: probabilities, times. Out: files in the results folder, and what was read from them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.accuracy.metrics import Probabilities, choose_thresholds, scores, truth_of
from benchmarks.accuracy.sets import Rows, Task

SINGLE = "single"
"""The name of a method's only model."""
ENSEMBLE = "ensemble"
"""The name of the mean of a method's models."""

Result = dict[str, Any]
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Spent:
    """Time that something took: by the clock, and of all cores together (hardly changed by other work)."""

    wall_s: float
    cpu_s: float


class Stopwatch:
    """Measures from when it is made, this process and those that it waited for."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu_s()

    def stop(self) -> Spent:
        """Return the time since it was made."""
        return Spent(time.perf_counter() - self._wall, _cpu_s() - self._cpu)


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method made of a task.

    Attributes:
        test: Probabilities of the test rows by model (``single``, or ``forward``, ``backward`` and ``ensemble``).
        valid: Those of ``valid_rows``, by model.
        valid_rows: What thresholds are chosen on; needed for texts with any number of labels only.
        thresholds: Of models that bring their own, by model, each (C,).
        train: From rows to a model on disk or in memory, choosing its settings included.
        predict: From the test texts to their probabilities, by all models together.
        shared: For what was made once for several tasks, not part of ``train``.
        rows: How many were fitted on and validated on, by name.
        facts: What else is worth keeping: chosen settings, epochs, losses.
        packages: Whose versions matter, with their versions where they come from another environment.
    """

    test: Mapping[str, Probabilities]
    train: Spent
    predict: Spent
    rows: Mapping[str, int]
    facts: Mapping[str, object]
    packages: Mapping[str, str]
    valid: Mapping[str, Probabilities] = field(default_factory=dict)
    valid_rows: Rows | None = None
    thresholds: Mapping[str, Probabilities] = field(default_factory=dict)
    shared: Spent | None = None


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of packages that are installed here."""
    return {package: metadata.version(package) for package in packages}


def result_of(
    task: Task, method: str, seed: int, outcome: Outcome, command: str, described: Mapping[str, Any], load_before: float
) -> Result:
    """Return all that is kept of a run on a machine, as JSON holds it."""
    truth = truth_of(task.test.labels, task.labels, task.is_multi_label)
    thresholds = dict(outcome.thresholds)
    if outcome.valid_rows is not None:
        valid_truth = truth_of(outcome.valid_rows.labels, task.labels, task.is_multi_label)
        thresholds = {name: choose_thresholds(rows, valid_truth) for name, rows in outcome.valid.items()} | thresholds
    measured = {}
    for name, probabilities in outcome.test.items():
        found = scores(probabilities, truth, thresholds.get(name))
        measured[name] = {key: round(value, 6) for key, value in found.items()}
    times = {"train": outcome.train, "predict": outcome.predict}
    times |= {"shared": outcome.shared} if outcome.shared else {}
    return {
        "set": task.name,
        "method": method,
        "seed": seed,
        "measure": "macro_f1" if task.is_multi_label else "error",
        "scores": measured,
        "rows": {**outcome.rows, "test": len(task.test)},
        "test_split": task.test_split,
        "times": {
            name: {"wall_s": round(spent.wall_s, 3), "cpu_s": round(spent.cpu_s, 3)} for name, spent in times.items()
        },
        "facts": dict(outcome.facts),
        "machine": {**described, "load_before": load_before},
        "versions": {"python": platform.python_version(), **outcome.packages},
        "command": command,
    }


def machine(device: str = "cpu") -> dict[str, Any]:
    """Say what this machine is, and which GPU it has where that is the device."""
    described: dict[str, str] = {}
    cpu_file = Path("/proc/cpuinfo")
    if cpu_file.exists():
        for line in cpu_file.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            described.setdefault(name.strip(), value.strip())
    flags = set(described.get("flags", "").split())
    gpu = {}
    if device == "cuda":
        import torch  # noqa: PLC0415  (baselines need no torch)

        gpu = {"gpu": torch.cuda.get_device_name()}
    return {
        **gpu,
        "cpu": described.get("model name", platform.processor() or platform.machine()),
        "features": [feature for feature in _FEATURES if feature in flags],
        "cores": len(os.sched_getaffinity(0)),
    }


def load_now() -> float:
    """Return how many processes wanted a core in the last minute."""
    return round(os.getloadavg()[0], 2)


def machine_told(described: Mapping[str, Any]) -> str:
    """Return what tells a kind of machine from others, in a line."""
    gpu = f"{described['gpu']}; " if "gpu" in described else ""
    return f"{gpu}{described['cpu']}, {described['cores']} cores ({', '.join(described['features'])})"


def result_file(folder: Path, described: Mapping[str, Any], set_name: str, method: str, seed: int) -> Path:
    """Return where the result of a run on a machine is kept: each kind of machine has a folder of its own."""
    kind = re.sub(r"[^a-z0-9]+", "-", machine_told(described).lower()).strip("-")
    return folder / kind / f"{set_name}.{method}.{seed}.json"


def write_result(folder: Path, result: Result) -> Path:
    """Keep a result; its file is there whole or not at all."""
    path = result_file(folder, result["machine"], result["set"], result["method"], result["seed"])
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in result.items()]
    unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    unfinished.replace(path)
    return path


def read_results(folder: Path) -> list[Result]:
    """Return all results of a folder, of all machines."""
    return list(_read(sorted(folder.glob("*/*.json"))))


def _read(paths: Sequence[Path]) -> Iterator[Result]:
    for path in paths:
        yield json.loads(path.read_text(encoding="utf-8"))
