"""Losses and scores of each task."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Target, Task
from bothways.training.objective import objective_of

TASKS: list[Task] = [
    SingleLabel(("a", "b", "c")),
    MultiLabel(("a", "b", "c")),
    Regression((Target(center=20.0, scale=4.0),)),
]


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
    meters = objective_of(Regression((Target(center=20.0, scale=4.0),))).loss(logits, targets)
    centimeters = objective_of(Regression((Target(center=2000.0, scale=400.0),))).loss(logits, 100 * targets)
    assert meters.item() == pytest.approx(centimeters.item())
    assert meters.item() == pytest.approx(((0.5 - 0.5) ** 2 + (-1.0 + 1.25) ** 2) / 2)
    assert meters.dtype == torch.float32


def targets_of(task: Task, texts: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    if isinstance(task, SingleLabel):
        return torch.randint(0, 3, (texts,), generator=rng)
    return torch.randint(0, 2, (texts, task.outputs), generator=rng).to(
        torch.float64 if isinstance(task, Regression) else torch.float32
    )


@pytest.mark.parametrize("class_weights", [None, [1.0, 2.0, 3.0]], ids=["equal classes", "class weights"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_text_of_weight_2_counts_as_two_and_one_of_weight_0_not_at_all(
    task: Task, class_weights: list[float] | None
) -> None:
    """A4, row weights: the sums of losses and gradients are those of repeated texts."""
    objective = objective_of(task, None if isinstance(task, Regression) else class_weights)
    logits = torch.randn(4, task.outputs, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets, repeated = targets_of(task, 4), torch.tensor([0, 1, 1, 2])
    sizes = torch.ones(4) if class_weights is None or not isinstance(task, SingleLabel) else torch.tensor(class_weights)
    total = sizes[targets].sum() if isinstance(task, SingleLabel) and class_weights else 4
    of_two = sizes[targets[repeated]].sum() if isinstance(task, SingleLabel) and class_weights else 4

    weighted = objective.loss(logits, targets, torch.tensor([1.0, 2.0, 1.0, 0.0])) * total
    (gradient,) = torch.autograd.grad(weighted, logits)
    again = objective.loss(logits[repeated], targets[repeated]) * of_two
    (expected,) = torch.autograd.grad(again, logits)

    assert weighted.item() == pytest.approx(again.item())
    torch.testing.assert_close(gradient, expected)
    assert not gradient[3].any()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_equal_weights_change_nothing(task: Task) -> None:
    logits = torch.randn(6, task.outputs, generator=torch.Generator().manual_seed(0))
    targets = targets_of(task, 6)
    plain, weighted = (objective_of(task).loss(logits, targets, weights) for weights in (None, torch.ones(6)))
    torch.testing.assert_close(plain, weighted)


@pytest.mark.parametrize("class_weights", [None, [1.0, 2.0, 3.0]], ids=["equal classes", "class weights"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_soft_label_is_the_mean_over_its_labels(
    class_weights: list[float] | None, smoothing: float
) -> None:
    objective = objective_of(SingleLabel(("a", "b", "c")), class_weights, smoothing)
    logits = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    shares, sizes = torch.tensor([0.2, 0.5, 0.3]), torch.tensor(class_weights or [1.0, 1.0, 1.0])
    each = torch.stack([objective.loss(logits, torch.tensor([label])) for label in range(3)])
    expected = (each * sizes * shares).sum() / (sizes * shares).sum()
    assert objective.loss(logits, shares[None]).item() == pytest.approx(expected.item(), rel=1e-5)
    doubled = objective.loss(logits, shares[None], torch.tensor([2.0]))
    assert doubled.item() == pytest.approx(2 * expected.item(), rel=1e-5)


@pytest.mark.parametrize("class_weights", [None, [1.0, 2.0, 3.0]], ids=["equal classes", "class weights"])
def test_a_soft_label_without_doubt_is_a_label(class_weights: list[float] | None) -> None:
    objective = objective_of(SingleLabel(("a", "b", "c")), class_weights)
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 2, 1, 1, 0])
    certain = torch.nn.functional.one_hot(targets, 3).float()
    for weights in (None, torch.tensor([1.0, 2.0, 0.0, 0.5, 1.5])):
        expected = objective.loss(logits, targets, weights)
        torch.testing.assert_close(objective.loss(logits, certain, weights), expected)
