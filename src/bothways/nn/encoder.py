"""The encoder of a model: an embedding and recurrent layers with the dropouts of the AWD-LSTM (arXiv 1708.02182).

Sizes are as in ULMFiT (arXiv 1801.06146). ``_layers`` is the only place that knows the kinds of layers. A model has a
reading direction but never reverses anything: its input ids are already in reading order.

Shapes: B texts, T tokens, V vocabulary size, E embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from bothways.bundle.manifest import Architecture
from bothways.nn.dropout import embedding_dropout, locked_dropout
from bothways.nn.lstm import LstmLayer
from bothways.nn.qrnn import QrnnLayer
from bothways.nn.state import State
from bothways.schema import Document
from bothways.text.reading import Direction


class Dropouts(Document):
    """Dropout probabilities of an encoder, each in [0, 1). Defaults to those of ULMFiT's language models.

    Attributes:
        embedding: Probability of dropping a word of the vocabulary (embedding dropout).
        input: Probability of dropping a feature of the embedded tokens of a text.
        weight: Probability of dropping a hidden-to-hidden weight of an LSTM, or any weight of a QRNN.
        hidden: Probability of dropping a feature between two layers.
        output: Probability of dropping a feature of the last layer.
    """

    model_config = ConfigDict(strict=False)

    embedding: float = Field(0.02, ge=0, lt=1)
    input: float = Field(0.25, ge=0, lt=1)
    weight: float = Field(0.2, ge=0, lt=1)
    hidden: float = Field(0.15, ge=0, lt=1)
    output: float = Field(0.1, ge=0, lt=1)

    def scaled(self, factor: float) -> Dropouts:
        """Return these probabilities multiplied by a factor, each capped at 0.9."""
        return Dropouts(**{name: min(0.9, value * factor) for name, value in self.model_dump().items()})


class EncoderNetwork(nn.Module):
    """Map token ids to one output vector per token.

    Attributes:
        architecture: Kind and sizes of the model.
        direction: Reading direction.
        dropouts: Dropout probabilities. Each training stage sets its own.
        compute_type: Type of activations and matrix products, float32 or bfloat16. Weights are always float32.
    """

    def __init__(self, architecture: Architecture, direction: Direction, dropouts: Dropouts) -> None:
        super().__init__()
        self.architecture = architecture
        self.direction = direction
        self.dropouts = dropouts
        self.compute_type = torch.float32
        self.embedding = nn.Embedding(architecture.vocabulary_size, architecture.width_embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.layers = nn.ModuleList(_layers(architecture))

    def zero_state(self, texts: int) -> State:
        """Return the state before the first token of a batch of ``texts`` texts."""
        return [layer.zero_state(texts, self.compute_type) for layer in self.layers]  # type: ignore[operator]

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Encode a batch of windows of tokens.

        Args:
            ids: Token ids in reading order, (B, T) int64.
            state: The state that ``zero_state`` or the previous window returned.

        Returns:
            The last layer's outputs before and after dropout, each (B, T, E), and the state after the window.
        """
        weight = embedding_dropout(self.embedding.weight, self.dropouts.embedding, self.training)
        embedded = functional.embedding(ids, weight).to(self.compute_type)
        values = locked_dropout(embedded, self.dropouts.input, self.training)
        raw, next_state = values, []
        for number, (layer, layer_state) in enumerate(zip(self.layers, state, strict=True)):
            raw, new = layer(values, layer_state, self.dropouts.weight)
            next_state.append(new)
            is_top = number == len(self.layers) - 1
            values = locked_dropout(raw, self.dropouts.output if is_top else self.dropouts.hidden, self.training)
        return raw, values, next_state


def _layers(architecture: Architecture) -> Iterator[LstmLayer | QrnnLayer]:
    """Yield the layers of an architecture with random weights, from first to last."""
    for widths, window in zip(architecture.layer_widths, architecture.layer_windows, strict=True):
        if architecture.kind == "qrnn":
            yield QrnnLayer(*widths, window=window, output_gate=architecture.output_gate)
        else:
            yield LstmLayer(*widths)
