"""Move the size of a regression's outputs from the weights of its last layer to the scale of its targets.

Input: the task and the weights of imported models. Output: both, so that values are the same to the last bit. Outputs
have then the size of logits, and differences can be measured in the scale of each target, whatever its unit is: an
export does not record how far the targets of its training were spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from bothways.bundle.manifest import Member
from bothways.bundle.parity import ParityRow
from bothways.interop.fastai_weights import Arrays
from bothways.tasks.registry import task_of
from bothways.tasks.task import Task

_Key = TypeVar("_Key")
_LARGEST_EXPONENT = 60


def with_scaled_outputs(
    task: Task | None, members: Sequence[Member], weights: Mapping[_Key, Arrays], record: Sequence[ParityRow]
) -> tuple[Task | None, dict[_Key, Arrays]]:
    """Return a task whose targets have scales, and weights that are divided by them.

    Scales are powers of 2, so that nothing is rounded and the record stays true. The scale of a target is about the
    larger of two spreads: of its values in the record, and of an output whose inputs, which a batch norm has
    normalized, are independent of each other. Values with a range are left as they are: their outputs are logits
    already.

    Args:
        task: What the models predict.
        members: The members of the bundle.
        weights: The arrays of each member, with equal shapes in the last layer.
        record: The texts with which the bundle is verified, with the values of each member.
    """
    if task is None or not task.record().targets or task.record().value_range is not None:
        return task, dict(weights)
    last = len(members[0].widths_head or [])
    names = [str(member.direction) for member in members]
    spreads = [_spreads(arrays, last) for arrays in weights.values()]
    spreads += [np.std([list((row.scores or {})[name].values()) for row in record], axis=0) for name in names]
    scales = np.array([_power_of_two(spread) for spread in np.max(spreads, axis=0).tolist()])
    targets = zip(task.record().targets, scales.tolist(), strict=True)
    scaled = task_of(replace(task.record(), targets=tuple(replace(target, scale=scale) for target, scale in targets)))
    return scaled, {key: _divided(arrays, scales, last) for key, arrays in weights.items()}


def _spreads(arrays: Arrays, last: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the spread of each output, (C,)."""
    weight = arrays[f"head.layers.{last}.weight"].astype(np.float64) * arrays[f"head.norms.{last}.weight"]
    return np.asarray(np.sqrt(np.square(weight).sum(axis=1)), dtype=np.float64)


def _power_of_two(spread: float) -> float:
    if not (0 < spread < math.inf):
        return 1.0
    return 2.0 ** max(-_LARGEST_EXPONENT, min(_LARGEST_EXPONENT, round(math.log2(spread))))


def _divided(arrays: Arrays, scales: np.ndarray[tuple[int], np.dtype[np.float64]], last: int) -> Arrays:
    weight, bias = (arrays[f"head.layers.{last}.{part}"] for part in ("weight", "bias"))
    divisors = scales.astype(np.float32)
    return {
        **arrays,
        f"head.layers.{last}.weight": np.asarray(weight / divisors[:, None], dtype=np.float32),
        f"head.layers.{last}.bias": np.asarray(bias / divisors, dtype=np.float32),
    }
