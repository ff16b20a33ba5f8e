"""Choose settings, fit and predict with fastText, in its own environment.

Run: python -m benchmarks.accuracy.fasttext_process FOLDER

Input: ``FOLDER/task.json``. Output: probabilities in ``test.npy`` and ``valid.npy``, and ``made.json``. It uses one
thread, so that the same seed returns the same model.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import fasttext  # type: ignore[import-not-found, unused-ignore]
import numpy as np
from benchmarks.accuracy.metrics import NO_THRESHOLD, Probabilities, Truth, loss_on_validation

RATES = (0.1, 0.5, 1.0)
EPOCHS = (5, 25, 100)
NGRAMS = ((1, 0, 0), (2, 0, 0), (1, 2, 5))
"""Maximum length of word n-grams, and minimum and maximum length of character n-grams."""
_MAX_WORDS_READ = 15_000_000
"""Settings are skipped if their epochs read more words than this. Character n-grams count as more words."""
_CHARACTER_NGRAM_COST = 6
"""Cost of a word with its character n-grams, in words."""
_SMALL_TASK_WORDS = 1_000_000
_SMALL_TASK_BUCKETS = 200_000
"""Buckets of hashed n-grams on small tasks. fastText's default of two million takes longer to set up than to train."""
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LABEL = "__label__"
_TEXTS_TO_WARM_UP = 32

Setting = dict[str, Any]
Tried = tuple[float, Setting, Probabilities]
"""Loss on the validation rows, the setting, and the probabilities of the validation rows."""


def main(folder: Path) -> None:
    """Read the task, choose settings, fit, predict, and write the results."""
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    started = clocks()
    fits = [write_rows(folder / f"fit-{number}.txt", fit) for number, (fit, _) in enumerate(task["parts"])]
    truth = np.concatenate([truth_of(valid, task) for _, valid in task["parts"]])
    tried: list[Tried] = []
    for setting in settings(task):
        models = [train(fit, setting, task) for fit in fits]
        if None in models:
            tried.append((NO_THRESHOLD, setting, np.zeros((len(truth), task["classes"]))))
            continue
        pairs = zip(models, task["parts"], strict=True)
        rows = np.concatenate([predict(model, valid["texts"], task["classes"]) for model, (_, valid) in pairs])
        tried.append((loss_on_validation(rows, truth), setting, rows))
    model, chosen, valid_rows = refitted(tried, write_rows(folder / "train.txt", task["train"]), task)
    train_time = spent_since(started)

    predict(model, task["test"][:_TEXTS_TO_WARM_UP], task["classes"])
    started = clocks()
    np.save(folder / "test.npy", predict(model, task["test"], task["classes"]))
    predict_time = spent_since(started)
    np.save(folder / "valid.npy", valid_rows)
    made = {
        "train": train_time,
        "predict": predict_time,
        "chosen": chosen,
        "validation": [{**setting, "loss": round(loss, 6)} for loss, setting, _ in tried],
        "versions": {name: metadata.version(name) for name in ("fasttext-numpy2", "numpy")},
    }
    (folder / "made.json").write_text(json.dumps(made), encoding="utf-8")


def refitted(tried: list[Tried], file: Path, task: dict[str, Any]) -> tuple[Any, Setting, Probabilities]:
    """Fit on all training rows with the best setting that does not diverge.

    Returns:
        The model, the setting, and the probabilities of the validation rows with it.
    """
    for loss, setting, rows in sorted(tried, key=lambda entry: entry[0]):  # a stable sort: the first of equals wins
        model = train(file, setting, task) if loss != NO_THRESHOLD else None
        if model is not None:
            return model, setting, rows
    sys.exit("fastText diverged with every setting")


def clocks() -> tuple[float, float]:
    """Return the wall-clock time and the CPU time of this process, in seconds."""
    return time.perf_counter(), time.process_time()


def spent_since(started: tuple[float, float]) -> dict[str, float]:
    """Return the wall-clock and CPU seconds since ``clocks`` returned ``started``."""
    wall, cpu = clocks()
    return {"wall_s": wall - started[0], "cpu_s": cpu - started[1]}


def settings(task: dict[str, Any]) -> list[Setting]:
    """Return all settings to try, the cheapest first."""
    words = sum(len(text.split()) for text in task["train"]["texts"])
    buckets = {"bucket": _SMALL_TASK_BUCKETS} if words <= _SMALL_TASK_WORDS else {}
    found = []
    for (ngrams, shortest, longest), epochs, rate in itertools.product(NGRAMS, EPOCHS, RATES):
        is_cheap = epochs == EPOCHS[0] and not longest  # tried even on the largest task
        if is_cheap or words * epochs * (_CHARACTER_NGRAM_COST if longest else 1) <= _MAX_WORDS_READ:
            found.append(
                {"lr": rate, "epoch": epochs, "wordNgrams": ngrams, "minn": shortest, "maxn": longest, **buckets}
            )
    return found


def train(file: Path, setting: Setting, task: dict[str, Any]) -> Any:
    """Return a model, or None if the training diverged."""
    loss = "ova" if task["is_multi_label"] else "softmax"
    try:
        return fasttext.train_supervised(str(file), loss=loss, thread=1, seed=task["seed"], verbose=0, **setting)
    except RuntimeError as error:
        if "NaN" not in str(error):
            raise
        return None


def predict(model: Any, texts: Sequence[str], classes: int) -> Probabilities:
    """Return the probabilities of the classes per text, (N, C)."""
    probabilities = np.zeros((len(texts), classes))
    for row, text in enumerate(texts):
        for probability, label in model.f.predict(prepared(text) + "\n", classes, 0.0, "strict"):
            probabilities[row, int(label.removeprefix(_LABEL))] = probability
    return probabilities


def prepared(text: str) -> str:
    """Return a text prepared as in fastText's examples: lower case, with punctuation as separate tokens."""
    return " ".join(_TOKEN.findall(text.lower()))


def write_rows(file: Path, rows: dict[str, Any]) -> Path:
    """Write rows in fastText's format, and return the path."""
    with file.open("w", encoding="utf-8") as out:
        for text, labels in zip(rows["texts"], rows["labels"], strict=True):
            out.write(" ".join([*(f"{_LABEL}{label}" for label in labels), prepared(text)]) + "\n")
    return file


def truth_of(rows: dict[str, Any], task: dict[str, Any]) -> Truth:
    """Return the truth: class numbers, (N,), or for multi-label tasks which labels are true, (N, C)."""
    if not task["is_multi_label"]:
        return np.array([label for (label,) in rows["labels"]])
    truth = np.zeros((len(rows["labels"]), task["classes"]), dtype=np.bool_)
    for row, labels in enumerate(rows["labels"]):
        truth[row, labels] = True
    return truth


if __name__ == "__main__":
    main(Path(sys.argv[1]))
