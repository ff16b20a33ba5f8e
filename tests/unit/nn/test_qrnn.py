from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bothways.nn.qrnn import QrnnLayer, pool, pool_in_parallel
from bothways.nn.state import LayerState

Pool = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
POOLS: list[Pool] = [pool, pool_in_parallel]


def pooled_one_by_one(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Pool as in the paper, one token after another."""
    candidate, forget, *output = torch.split(gates, cell.shape[1], dim=2)
    outputs = []
    for token in range(gates.shape[1]):
        f = forget[:, token].sigmoid()
        cell = f * candidate[:, token].tanh() + (1 - f) * cell
        outputs.append(output[0][:, token].sigmoid() * cell if output else cell)
    return torch.stack(outputs, dim=1), cell


def some_gates(texts: int, tokens: int, gates: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(tokens)
    return 2 * torch.randn(texts, tokens, gates * 3, dtype=dtype), torch.randn(texts, 3, dtype=dtype)


@given(st.integers(1, 4), st.integers(1, 40), st.sampled_from([2, 3]))
@settings(max_examples=25, deadline=None)
def test_pooling_and_its_gradients_are_those_of_one_token_after_another(texts: int, tokens: int, gates: int) -> None:
    inputs = [values.requires_grad_() for values in some_gates(texts, tokens, gates)]
    expected = pooled_one_by_one(*inputs)
    weights = [torch.rand_like(part) for part in expected]
    gradients = torch.autograd.grad(expected, inputs, weights)
    for method in POOLS:
        found = method(*inputs)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, inputs, weights), gradients)
        with torch.no_grad():
            torch.testing.assert_close(method(*inputs), expected)


@pytest.mark.parametrize("method", POOLS)
@pytest.mark.parametrize("gates", [2, 3])
def test_gradients_of_pooling_are_those_of_its_outputs(method: Pool, gates: int) -> None:
    inputs = [values.requires_grad_() for values in some_gates(2, 5, gates)]
    assert torch.autograd.gradcheck(method, inputs)
    assert torch.autograd.gradcheck(lambda gates: method(gates, inputs[1].detach())[0], inputs[:1])


@pytest.mark.parametrize("method", POOLS)
def test_pooling_does_not_overflow(method: Pool) -> None:
    """A gate that is closed for a whole text keeps the cell; one that is open replaces it."""
    gates, cell = torch.full((1, 600, 9), 1e4), torch.tensor([[0.5, -0.5, 0.25]])
    gates[:, :, 3:6] = -1e4
    gates = gates.requires_grad_()
    outputs, after = method(gates, cell)
    assert torch.equal(after, cell)
    outputs.sum().backward()  # type: ignore[no-untyped-call]
    assert gates.grad is not None
    assert torch.isfinite(gates.grad).all()
    assert torch.equal(method(gates.abs(), cell)[1], torch.ones(1, 3))


@pytest.mark.parametrize("method", POOLS)
def test_in_bfloat16_the_cell_is_float32(method: Pool) -> None:
    """A forget gate of 1/1,000 changes a cell, though 1 + 1/1,000 is 1 in bfloat16."""
    gates = torch.tensor([20.0, -6.9, 20.0]).repeat_interleave(3).expand(1, 1000, 9).to(torch.bfloat16)
    outputs, after = method(gates, torch.zeros(1, 3))
    assert (outputs.dtype, after.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(after, torch.full((1, 3), 0.6319), atol=5e-3, rtol=0)
    torch.testing.assert_close(outputs[:, -1].float(), after, atol=5e-3, rtol=0)


def a_layer(window: int, *, output_gate: bool = True) -> QrnnLayer:
    torch.manual_seed(1)
    return QrnnLayer(4, 5, window=window, output_gate=output_gate).double()


def state_of(layer: QrnnLayer, texts: int) -> LayerState:
    return layer.zero_state(texts, torch.float64)


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("output_gate", [True, False])
def test_a_layer_is_its_product_and_pooling(window: int, output_gate: bool) -> None:
    layer, inputs = a_layer(window, output_gate=output_gate), torch.randn(2, 7, 4, dtype=torch.float64)
    assert layer.weight.shape == (15 if output_gate else 10, 4 * window)
    before = torch.cat([torch.zeros(2, 1, 4), inputs[:, :-1]], dim=1)
    values = torch.cat([before, inputs], dim=2) if window == 2 else inputs
    expected, cell = pooled_one_by_one(values @ layer.weight.T + layer.bias, torch.zeros(2, 5, dtype=torch.float64))
    outputs, state = layer(inputs, state_of(layer, 2), 0.0)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(state["cell"], cell)
    assert list(state) == (["input", "cell"] if window == 2 else ["cell"])


@given(st.sampled_from([1, 2]), st.lists(st.integers(1, 4), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_a_text_in_windows_is_read_like_the_whole_text(window: int, windows: list[int]) -> None:
    layer, inputs = a_layer(window), torch.randn(3, sum(windows), 4, dtype=torch.float64).requires_grad_()
    expected, expected_state = layer(inputs, state_of(layer, 3), 0.0)
    parts, state = [], state_of(layer, 3)
    for part in torch.split(inputs, windows, dim=1):
        outputs, state = layer(part, state, 0.0)
        parts.append(outputs)
    found = torch.cat(parts, dim=1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(state, expected_state)
    torch.testing.assert_close(
        torch.autograd.grad(found.pow(2).sum(), inputs), torch.autograd.grad(expected.pow(2).sum(), inputs)
    )


def test_weight_dropout_reaches_all_weights_and_leaves_the_parameters() -> None:
    layer = a_layer(1).train()
    before = layer.weight.detach().clone()
    outputs, _ = layer(torch.rand(2, 6, 4, dtype=torch.float64), state_of(layer, 2), 0.5)
    outputs.sum().backward()
    assert layer.weight.grad is not None
    assert 0.2 < float((layer.weight.grad == 0).double().mean()) < 0.8
    assert torch.equal(layer.weight, before)
    assert layer.bias.grad is not None
    assert not (layer.bias.grad == 0).any()
