"""The loss of a training stage by learning rate, as a learning-rate range test measures it.

In: learning rates and losses of steps. Out: a curve, and the rate at which the loss falls fastest. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WINDOWS = 5
_KEPT = 0.9
"""Share of the mean of earlier losses in a smoothed one."""


@dataclass(frozen=True, eq=False)
class LearningRateCurve:
    """The loss of a stage by learning rate.

    Attributes:
        stage: ``language model`` or ``classifier``.
        learning_rates: Learning rate of each step, rising, (N,).
        losses: Training loss of each step, (N,).
        smoothed: Exponential moving average of the losses, (N,).
        steepest: The learning rate at which the loss falls fastest; None if there are fewer than two steps.
        current: The learning rate that ``train`` would use.
    """

    stage: str
    learning_rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    steepest: float | None
    current: float


def smoothed(losses: Sequence[float]) -> NDArray[np.float64]:
    """Return the exponential moving average of losses, (N,), without bias towards the first ones."""
    mean, found = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = _KEPT * mean + (1 - _KEPT) * loss
        found.append(mean / (1 - _KEPT**number))
    return np.array(found)


def steepest(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """Return the learning rate at which the loss falls fastest with the logarithm of the rate.

    Lines are fitted to the losses of a fifth of all steps in turn, and the middle of the steepest line is returned.

    Args:
        rates: Learning rates, rising, (N,), two or more.
        losses: Losses, (N,).
    """
    size = max(2, len(rates) // _WINDOWS)
    x, y = (np.lib.stride_tricks.sliding_window_view(values, size) for values in (np.log(rates), losses))
    centered = x - x.mean(axis=1, keepdims=True)
    slopes = (centered * y).sum(axis=1) / (centered**2).sum(axis=1)
    return float(rates[int(slopes.argmin()) + size // 2])
