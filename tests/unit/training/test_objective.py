"""Losses and scores of each task."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Task
from bothways.training.objective import objective_of

TASKS: list[Task] = [SingleLabel(("a", "b", "c")), MultiLabel(("a", "b", "c")), Regression(center=20.0, scale=4.0)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_scores_are_those_of_the_runtime(task: Task) -> None:
    logits = torch.randn(50, task.outputs, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(objective_of(task).scores(logits), task.activation(logits.double().numpy()), rtol=1e-12)


def test_weights_and_smoothing_change_the_loss() -> None:
    logits, targets = torch.tensor([[2.0, 0.0], [0.5, 1.0]]), torch.tensor([0, 1])
    task = SingleLabel(("a", "b"))
    plain, smooth, weighted = (
        objective_of(task, *options).loss(logits, targets).item() for options in ((), (None, 0.1), ([1.0, 5.0], 0.0))
    )
    assert plain != smooth
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert weighted == pytest.approx((each[0] + 5 * each[1]).item() / 6)
    assert weighted != plain


def test_the_loss_of_a_regression_does_not_depend_on_the_unit() -> None:
    logits, targets = torch.tensor([[0.5], [-1.0]]), torch.tensor([[22.0], [15.0]], dtype=torch.float64)
    meters = objective_of(Regression(center=20.0, scale=4.0)).loss(logits, targets)
    centimeters = objective_of(Regression(center=2000.0, scale=400.0)).loss(logits, 100 * targets)
    assert meters.item() == pytest.approx(centimeters.item())
    assert meters.item() == pytest.approx(((0.5 - 0.5) ** 2 + (-1.0 + 1.25) ** 2) / 2)
    assert meters.dtype == torch.float32
