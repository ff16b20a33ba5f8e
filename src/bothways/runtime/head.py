"""Compute a classifier's head in numpy: batch norms folded into linear layers, with ReLU between them.

In: a member's weights and one text's pooled vector. Out: logits. Letters: E embedding, C outputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.weights import Weights
from bothways.runtime.slots import Pooled

_NORM_EPS = 1e-5


class Head:
    """The layers of a head; runs on one text at a time, so that no rounding depends on a batch."""

    def __init__(self, weights: Weights, layers: int) -> None:
        self._layers = folded_layers(weights, layers)

    def logits(self, pooled: Pooled) -> NDArray[np.float64]:
        """Return one text's logits, (C,) float64, from its pooled vector, (3E,)."""
        (weight, bias), *others = self._layers
        values = weight @ pooled.astype(np.float64) + bias
        for weight, bias in others:
            values = weight @ np.maximum(values, 0) + bias
        return values


def folded_layers(weights: Weights, layers: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return weight and bias of a head's linear layers, each with the batch norm before it folded in."""
    return [
        _folded_linear(weights, f"head.layers.{layer}", *_folded_norm(weights, f"head.norms.{layer}"))
        for layer in range(layers)
    ]


def _folded_norm(weights: Weights, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and shift of a batch norm in evaluation."""
    part = {
        key: weights[f"{name}.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
    }
    scale = part["weight"] / np.sqrt(part["running_var"] + _NORM_EPS)
    return scale, part["bias"] - part["running_mean"] * scale


def _folded_linear(
    weights: Weights, name: str, scale: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weight = weights[f"{name}.weight"].astype(np.float64)
    return weight * scale, weights[f"{name}.bias"] + weight @ shift
