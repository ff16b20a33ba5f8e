"""bothways itself: forward, backward and their ensemble from one run of ``bothways.train``.

Input: a task. Output: an ``Outcome``. Training and prediction use the public API, as a user would.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.accuracy import encoder, validation
from benchmarks.accuracy.metrics import Probabilities
from benchmarks.accuracy.outcomes import ENSEMBLE, Outcome, Spent, Stopwatch, megabytes, versions_of
from benchmarks.accuracy.sets import Rows, Task

import bothways
from bothways.bundle.manifest import EncoderKind, Kind
from bothways.bundle.packs import pack_path
from bothways.bundle.read import read_bundle
from bothways.errors import NoBetterThanConstant
from bothways.runtime.classifier import Classifier
from bothways.training.choices import Device, Size

SEPARATOR = "|"
DIRECTIONS = "directions"
"""The mean of the directions, without a linear member."""
TEACHER = "teacher"
"""The teacher alone."""
SHARED_STAGE = "shared language model"
SHARED_CONFIG = Path(__file__).with_name("shared.toml")
"""Hyperparameters for fine-tuning the language models that several tasks share."""
_TEXTS_TO_WARM_UP = 32


@dataclass(frozen=True)
class Options:
    """Settings of the bothways runs.

    Attributes:
        pack: Name or path of the pack of language models to start from, or None.
        encoder: Kind of the encoder, which must be that of the pack.
        size: Model size if there is no pack. A pack fixes the model size.
        config: TOML file with hyperparameters, or None.
        shared_config: TOML file with hyperparameters of the language models that several tasks share.
        device: ``cpu`` or ``cuda``.
        has_linear: Whether a linear member is part of the ensemble.
        encoders: Python of the environment with the encoder that teaches, or None to train without a teacher.
        embeddings: Folder of its embeddings.
    """

    pack: str | None
    encoder: EncoderKind
    size: Size
    config: Path | None
    shared_config: Path
    device: Device
    has_linear: bool = False
    encoders: Path | None = None
    embeddings: Path = Path()


def run(task: Task, seed: int, options: Options, folder: Path, shared_folder: Path) -> Outcome:
    """Train, load and predict. A run that was killed resumes.

    Args:
        task: Task to learn.
        seed: Random seed of the validation rows and of bothways.
        options: Settings.
        folder: Folder for the bundle. Removed at the end.
        shared_folder: Folder for packs that several tasks start from. Kept.

    Raises:
        ValueError: There is a teacher and nothing that it could label.
    """
    fit, valid = validation.held_out(task, seed)
    teacher = None
    if options.encoders is not None:
        if not task.unlabeled or task.shared is not None:
            raise ValueError(f"{task.name} has no unlabeled texts for a teacher: take a set named NAME-unlabeled")
        teacher = encoder.fitted_teacher(task, fit, seed, options.encoders, options.embeddings)
    folder.mkdir(parents=True, exist_ok=True)
    pack, shared, unlabeled, config = options.pack, None, task.unlabeled, options.config
    if task.shared is not None:
        shared = shared_pack(task, options, shared_folder)
        pack, unlabeled = str(shared.path), []  # the pack was trained on them
        config = _with_section(config, "language_model", "epochs = 0", folder)
    if options.has_linear:
        config = _with_section(config, "linear", 'include = "auto"', folder)
    bundle = folder / "model.bundle"
    metrics = folder / "model.bundle.run" / "metrics.jsonl"
    was_resumed = metrics.exists()
    shutil.rmtree(bundle, ignore_errors=True)

    watch = Stopwatch()
    train_bundle = partial(
        bothways.train,
        _table(fit),
        text="text",
        label="label",
        label_separator=SEPARATOR if task.is_multi_label else None,
        valid=_table(valid),
        unlabeled={"text": unlabeled} if unlabeled else None,
        teacher=teacher,
        pretrained=pack,
        encoder=options.encoder,
        size=None if pack else options.size,
        config=config,
        seed=seed,
        out=bundle,
        device=options.device,
        progress=False,
    )
    was_refused = False
    try:
        train_bundle()
    except NoBetterThanConstant:  # on a handful of validation rows that is often chance, and every seed counts
        was_refused = True
        train_bundle(force=True)
    train = watch.stop()

    model = bothways.load(bundle)
    predict_rows: Callable[[Sequence[str]], dict[str, Probabilities]] = model.predict_proba_by_direction
    if options.device == "cuda":
        from benchmarks.accuracy.on_gpu import gpu_predictor  # noqa: PLC0415  (the baselines run without torch)

        predict_rows = gpu_predictor(bundle)
    predict_rows(task.test.texts[:_TEXTS_TO_WARM_UP])
    watch = Stopwatch()
    test = predict_rows(task.test.texts)
    predict = watch.stop()
    if options.has_linear:
        test = _with_mean_of_directions(model, test)
    order = [model.labels.index(label) for label in task.labels]
    of_teacher = {TEACHER: teacher.predict_proba(task.test.texts)} if teacher else {}
    thresholds, valid_probabilities = {}, {}
    if model.manifest.thresholds is not None:  # of the ensemble; those of a direction are chosen by this benchmark
        thresholds[ENSEMBLE] = np.array(model.manifest.thresholds)[order]
        found = _with_mean_of_directions(model, model.predict_proba_by_direction(valid.texts))
        valid_probabilities = {name: rows[:, order] for name, rows in found.items()}
    record = model.manifest.training
    outcome = Outcome(
        test={name: rows[:, order] for name, rows in test.items()} | of_teacher,
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
            "linear_weight": model.manifest.linear.weight if model.manifest.linear else 0.0,
            "megabytes": megabytes(path.stat().st_size for path in bundle.rglob("*") if path.is_file()),
            "architecture": model.manifest.members[0].architecture.model_dump(),
            "validation": record.validation,
            "chosen_on": "temperature and thresholds: " + validation.described_held_out(task, seed),
            "was_resumed": was_resumed,
            "was_refused": was_refused,
        },
        packages=versions_of("bothways", "torch", "onnxruntime", "numpy"),
    )
    shutil.rmtree(folder)
    return outcome


def _with_mean_of_directions(model: Classifier, found: dict[str, Probabilities]) -> dict[str, Probabilities]:
    """Add what the same training is worth without a linear member. It is the ensemble if the member was left out."""
    return {**found, DIRECTIONS: model.task.mean(found[name] for name in model.directions)}


@dataclass(frozen=True)
class SharedPack:
    """A pack that is fine-tuned once for several tasks.

    Attributes:
        path: Path of the pack.
        epochs: Number of epochs of the fine-tuning.
        seconds: Seconds of these epochs, including validation.
        spent: Total time.
    """

    path: Path
    epochs: int
    seconds: float
    spent: Spent


def shared_pack(task: Task, options: Options, folder: Path) -> SharedPack:
    """Return the pack that all tasks with the same ``task.shared`` start from.

    The pack is trained once on ``task.unlabeled``, starting from ``options.pack`` or from scratch if that is None.
    ``folder`` keeps it, together with its epochs and time. ``bothways.train`` then does not fine-tune the language
    models again.
    """
    if options.pack:
        source = read_bundle(pack_path(options.pack), Kind.LANGUAGE_MODEL).digest[:8]
    else:
        source = f"{options.encoder}-{options.size}"
    pack = folder / f"bothways-{task.shared}-{source}.pack"
    record = pack.with_suffix(".json")
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(pack, ignore_errors=True)
        corpus = pack.with_suffix(".jsonl")
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in task.unlabeled), encoding="utf-8")
        watch = Stopwatch()
        bothways.pretrain(
            [corpus],
            out=pack,
            continue_from=options.pack,
            encoder=options.encoder,
            size=None if options.pack else options.size,
            config=options.shared_config,
            device=options.device,
            progress=False,
        )
        spent = watch.stop()
        metrics = pack.with_suffix(".pack.run") / "metrics.jsonl"
        content = {"epochs": epochs_of(metrics), "seconds": seconds_of(metrics), "spent": asdict(spent)}
        record.write_text(json.dumps(content), encoding="utf-8")
    found = json.loads(record.read_text(encoding="utf-8"))
    stage = "language model"
    return SharedPack(pack, found["epochs"][stage], found["seconds"][stage], Spent(**found["spent"]))


def _with_section(config: Path | None, section: str, line: str, folder: Path) -> Path:
    """Write hyperparameters with one more section, and return their path.

    Raises:
        ValueError: ``config`` has this section already.
    """
    given = config.read_text(encoding="utf-8") if config else ""
    if f"[{section}]" in given:
        raise ValueError(f"{config} sets [{section}], but the benchmark sets {line} in it. Remove the section")
    path = folder / "config.toml"
    path.write_text(f"{given}\n[{section}]\n{line}\n", encoding="utf-8")
    return path


def epochs_of(metrics: Path) -> dict[str, int]:
    """Return the number of epochs per stage of a run from its metrics. A partial last epoch counts as one."""
    found: dict[str, int] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        report = json.loads(line)
        if report.get("report") == "EpochReport":
            found[report["stage"]] = report["epochs"]
    return found


def seconds_of(metrics: Path) -> dict[str, float]:
    """Return the seconds per stage of a run from its metrics, including validation: the mean of the directions."""
    found: dict[str, dict[str, float]] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        report = json.loads(line)
        if report.get("report") == "EpochReport":
            of_stage = found.setdefault(report["stage"], {})
            of_stage[report["direction"]] = of_stage.get(report["direction"], 0.0) + report["seconds"]
    return {stage: float(np.mean(list(seconds.values()))) for stage, seconds in found.items()}


def _table(rows: Rows) -> dict[str, Iterable[str]]:
    return {"text": rows.texts, "label": [SEPARATOR.join(labels) for labels in rows.labels]}
