"""Choose, fit and predict with fastText: python -m benchmarks.accuracy.fasttext_process FOLDER, in its own environment.

In: ``FOLDER/task.json``. Out: ``test.npy`` and ``valid.npy``, probabilities, and ``made.json``. One thread, so that the
same seed gives the same model.
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
"""Of words, and of characters from .. to: words, words and pairs, words and their parts."""
_MOST_WORDS_READ = 15_000_000
"""More epochs than read so many words are not tried, nor parts of words where those would take longer than that."""
_PARTS_A_WORD = 6
_SMALL_TASK_WORDS = 1_000_000
_SMALL_TASK_BUCKETS = 200_000
"""Of hashed n-grams on small tasks; fastText's own two million take longer to set up than such tasks to learn."""
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LABEL = "__label__"
_TEXTS_TO_WARM_UP = 32

Setting = dict[str, Any]
Tried = tuple[float, Setting, Probabilities]
"""The loss on the validation rows, the setting, and the validation rows' probabilities."""


def main(folder: Path) -> None:
    """Read the task, do it, write what came out."""
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
    """Return a model of all training rows by the best setting that can be trained, and what was tried of it."""
    for loss, setting, rows in sorted(tried, key=lambda entry: entry[0]):  # the first of equals first
        model = train(file, setting, task) if loss != NO_THRESHOLD else None
        if model is not None:
            return model, setting, rows
    sys.exit("fastText diverged with every setting")


def clocks() -> tuple[float, float]:
    """Return the time by the clock and of this process, seconds."""
    return time.perf_counter(), time.process_time()


def spent_since(started: tuple[float, float]) -> dict[str, float]:
    """Return the time since then."""
    wall, cpu = clocks()
    return {"wall_s": wall - started[0], "cpu_s": cpu - started[1]}


def settings(task: dict[str, Any]) -> list[Setting]:
    """Return every setting that is tried, the cheap ones first."""
    words = sum(len(text.split()) for text in task["train"]["texts"])
    buckets = {"bucket": _SMALL_TASK_BUCKETS} if words <= _SMALL_TASK_WORDS else {}
    found = []
    for (ngrams, least, most), epochs, rate in itertools.product(NGRAMS, EPOCHS, RATES):
        is_usual = epochs == EPOCHS[0] and not most  # tried even on the largest task
        if is_usual or words * epochs * (_PARTS_A_WORD if most else 1) <= _MOST_WORDS_READ:
            found.append({"lr": rate, "epoch": epochs, "wordNgrams": ngrams, "minn": least, "maxn": most, **buckets})
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
    """Return the probabilities of each text's classes, (N, C)."""
    probabilities = np.zeros((len(texts), classes))
    for row, text in enumerate(texts):
        for probability, label in model.f.predict(prepared(text) + "\n", classes, 0.0, "strict"):
            probabilities[row, int(label.removeprefix(_LABEL))] = probability
    return probabilities


def prepared(text: str) -> str:
    """Return a text as fastText's own examples prepare it: lower case, punctuation apart."""
    return " ".join(_TOKEN.findall(text.lower()))


def write_rows(file: Path, rows: dict[str, Any]) -> Path:
    """Write rows as fastText reads them."""
    with file.open("w", encoding="utf-8") as out:
        for text, labels in zip(rows["texts"], rows["labels"], strict=True):
            out.write(" ".join([*(f"{_LABEL}{label}" for label in labels), prepared(text)]) + "\n")
    return file


def truth_of(rows: dict[str, Any], task: dict[str, Any]) -> Truth:
    """Return class numbers, (N,), or which labels are true, (N, C)."""
    if not task["is_multi_label"]:
        return np.array([label for (label,) in rows["labels"]])
    truth = np.zeros((len(rows["labels"]), task["classes"]), dtype=np.bool_)
    for row, labels in enumerate(rows["labels"]):
        truth[row, labels] = True
    return truth


if __name__ == "__main__":
    main(Path(sys.argv[1]))
