"""Baselines with a frozen sentence encoder: its embeddings and logistic regression.

Input: a task. Output: an ``Outcome``. A process in the environment of the encoders embeds the texts. Each text is
embedded once, and its embedding and time are kept for other tasks and seeds. C is the one with the lowest loss on the
validation rows. The classifier is then fitted again on all training rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.accuracy import validation
from benchmarks.accuracy.metrics import Probabilities, loss_on_validation, truth_of
from benchmarks.accuracy.outcomes import SINGLE, Outcome, Spent, Stopwatch, megabytes, versions_of
from benchmarks.accuracy.sets import Rows, Task
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

ENCODERS = ("use-m3", "minilm")
TEACHER = ENCODERS[0]
"""The encoder that teaches bothways. It is better than the other one with few labels, and knows more languages."""
ROOT = Path(__file__).parents[2]
STRENGTHS = (0.25, 1.0, 4.0, 16.0, 64.0)
"""Values of C."""
_VERSION_FILES = ("encoders.txt", "encoder_process.py")
_TEXTS_PER_PROCESS = 2_000
"""Texts that are lost if a run is killed."""


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of texts.

    Attributes:
        vectors: Vector per text, (D,).
        seconds: Wall-clock and CPU seconds per text, (2,), from when it was embedded.
        bytes: Size of the files of the encoder.
        versions: Versions of the encoder's packages.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    seconds: Mapping[str, NDArray[np.float64]]
    bytes: int
    versions: Mapping[str, str]

    def matrix(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of texts, (N, D)."""
        return np.stack([self.vectors[text] for text in texts])

    def spent(self, texts: Sequence[str]) -> Spent:
        """Return the time that embedding these texts took."""
        wall, cpu = np.sum([self.seconds[text] for text in texts], axis=0).tolist()
        return Spent(wall, cpu)


def run(task: Task, seed: int, encoder: str, python: Path, cache: Path) -> Outcome:
    """Embed the texts, choose C, fit and predict.

    Args:
        task: Task to learn.
        seed: Random seed of the validation rows.
        encoder: Name of the encoder.
        python: Python of the environment with the encoders.
        cache: Folder of the embeddings. Kept.

    Raises:
        FileNotFoundError: The environment does not exist.
    """
    embeddings = embedded(encoder, [*task.train.texts, *task.test.texts], python, cache)

    watch = Stopwatch()
    tried = _tried(task, validation.parts(task, seed), embeddings)
    strength, losses = _chosen(tried)
    model = _classifier(strength, task).fit(embeddings.matrix(task.train.texts), _targets(task.train, task))
    train = _sum(watch.stop(), embeddings.spent(task.train.texts))

    watch = Stopwatch()
    probabilities = _predicted(model, embeddings.matrix(task.test.texts))
    predict = _sum(watch.stop(), embeddings.spent(task.test.texts))
    weights = (len(task.labels) if len(task.labels) > 2 else 1) * (1 + next(iter(embeddings.vectors.values())).size)
    return Outcome(
        test={SINGLE: probabilities},
        train=train,
        predict=predict,
        rows={"training": len(task.train), "validation": len(task.valid) if task.valid else 0},
        facts={
            "chosen": {"C": strength},
            "chosen_on": validation.described(task, seed),
            "validation": [{"C": c, "loss": round(loss, 6)} for c, loss in losses.items()],
            "megabytes": megabytes([embeddings.bytes, 4 * weights]),
            "threads": 1,
        },
        packages={**versions_of("scikit-learn", "numpy"), **embeddings.versions},
        valid={SINGLE: tried[strength][1]} if task.is_multi_label else {},
        valid_rows=validation.joined(task, seed) if task.is_multi_label else None,
    )


@dataclass(frozen=True)
class Teacher:
    """An encoder with a fitted classifier, in the form that ``bothways.train`` takes a teacher.

    Attributes:
        classes_: The labels.
        model: The classifier.
        embeddings: Embeddings of all texts that it will be asked about.
    """

    classes_: Sequence[str]
    model: Any
    embeddings: Embeddings

    def predict_proba(self, texts: Sequence[str]) -> Probabilities:
        """Return the probabilities of texts, (N, C)."""
        return _predicted(self.model, self.embeddings.matrix(texts))


def fitted_teacher(task: Task, fit: Rows, seed: int, python: Path, cache: Path) -> Teacher:
    """Choose C by cross-validation of some of the training rows, and fit them.

    Args:
        task: Task to learn. The teacher knows its unlabeled and its test texts.
        fit: Training rows to fit. The others remain unseen, so that a student can be validated on them.
        seed: Random seed of the cross-validation.
        python: Python of the environment with the encoders.
        cache: Folder of the embeddings. Kept.

    Raises:
        FileNotFoundError: The environment does not exist.
    """
    embeddings = embedded(TEACHER, [*fit.texts, *task.unlabeled, *task.test.texts], python, cache)
    strength, _ = _chosen(_tried(task, validation.parts(replace(task, train=fit, valid=None), seed), embeddings))
    model = _classifier(strength, task).fit(embeddings.matrix(fit.texts), _targets(fit, task))
    return Teacher(task.labels, model, embeddings)


def embedded(encoder: str, texts: Sequence[str], python: Path, cache: Path) -> Embeddings:
    """Return the embeddings of texts. Those that are not in the cache are computed and added to it.

    Raises:
        FileNotFoundError: The environment of the encoders does not exist.
    """
    if not python.exists():
        raise FileNotFoundError(f"{python} is missing: run make build/encoders/.complete first")
    store = cache / f"{encoder}-{_version()}"
    store.mkdir(parents=True, exist_ok=True)
    digests = {text: hashlib.sha256(text.encode()).hexdigest() for text in texts}
    known, made = _read_store(store)
    missing = [text for text, digest in digests.items() if digest not in known]
    for start in range(0, len(missing), _TEXTS_PER_PROCESS):
        some = missing[start : start + _TEXTS_PER_PROCESS]
        _embed(encoder, some, [digests[text] for text in some], python, store)
    if missing:
        known, made = _read_store(store)
    return Embeddings(
        {text: known[digest][0] for text, digest in digests.items()},
        {text: known[digest][1] for text, digest in digests.items()},
        made["bytes"],
        made["versions"],
    )


def _version() -> str:
    """Return the version of the encoders: a hash of their environment and of their script."""
    content = b"".join((Path(__file__).parent / name).read_bytes() for name in _VERSION_FILES)
    return hashlib.sha256(content).hexdigest()[:8]


def _read_store(store: Path) -> tuple[dict[str, tuple[NDArray[np.float32], NDArray[np.float64]]], dict[str, Any]]:
    """Return vector and seconds by the digest of the text, and the encoder's size and versions."""
    known = {}
    made: dict[str, Any] = {}
    for file in sorted(store.glob("*.npz")):
        content = np.load(file)
        found = zip(content["digests"].tolist(), content["vectors"], content["seconds"], strict=True)
        known.update({digest: (vector, seconds) for digest, vector, seconds in found})
        made = json.loads(str(content["made"]))
    return known, made


def _embed(encoder: str, texts: Sequence[str], digests: Sequence[str], python: Path, store: Path) -> None:
    """Embed texts in a process, and add them to the store in one file."""
    folder = store / "unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "request.json").write_text(json.dumps({"encoder": encoder, "texts": texts}), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [str(python), "-m", "benchmarks.accuracy.encoder_process", str(folder.resolve())]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    unfinished = folder / "embeddings.npz"
    np.savez(
        unfinished,
        digests=np.array(digests),
        vectors=np.load(folder / "vectors.npy"),
        seconds=np.load(folder / "seconds.npy"),
        made=np.array((folder / "made.json").read_text(encoding="utf-8")),
    )
    unfinished.replace(store / f"{hashlib.sha256(''.join(digests).encode()).hexdigest()[:16]}.npz")
    shutil.rmtree(folder)


def _tried(
    task: Task, parts: Sequence[tuple[Rows, Rows]], embeddings: Embeddings
) -> dict[float, tuple[float, Probabilities]]:
    """Return, per C, the loss on the validation rows of all parts together, and their probabilities."""
    truth = np.concatenate([_targets(valid, task) for _, valid in parts])
    tried = {}
    for strength in STRENGTHS:
        rows = [
            _predicted(
                _classifier(strength, task).fit(embeddings.matrix(fit.texts), _targets(fit, task)),
                embeddings.matrix(valid.texts),
            )
            for fit, valid in parts
        ]
        together = np.concatenate(rows)
        tried[strength] = (loss_on_validation(together, truth), together)
    return tried


def _chosen(tried: Mapping[float, tuple[float, Probabilities]]) -> tuple[float, dict[float, float]]:
    """Return the C with the lowest loss, the smallest one of equals, and the loss of each."""
    losses = {strength: loss for strength, (loss, _) in tried.items()}
    return min(losses, key=lambda strength: losses[strength]), losses


def _predicted(model: Any, matrix: NDArray[np.float32]) -> Probabilities:
    return np.asarray(model.predict_proba(matrix), dtype=np.float64)


def _classifier(strength: float, task: Task) -> Any:
    warnings.simplefilter("ignore", ConvergenceWarning)
    model = LogisticRegression(C=strength, max_iter=1000)
    return OneVsRestClassifier(model) if task.is_multi_label else model


def _targets(rows: Rows, task: Task) -> NDArray[np.int64]:
    return truth_of(rows.labels, task.labels, task.is_multi_label).astype(np.int64)


def _sum(*times: Spent) -> Spent:
    return Spent(sum(time.wall_s for time in times), sum(time.cpu_s for time in times))
