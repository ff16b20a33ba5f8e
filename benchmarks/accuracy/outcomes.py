"""Outcomes of methods, and the result files made of them: one JSON file per run, with numbers only.

Input: probabilities and times. Output: files in the results folder, written atomically, and their content.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.accuracy.metrics import Probabilities, choose_thresholds, scores, truth_of
from benchmarks.accuracy.sets import Rows, Task

SINGLE = "single"
"""Name of the model of a method with a single model."""
ENSEMBLE = "ensemble"
"""Name of the mean of a method's models."""
BASELINES = ("tfidf", "fasttext", "use-m3", "minilm")
"""Methods that are also fitted on the validation rows once their settings are chosen."""

Result = dict[str, Any]
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Spent:
    """Wall-clock time, and CPU time summed over all cores, which hardly depends on what else runs."""

    wall_s: float
    cpu_s: float


class Stopwatch:
    """Measures the time since its creation, of this process and of the child processes that have ended."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu_s()

    def stop(self) -> Spent:
        """Return the time since the creation."""
        return Spent(time.perf_counter() - self._wall, _cpu_s() - self._cpu)


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Predictions of a method on a task, and what they took.

    Attributes:
        test: Probabilities of the test rows per model (``single``, or ``forward``, ``backward`` and ``ensemble``).
        valid: Probabilities of ``valid_rows``, per model.
        valid_rows: Rows on which thresholds are chosen. Needed for multi-label tasks only.
        thresholds: Thresholds of the models that have their own, per model, each (C,).
        train: Time from rows to a model on disk or in memory, including the choice of its settings.
        predict: Time from the test texts to their probabilities, all models together.
        shared: Time for what several tasks share. Not part of ``train``.
        rows: Number of rows fitted on and validated on, by name.
        facts: Other facts: chosen settings, epochs, losses.
        packages: Names and versions of the packages that the method uses.
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


def megabytes(sizes: Iterable[int]) -> float:
    """Return the sum of sizes in bytes, in megabytes."""
    return round(sum(sizes) / 1e6, 2)


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of packages in this environment."""
    return {package: metadata.version(package) for package in packages}


def result_of(
    task: Task, method: str, seed: int, outcome: Outcome, command: str, on: Mapping[str, Any], load_before: float
) -> Result:
    """Return the content of the result file of a run.

    Args:
        task: What was learned.
        method: Name of the method.
        seed: Random seed of the run.
        outcome: Outcome of the method.
        command: Command that repeats this run.
        on: The machine, from ``machine``.
        load_before: Load average before the run.
    """
    truth = truth_of(task.test.labels, task.labels, task.is_multi_label)
    thresholds = dict(outcome.thresholds)
    if outcome.valid_rows is not None:
        valid_truth = truth_of(outcome.valid_rows.labels, task.labels, task.is_multi_label)
        thresholds = {name: choose_thresholds(rows, valid_truth) for name, rows in outcome.valid.items()} | thresholds
    scores_by_model = {}
    for name, probabilities in outcome.test.items():
        found = scores(probabilities, truth, thresholds.get(name))
        scores_by_model[name] = {key: round(value, 6) for key, value in found.items()}
    times = {"train": outcome.train, "predict": outcome.predict}
    times |= {"shared": outcome.shared} if outcome.shared else {}
    return {
        "set": task.name,
        "method": method,
        "seed": seed,
        "measure": "macro_f1" if task.is_multi_label else "error",
        "scores": scores_by_model,
        "rows": {**outcome.rows, "test": len(task.test)},
        "test_split": task.test_split,
        "times": {
            name: {"wall_s": round(spent.wall_s, 3), "cpu_s": round(spent.cpu_s, 3)} for name, spent in times.items()
        },
        "facts": dict(outcome.facts),
        "machine": {**on, "load_before": load_before},
        "versions": {"python": platform.python_version(), **outcome.packages},
        "command": command,
    }


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return the CPU, its features and number of cores, and the GPU if that is the device."""
    cpu: dict[str, str] = {}
    cpu_file = Path("/proc/cpuinfo")
    if cpu_file.exists():
        for line in cpu_file.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            cpu.setdefault(name.strip(), value.strip())
    flags = set(cpu.get("flags", "").split())
    gpu = {}
    if device == "cuda":
        import torch  # noqa: PLC0415  (the baselines run without torch)

        gpu = {"gpu": torch.cuda.get_device_name()}
    return {
        **gpu,
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "features": [feature for feature in _FEATURES if feature in flags],
        "cores": len(os.sched_getaffinity(0)),
    }


def load_average() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    """Return the mean of values and, if there are several, their standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def describe_machine(found: Mapping[str, Any]) -> str:
    """Return a machine's GPU, CPU, cores and CPU features in one line, from what ``machine`` returned."""
    return _described(found, "core" if found["cores"] == 1 else "cores")


def _described(found: Mapping[str, Any], cores: str) -> str:
    gpu = f"{found['gpu']}; " if "gpu" in found else ""
    return f"{gpu}{found['cpu']}, {found['cores']} {cores} ({', '.join(found['features'])})"


def result_file(folder: Path, on: Mapping[str, Any], set_name: str, method: str, seed: int) -> Path:
    """Return the path of the result of a run. Each kind of machine has its own folder."""
    kind = re.sub(r"[^a-z0-9]+", "-", _described(on, "cores").lower()).strip("-")
    return folder / kind / f"{set_name}.{method}.{seed}.json"


def write_result(folder: Path, result: Result) -> Path:
    """Write the file of a result atomically, and return its path."""
    path = result_file(folder, result["machine"], result["set"], result["method"], result["seed"])
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in result.items()]
    unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    unfinished.replace(path)
    return path


def read_results(folder: Path) -> list[Result]:
    """Return all results in a folder, from all machines."""
    return list(_read(sorted(folder.glob("*/*.json"))))


def _read(paths: Sequence[Path]) -> Iterator[Result]:
    for path in paths:
        yield json.loads(path.read_text(encoding="utf-8"))
