"""B3: a stage that diverges is stopped. Single outliers and slow learning are not divergence."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
import pytest

from bothways.errors import TrainingDiverged
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Target, Targets, Task
from bothways.text.reading import Direction
from bothways.training.divergence import StageSettings, stopped_if_diverged
from bothways.training.objective import objective_of, untrained_loss
from bothways.training.reports import EpochReport, Report, StepReport

SETTINGS = StageSettings("classifier", Direction.BACKWARD, "classifier", 0.3, untrained_loss=1.0)
ADVICE = r"\. Lower learning_rate in \[classifier\] of the --config file: it is 0\.3, try 0\.03$"


def stage(losses: Sequence[float], norm: float = 0.5) -> Generator[Report, None, str]:
    """Yield an epoch with these losses, and return a value as stages do."""
    for step, loss in enumerate(losses, start=1):
        yield StepReport("classifier", Direction.BACKWARD, 2, 5, step, 100, loss, 0.1, norm, 64)
    yield EpochReport("classifier", Direction.BACKWARD, 2, 5, len(losses), {"loss": 0.5}, 1.0)
    return "the end"


@pytest.mark.parametrize(
    "losses",
    [
        [1.3, 1.1, 0.9, 0.5],
        [1.0, 1.0, 1e9, 1.0, 1e9, 1.0, 1.0] * 9,  # outliers of a heavy-tailed target
        [1.9] * 99,  # learns nothing
        [3.9] * 19,  # recovers in time
    ],
)
def test_reports_of_a_stage_that_does_not_diverge_pass_unchanged(losses: list[float]) -> None:
    values = []

    def with_value() -> Generator[Report, None, None]:
        values.append((yield from stopped_if_diverged(stage(losses), SETTINGS)))

    assert list(with_value()) == list(stage(losses))
    assert values == ["the end"]


@pytest.mark.parametrize(
    ("losses", "norm", "problem"),
    [
        ([1.0, math.nan], 0.5, "step 2: its loss is nan"),
        ([math.inf], 0.5, "step 1: its loss is inf"),
        ([1.0], math.inf, "step 1: its loss is 1 and the norm of the gradient inf"),
        ([1.0, 8.0, 9.0, 1.0, 7.0, 9.0], 0.5, r"step 5: its loss is 7, that of an untrained model 1"),
        ([2.1] * 30, 0.5, r"step 20: its loss is 2\.1, that of an untrained model 1"),
    ],
)
def test_b3_a_diverging_stage_is_stopped_at_the_step_that_shows_it(
    losses: list[float], norm: float, problem: str
) -> None:
    reports: list[Report] = []
    with pytest.raises(TrainingDiverged, match=f"^the backward classifier diverged in epoch 2/5, {problem}{ADVICE}"):
        reports.extend(stopped_if_diverged(stage(losses, norm), SETTINGS))
    assert all(isinstance(report, StepReport) and math.isfinite(report.loss) for report in reports)


def test_b3_numbers_of_the_trained_model_must_be_finite() -> None:
    SETTINGS.refuse_infinite(np.array([0.5, 1e30]))
    with pytest.raises(TrainingDiverged, match=f"diverged at its end: it returns numbers that are not finite{ADVICE}"):
        SETTINGS.refuse_infinite(np.array([0.5, np.nan]))


@pytest.mark.parametrize(
    ("task", "targets", "weights", "expected"),
    [
        (SingleLabel(("a", "b", "c")), np.array([0, 1, 1, 2]), None, math.log(3)),
        (SingleLabel(("a", "b", "c")), np.array([0, 1, 1, 2]), [3.0, 1.5, 2.0], math.log(3)),
        (MultiLabel(("a", "b")), np.array([[0, 1], [0, 0]], dtype=np.float32), None, 2 * math.log(2)),
        (MultiLabel(("a", "b")), np.array([[0, 1], [0, 0]], dtype=np.float32), [1.0, 9.0], 6 * math.log(2)),
        (Regression((Target(center=4.0, scale=2.0),)), np.array([[2.0], [6.0]]), None, 1.0),
    ],
)
def test_an_untrained_model_has_the_loss_of_outputs_of_zero(
    task: Task, targets: Targets, weights: list[float] | None, expected: float
) -> None:
    many = np.concatenate([targets] * 10_001)  # more than are looked at
    found = untrained_loss(objective_of(task, weights, smoothing=0.0 if weights else 0.1), many, task.outputs)
    assert found == pytest.approx(expected, rel=1e-3)
