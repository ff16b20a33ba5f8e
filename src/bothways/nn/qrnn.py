"""The layer of a quasi-recurrent network, QRNN (Bradbury et al., arXiv 1611.01576), as in fastai.

All gates of a window of tokens are one matrix product. Only pooling, which is element-wise, goes from token to token:
``c_t = f_t z_t + (1 - f_t) c_(t-1)`` with the candidate z and the forget gate f, and ``h_t = o_t c_t`` with the output
gate o.

Shapes: B texts, T tokens, H hidden size, G gates (3, or 2 without output gate).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bothways.nn.dropout import weight_dropout
from bothways.nn.state import LayerState


class QrnnLayer(nn.Module):
    """A QRNN layer with weight dropout. The gates are stacked in the order candidate, forget, output.

    Args:
        input_size: Number of input features per token.
        hidden_size: Number of output features.
        window: Number of tokens that the gates of a token depend on: 1, or 2 for the token and the one before it.
        output_gate: Whether there is an output gate. Without it, the cell is the output.
    """

    def __init__(self, input_size: int, hidden_size: int, *, window: int = 1, output_gate: bool = True) -> None:
        super().__init__()
        rows, columns = (3 if output_gate else 2) * hidden_size, window * input_size
        bound = columns**-0.5
        self.weight = nn.Parameter(torch.empty(rows, columns).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))
        self.input_size, self.hidden_size, self.window = input_size, hidden_size, window

    def zero_state(self, texts: int, compute_type: torch.dtype) -> LayerState:
        """Return the state before the first token of a batch of ``texts`` texts. The cell has at least 32 bits."""
        state = {"cell": self.weight.new_zeros(texts, self.hidden_size, dtype=_cell_type(compute_type))}
        if self.window > 1:
            state["input"] = self.weight.new_zeros(texts, self.input_size, dtype=compute_type)
        return state

    def forward(self, inputs: Tensor, state: LayerState, probability: float) -> tuple[Tensor, LayerState]:
        """Run the layer over a batch of texts of equal length.

        Args:
            inputs: Inputs, (B, T, input_size).
            state: ``cell``, (B, hidden_size); with window 2 also ``input``, (B, input_size), the token before.
            probability: Probability of dropping a weight in training.

        Returns:
            The outputs, (B, T, hidden_size), and the state after the last token.
        """
        weight = weight_dropout(self.weight.to(inputs.dtype), probability, self.training)
        after = {}
        values = inputs
        if self.window > 1:
            before = torch.cat([state["input"][:, None], inputs[:, :-1]], dim=1)
            values = torch.cat([before, inputs], dim=2)
            after["input"] = inputs[:, -1].clone()
        gates = functional.linear(values, weight, self.bias.to(inputs.dtype))
        outputs, after["cell"] = pool(gates, state["cell"])
        return outputs, after


def _cell_type(compute_type: torch.dtype) -> torch.dtype:
    """Return the type of cells. In bfloat16, a cell would lose what a small forget gate adds to it."""
    return torch.float32 if compute_type is torch.bfloat16 else compute_type


def pool(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Pool gates over the tokens of each text.

    Args:
        gates: The gates before their activation functions, (B, T, GH).
        cell: The cell before the first token, (B, H), of at least 32 bits.

    Returns:
        The outputs, (B, T, H), in the type of ``gates``, and the cell after the last token, (B, H).
    """
    if gates.device.type != "cpu":
        return pool_in_parallel(gates, cell)
    outputs, after = _Pooling.apply(gates, cell)  # type: ignore[no-untyped-call]
    return outputs, after


class _Pooling(torch.autograd.Function):
    """Pool one token of all texts after another. What a token needs stays in the cache of a CPU between its steps."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        (texts, tokens, rows), width = gates.shape, cell.shape[1]
        needs_gradients = any(ctx.needs_input_grad)
        activated = cell.new_empty(tokens if needs_gradients else 1, texts, rows)
        cells = cell.new_empty(tokens + 1, texts, width)
        outputs = gates.new_empty(texts, tokens, width)
        cells[0] = cell
        for token in range(tokens):
            now = activated[token if needs_gradients else 0]
            now.copy_(gates[:, token])
            now[:, :width].tanh_()
            now[:, width:].sigmoid_()
            torch.lerp(cells[token], now[:, :width], now[:, width : 2 * width], out=cells[token + 1])
            if rows > 2 * width:
                torch.mul(cells[token + 1], now[:, 2 * width :], out=outputs[:, token])
            else:
                outputs[:, token] = cells[token + 1]
        if needs_gradients:
            ctx.save_for_backward(activated, cells)
        return outputs, cells[tokens].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_outputs: Tensor, by_cell: Tensor) -> tuple[Tensor, Tensor]:
        activated, cells = ctx.saved_tensors
        (tokens, texts, rows), width = activated.shape, cells.shape[2]
        by_gates = by_outputs.new_empty(texts, tokens, rows)
        change = torch.empty_like(activated[0])
        by_candidate, by_forget, by_output = change[:, :width], change[:, width : 2 * width], change[:, 2 * width :]
        for token in reversed(range(tokens)):
            now = activated[token]
            candidate, forget, output = now[:, :width], now[:, width : 2 * width], now[:, 2 * width :]
            by_hidden = by_outputs[:, token].to(cells.dtype)
            if rows > 2 * width:
                torch.mul(by_hidden, cells[token + 1], out=by_output)
                by_cell = torch.addcmul(by_cell, by_hidden, output)
            else:
                by_cell = by_cell + by_hidden
            torch.sub(candidate, cells[token], out=by_forget)
            by_forget.mul_(by_cell)
            torch.mul(by_cell, forget, out=by_candidate)
            by_cell = by_cell - by_candidate
            torch.ops.aten.tanh_backward(by_candidate, candidate, grad_input=by_candidate)
            torch.ops.aten.sigmoid_backward(change[:, width:], now[:, width:], grad_input=change[:, width:])
            by_gates[:, token] = change
        return by_gates, by_cell


def pool_in_parallel(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Pool gates as ``pool`` does, in a number of operations that grows with the logarithm of T.

    A GPU is faster this way: the start of an operation on one token takes longer than the operation.

    Args:
        gates: The gates before their activation functions, (B, T, GH).
        cell: The cell before the first token, (B, H).

    Returns:
        The outputs, (B, T, H), and the cell after the last token, (B, H).
    """
    width = cell.shape[1]
    wide = gates.to(cell.dtype)
    candidate, forget = wide[..., :width].tanh(), wide[..., width : 2 * width].sigmoid()
    cells = _Scan.apply(1 - forget, forget * candidate, cell)  # type: ignore[no-untyped-call]
    outputs = cells * wide[..., 2 * width :].sigmoid() if gates.shape[2] > 2 * width else cells
    return outputs.to(gates.dtype), cells[:, -1]


class _Scan(torch.autograd.Function):
    """Compute ``c_t = kept_t c_(t-1) + added_t`` for all tokens at once, each (B, T, H)."""

    @staticmethod
    def forward(ctx: Any, kept: Tensor, added: Tensor, first: Tensor) -> Tensor:
        cells = torch.cat([torch.addcmul(added[:, :1], kept[:, :1], first[:, None]), added[:, 1:]], dim=1)
        span, remains = 1, kept  # after each round, a cell includes twice as many tokens
        while span < cells.shape[1]:
            later = torch.addcmul(cells[:, span:], remains[:, span:], cells[:, :-span])
            cells = torch.cat([cells[:, :span], later], dim=1)
            remains = torch.cat([remains[:, :span], remains[:, span:] * remains[:, :-span]], dim=1)
            span *= 2
        ctx.save_for_backward(kept, cells, first)
        return cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept, cells, first = ctx.saved_tensors
        by_added = by_cells
        span, remains = 1, torch.cat([kept[:, 1:], torch.zeros_like(kept[:, :1])], dim=1)
        while span < by_added.shape[1]:
            earlier = torch.addcmul(by_added[:, :-span], remains[:, :-span], by_added[:, span:])
            by_added = torch.cat([earlier, by_added[:, -span:]], dim=1)
            remains = torch.cat([remains[:, :-span] * remains[:, span:], remains[:, -span:]], dim=1)
            span *= 2
        before = torch.cat([first[:, None], cells[:, :-1]], dim=1)
        return by_added * before, by_added, by_added[:, 0] * kept[:, 0]
