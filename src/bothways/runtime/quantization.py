"""Quantize the weights of matrix products in int8. In: float32 weights. Out: whole numbers with a scale per gate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LARGEST_WEIGHT = 63
"""Largest weight in 7 bits. With 8 bits, the sum of two products overflows the 16 bits that AVX2 adds in, an error of
10 %."""


def quantized(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize weights, (gates, inputs), to 7 bits with one scale per gate.

    Returns:
        The quantized weights as products expect them, (inputs, gates), and the scales, (gates,).
    """
    scale = np.abs(weight).max(axis=1) / _LARGEST_WEIGHT
    scale[scale == 0] = 1
    return np.ascontiguousarray(np.rint(weight / scale[:, None]).astype(np.int8).T), scale.astype(np.float32)
