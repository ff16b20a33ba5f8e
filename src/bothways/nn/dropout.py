"""The kinds of dropout of the AWD-LSTM (Merity et al., arXiv 1708.02182).

Each function returns a tensor of the shape of its input. Outside of training, or with probability 0, it returns the
input itself. Values that are kept are scaled by 1 / (1 - probability).
"""

from __future__ import annotations

import torch
from torch import Tensor


def locked_dropout(values: Tensor, probability: float, is_training: bool) -> Tensor:
    """Drop the same features at every token of a text (locked or variational dropout).

    Args:
        values: Activations of texts, tokens and features, (B, T, F).
        probability: Probability of dropping a feature of a text, in [0, 1).
        is_training: Whether to drop anything.
    """
    if not is_training or probability == 0:
        return values
    mask = values.new_empty(values.shape[0], 1, values.shape[2]).bernoulli_(1 - probability)
    return values * (mask / (1 - probability))


def weight_dropout(weight: Tensor, probability: float, is_training: bool) -> Tensor:
    """Drop single weights, the same for all tokens of a batch (DropConnect).

    The probability is rounded to a multiple of 1/65,536: four weights share one 64-bit random number, because drawing
    one number per weight would take as long as a forward pass over a short batch (docs/LOG.md).

    Args:
        weight: Hidden-to-hidden weights of an LSTM layer, or the weights of a QRNN layer, of any shape.
        probability: Probability of dropping a weight, in [0, 1).
        is_training: Whether to drop anything.
    """
    if not is_training or probability == 0:
        return weight
    numbers = torch.empty((weight.numel() + 3) // 4, dtype=torch.int64, device=weight.device).random_(-(2**63), None)
    bound = min(2**15 - 1, round((1 - probability) * 2**16) - 2**15)
    is_kept = numbers.view(torch.int16)[: weight.numel()] < bound
    return weight * (is_kept.view_as(weight).to(weight.dtype) / (1 - probability))


def embedding_dropout(weight: Tensor, probability: float, is_training: bool) -> Tensor:
    """Drop whole words: rows of the embedding matrix (Gal & Ghahramani, arXiv 1512.05287).

    Args:
        weight: The embedding matrix, (V, E).
        probability: Probability of dropping a word of the vocabulary, in [0, 1).
        is_training: Whether to drop anything.
    """
    if not is_training or probability == 0:
        return weight
    mask = torch.empty(weight.shape[0], 1, device=weight.device, dtype=weight.dtype).bernoulli_(1 - probability)
    return weight * (mask / (1 - probability))
