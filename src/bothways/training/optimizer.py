"""Train layer groups with AdamW: learning-rate schedules, layer-wise learning-rate decay and gradual unfreezing.

The methods are those of ULMFiT (arXiv 1801.06146, sections 3.2 and 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn

from bothways.training.distributed import average_gradients

Schedule = Literal["one-cycle", "slanted-triangular"]

RangeTest = Literal["range-test"]
"""The schedule of a learning-rate range test (Smith 2017, arXiv 1506.01186), which is no schedule of a training."""
_LOWEST = 1e-5
_BETAS = (0.7, 0.99)


def rate_factor(schedule: Schedule | RangeTest, progress: float) -> float:
    """Return the learning rate at a point of a stage, as a fraction of the peak.

    Args:
        schedule: ``slanted-triangular`` rises linearly for 10 % of the steps, then falls linearly to 1/32.
            ``one-cycle`` rises on a cosine from 1/25 for 25 % of the steps, then falls on a cosine to 1/1000.
            ``range-test`` rises exponentially from 1e-5.
        progress: Fraction of the stage's steps taken, 0..1.
    """
    if schedule == "range-test":
        return float(_LOWEST ** (1 - progress))
    if schedule == "slanted-triangular":
        cut, ratio = 0.1, 32
        share = progress / cut if progress < cut else 1 - (progress - cut) / (1 - cut)
        return (1 + share * (ratio - 1)) / ratio
    warm, start, end = 0.25, 1 / 25, 1e-3
    if progress < warm:
        return start + (1 - start) * (1 - math.cos(math.pi * progress / warm)) / 2
    return end + (1 - end) * (1 + math.cos(math.pi * (progress - warm) / (1 - warm))) / 2


class OptimizerStep(NamedTuple):
    """A step that was taken.

    Attributes:
        learning_rate: Learning rate of the top group.
        gradient_norm: Total norm of the gradients before clipping.
    """

    learning_rate: float
    gradient_norm: float


class StageOptimizer:
    """AdamW over the layer groups of a model for one training stage.

    Args:
        groups: The layer groups, bottom first.
        unfrozen: Number of groups to train, counted from the top. The other groups are frozen.
        steps: Number of optimizer steps in the stage, for the schedule. Further steps use the last learning rate.
        schedule: The learning-rate schedule.
        learning_rate: Peak learning rate of the top group.
        layer_decay: Each group's learning rate is that of the group above divided by this factor.
        weight_decay: Decoupled weight decay.
        max_gradient_norm: Gradients with a larger total norm are scaled down to it.
    """

    def __init__(
        self,
        groups: Sequence[nn.Module],
        *,
        unfrozen: int,
        steps: int,
        schedule: Schedule | RangeTest,
        learning_rate: float,
        layer_decay: float,
        weight_decay: float,
        max_gradient_norm: float,
    ) -> None:
        self._schedule, self._steps = schedule, steps
        self.steps_taken = 0
        self._max_gradient_norm = max_gradient_norm
        for depth, group in enumerate(reversed(groups)):
            group.requires_grad_(depth < unfrozen)
        self._rates = [learning_rate / layer_decay**depth for depth in range(unfrozen)]
        trained = list(reversed(groups))[:unfrozen]
        self._parameters = [parameter for group in trained for parameter in group.parameters()]
        self._optimizer = torch.optim.AdamW(
            [{"params": list(group.parameters())} for group in trained],
            lr=learning_rate,
            betas=_BETAS,
            fused=True,
            weight_decay=weight_decay,
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state of AdamW by parameter number and name, such as ``0.exp_avg``."""
        found = {}
        for number, parameter in enumerate(self._parameters):
            for name, value in self._optimizer.state[parameter].items():
                found[f"{number}.{name}"] = value
        return found

    def restore(self, state: Mapping[str, torch.Tensor], steps_taken: int) -> None:
        """Continue from a saved state.

        Args:
            state: The value that ``state`` returned.
            steps_taken: The number of steps taken at that time.
        """
        self.steps_taken = steps_taken
        for number, parameter in enumerate(self._parameters):
            start = f"{number}."
            self._optimizer.state[parameter] = {
                name.removeprefix(start): value.to(parameter.device)
                for name, value in state.items()
                if name.startswith(start)
            }

    def step(self, loss: torch.Tensor) -> OptimizerStep:
        """Take one optimizer step with the gradients averaged over all processes.

        Args:
            loss: The scalar to minimize.
        """
        factor = rate_factor(self._schedule, min(1.0, (self.steps_taken + 1) / self._steps))
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self._parameters)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_gradient_norm)
        self._optimizer.step()
        self.steps_taken += 1
        return OptimizerStep(self._rates[0] * factor, norm.item())
