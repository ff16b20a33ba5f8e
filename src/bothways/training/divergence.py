"""Detect that a training stage diverges, within the epoch in which it happens, and name the hyperparameter to lower.

In: the reports of a stage. Out: the same reports, or an error. A stage diverges if a loss or a gradient is not finite,
or if the loss stays far above that of an untrained model. Single steps with a large loss are normal: the median of
several losses decides.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bothways.errors import TrainingDiverged
from bothways.text.reading import Direction
from bothways.training.reports import EpochReport, Report, StepReport

_Value = TypeVar("_Value")

_LIMITS = ((5, 4.0), (20, 2.0))
"""Pairs of a number of steps and the multiple of an untrained model's loss that their median must not exceed."""


@dataclass(frozen=True)
class StageSettings:
    """What the message about a stage that diverged names.

    Attributes:
        stage: Name of the stage.
        direction: Reading direction of the model.
        section: Section of the config file that holds the stage's hyperparameters.
        learning_rate: Peak learning rate of the stage.
        untrained_loss: Mean training loss of a model whose outputs are all zero.
    """

    stage: str
    direction: Direction
    section: str
    learning_rate: float
    untrained_loss: float

    def diverged(self, what: str) -> TrainingDiverged:
        """Return the error to raise.

        Args:
            what: Where it happened and what was found, such as ``in epoch 2, step 31: the loss is nan``.
        """
        return TrainingDiverged(
            f"the {self.direction} {self.stage} diverged {what}. Lower learning_rate in [{self.section}] of the "
            f"--config file: it is {self.learning_rate:g}, try {self.learning_rate / 10:.2g}"
        )

    def refuse_infinite(self, values: NDArray[np.float64]) -> None:
        """Raise an error if a number of the trained model is not finite.

        Raises:
            TrainingDiverged: One is not.
        """
        if not np.isfinite(values).all():
            raise self.diverged("at its end: it returns numbers that are not finite")


def stopped_if_diverged(
    reports: Generator[Report, None, _Value], settings: StageSettings
) -> Generator[Report, None, _Value]:
    """Yield the reports of a stage, and return its value.

    Raises:
        TrainingDiverged: The stage diverged. The report that shows it is not yielded.
    """
    losses: deque[float] = deque(maxlen=max(steps for steps, _ in _LIMITS))
    while True:
        try:
            report = next(reports)
        except StopIteration as finished:
            value: _Value = finished.value
            return value
        if isinstance(report, StepReport):
            losses.append(report.loss)
            _refuse_step(report, list(losses), settings)
        elif isinstance(report, EpochReport) and not math.isfinite(report.metrics["loss"]):
            raise settings.diverged(_in_step(report, f"its validation loss is {report.metrics['loss']}"))
        yield report


def _refuse_step(report: StepReport, losses: list[float], settings: StageSettings) -> None:
    """Raise an error if a step shows that the stage diverged; ``losses`` are those of the last steps."""
    if not math.isfinite(report.loss):
        raise settings.diverged(_in_step(report, f"its loss is {report.loss}"))
    if not math.isfinite(report.gradient_norm):
        problem = f"its loss is {report.loss:.3g} and the norm of the gradient {report.gradient_norm}"
        raise settings.diverged(_in_step(report, problem))
    for steps, factor in _LIMITS:
        median = statistics.median(losses[-steps:])
        if len(losses) >= steps and median > factor * settings.untrained_loss:
            problem = f"its loss is {median:.3g}, that of an untrained model {settings.untrained_loss:.3g}"
            raise settings.diverged(_in_step(report, problem))


def _in_step(report: StepReport | EpochReport, problem: str) -> str:
    return f"in epoch {report.epoch}/{report.epochs}, step {report.step}: {problem}"
