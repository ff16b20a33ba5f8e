"""bothways itself: forward, backward and their ensemble from one run of ``bothways.train``.

In: a task. Out: an ``Outcome``. Only the public API is used, as a user would.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.accuracy import validation
from benchmarks.accuracy.outcomes import ENSEMBLE, Outcome, Spent, Stopwatch, versions_of
from benchmarks.accuracy.sets import Rows, Task

import bothways

SEPARATOR = "|"
SHARED_STAGE = "shared language model"
_TEXTS_TO_WARM_UP = 32


@dataclass(frozen=True)
class Options:
    """How to train.

    Attributes:
        pack: Name or path of language models to start from, or None.
        size: Preset of the sizes, where there is no pack, which decides them itself.
        config: A TOML file that changes numbers of the recipe, or None.
    """

    pack: str | None
    size: str
    config: Path | None


def run(task: Task, seed: int, options: Options, folder: Path, shared_folder: Path) -> Outcome:
    """Train, load and predict. A run that was killed goes on where it was.

    Args:
        task: What to learn.
        seed: Of the validation rows and of all that bothways decides by chance.
        options: How to train.
        folder: For the bundle; removed at the end.
        shared_folder: For packs that several tasks start from; stays.
    """
    fit, valid = validation.held_out(task, seed)
    pack, shared, unlabelled = options.pack, None, task.unlabelled
    if task.shared is not None:
        shared = shared_pack(task, options, shared_folder)
        pack, unlabelled = str(shared.path), []  # the pack has read them
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / "model.bundle"
    metrics = folder / "model.bundle.run" / "metrics.jsonl"
    was_resumed = metrics.exists()
    shutil.rmtree(bundle, ignore_errors=True)

    watch = Stopwatch()
    bothways.train(
        _table(fit),
        text="text",
        label="label",
        label_separator=SEPARATOR if task.is_multi_label else None,
        valid=_table(valid),
        unlabelled={"text": unlabelled} if unlabelled else None,
        pretrained=pack,
        size=None if pack else options.size,
        config=options.config,
        seed=seed,
        out=bundle,
        progress=False,
    )
    train = watch.stop()

    model = bothways.load(bundle)
    model.predict_proba_by_direction(task.test.texts[:_TEXTS_TO_WARM_UP])
    watch = Stopwatch()
    test = model.predict_proba_by_direction(task.test.texts)
    predict = watch.stop()
    order = [model.labels.index(label) for label in task.labels]
    thresholds, valid_probabilities = {}, {}
    if model.manifest.thresholds is not None:  # the ensemble's, which a user gets; those of a direction are chosen here
        thresholds[ENSEMBLE] = np.array(model.manifest.thresholds)[order]
        found = model.predict_proba_by_direction(valid.texts)
        valid_probabilities = {name: rows[:, order] for name, rows in found.items()}
    record = model.manifest.training
    outcome = Outcome(
        test={name: rows[:, order] for name, rows in test.items()},
        valid=valid_probabilities,
        valid_rows=valid if valid_probabilities else None,
        thresholds=thresholds,
        train=train,
        predict=predict,
        shared=shared.spent if shared else None,
        rows={"training": len(fit), "validation": len(valid), "unlabelled": len(unlabelled)},
        facts={
            "pretrained": {"name": Path(pack).name, "digest": record.pretrained} if pack else None,
            "size": record.size,
            "recipe": record.recipe,
            "epochs": {**epochs_of(metrics), **({SHARED_STAGE: shared.epochs} if shared else {})},
            "architecture": model.manifest.members[0].architecture.model_dump(),
            "validation": record.validation,
            "chosen_on": "the best epoch: " + validation.described_held_out(task, seed),
            "was_resumed": was_resumed,
        },
        packages=versions_of("bothways", "torch", "onnxruntime", "numpy"),
    )
    shutil.rmtree(folder)
    return outcome


@dataclass(frozen=True)
class SharedPack:
    """A pack that was fine-tuned once for several tasks, the epochs that took, and the time."""

    path: Path
    epochs: int
    spent: Spent


def shared_pack(task: Task, options: Options, folder: Path) -> SharedPack:
    """Give the pack that all tasks of ``task.shared`` start from.

    It is made once, of ``task.unlabelled``, from ``options.pack`` (from nothing where that is None), into ``folder``,
    and found there again; its epochs and time are kept beside it. ``bothways.train`` then goes on from it, for few
    epochs on the labelled texts.

    Raises:
        NotImplementedError: Always, for now.
    """
    raise NotImplementedError(
        f"{task.name} starts from language models that were fine-tuned once, on {len(task.unlabelled):,} unlabelled "
        "texts; this step is not there yet (shared_pack in benchmarks/accuracy/ours.py)"
    )


def epochs_of(metrics: Path) -> dict[str, int]:
    """Give the epochs of each stage of a run, the last one counted as a whole one, from its metrics."""
    found: dict[str, int] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        report = json.loads(line)
        if report.get("report") == "EpochReport":
            found[report["stage"]] = report["epochs"]
    return found


def _table(rows: Rows) -> dict[str, Iterable[str]]:
    return {"text": rows.texts, "label": [SEPARATOR.join(labels) for labels in rows.labels]}
