"""The text classifier of ULMFiT: encoder, concat pooling and a two-layer head.

Inputs are padded batches of ids in reading order, with the length of each text. Padding does not contribute.

Shapes: B texts, T tokens of the longest text, E embedding size, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.errors import ShapeError
from bothways.nn.encoder import EncoderNetwork
from bothways.text.reading import Direction

CHUNK_TOKENS = 512
"""A batch is encoded in chunks of this many tokens."""
GRADIENT_TOKENS = 1400
"""Gradients flow back through at least this many tokens from the end of a text. Earlier chunks are encoded and pooled
without gradients (BPT3C)."""


def concat_pool(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Pool the encoder's outputs of each text: last token, maximum and mean (concat pooling).

    Padding does not contribute. Further padded columns leave the result unchanged.

    Args:
        hidden: Encoder outputs, (B, T, E) float. Columns at or after a text's length are ignored.
        lengths: Number of tokens of each text without padding, (B,) int64, each in 1..T.

    Returns:
        One row per text, (B, 3E) float, laid out as last | maximum | mean.

    Raises:
        ShapeError: ``lengths`` does not have shape (B,), or a length is outside 1..T.
    """
    batch, time, _ = hidden.shape
    if lengths.shape != (batch,):
        raise ShapeError(f"lengths has shape {tuple(lengths.shape)}, expected ({batch},)")
    if lengths.min() < 1 or lengths.max() > time:
        raise ShapeError(f"lengths must be in 1..{time}, got {lengths.min()}..{lengths.max()}")

    real = (torch.arange(time, device=hidden.device) < lengths[:, None])[..., None]  # (B, T, 1)
    last = hidden[torch.arange(batch, device=hidden.device), lengths - 1]
    largest = hidden.masked_fill(~real, float("-inf")).amax(dim=1)
    mean = hidden.masked_fill(~real, 0.0).sum(dim=1) / lengths[:, None]
    return torch.cat([last, largest, mean], dim=1)


class HeadNetwork(nn.Module):
    """The classification head: batch norm, dropout, linear, ReLU, batch norm, dropout, linear.

    Args:
        pooled_size: Number of pooled features, 3E.
        hidden_size: Size of the hidden layer.
        classes: Number of classes, C.
        dropout: Dropout probability before the first linear layer. Before the second it is 0.1.
    """

    def __init__(self, pooled_size: int, hidden_size: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm1d(pooled_size), nn.BatchNorm1d(hidden_size)])
        self.layers = nn.ModuleList([nn.Linear(pooled_size, hidden_size), nn.Linear(hidden_size, classes)])
        self.dropouts = nn.ModuleList([nn.Dropout(dropout), nn.Dropout(0.1)])
        self.classes = classes

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the logits, (B, C), of pooled features, (B, 3E)."""
        values = pooled
        for number, (norm, dropout, layer) in enumerate(zip(self.norms, self.dropouts, self.layers, strict=True)):
            values = layer(dropout(norm(functional.relu(values) if number else values)))
        return values


class ClassifierNetwork(nn.Module):
    """A text classifier that reads in one direction."""

    def __init__(self, encoder: EncoderNetwork, head: HeadNetwork) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def direction(self) -> Direction:
        """Reading direction."""
        return self.encoder.direction

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classify a padded batch of whole texts.

        Args:
            ids: Token ids in reading order, (B, T) int64. Any valid ids may follow a text as padding.
            lengths: Number of tokens of each text without padding, (B,) int64, each in 1..T.

        Returns:
            The logits, (B, C), and the encoder's outputs before and after dropout, each (B, T, E).
        """
        pooled, raw, dropped = self.pooled(ids, lengths)
        return self.head(pooled), raw, dropped

    def pooled(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode and pool a padded batch of whole texts.

        Padding follows each text, so the encoder has read the whole text before it reaches any padding.

        Args:
            ids: Token ids in reading order, (B, T) int64. Any valid ids may follow a text as padding.
            lengths: Number of tokens of each text without padding, (B,) int64, each in 1..T.

        Returns:
            The pooled features, (B, 3E), and the encoder's outputs before and after dropout, each (B, T, E).
        """
        state = self.encoder.zero_state(len(ids))
        frozen_tokens = max(0, int(lengths.min()) - GRADIENT_TOKENS) // CHUNK_TOKENS * CHUNK_TOKENS
        raw_parts, dropped_parts = [], []
        for start in range(0, ids.shape[1], CHUNK_TOKENS):
            with torch.set_grad_enabled(torch.is_grad_enabled() and start >= frozen_tokens):
                raw, dropped, state = self.encoder(ids[:, start : start + CHUNK_TOKENS], state)
            raw_parts.append(raw)
            dropped_parts.append(dropped)
        raw, dropped = torch.cat(raw_parts, dim=1), torch.cat(dropped_parts, dim=1)
        return concat_pool(dropped.float(), lengths), raw, dropped
