"""The AWD-LSTM encoder and language model (Merity et al., arXiv 1708.02182), sizes as in ULMFiT (arXiv 1801.06146).

A model has a reading direction but never reverses anything: its input ids are already in reading order.

Shapes: B texts, T tokens, V vocabulary size, E embedding size, H hidden size.
"""

from __future__ import annotations

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from bothways.bundle.manifest import Architecture
from bothways.nn.dropout import embedding_dropout, locked_dropout, weight_dropout
from bothways.nn.next_token import next_token_loss
from bothways.schema import Document
from bothways.text.reading import Direction

State = list[tuple[Tensor, Tensor]]
"""Hidden and cell state of each layer, each of shape (1, B, size of the layer)."""


class Dropouts(Document):
    """Dropout probabilities of the AWD-LSTM, each in [0, 1). Defaults to those of ULMFiT's language models.

    Attributes:
        embedding: Probability of dropping a word of the vocabulary (embedding dropout).
        input: Probability of dropping a feature of the embedded tokens of a text.
        weight: Probability of dropping a hidden-to-hidden weight.
        hidden: Probability of dropping a feature between two LSTM layers.
        output: Probability of dropping a feature of the last LSTM layer.
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


class LstmLayer(nn.Module):
    """An LSTM layer with weight dropout. The gates are stacked in the order input, forget, cell, output.

    Args:
        input_size: Number of input features.
        hidden_size: Number of output features.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        bound = hidden_size**-0.5
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size).uniform_(-bound, bound))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden_size).uniform_(-bound, bound))

    def forward(
        self, inputs: Tensor, state: tuple[Tensor, Tensor], probability: float
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the layer over a batch of texts of equal length.

        Unpacked input takes the fused path of oneDNN on a CPU and of cuDNN on a GPU.

        Args:
            inputs: Inputs, (B, T, input_size).
            state: Hidden and cell state, each (1, B, hidden_size).
            probability: Probability of dropping a hidden-to-hidden weight in training.

        Returns:
            The outputs, (B, T, hidden_size), and the state after the last token.
        """
        weight_hh = weight_dropout(self.weight_hh.to(inputs.dtype), probability, self.training)
        weights = [weight.to(inputs.dtype) for weight in (self.weight_ih, weight_hh, self.bias_ih, self.bias_hh)]
        outputs, hidden, cell = torch.lstm(inputs, state, weights, True, 1, 0.0, self.training, False, True)
        return outputs, (hidden, cell)


class EncoderNetwork(nn.Module):
    """The AWD-LSTM encoder: map token ids to one output vector per token.

    Attributes:
        architecture: Sizes of the model.
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
        self.layers = nn.ModuleList(LstmLayer(*widths) for widths in architecture.layer_widths)

    def zero_state(self, texts: int) -> State:
        """Return the state before the first token of a batch of ``texts`` texts."""
        widths = [width for _, width in self.architecture.layer_widths]
        zeros = [self.embedding.weight.new_zeros(1, texts, width, dtype=self.compute_type) for width in widths]
        return [(zero, zero.clone()) for zero in zeros]

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

    def forward(self, ids: Tensor, targets: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor, State]:
        """Compute the loss of predicting the next tokens of a batch of windows.

        Args:
            ids: Token ids in reading order, (B, T) int64.
            targets: The token that follows each of them, (B, T) int64.
            state: The state that ``EncoderNetwork.zero_state`` or the previous window returned.

        Returns:
            The mean loss in nats per token, the encoder's outputs before and after dropout, each (B, T, E), and the
            state after the window.
        """
        raw, dropped, next_state = self.encoder(ids, state)
        loss = next_token_loss(
            dropped.flatten(0, 1), self.encoder.embedding.weight, self.decoder.bias, targets.flatten()
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
