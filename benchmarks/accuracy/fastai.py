"""fastai with the same pre-trained weights, ids and epochs as bothways.

Input: a task and a pack. Output: an ``Outcome``. bothways tokenizes. ``oracle/accuracy.py`` does everything else in the
oracle's environment, with one process per direction at the same time, as in bothways. Ids are in reading order.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.accuracy import validation
from benchmarks.accuracy.ours import SHARED_STAGE
from benchmarks.accuracy.outcomes import ENSEMBLE, Outcome, Result, Spent, Stopwatch
from benchmarks.accuracy.sets import Task

from bothways.bundle.manifest import Kind
from bothways.bundle.packs import pack_path
from bothways.bundle.read import Bundle, read_bundle
from bothways.data.tokenization import tokenize_all
from bothways.runtime.cores import available_cores
from bothways.runtime.language_model import LanguageModel

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "oracle" / "accuracy.py"
_SHARED_VALIDATION_SHARE = 0.1
_TEXTS_TO_COMPARE = 40
_LONGEST_TO_COMPARE = 2_000
"""Maximum number of characters of a text in the comparison of losses before training."""


@dataclass(frozen=True)
class Options:
    """Settings of the fastai runs.

    Attributes:
        pack: Name or path of the pack of language models to start from.
        python: Python of the environment with fastai.
        language_model_epochs: Epochs of the language models. Defaults to those of bothways.
        classifier_epochs: Epochs of the classifiers, including gradual unfreezing. Defaults to those of bothways.
    """

    pack: str
    python: Path
    language_model_epochs: int | None
    classifier_epochs: int | None


def run(task: Task, seed: int, options: Options, folder: Path, shared_folder: Path, ours: Sequence[Result]) -> Outcome:
    """Let fastai fine-tune, train, export and predict, forward and backward.

    Args:
        task: Task to learn.
        seed: Random seed of the validation rows and of fastai.
        options: Settings.
        folder: Folder for the files exchanged with the processes. Removed at the end.
        shared_folder: Folder for encoders that several tasks start from. Kept.
        ours: Results of bothways on this set, from which the epochs are taken.

    Raises:
        FileNotFoundError: The environment does not exist.
        ValueError: The number of epochs is unknown.
    """
    if not options.python.exists():
        raise FileNotFoundError(f"{options.python} is missing: run make .oracle/.environment first")
    lm_epochs, classifier_epochs = _epochs(task, options, ours)
    pack = read_bundle(pack_path(options.pack), Kind.LANGUAGE_MODEL)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    watch = Stopwatch()
    fit, valid = validation.held_out(task, seed)
    encoder_folder, shared = folder, None
    if task.shared is not None:
        encoder_folder = shared_folder / f"fastai-{task.shared}-{pack.digest[:8]}-{lm_epochs}"
        shared = _shared_encoders(task, pack, lm_epochs, options.python, encoder_folder)
        watch = Stopwatch()
    else:
        _write_language_model_task(folder, pack, [*fit.texts, *task.unlabeled], valid.texts, lm_epochs, seed)
        _in_both_directions(options.python, "language-model", folder, pack)
    number = {label: position for position, label in enumerate(task.labels)}
    for name, rows in (("train", fit), ("valid", valid)):
        _write_ids(folder, name, pack, rows.texts)
    _write_json(
        folder / "classifier.json",
        {
            "vocabulary": pack.tokenizer.tokens(range(len(pack.tokenizer))),
            "sizes": _sizes(pack),
            "classes": len(task.labels),
            "is_multi_label": task.is_multi_label,
            "train": [[number[label] for label in row] for row in fit.labels],
            "valid": [[number[label] for label in row] for row in valid.labels],
            "epochs": classifier_epochs,
            "seed": seed,
            "encoders": str(encoder_folder.resolve()),
            "threads": _threads(pack),
        },
    )
    _in_both_directions(options.python, "classifier", folder, pack)
    train = watch.stop()

    watch = Stopwatch()
    _write_ids(folder, "test", pack, task.test.texts)
    tokenizing = watch.stop()
    _write_json(folder / "predict.json", {"parts": ["test", "valid"], "threads": available_cores()})
    for direction in pack.manifest.directions:
        _call(options.python, "predict", folder, direction)
    made = {direction: _read_json(folder / f"predicted-{direction}.json") for direction in pack.manifest.directions}
    by_part = {}
    for part in ("test", "valid"):
        each = {str(d): np.load(folder / f"{part}-{d}.npy").astype(np.float64) for d in pack.manifest.directions}
        by_part[part] = {**each, ENSEMBLE: np.mean(list(each.values()), axis=0)}
    reports = {
        str(direction): {
            "language_model": _read_json(encoder_folder / f"language-model-{direction}.json"),
            "classifier": _read_json(folder / f"classifier-{direction}.json"),
        }
        for direction in pack.manifest.directions
    }
    outcome = Outcome(
        test=by_part["test"],
        valid=by_part["valid"] if task.is_multi_label else {},
        valid_rows=valid if task.is_multi_label else None,
        train=train,
        predict=Spent(
            tokenizing.wall_s + sum(found["times"]["test"]["wall_s"] for found in made.values()),
            tokenizing.cpu_s + sum(found["times"]["test"]["cpu_s"] for found in made.values()),
        ),
        shared=shared,
        rows={"training": len(fit), "validation": len(valid), "unlabeled": len(task.unlabeled)},
        facts={
            "pretrained": {"name": Path(options.pack).name, "digest": pack.digest},
            "architecture": pack.manifest.members[0].architecture.model_dump(),
            "epochs": {"language model": lm_epochs, "classifier": classifier_epochs},
            "reports": reports,
            "seconds": {
                stage: float(np.mean([report[stage.replace(" ", "_")]["seconds"] for report in reports.values()]))
                for stage in ("language model", "classifier")
            }
            | {"other rates": max(report["classifier"]["seconds_of_other_rates"] for report in reports.values())},
        },
        packages=made[pack.manifest.directions[0]]["versions"],
    )
    shutil.rmtree(folder)
    return outcome


def _epochs(task: Task, options: Options, ours: Sequence[Result]) -> tuple[int, int]:
    known: dict[str, int] = next((result["facts"]["epochs"] for result in ours if result["set"] == task.name), {})
    found = (
        options.language_model_epochs or known.get(SHARED_STAGE, known.get("language model")),
        options.classifier_epochs or known.get("classifier"),
    )
    if found[0] is None or found[1] is None:
        raise ValueError(
            f"{task.name}: fastai uses the epochs of bothways, but there is no result of bothways on this set. "
            "Run it first, or pass --fastai-language-model-epochs and --fastai-classifier-epochs"
        )
    return found[0], found[1]


def _shared_encoders(task: Task, pack: Bundle, epochs: int, python: Path, folder: Path) -> Spent:
    """Fine-tune language models on the unlabeled texts of a task unless they exist, and return the time it took."""
    done = folder / "time.json"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        watch = Stopwatch()
        held = round(_SHARED_VALIDATION_SHARE * len(task.unlabeled))
        _write_language_model_task(folder, pack, task.unlabeled[held:], task.unlabeled[:held], epochs, 0)
        _in_both_directions(python, "language-model", folder, pack)
        for path in [*folder.glob("*.npz"), *folder.glob("*.npy")]:
            path.unlink()
        _write_json(done, asdict(watch.stop()))
    return Spent(**_read_json(done))


def _write_language_model_task(
    folder: Path, pack: Bundle, train: Sequence[str], valid: Sequence[str], epochs: int, seed: int
) -> None:
    """Write ids, the weights of the pack, and the losses of the pack's models on some validation texts."""
    _write_ids(folder, "lm-train", pack, train)
    _write_ids(folder, "lm-valid", pack, valid)
    ours = LanguageModel(pack)
    compared = [i for i, text in enumerate(valid) if len(text) <= _LONGEST_TO_COMPARE and len(text.split()) > 1]
    compared = compared[:_TEXTS_TO_COMPARE]
    for member in pack.manifest.members:
        np.savez(folder / f"weights-{member.direction}.npz", **pack.weights[member.direction])  # type: ignore[arg-type]
        losses = [ours.loss(valid[i], member.direction) for i in compared]
        _write_json(folder / f"losses-{member.direction}.json", {"texts": compared, "losses": losses})
    _write_json(
        folder / "language-model.json",
        {
            "vocabulary": pack.tokenizer.tokens(range(len(pack.tokenizer))),
            "sizes": _sizes(pack),
            "epochs": epochs,
            "seed": seed,
            "threads": _threads(pack),
        },
    )


def _write_ids(folder: Path, name: str, pack: Bundle, texts: Sequence[str]) -> None:
    """Write the ids of texts in the reading order of each direction's model."""
    orders = [(member.direction, member.special_tokens) for member in pack.manifest.members]
    rows = list(tokenize_all(pack.tokenizer, texts, orders, available_cores()))
    for position, (direction, _) in enumerate(orders):
        ids = [row[position] for row in rows]
        starts = np.cumsum([0, *map(len, ids)])
        np.savez(folder / f"{name}-{direction}.npz", ids=np.concatenate(ids), starts=starts)


def _sizes(pack: Bundle) -> dict[str, int]:
    sizes = pack.manifest.members[0].architecture
    return {"emb_sz": sizes.width_embedding, "n_hid": sizes.width_hidden, "n_layers": sizes.layers}


def _threads(pack: Bundle) -> int:
    return max(1, available_cores() // len(pack.manifest.members))


def _in_both_directions(python: Path, stage: str, folder: Path, pack: Bundle) -> None:
    """Run a stage for each direction at the same time, as bothways does."""
    running = [_started(python, stage, folder, direction) for direction in pack.manifest.directions]
    statuses = [process.wait() for process in running]
    if any(statuses):
        raise subprocess.CalledProcessError(max(statuses, key=abs), f"oracle/accuracy.py {stage}")


def _call(python: Path, stage: str, folder: Path, direction: str) -> None:
    process = _started(python, stage, folder, direction)
    if status := process.wait():
        raise subprocess.CalledProcessError(status, f"oracle/accuracy.py {stage} {direction}")


def _started(python: Path, stage: str, folder: Path, direction: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment.setdefault("GOMP_SPINCOUNT", "1000")  # as bothways sets it for its own training
    command = [str(python.absolute()), str(SCRIPT), stage, str(folder.resolve()), direction]
    return subprocess.Popen(command, env=environment)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
