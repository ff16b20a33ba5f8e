"""The layer of the AWD-LSTM (Merity et al., arXiv 1708.02182).

Shapes: B texts, T tokens, H hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bothways.nn.dropout import weight_dropout
from bothways.nn.state import LayerState


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

    def zero_state(self, texts: int, compute_type: torch.dtype) -> LayerState:
        """Return the state before the first token of a batch of ``texts`` texts."""
        zero = self.weight_hh.new_zeros(texts, self.weight_hh.shape[1], dtype=compute_type)
        return {"hidden": zero, "cell": zero.clone()}

    def forward(self, inputs: Tensor, state: LayerState, probability: float) -> tuple[Tensor, LayerState]:
        """Run the layer over a batch of texts of equal length.

        Unpacked input takes the fused path of oneDNN on a CPU and of cuDNN on a GPU.

        Args:
            inputs: Inputs, (B, T, input_size).
            state: ``hidden`` and ``cell``, each (B, hidden_size).
            probability: Probability of dropping a hidden-to-hidden weight in training.

        Returns:
            The outputs, (B, T, hidden_size), and the state after the last token.
        """
        weight_hh = weight_dropout(self.weight_hh.to(inputs.dtype), probability, self.training)
        weights = [weight.to(inputs.dtype) for weight in (self.weight_ih, weight_hh, self.bias_ih, self.bias_hh)]
        before = (state["hidden"][None], state["cell"][None])
        outputs, hidden, cell = torch.lstm(inputs, before, weights, True, 1, 0.0, self.training, False, True)
        return outputs, {"hidden": hidden[0], "cell": cell[0]}
