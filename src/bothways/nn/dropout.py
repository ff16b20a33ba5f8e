"""The three dropouts of the AWD-LSTM (Merity et al., arXiv 1708.02182).

In: tensors. Out: tensors of the same shape, unchanged in evaluation. Letters: B texts, T tokens, E or H features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def locked_dropout(values: Tensor, probability: float, is_training: bool) -> Tensor:
    """Drop the same features at every token of a text.

    Args:
        values: (B, T, features).
        probability: Of dropping a feature, 0..1.
        is_training: False returns the values as they are.
    """
    if not is_training or probability == 0:
        return values
    mask = values.new_empty(values.shape[0], 1, values.shape[2]).bernoulli_(1 - probability)
    return values * (mask / (1 - probability))


def weight_dropout(weight: Tensor, probability: float, is_training: bool) -> Tensor:
    """Drop single hidden-to-hidden weights, the same for all tokens of a batch (DropConnect).

    The probability is kept to 1/65,536: four weights share one 64-bit number, since drawing a number for each of the
    weights would take as long as reading a short batch (docs/LOG.md).
    """
    if not is_training or probability == 0:
        return weight
    numbers = torch.empty((weight.numel() + 3) // 4, dtype=torch.int64, device=weight.device).random_(-(2**63), None)
    bound = min(2**15 - 1, round((1 - probability) * 2**16) - 2**15)
    is_kept = numbers.view(torch.int16)[: weight.numel()] < bound
    return weight * (is_kept.view_as(weight).to(weight.dtype) / (1 - probability))


def embedding_dropout(weight: Tensor, probability: float, is_training: bool) -> Tensor:
    """Drop whole words: rows of the embedding, (V, E) (Gal & Ghahramani, arXiv 1512.05287)."""
    if not is_training or probability == 0:
        return weight
    mask = torch.empty(weight.shape[0], 1, device=weight.device, dtype=weight.dtype).bernoulli_(1 - probability)
    return weight * (mask / (1 - probability))
