"""bothways itself: forward, backward and their ensemble from one run of ``bothways.train``.

In: a task. Out: an ``Outcome``. It is trained and asked through the public API, as by a user.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from benchmarks.accuracy import validation
from benchmarks.accuracy.metrics import Probabilities
from benchmarks.accuracy.outcomes import ENSEMBLE, Outcome, Spent, Stopwatch, versions_of
from benchmarks.accuracy.sets import Rows, Task

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.bundle.shipped import pack_path

SEPARATOR = "|"
SHARED_STAGE = "shared language model"
SHARED_CONFIG = Path(__file__).with_name("shared.toml")
"""How language models that several tasks share are fine-tuned."""
_TEXTS_TO_WARM_UP = 32


@dataclass(frozen=True)
class Options:
    """How to train.

    Attributes:
        pack: Name or path of language models to start from, or None.
        size: Preset of the sizes, where there is no pack, which decides them itself.
        config: A TOML file that changes numbers of the recipe, or None.
        shared_config: The same for language models that several tasks share.
        device: cpu or cuda.
    """

    pack: str | None
    size: str
    config: Path | None
    shared_config: Path
    device: str


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
    folder.mkdir(parents=True, exist_ok=True)
    pack, shared, unlabeled, config = options.pack, None, task.unlabeled, options.config
    if task.shared is not None:
        shared = shared_pack(task, options, shared_folder)
        pack, unlabeled = str(shared.path), []  # the pack has read them
        config = _without_language_model(config, folder)
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
        unlabeled={"text": unlabeled} if unlabeled else None,
        pretrained=pack,
        size=None if pack else options.size,
        config=config,
        seed=seed,
        out=bundle,
        device=options.device,
        progress=False,
    )
    train = watch.stop()

    model = bothways.load(bundle)
    predicted: Callable[[Sequence[str]], dict[str, Probabilities]] = model.predict_proba_by_direction
    if options.device == "cuda":
        from benchmarks.accuracy.on_gpu import probabilities_of  # noqa: PLC0415  (baselines need no torch)

        predicted = probabilities_of(bundle)
    predicted(task.test.texts[:_TEXTS_TO_WARM_UP])
    watch = Stopwatch()
    test = predicted(task.test.texts)
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
        rows={"training": len(fit), "validation": len(valid), "unlabeled": len(unlabeled)},
        facts={
            "pretrained": {"name": Path(pack).name, "digest": record.pretrained} if pack else None,
            "size": record.size,
            "hyperparameters": record.hyperparameters,
            "epochs": {**epochs_of(metrics), **({SHARED_STAGE: shared.epochs} if shared else {})},
            "seconds": {**seconds_of(metrics), **({"language model": shared.seconds} if shared else {})},
            "architecture": model.manifest.members[0].architecture.model_dump(),
            "validation": record.validation,
            "chosen_on": "temperature and thresholds: " + validation.described_held_out(task, seed),
            "was_resumed": was_resumed,
        },
        packages=versions_of("bothways", "torch", "onnxruntime", "numpy"),
    )
    shutil.rmtree(folder)
    return outcome


@dataclass(frozen=True)
class SharedPack:
    """A pack that was fine-tuned once for several tasks.

    Attributes:
        path: Where it is.
        epochs: How many it took.
        seconds: Of these epochs, validation included.
        spent: All in all.
    """

    path: Path
    epochs: int
    seconds: float
    spent: Spent


def shared_pack(task: Task, options: Options, folder: Path) -> SharedPack:
    """Return the pack that all tasks of ``task.shared`` start from.

    It is made once, of ``task.unlabeled``, from ``options.pack`` (from nothing where that is None), into ``folder``,
    and found there again; its epochs and time are kept beside it. ``bothways.train`` then leaves the language models as
    they are.
    """
    source = read_bundle(pack_path(options.pack), Kind.LANGUAGE_MODEL).digest[:8] if options.pack else options.size
    pack = folder / f"bothways-{task.shared}-{source}.pack"
    notes = pack.with_suffix(".json")
    if not notes.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(pack, ignore_errors=True)
        corpus = pack.with_suffix(".jsonl")
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in task.unlabeled), encoding="utf-8")
        watch = Stopwatch()
        bothways.pretrain(
            [corpus],
            out=pack,
            continue_from=options.pack,
            size=None if options.pack else options.size,
            config=options.shared_config,
            device=options.device,
            progress=False,
        )
        spent = watch.stop()
        metrics = pack.with_suffix(".pack.run") / "metrics.jsonl"
        kept = {"epochs": epochs_of(metrics), "seconds": seconds_of(metrics), "spent": asdict(spent)}
        notes.write_text(json.dumps(kept), encoding="utf-8")
    found = json.loads(notes.read_text(encoding="utf-8"))
    stage = "language model"
    return SharedPack(pack, found["epochs"][stage], found["seconds"][stage], Spent(**found["spent"]))


def _without_language_model(config: Path | None, folder: Path) -> Path:
    """Return a recipe's changes with those that leave a pack's language models as they are.

    Raises:
        ValueError: ``config`` has numbers of language models, which are not trained.
    """
    given = config.read_text(encoding="utf-8") if config else ""
    if "[language_model]" in given:
        raise ValueError(f"{config} changes [language_model], which is fine-tuned by --shared-config here")
    path = folder / "config.toml"
    path.write_text(f"{given}\n[language_model]\nepochs = 0\n", encoding="utf-8")
    return path


def epochs_of(metrics: Path) -> dict[str, int]:
    """Return the epochs of each stage of a run, the last one counted as a whole one, from its metrics."""
    found: dict[str, int] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        report = json.loads(line)
        if report.get("report") == "EpochReport":
            found[report["stage"]] = report["epochs"]
    return found


def seconds_of(metrics: Path) -> dict[str, float]:
    """Return how long each stage's epochs took, validation included: the mean of the directions."""
    found: dict[str, dict[str, float]] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        report = json.loads(line)
        if report.get("report") == "EpochReport":
            of_stage = found.setdefault(report["stage"], {})
            of_stage[report["direction"]] = of_stage.get(report["direction"], 0.0) + report["seconds"]
    return {stage: float(np.mean(list(seconds.values()))) for stage, seconds in found.items()}


def _table(rows: Rows) -> dict[str, Iterable[str]]:
    return {"text": rows.texts, "label": [SEPARATOR.join(labels) for labels in rows.labels]}
