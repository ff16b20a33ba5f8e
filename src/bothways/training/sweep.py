"""Take steps with rising learning rates: the range test of a learning-rate finder.

In: a model of a stage with its texts. Out: a report per step, with loss and learning rate. The models that are trained
are of no further use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from bothways.nn.classifier import ClassifierNetwork
from bothways.nn.language_model import LanguageModelNetwork
from bothways.tasks.task import Task
from bothways.training.checkpoints import Checkpoints, ClassifierCheckpoint, LanguageModelCheckpoint
from bothways.training.classifier import ClassRows, steps_per_epoch, train_classifier
from bothways.training.estimate import sampled, with_few_validated
from bothways.training.hyperparameters import ClassifierConfig, LanguageModelConfig
from bothways.training.language_model import StreamTexts, train_language_model, windows_per_epoch
from bothways.training.objective import Objective
from bothways.training.range_test import smoothed
from bothways.training.reports import Report, StepReport

STEPS = 100
HIGHEST = 1.0
"""The learning rate of the last step."""
_DIVERGED = 4.0
"""Steps end when the loss is this many times the lowest one."""
_FEW_TEXTS, _FEW_TOKENS = 32, 2_048


def language_model_sweep(
    model: LanguageModelNetwork, texts: StreamTexts, config: LanguageModelConfig, seed: int, folder: Path
) -> Iterator[StepReport]:
    """Yield a report per step of a language model.

    Args:
        model: The model, on the device to train on. Its weights change.
        texts: Texts in the model's reading order.
        config: Hyperparameters. Epochs, schedule and learning rate are not used.
        seed: Random seed.
        folder: A folder for checkpoints. None is written.
    """
    changes = {"schedule": "range-test", "learning_rate": HIGHEST, "epochs": STEPS / windows_per_epoch(texts, config)}
    brief = config.model_copy(update=changes)
    start, never = LanguageModelCheckpoint(tensors={}), Checkpoints(folder, math.inf, writes=False)
    yield from _until_diverged(train_language_model(model, with_few_validated(texts), brief, seed, start, never))


def classifier_sweep(
    model: ClassifierNetwork,
    train: ClassRows,
    valid: ClassRows,
    task: Task,
    objective: Objective,
    config: ClassifierConfig,
    seed: int,
    folder: Path,
) -> Iterator[StepReport]:
    """Yield a report per step of a classifier with all layers unfrozen.

    Args:
        model: The model, on the device to train on. Its weights change.
        train: Training rows.
        valid: Validation rows.
        task: The task.
        objective: The loss.
        config: Hyperparameters. Epochs, schedule and learning rate are not used.
        seed: Random seed.
        folder: A folder for checkpoints. None is written.
    """
    some = sampled(train, STEPS * config.batch_size_for(len(train.ids)), STEPS * config.max_batch_tokens // 2)
    brief = config.model_copy(
        update={
            "schedule": "range-test",
            "learning_rate": HIGHEST,
            "unfreezing_epochs": 0,
            "epochs": math.ceil(STEPS / steps_per_epoch(some, config)),
            "keep": "last",
            "patience": "none",
        }
    )
    few = sampled(valid, _FEW_TEXTS, _FEW_TOKENS)
    start, never = ClassifierCheckpoint(perplexity=None, tensors={}), Checkpoints(folder, math.inf, writes=False)
    yield from _until_diverged(train_classifier(model, some, few, task, objective, brief, seed, start, never))


def _until_diverged(reports: Iterator[Report]) -> Iterator[StepReport]:
    losses, lowest = list[float](), math.inf
    for report in reports:
        if isinstance(report, StepReport):
            losses.append(report.loss)
            loss = smoothed(losses)[-1]
            if not loss <= _DIVERGED * lowest:  # also if it is not a number
                break
            lowest = min(lowest, loss)
            yield report
