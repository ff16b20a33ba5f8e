"""The models of a bundle in PyTorch's eager mode, written as usual: texts sorted by length, packed, in batches of 64.

Input: a bundle and texts. Output: the probabilities of the ensemble. Pooling covers the whole text, whereas fastai
pools only the last 1,440 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bothways.bundle.manifest import Architecture
from bothways.bundle.read import Bundle
from bothways.bundle.weights import Weights
from bothways.runtime.head import folded_layers
from bothways.text.reading import Ids, read

BATCH = 64


class TorchMember(nn.Module):
    """One direction: embedding, LSTM layers, concat pooling, and a head with folded batch norms."""

    def __init__(self, architecture: Architecture, weights: Weights, head_layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(
            architecture.vocabulary_size,
            architecture.width_embedding,
            _weight=_tensor(weights["encoder.embedding.weight"]),
        )
        self.layers = nn.ModuleList(nn.LSTM(*widths) for widths in architecture.layer_widths)
        for number, layer in enumerate(self.layers):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            layer.load_state_dict({f"{name}_l0": _tensor(weights[f"encoder.layers.{number}.{name}"]) for name in names})
        self.head = folded_layers(weights, head_layers)

    def forward(self, texts: Sequence[Ids]) -> torch.Tensor:
        """Return the probabilities of texts, (B, C). Texts must be sorted by length, longest first."""
        lengths = [len(ids) for ids in texts]
        padded = nn.utils.rnn.pad_sequence([torch.from_numpy(ids.astype(np.int64)) for ids in texts])
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(padded), torch.tensor(lengths))
        for layer in self.layers:
            packed, (last, _) = layer(packed)
        outputs, counts = nn.utils.rnn.pad_packed_sequence(packed)
        is_padding = torch.arange(len(outputs))[:, None] >= counts[None]
        largest = outputs.masked_fill(is_padding[..., None], -torch.inf).amax(dim=0)
        values = torch.cat([last[0], largest, outputs.sum(dim=0) / counts[:, None]], dim=1).double()
        for number, (weight, bias) in enumerate(self.head):
            values = (values.relu() if number else values) @ torch.from_numpy(weight).T + torch.from_numpy(bias)
        return values.softmax(dim=1)


class TorchEnsemble:
    """The mean of all members of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._tokenizer = bundle.tokenizer
        members = bundle.manifest.members
        self._orders = [(member.direction, member.special_tokens) for member in members]
        self._members = [
            TorchMember(m.architecture, bundle.weights[m.direction], len(m.widths_head or []) + 1) for m in members
        ]

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probabilities of texts, (N, C), in the order of the texts."""
        tokenized = [self._tokenizer.tokenize(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda number: -len(tokenized[number]))
        rows: list[torch.Tensor] = []
        for start in range(0, len(order), BATCH):
            batch = [tokenized[number] for number in order[start : start + BATCH]]
            each = [
                member([read(text, *way) for text in batch])
                for member, way in zip(self._members, self._orders, strict=True)
            ]
            rows.append(torch.stack(each).mean(dim=0))
        found = np.empty((len(texts), rows[0].shape[1]))
        found[order] = torch.cat(rows).numpy()
        return found


def _tensor(array: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.array(array))
