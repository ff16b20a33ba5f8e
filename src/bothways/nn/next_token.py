"""Cross-entropy of a tied decoder over the whole vocabulary, without holding the logits of all tokens in memory.

Shapes: N tokens, E embedding size, V vocabulary size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_TOKENS_PER_CHUNK = {"cpu": 512, "cuda": 8192}
"""By device. On a CPU, the logits of this many tokens stay in its caches (docs/LOG.md)."""
_SMALLEST_PROBABILITY = 1e-30
_TILE_DEPTH = 32


def next_token_loss(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next tokens, in nats.

    Matrix products are computed in the type of ``hidden``, one chunk of tokens at a time. The gradients of a chunk are
    computed together with its logits, so that logits are neither kept nor computed twice.

    Args:
        hidden: The encoder's outputs, (N, E), float32 or bfloat16.
        weight: The decoder's weights, (V, E) float32.
        bias: The decoder's bias, (V,) float32.
        targets: Ids of the next tokens, (N,) int64, each in 0..V-1.
    """
    loss: Tensor = _NextTokenLoss.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return loss


class _NextTokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        needs_gradients = any(ctx.needs_input_grad)
        narrow_weight = weight.to(hidden.dtype)
        inputs = _with_column(hidden, hidden.new_ones(len(hidden)))
        weight_and_bias = _with_column(narrow_weight, bias.to(hidden.dtype))
        total = torch.zeros((), device=hidden.device)
        if needs_gradients:
            by_hidden = torch.empty_like(hidden)
            by_weight_and_bias = torch.zeros(weight_and_bias.shape, device=hidden.device)
        step = _TOKENS_PER_CHUNK[hidden.device.type]
        for start in range(0, len(hidden), step):
            part, wanted = inputs[start : start + step], targets[start : start + step]
            change = torch.softmax(part @ weight_and_bias.t(), dim=1)
            rows = torch.arange(len(part), device=hidden.device)
            found = change[rows, wanted]
            total -= found.float().clamp_min(_SMALLEST_PROBABILITY).log().sum()
            if needs_gradients:
                change[rows, wanted] = found - 1  # now the gradient of the logits (scatter_ would copy them all)
                torch.mm(change, narrow_weight, out=by_hidden[start : start + step])
                by_weight_and_bias += change.t() @ part
        if needs_gradients:
            ctx.save_for_backward(by_hidden, by_weight_and_bias)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        by_hidden, by_weight_and_bias = ctx.saved_tensors
        scale = scale / len(by_hidden)
        by_weight_and_bias = by_weight_and_bias * scale
        width = by_hidden.shape[1]
        return by_hidden * scale.to(by_hidden.dtype), by_weight_and_bias[:, :width], by_weight_and_bias[:, width], None


def _with_column(values: Tensor, column: Tensor) -> Tensor:
    """Return ``values``, (N, E), with another column and then columns of zeros up to the depth of a matrix tile.

    With this column, the bias is part of the matrix product. Adding it and summing its gradient separately would take
    two more passes over all logits.
    """
    return torch.cat([values, column[:, None], values.new_zeros(len(values), _TILE_DEPTH - 1)], dim=1)
