from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bothways.bundle.manifest import Architecture
from bothways.nn.encoder import Dropouts
from bothways.nn.language_model import LanguageModelNetwork, activation_penalty
from bothways.nn.lstm import LstmLayer
from bothways.text.reading import Direction
from tests.unit.nn.networks import (
    EVERY_KIND,
    HALF_DROPPED,
    NO_DROPOUT,
    WEIGHTS,
    an_encoder,
    lengths_of_texts,
    some_ids,
    stacked_torch_lstms,
)


@torch.no_grad()
def test_without_dropout_the_encoder_is_torchs_stacked_lstm_also_over_windows() -> None:
    ours = an_encoder().train()
    values = ours.embedding(some_ids(4, 17))
    expected_state = []
    for lstm in stacked_torch_lstms(ours):
        values, state = lstm(values)
        expected_state.append(state)

    raw_parts, state = [], ours.zero_state(4)
    for start in range(0, 17, 5):
        raw, dropped, state = ours(some_ids(4, 17)[:, start : start + 5], state)
        assert torch.equal(raw, dropped)
        raw_parts.append(raw)

    torch.testing.assert_close(torch.cat(raw_parts, dim=1), values)
    for ours_after, (their_hidden, their_cell) in zip(state, expected_state, strict=True):
        torch.testing.assert_close(ours_after, {"hidden": their_hidden[0], "cell": their_cell[0]})


def test_gradients_without_dropout_are_those_of_torchs_stacked_lstm() -> None:
    ours = an_encoder().train()
    theirs = stacked_torch_lstms(ours)
    values = ours.embedding(some_ids(2, 9)).detach()
    for lstm in theirs:
        values, _ = lstm(values)
    values.pow(2).sum().backward()
    raw, _, _ = ours(some_ids(2, 9), ours.zero_state(2))
    raw.pow(2).sum().backward()
    for layer, lstm in zip(ours.layers, theirs, strict=True):
        for name in WEIGHTS:
            torch.testing.assert_close(getattr(layer, name).grad, getattr(lstm, f"{name}_l0").grad)


@EVERY_KIND
def test_the_last_layer_is_as_wide_as_the_embedding(kind: Architecture) -> None:
    encoder = an_encoder(architecture=kind)
    raw, _, state = encoder(some_ids(2, 5), encoder.zero_state(2))
    assert raw.shape == (2, 5, 6)
    assert [tuple(layer["cell"].shape) for layer in state] == [(2, 10), (2, 10), (2, 6)]


def test_an_encoder_carries_its_direction_but_never_reverses() -> None:
    forward, backward = (an_encoder(direction=direction) for direction in Direction)
    assert LanguageModelNetwork(backward).direction is Direction.BACKWARD
    ids = some_ids(2, 7)
    assert torch.equal(forward(ids, forward.zero_state(2))[0], backward(ids, backward.zero_state(2))[0])


@EVERY_KIND
def test_in_training_dropout_changes_what_is_read_and_in_evaluation_nothing_does(kind: Architecture) -> None:
    encoder = an_encoder(HALF_DROPPED, kind)
    ids = some_ids(2, 9)

    def read() -> tuple[Tensor, Tensor]:
        raw, dropped, _ = encoder(ids, encoder.zero_state(2))
        return raw, dropped

    encoder.train()
    assert not torch.equal(read()[0], read()[0])
    encoder.eval()
    raw, dropped = read()
    assert torch.equal(raw, dropped)
    assert torch.equal(raw, read()[0])
    encoder.dropouts = NO_DROPOUT
    encoder.train()
    torch.testing.assert_close(read()[0], raw)


@EVERY_KIND
@torch.no_grad()
def test_bfloat16_reads_nearly_the_same_as_float32_and_weights_stay_float32(kind: Architecture) -> None:
    encoder = an_encoder(architecture=kind).eval()
    expected, _, _ = encoder(some_ids(3, 20), encoder.zero_state(3))
    encoder.compute_type = torch.bfloat16
    found, _, state = encoder(some_ids(3, 20), encoder.zero_state(3))
    assert found.dtype is torch.bfloat16
    cell_type = torch.bfloat16 if kind.kind == "lstm" else torch.float32
    assert {layer["cell"].dtype for layer in state} == {cell_type}
    assert not torch.equal(found.float(), expected)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


@EVERY_KIND
def test_bfloat16_trains_in_float32(kind: Architecture) -> None:
    model = LanguageModelNetwork(an_encoder(HALF_DROPPED, kind)).train()
    model.encoder.compute_type = torch.bfloat16
    loss, _, _, _ = model(some_ids(3, 8), some_ids(3, 8), model.encoder.zero_state(3))
    assert loss.dtype is torch.float32
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype is torch.float32 for p in model.parameters())


def test_dropouts_are_scaled_together_and_never_reach_one() -> None:
    scaled = Dropouts(embedding=0.1, input=0.2, weight=0.3, hidden=0.4, output=0.9).scaled(2)
    assert scaled.model_dump() == pytest.approx(
        {"embedding": 0.2, "input": 0.4, "weight": 0.6, "hidden": 0.8, "output": 0.9}
    )
    assert Dropouts().scaled(0) == NO_DROPOUT


def test_weight_dropout_reaches_only_the_hidden_to_hidden_weights_and_leaves_the_parameters() -> None:
    torch.manual_seed(3)
    layer = LstmLayer(4, 5).train()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    one_token = torch.rand(2, 1, 4)
    zero = torch.zeros(2, 5)

    def read(hidden: Tensor) -> Tensor:
        outputs, _ = layer(one_token, {"hidden": hidden, "cell": zero}, 0.9)
        assert isinstance(outputs, Tensor)
        return outputs

    # From a hidden state of zero, no hidden-to-hidden weight takes part; from another one, they do.
    torch.testing.assert_close(read(zero), read(zero), rtol=0, atol=0)
    assert not torch.equal(read(torch.ones(2, 5)), read(torch.ones(2, 5)))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_only_weights_that_were_not_dropped_get_a_gradient() -> None:
    torch.manual_seed(3)
    layer = LstmLayer(4, 5).train()
    outputs, _ = layer(torch.rand(2, 6, 4), {"hidden": torch.rand(2, 5), "cell": torch.rand(2, 5)}, 0.5)
    outputs.sum().backward()
    assert layer.weight_hh.grad is not None
    assert layer.weight_ih.grad is not None
    share = float((layer.weight_hh.grad == 0).float().mean())
    assert 0.25 < share < 0.75
    assert not (layer.weight_ih.grad == 0).any()


def test_the_decoder_is_the_embedding() -> None:
    model = LanguageModelNetwork(an_encoder())
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert [name for name, shape in shapes.items() if shape == (30, 6)] == ["encoder.embedding.weight"]
    assert shapes["decoder.bias"] == (30,)

    logits, _ = model.logits(some_ids(2, 5), model.encoder.zero_state(2))
    _, dropped, _ = model.encoder(some_ids(2, 5), model.encoder.zero_state(2))
    torch.testing.assert_close(logits, dropped @ model.encoder.embedding.weight.T + model.decoder.bias)


def test_tokens_that_were_only_to_be_predicted_teach_the_embedding_too() -> None:
    model = LanguageModelNetwork(an_encoder()).train()
    logits, _ = model.logits(torch.tensor([[1, 2, 3]]), model.encoder.zero_state(1))
    logits[0, -1, 29].backward()  # type: ignore[no-untyped-call]
    gradient = model.encoder.embedding.weight.grad
    assert gradient is not None
    assert [row for row in range(30) if gradient[row].any()] == [1, 2, 3, 29]


def test_activation_penalty_by_hand() -> None:
    raw = torch.tensor([[[1.0, 2.0], [3.0, 2.0], [3.0, 6.0]]])
    dropped = torch.tensor([[[0.0, 4.0], [6.0, 0.0], [0.0, 0.0]]])
    # mean square of the dropped: (16 + 36) / 6; of the changes (2, 0), (0, 4): (4 + 16) / 4
    assert activation_penalty(raw, dropped, 3.0, 0.0).item() == pytest.approx(3 * 52 / 6)
    assert activation_penalty(raw, dropped, 0.0, 0.5).item() == pytest.approx(0.5 * 20 / 4)
    assert activation_penalty(raw, dropped, 3.0, 0.5).item() == pytest.approx(26 + 2.5)


@pytest.mark.parametrize("lengths", [None, torch.tensor([1])])
def test_one_token_has_no_change(lengths: Tensor | None) -> None:
    one = torch.tensor([[[2.0, 0.0]]])
    assert activation_penalty(one, one, 1.0, 1.0, lengths).item() == pytest.approx(2.0)


@given(lengths_of_texts, st.integers(0, 4))
def test_padding_never_contributes_to_the_penalty(lengths: list[int], extra: int) -> None:
    torch.manual_seed(sum(lengths))
    raw, dropped = torch.randn(2, len(lengths), max(lengths), 3)
    counts = torch.tensor(lengths)
    junk = torch.full((len(lengths), extra, 3), 1e6)
    found = activation_penalty(torch.cat([raw, junk], 1), torch.cat([dropped, junk], 1), 2.0, 1.0, counts)

    squares = torch.cat([d[:n].pow(2).flatten() for d, n in zip(dropped, lengths, strict=True)])
    changes = torch.cat([(r[1:n] - r[: n - 1]).pow(2).flatten() for r, n in zip(raw, lengths, strict=True)])
    expected = 2 * squares.mean() + (changes.mean() if len(changes) else 0)
    torch.testing.assert_close(found, expected)
