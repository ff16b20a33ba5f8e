"""The language model: an encoder and a decoder whose weights are the embedding (Merity et al., arXiv 1708.02182).

Shapes: B texts, T tokens, V vocabulary size, E embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.nn.encoder import EncoderNetwork
from bothways.nn.next_token import CandidateSampler, next_token_loss
from bothways.nn.state import State
from bothways.text.reading import Direction


class LanguageModelNetwork(nn.Module):
    """Predict the next token in the reading direction. The decoder shares its weights with the embedding."""

    def __init__(self, encoder: EncoderNetwork) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = _DecoderBias(encoder.architecture.vocabulary_size)

    @property
    def direction(self) -> Direction:
        """Reading direction."""
        return self.encoder.direction

    def forward(
        self, ids: Tensor, targets: Tensor, state: State, sampler: CandidateSampler | None = None
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Compute the loss of predicting the next tokens of a batch of windows.

        Args:
            ids: Token ids in reading order, (B, T) int64.
            targets: The token that follows each of them, (B, T) int64.
            state: The state that ``EncoderNetwork.zero_state`` or the previous window returned.
            sampler: Draws the tokens to compare the targets with. None for the whole vocabulary.

        Returns:
            The mean loss in nats per token, the encoder's outputs before and after dropout, each (B, T, E), and the
            state after the window.
        """
        raw, dropped, next_state = self.encoder(ids, state)
        loss = next_token_loss(
            dropped.flatten(0, 1), self.encoder.embedding.weight, self.decoder.bias, targets.flatten(), sampler
        )
        return loss, raw, dropped, next_state

    def logits(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the logits of each next token, (B, T, V) float32, and the state after the window."""
        _, dropped, next_state = self.encoder(ids, state)
        weight, bias = self.encoder.embedding.weight.to(dropped.dtype), self.decoder.bias.to(dropped.dtype)
        return functional.linear(dropped, weight, bias).float(), next_state


class _DecoderBias(nn.Module):
    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))


def activation_penalty(
    raw: Tensor, dropped: Tensor, alpha: float, beta: float, lengths: Tensor | None = None
) -> Tensor:
    """Return activation regularization (AR) and temporal activation regularization (TAR) (arXiv 1708.01009).

    Padding does not contribute.

    Args:
        raw: The last layer's outputs before dropout, (B, T, E).
        dropped: The last layer's outputs after dropout, (B, T, E).
        alpha: Weight of AR, the mean square of the outputs after dropout.
        beta: Weight of TAR, the mean square of the change of the outputs before dropout from one token to the next.
        lengths: Number of tokens of each text without padding, (B,) int64, each in 1..T. None if nothing is padded.
    """
    squares = dropped.float().pow(2).mean(dim=2)  # (B, T)
    changes = (raw[:, 1:] - raw[:, :-1]).float().pow(2).mean(dim=2)  # (B, T - 1)
    if lengths is None:
        penalty = alpha * squares.mean()
        return penalty + beta * changes.mean() if changes.shape[1] else penalty
    real = torch.arange(raw.shape[1], device=raw.device) < lengths[:, None]  # (B, T)
    mean_square = (squares * real).sum() / real.sum()
    mean_change = (changes * real[:, 1:]).sum() / real[:, 1:].sum().clamp(min=1)
    return alpha * mean_square + beta * mean_change
