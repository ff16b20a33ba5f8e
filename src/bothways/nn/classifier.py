"""Turn one hidden state per token into class scores: concat pooling and the two-layer head of ULMFiT.

In: padded batches of ids in reading order, with lengths. Out: logits. Padding never contributes. Letters: B texts,
T tokens in the longest text, E embedding, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.errors import ShapeError
from bothways.nn.awd_lstm import Encoder
from bothways.text.reading import Direction

WINDOW_TOKENS = 512
GRADIENT_TOKENS = 1400
"""Gradients reach back this many tokens in a text; what lies before is read and pooled without them (BPT3C)."""


def concat_pool(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Summarise each text by its last, largest and mean hidden state.

    Padding never contributes: more padded columns leave the result unchanged.

    Args:
        hidden: Encoder outputs, (B, T, E) float. Columns at or past a text's length are ignored.
        lengths: Real token count of each text, (B,) int64, each in 1..T.

    Returns:
        One row a text, (B, 3E) float, laid out as last | largest | mean.

    Raises:
        ShapeError: ``lengths`` is not (B,), or a length is outside 1..T.
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


class Head(nn.Module):
    """Batch norm, dropout, linear, ReLU, batch norm, dropout, linear."""

    def __init__(self, width_pooled: int, width_hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm1d(width_pooled), nn.BatchNorm1d(width_hidden)])
        self.layers = nn.ModuleList([nn.Linear(width_pooled, width_hidden), nn.Linear(width_hidden, classes)])
        self.dropouts = nn.ModuleList([nn.Dropout(dropout), nn.Dropout(0.1)])
        self.classes = classes

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits, (B, C), for pooled features, (B, 3E)."""
        values = pooled
        for number, (norm, dropout, layer) in enumerate(zip(self.norms, self.dropouts, self.layers, strict=True)):
            values = layer(dropout(norm(functional.relu(values) if number else values)))
        return values


class ClassifierNetwork(nn.Module):
    """Reads texts in one direction and scores the classes."""

    def __init__(self, encoder: Encoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def direction(self) -> Direction:
        """The way it reads."""
        return self.encoder.direction

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score a padded batch of whole texts.

        Returns:
            Logits, (B, C), and the encoder's outputs before and after dropout, (B, T, E).
        """
        pooled, raw, dropped = self.pooled(ids, lengths)
        return self.head(pooled), raw, dropped

    def pooled(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Summarise a padded batch of whole texts, for the head.

        Padding stands behind every text, so an LSTM that reads on never meets it before a text's end.

        Args:
            ids: (B, T) int64 in reading order, anything valid past a text's length.
            lengths: (B,) int64, each in 1..T.

        Returns:
            What the head scores, (B, 3E), and the encoder's outputs before and after dropout, (B, T, E).
        """
        state = self.encoder.zero_state(len(ids))
        frozen_tokens = max(0, int(lengths.min()) - GRADIENT_TOKENS) // WINDOW_TOKENS * WINDOW_TOKENS
        raw_parts, dropped_parts = [], []
        for start in range(0, ids.shape[1], WINDOW_TOKENS):
            with torch.set_grad_enabled(torch.is_grad_enabled() and start >= frozen_tokens):
                raw, dropped, state = self.encoder(ids[:, start : start + WINDOW_TOKENS], state)
            raw_parts.append(raw)
            dropped_parts.append(dropped)
        raw, dropped = torch.cat(raw_parts, dim=1), torch.cat(dropped_parts, dim=1)
        return concat_pool(dropped.float(), lengths), raw, dropped
