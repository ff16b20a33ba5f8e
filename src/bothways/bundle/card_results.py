"""Collect the results that the card on the Hugging Face Hub shows: metrics with intervals, and the training's duration.

In: the manifest of a bundle, the JSON of an evaluation, and the run's ``metrics.jsonl``. Out: metadata and Markdown.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, FiniteFloat

from bothways import strict_json
from bothways.bundle.manifest import Digest, Manifest, TrainingRecord
from bothways.bundle.parity import ENSEMBLE
from bothways.errors import DataError, path_text, shown
from bothways.schema import Document, Entries, Faults, Items, validated
from bothways.tasks.metrics import metric_text, metric_title

_RUN_SUFFIX = ".run"
_METRICS_FILE = "metrics.jsonl"
_LARGEST_FILE_BYTES = 1 << 28
_VALIDATION = "validation rows"


class Evaluated(Document):
    """What a card shows of an evaluation. Its other keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    data: Annotated[str, Field(max_length=10_000)]
    rows: Annotated[int, Field(ge=1)]
    digest: Digest
    summary: Entries[Entries[FiniteFloat]]
    intervals: Entries[Annotated[Items[FiniteFloat], Field(min_length=2, max_length=2)]]


def read_evaluated(path: str | os.PathLike[str], digest: str) -> Evaluated:
    """Return an evaluation that ``bothways evaluate --out`` wrote.

    Args:
        path: The JSON file.
        digest: Digest of the bundle that it must be about.

    Raises:
        DataError: The file can't be read, is not an evaluation, or is that of another bundle.
    """
    name = path_text(path)
    try:
        data = Path(path).read_bytes()
        found = validated(Evaluated, strict_json.parse(data))
    except OSError as error:
        raise DataError(f"{name} can't be read: {shown(error.strerror)}") from None
    except (ValueError, Faults) as error:
        raise DataError(f"{name} is not an evaluation: {error}. Write it with bothways evaluate --out") from None
    if found.digest != digest:
        raise DataError(
            f"{name} is the evaluation of a bundle with digest {found.digest[:12]}…, but this one has {digest[:12]}…. "
            "Evaluate this bundle with bothways evaluate --out"
        )
    if ENSEMBLE not in found.summary:
        raise DataError(f"{name} has no metrics of the ensemble. Write it with bothways evaluate --out")
    return found


def results(hub: Any, manifest: Manifest, evaluated: Evaluated | None) -> list[Any]:
    """Return the evaluation results for the metadata of a card, as huggingface_hub represents them.

    Args:
        hub: The library huggingface_hub.
        manifest: The manifest of the bundle.
        evaluated: An evaluation on other rows, if there is one.
    """
    training = manifest.training
    sources = []
    if evaluated is not None:
        found = evaluated.summary[ENSEMBLE]
        sources.append((Path(evaluated.data).name, "test", {name: found[name] for name in evaluated.intervals}))
    if training.validation_intervals:
        found = training.validation.get(ENSEMBLE, {})
        headline = {name: found[name] for name in training.validation_intervals if name in found}
        sources.append((_VALIDATION, "validation", headline))
    return [
        hub.EvalResult(
            task_type="text-classification",
            dataset_type=split,
            dataset_name=name,
            dataset_split=split,
            metric_type=metric,
            metric_name=metric_title(metric),
            metric_value=round(value, 6),
        )
        for name, split, metrics in sources
        for metric, value in metrics.items()
    ]


def evaluated_text(evaluated: Evaluated | None) -> str:
    """Return the headline of an evaluation as a paragraph, empty without one."""
    if evaluated is None:
        return ""
    parts = [
        f"{metric_title(name)} {metric_text(name, evaluated.summary[ENSEMBLE].get(name))} "
        f"(95 % interval {' to '.join(metric_text(name, bound) for bound in bounds)})"
        for name, bounds in evaluated.intervals.items()
    ]
    return f"**Evaluated on {evaluated.rows:,} rows of {shown(Path(evaluated.data).name)}:** {', '.join(parts)}.\n\n"


def compute_text(bundle: Path, training: TrainingRecord) -> str:
    """Return how long the training took and on what, from the metrics of its run beside a bundle.

    Empty if there are none, or if they are those of another run.
    """
    path = bundle.with_name(bundle.name + _RUN_SUFFIX) / _METRICS_FILE
    times: list[float] = []
    hardware, is_this_run = "", False
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            return ""
        lines = path.read_bytes().splitlines()
    except OSError:
        return ""
    for line in lines:
        try:
            values = strict_json.parse(line)
        except ValueError:  # cut short
            continue
        if not isinstance(values, dict) or not isinstance(time := values.get("time_s"), int | float):
            continue
        times.append(float(time))
        facts = values.get("facts")
        if isinstance(facts, dict) and isinstance(facts.get("cores"), int):
            hardware = f" on {facts['cores']} CPU cores" + (" and a GPU" if facts.get("device") == "cuda" else "")
        if isinstance(facts, dict) and values.get("stage") == "done":
            is_this_run = facts.get("validation") == training.validation
    if not is_this_run:
        return ""
    hours = (max(times) - min(times)) / 3600
    return (
        f"**Training** took {hours:.2f} hours{hardware}, from the first to the last entry of the run's metrics, pauses "
        "included. Energy and emissions were not measured.\n\n"
    )
