"""Measure forward classifiers that are trained from scratch, over several seeds.

Run: python -m benchmarks.from_scratch ROWS FILE [FILE ...] --size tiny --vocabulary-size 2000
The files are CSV with the columns text and label. ROWS of their rows, drawn once, are trained on, and 600 others are
measured. Give only training splits. With PYTHONPATH=OLD/src another version of bothways is measured.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from bothways.bundle.manifest import Architecture
from bothways.data.token_store import TokenStore
from bothways.tasks.registry import new_task
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import LabeledTexts
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.text.subwords import train_tokenizer
from bothways.text.tokenizer import UNKNOWN_ID, Tokenizer
from bothways.training.checkpoints import Checkpoints, ClassifierCheckpoint, LanguageModelCheckpoint
from bothways.training.classifier import ClassRows, class_scores, train_classifier
from bothways.training.hyperparameters import Hyperparameters, load_hyperparameters
from bothways.training.language_model import StreamTexts, train_language_model
from bothways.training.models import build_classifier, build_language_model, fast_type
from bothways.training.objective import objective_of
from bothways.training.reports import Report

MEASURED_ROWS = 600

Result = TypeVar("Result")


def main() -> None:
    """Print the tokens of the texts, and the accuracy of each seed with the perplexity of its language model."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("rows", type=int)
    options.add_argument("files", type=Path, nargs="+")
    options.add_argument("--size", default="tiny")
    options.add_argument("--vocabulary-size", type=int, help="Defaults to that of the size.")
    options.add_argument("--lm-tokens", type=int, help="Defaults to that of the size.")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = options.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    changes = {
        "tokenizer": {"vocabulary_size": asked.vocabulary_size},
        "language_model": {"target_tokens": asked.lm_tokens},
    }
    given = {section: {key: value for key, value in keys.items() if value} for section, keys in changes.items()}
    parameters = load_hyperparameters(asked.size, given)
    train, measured = split_of(asked.files, asked.rows)
    task = new_task(None, None).fitted(train)
    assert isinstance(task, SingleLabel)
    tokenizer = train_tokenizer(train.texts, parameters.tokenizer.vocabulary_size)
    ids = [ids_of(tokenizer, rows) for rows in (train, measured)]
    for name, texts in zip(("trained on", "measured"), ids, strict=True):
        tokens = np.concatenate(texts)
        unknown = (tokens == UNKNOWN_ID).mean()
        print(f"{name}: {len(texts)} rows, {len(tokens) / len(texts):.1f} tokens per text, {unknown:.2%} unknown")
    print(f"{len(tokenizer)} entries in the vocabulary", flush=True)
    train_rows, measured_rows = (
        ClassRows(texts, task.targets(part)) for texts, part in zip(ids, (train, measured), strict=True)
    )
    found = []
    for seed in asked.seeds:
        started = time.process_time()
        accuracy, perplexity = accuracy_of(train_rows, measured_rows, len(tokenizer), task, parameters, seed)
        found.append(accuracy)
        seconds = time.process_time() - started
        print(f"seed {seed}: {accuracy:.1%}, perplexity {perplexity:.1f}, {seconds:.0f} s of CPU time", flush=True)
    print(f"mean {np.mean(found):.1%}, standard deviation {np.std(found, ddof=min(1, len(found) - 1)):.1%}")


def split_of(files: Sequence[Path], count: int) -> tuple[LabeledTexts, LabeledTexts]:
    """Return the rows to train on and those to measure, without the same text in both."""
    rows = []
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            rows += [(row["text"], row["label"]) for row in csv.DictReader(file)]
    rows = sorted(dict(rows).items())
    random.Random(0).shuffle(rows)  # noqa: S311  (no secret)
    parts = rows[:count], rows[count : count + MEASURED_ROWS]
    first, second = (
        LabeledTexts("rows", [text for text, _ in part], [(label,) for _, label in part]) for part in parts
    )
    return first, second


def ids_of(tokenizer: Tokenizer, rows: LabeledTexts) -> list[np.ndarray]:
    """Return the ids of texts in the order of a forward model."""
    placement = SpecialTokenPlacement.READING_ORDER
    return [read(tokenizer.tokenize(text), Direction.FORWARD, placement) for text in rows.texts]


def accuracy_of(
    train: ClassRows, measured: ClassRows, vocabulary: int, task: SingleLabel, parameters: Hyperparameters, seed: int
) -> tuple[float, float]:
    """Return the accuracy of a classifier on the measured rows, and the perplexity of its language model."""
    sizes, config = parameters.encoder, parameters.classifier
    architecture = Architecture(
        vocabulary_size=vocabulary,
        width_embedding=sizes.embedding_size,
        width_hidden=sizes.hidden_size,
        layers=sizes.layers,
    )
    language_model = build_language_model(architecture, Direction.FORWARD, seed)
    language_model.encoder.compute_type = fast_type(torch.device("cpu"))
    store = TokenStore.of([*train.ids, *measured.ids])
    numbers = np.arange(len(store.lengths))
    stream = StreamTexts(store, numbers[: len(train.ids)], numbers[len(train.ids) :])
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), 0, writes=False)
        reports = train_language_model(
            language_model, stream, parameters.language_model, seed, LanguageModelCheckpoint(tensors={}), checkpoints
        )
        perplexity = finished(reports)["perplexity"]
        model = build_classifier(language_model, Direction.FORWARD, task.outputs, config, seed)
        objective = objective_of(task, None, config.label_smoothing)
        start = ClassifierCheckpoint(perplexity=perplexity, tensors={})
        finished(train_classifier(model, train, measured, task, objective, config, seed, start, checkpoints))
    return task.epoch_metrics(class_scores(model, measured.ids, objective, config), measured.targets)[
        "accuracy"
    ], perplexity


def finished(reports: Generator[Report, None, Result]) -> Result:
    """Run a training to its end and return its result."""
    while True:
        try:
            next(reports)
        except StopIteration as end:
            result: Result = end.value
            return result


if __name__ == "__main__":
    main()
