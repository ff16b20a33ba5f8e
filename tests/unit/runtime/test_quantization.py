from __future__ import annotations

import numpy as np

from bothways.runtime.quantization import quantized


def test_weights_keep_seven_bits_per_gate() -> None:
    weight = np.random.default_rng(0).normal(0, np.geomspace(0.01, 10, 8)[:, None], (8, 50)).astype(np.float32)
    weight[3] = 0
    whole, scale = quantized(weight)
    assert (whole.shape, str(whole.dtype), scale.shape, str(scale.dtype)) == ((50, 8), "int8", (8,), "float32")
    assert np.abs(whole).max(axis=0).tolist() == [63, 63, 63, 0, 63, 63, 63, 63]
    assert (np.abs((whole * scale).T - weight) <= scale[:, None] / 2 + 1e-6).all()
