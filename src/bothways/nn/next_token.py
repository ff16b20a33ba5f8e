"""The loss of a tied decoder over a whole vocabulary, without ever holding the scores of all tokens.

In: hidden states, the decoder's weights, the tokens that came. Out: a loss and its gradients. Letters: N tokens,
E embedding, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_TOKENS_AT_ONCE = {"cpu": 512, "cuda": 8192}
"""On a CPU so many rows of scores stay in its caches (docs/LOG.md)."""
_SMALLEST_PROBABILITY = 1e-30


def next_token_loss(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Give the mean cross-entropy of the next tokens, in nats.

    Products are computed in the type of ``hidden``, some tokens at a time, and each part's gradients are taken while
    its scores are at hand, so that they are never computed or kept twice.

    Args:
        hidden: (N, E), float32 or bfloat16.
        weight: Of the decoder, (V, E) float32.
        bias: (V,) float32.
        targets: (N,) int64, each in 0..V-1.
    """
    loss: Tensor = _NextTokenLoss.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return loss


class _NextTokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        needs_gradients = any(ctx.needs_input_grad)
        narrow_weight, narrow_bias = weight.to(hidden.dtype), bias.to(hidden.dtype)
        total = torch.zeros((), device=hidden.device)
        if needs_gradients:
            by_hidden, by_weight, by_bias = torch.empty_like(hidden), torch.zeros_like(weight), torch.zeros_like(bias)
        step = _TOKENS_AT_ONCE[hidden.device.type]
        for start in range(0, len(hidden), step):
            part, wanted = hidden[start : start + step], targets[start : start + step, None]
            scores = torch.addmm(narrow_bias, part, narrow_weight.t())
            change = torch.softmax(scores, dim=1)  # becomes the gradient of the scores: minus 1 where the token came
            found = change.gather(1, wanted)
            total -= found.float().clamp_min(_SMALLEST_PROBABILITY).log().sum()
            if needs_gradients:
                change.scatter_(1, wanted, found - 1)
                torch.mm(change, narrow_weight, out=by_hidden[start : start + step])
                by_weight += change.t() @ part
                by_bias += change.sum(dim=0, dtype=torch.float32)
        if needs_gradients:
            ctx.save_for_backward(by_hidden, by_weight, by_bias)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        by_hidden, by_weight, by_bias = ctx.saved_tensors
        scale = scale / len(by_hidden)
        return by_hidden * scale.to(by_hidden.dtype), by_weight * scale, by_bias * scale, None
