"""Schedules, discriminative learning rates and gradual unfreezing (arXiv 1801.06146, sections 3.2 and 3.3).

In: a model's layer groups and a stage's recipe. Out: an optimizer whose rates follow a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from bothways.training.distributed import average_gradients

_BETAS = (0.7, 0.99)


def rate_factor(schedule: str, progress: float) -> float:
    """Return the share of the peak rate at a point of a stage.

    Args:
        schedule: ``slanted-triangular`` (linear up for 10 %, linear down to 1/32) or ``one-cycle`` (cosine up from 1/25
            for 25 %, cosine down to nearly 0).
        progress: 0..1.
    """
    if schedule == "slanted-triangular":
        cut, ratio = 0.1, 32
        share = progress / cut if progress < cut else 1 - (progress - cut) / (1 - cut)
        return (1 + share * (ratio - 1)) / ratio
    warm, start, end = 0.25, 1 / 25, 1e-3
    if progress < warm:
        return start + (1 - start) * (1 - math.cos(math.pi * progress / warm)) / 2
    return end + (1 - end) * (1 + math.cos(math.pi * (progress - warm) / (1 - warm))) / 2


class StageOptimizer:
    """AdamW over layer groups, lowest first: each learns more slowly than the one above; frozen ones not at all."""

    def __init__(
        self,
        groups: Sequence[nn.Module],
        *,
        unfrozen: int,
        steps: int,
        schedule: str,
        learning_rate: float,
        layer_decay: float,
        weight_decay: float,
        max_gradient_norm: float,
    ) -> None:
        self._schedule, self._steps = schedule, steps
        self.steps_taken = 0
        self._gradient_norm_max = max_gradient_norm
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
        """Return all that the next step depends on, beside the parameters and how many steps were taken."""
        found = {}
        for number, parameter in enumerate(self._parameters):
            for name, value in self._optimizer.state[parameter].items():
                found[f"{number}.{name}"] = value
        return found

    def restore(self, state: Mapping[str, torch.Tensor], steps_taken: int) -> None:
        """Go on as the optimizer did whose ``state`` this is."""
        self.steps_taken = steps_taken
        for number, parameter in enumerate(self._parameters):
            start = f"{number}."
            self._optimizer.state[parameter] = {
                name.removeprefix(start): value.to(parameter.device)
                for name, value in state.items()
                if name.startswith(start)
            }

    def step(self, loss: torch.Tensor) -> float:
        """Take one gradient step, with the mean gradient of all processes, and give the rate of the top group."""
        factor = rate_factor(self._schedule, min(1.0, (self.steps_taken + 1) / self._steps))
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self._parameters)
        nn.utils.clip_grad_norm_(self._parameters, self._gradient_norm_max)
        self._optimizer.step()
        self.steps_taken += 1
        return self._rates[0] * factor
