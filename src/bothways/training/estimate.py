"""Estimate how long training takes on this machine, from a few real steps of the models to train.

In: a model, its texts and hyperparameters. Out: seconds. The models that are measured are of no further use. Nothing
else is changed: each step of a training sets its own random numbers.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bothways.nn.classifier import ClassifierNetwork
from bothways.nn.language_model import LanguageModelNetwork
from bothways.tasks.task import Task
from bothways.training.checkpoints import Checkpoints, ClassifierCheckpoint, LanguageModelCheckpoint
from bothways.training.classifier import ClassRows, class_scores, train_classifier
from bothways.training.hyperparameters import ClassifierConfig, LanguageModelConfig
from bothways.training.language_model import (
    VALIDATION_TOKENS,
    StreamTexts,
    evaluate_language_model,
    train_language_model,
)
from bothways.training.objective import Objective
from bothways.training.reports import Report, StepReport

_MEASURED_S = 1.0
_MOST_STEPS = 5
_SAMPLE_TOKENS = 2_048
_FORWARD_SHARE = 1 / 3
"""Share of a training step that reads the texts. The rest computes gradients."""


def language_model_seconds(
    model: LanguageModelNetwork, texts: StreamTexts, config: LanguageModelConfig, steps_taken: int, folder: Path
) -> float:
    """Return about how many seconds the rest of a language model's training takes.

    Args:
        model: The model, on the device to train on. Its weights change.
        texts: Texts in the model's reading order.
        config: Hyperparameters.
        steps_taken: Number of steps that were taken before.
        folder: A folder for checkpoints. None is written.
    """
    lengths, sample = texts.store.lengths[texts.validation], with_few_validated(texts)
    started = time.monotonic()
    evaluate_language_model(model, sample, config)
    of_evaluation = (time.monotonic() - started) / max(1, int(texts.store.lengths[sample.validation].sum()))
    start, never = LanguageModelCheckpoint(tensors={}), Checkpoints(folder, math.inf, writes=False)
    measured = [*_timed(train_language_model(model, sample, config, 0, start, never))]
    if not measured:  # no epochs
        return 0.0
    report, _ = measured[0]
    evaluations = (report.epochs + 1) * min(VALIDATION_TOKENS, int(lengths.sum()))
    left = max(0, report.steps - steps_taken)
    return (
        left * statistics.mean(seconds for _, seconds in measured) + evaluations * of_evaluation * left / report.steps
    )


@dataclass(frozen=True)
class ClassifierCost:
    """What a classifier's training takes on this machine.

    Attributes:
        of_epoch: Seconds of an epoch with all layers unfrozen.
        of_validation: Seconds of the evaluation after an epoch.
        groups: Number of layer groups, which gradual unfreezing unfreezes one by one.
        texts: Number of training texts.
    """

    of_epoch: float
    of_validation: float
    groups: int
    texts: int

    def seconds(self, config: ClassifierConfig, epochs_done: int = 0) -> float:
        """Return about how many seconds the epochs take that remain after ``epochs_done``."""
        partial = range(1, self.groups) if config.unfreezing_epochs else ()
        shares = [_FORWARD_SHARE + (1 - _FORWARD_SHARE) * (depth - 1) / (self.groups - 1) for depth in partial]
        epochs = [share for share in shares for _ in range(config.unfreezing_epochs)]
        epochs += [1.0] * config.epochs_for(self.texts)
        return sum(share * self.of_epoch + self.of_validation for share in epochs[epochs_done:])


def classifier_cost(
    model: ClassifierNetwork,
    train: ClassRows,
    valid: ClassRows,
    task: Task,
    objective: Objective,
    config: ClassifierConfig,
    folder: Path,
) -> ClassifierCost:
    """Measure what the training of a classifier takes.

    Args:
        model: The model, on the device to train on. Its weights change.
        train: Training rows.
        valid: Validation rows.
        task: The task.
        objective: The loss.
        config: Hyperparameters.
        folder: A folder for checkpoints. None is written.
    """
    batch_size = config.batch_size_for(len(train.ids))
    longest = min(config.max_batch_tokens, _SAMPLE_TOKENS)
    sample, few = sampled(train, batch_size * _MOST_STEPS, 2 * longest), sampled(valid, batch_size, longest)
    started = time.monotonic()
    class_scores(model, few.ids, objective, config)
    of_validation = (time.monotonic() - started) * _tokens(valid) / max(1, _tokens(few))
    brief = config.model_copy(
        update={
            "unfreezing_epochs": 0,
            "epochs": 100,
            "batch_size": batch_size,
            "max_batch_tokens": longest,
            "keep": "last",
            "patience": "none",
        }
    )
    start, never = ClassifierCheckpoint(perplexity=None, tensors={}), Checkpoints(folder, math.inf, writes=False)
    steps = [*_timed(train_classifier(model, sample, few, task, objective, brief, 0, start, never))]
    of_token = sum(seconds for _, seconds in steps) / sum(report.tokens for report, _ in steps)
    return ClassifierCost(of_token * _tokens(train), of_validation, len(model.encoder.layers) + 2, len(train.ids))


def duration_text(seconds: float) -> str:
    """Return a rough duration, such as ``12 minutes``."""
    if seconds < 90:
        return f"{max(1, round(seconds / 10)) * 10} seconds"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"


def _timed(reports: Generator[Report, None, object]) -> Iterator[tuple[StepReport, float]]:
    """Yield some steps with their duration. The first one also evaluates and prepares memory: it does not count."""
    before = time.monotonic()
    spent = 0.0
    for number in range(_MOST_STEPS + 1):
        report = next((report for report in reports if isinstance(report, StepReport)), None)
        if report is None:
            break
        seconds = time.monotonic() - before
        if number:
            spent += seconds
            yield report, seconds
        if spent > _MEASURED_S:
            break
        before = time.monotonic()
    reports.close()


def with_few_validated(texts: StreamTexts) -> StreamTexts:
    """Return texts of which only a few are validated."""
    ends = np.cumsum(texts.store.lengths[texts.validation])
    few = texts.validation[: 1 + int(np.searchsorted(ends, _SAMPLE_TOKENS))]
    return dataclasses.replace(texts, validation=few, validation_words=None)


def sampled(rows: ClassRows, most_texts: int, most_tokens: int) -> ClassRows:
    """Return rows from all parts of the order, at most ``most_texts`` and with about ``most_tokens``."""
    count = min(most_texts, len(rows.ids), 1 + most_tokens * len(rows.ids) // max(1, _tokens(rows)))
    numbers = np.linspace(0, len(rows.ids) - 1, count).astype(np.int64)
    return ClassRows([rows.ids[number] for number in numbers.tolist()], rows.targets[numbers])


def _tokens(rows: ClassRows) -> int:
    return sum(map(len, rows.ids))
