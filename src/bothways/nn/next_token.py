"""Cross-entropy of a tied decoder over the vocabulary or a sample of it, without holding all logits in memory.

Shapes: N tokens, E embedding size, V vocabulary size, C candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TOKENS_PER_CHUNK = {"cpu": 512, "cuda": 8192}
"""By device. On a CPU, the logits of this many tokens stay in its caches (docs/LOG.md)."""
_SMALLEST_PROBABILITY = 1e-30
_TILE_DEPTH = 32


class CandidateSampler:
    """Draws the tokens among which a training step looks for the next token (sampled softmax).

    Computing the logits of the whole vocabulary takes more than half of a step of a small QRNN. A sampler
    draws each token on its own, the frequent ones more often. A token that is drawn with probability p counts 1/p times
    in the sum of all exponentials, whose expected value is therefore that of the exact softmax (as in Bengio & Senécal,
    2003, "Quick training of probabilistic neural nets by importance sampling").

    Attributes:
        inclusion: Probability with which each token is drawn, (V,) float32.

    Args:
        counts: Number of times that each token occurs in the texts, (V,).
        size: Expected number of tokens that are drawn, at least 1.
    """

    def __init__(self, counts: NDArray[np.int64], size: int) -> None:
        self.inclusion = torch.from_numpy(_inclusion(np.sqrt(counts + 1.0), size)).float()

    def draw(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw candidates, and add the targets.

        Args:
            targets: Ids of the next tokens, (N,) int64.

        Returns:
            The ids of the candidates, (C,) int64, what to add to their logits, (C,) float32, and the places of the
            targets among them, (N,) int64. A candidate that was not drawn has minus infinity: it only counts where it
            is the target itself.
        """
        self.inclusion = self.inclusion.to(targets.device)
        drawn = torch.rand_like(self.inclusion) < self.inclusion
        is_candidate = drawn.clone()
        is_candidate[targets] = True
        ids = is_candidate.nonzero().squeeze(1)
        correction = torch.where(drawn[ids], -self.inclusion[ids].log(), -torch.inf)
        return ids, correction, (is_candidate.cumsum(0) - 1)[targets]


def _inclusion(weights: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return probabilities in proportion to weights, at most 1, whose sum is ``size`` or the number of weights."""
    rising = np.sort(weights)
    larger = np.arange(len(weights) - 1, -1, -1)  # if the larger ones have 1, the others share what is left
    factors = (size - larger) / rising.cumsum()
    fitting = np.flatnonzero(factors * rising <= 1)
    return np.minimum(1.0, factors[fitting[-1]] * weights) if len(fitting) else np.ones_like(weights)


def next_token_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, sampler: CandidateSampler | None = None
) -> Tensor:
    """Return the mean cross-entropy of the next tokens, in nats.

    Matrix products are computed in the type of ``hidden``, one chunk of tokens at a time. The gradients of a chunk are
    computed together with its logits, so that logits are neither kept nor computed twice.

    Args:
        hidden: The encoder's outputs, (N, E), float32 or bfloat16.
        weight: The decoder's weights, (V, E) float32.
        bias: The decoder's bias, (V,) float32.
        targets: Ids of the next tokens, (N,) int64, each in 0..V-1.
        sampler: Draws the tokens to compare the targets with. None for the whole vocabulary.
    """
    correction = None
    if sampler is not None:
        ids, correction, targets = sampler.draw(targets)
        weight, bias = weight.index_select(0, ids), bias.index_select(0, ids)
    loss: Tensor = _NextTokenLoss.apply(hidden, weight, bias, targets, correction)  # type: ignore[no-untyped-call]
    return loss


class _NextTokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, correction: Tensor | None
    ) -> Tensor:
        needs_gradients = any(ctx.needs_input_grad)
        narrow_weight = weight.to(hidden.dtype)
        inputs = _with_column(hidden, hidden.new_ones(len(hidden)))
        corrected = bias if correction is None else bias + correction
        weight_and_bias = _with_column(narrow_weight, corrected.to(hidden.dtype))
        total = torch.zeros((), device=hidden.device)
        if needs_gradients:
            by_hidden = torch.empty_like(hidden)
            by_weight_and_bias = torch.zeros(weight_and_bias.shape, device=hidden.device)
        step = _TOKENS_PER_CHUNK[hidden.device.type]
        for start in range(0, len(hidden), step):
            part, wanted = inputs[start : start + step], targets[start : start + step]
            rows = torch.arange(len(part), device=hidden.device)
            logits = part @ weight_and_bias.t()
            if correction is not None:  # a target always counts once
                logits[rows, wanted] = (hidden[start : start + step] * narrow_weight[wanted]).sum(1) + bias[wanted].to(
                    hidden.dtype
                )
            change = torch.softmax(logits, dim=1)
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
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        by_hidden, by_weight_and_bias = ctx.saved_tensors
        scale = scale / len(by_hidden)
        by_weight_and_bias = by_weight_and_bias * scale
        width = by_hidden.shape[1]
        by_weight, by_bias = by_weight_and_bias[:, :width], by_weight_and_bias[:, width]
        return by_hidden * scale.to(by_hidden.dtype), by_weight, by_bias, None, None


def _with_column(values: Tensor, column: Tensor) -> Tensor:
    """Return ``values``, (N, E), with another column and then columns of zeros up to the depth of a matrix tile.

    With this column, the bias is part of the matrix product. Adding it and summing its gradient separately would take
    two more passes over all logits.
    """
    return torch.cat([values, column[:, None], values.new_zeros(len(values), _TILE_DEPTH - 1)], dim=1)
