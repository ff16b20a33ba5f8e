from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bothways.bundle.manifest import Architecture
from bothways.errors import ShapeError
from bothways.nn.awd_lstm import Dropouts, EncoderNetwork, LanguageModelNetwork, LstmLayer, activation_penalty
from bothways.nn.classifier import CHUNK_TOKENS, GRADIENT_TOKENS, ClassifierNetwork, HeadNetwork, concat_pool
from bothways.nn.dropout import embedding_dropout, locked_dropout, weight_dropout
from bothways.nn.next_token import next_token_loss
from bothways.text.reading import Direction

ARCHITECTURE = Architecture(vocabulary_size=30, width_embedding=6, width_hidden=10, layers=3)
NO_DROPOUT = Dropouts(embedding=0, input=0, weight=0, hidden=0, output=0)
HALF_DROPPED = Dropouts(embedding=0.5, input=0.5, weight=0.5, hidden=0.5, output=0.5)
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def an_encoder(
    dropouts: Dropouts = NO_DROPOUT, architecture: Architecture = ARCHITECTURE, direction: Direction = Direction.FORWARD
) -> EncoderNetwork:
    torch.manual_seed(1)
    return EncoderNetwork(architecture, direction, dropouts)


def a_classifier(architecture: Architecture = ARCHITECTURE, classes: int = 3) -> ClassifierNetwork:
    encoder = an_encoder(architecture=architecture)
    return ClassifierNetwork(encoder, HeadNetwork(3 * architecture.width_embedding, 8, classes, 0.5))


def some_ids(texts: int, tokens: int, vocabulary: int = 30) -> Tensor:
    return torch.randint(vocabulary, (texts, tokens), generator=torch.Generator().manual_seed(2))


def stacked_torch_lstms(encoder: EncoderNetwork) -> list[nn.LSTM]:
    theirs = []
    for ours, widths in zip(encoder.layers, encoder.architecture.layer_widths, strict=True):
        lstm = nn.LSTM(*widths, batch_first=True)
        lstm.load_state_dict({f"{name}_l0": getattr(ours, name).detach() for name in WEIGHTS})
        theirs.append(lstm)
    return theirs


# The encoder.


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
    for (hidden, cell), (their_hidden, their_cell) in zip(state, expected_state, strict=True):
        torch.testing.assert_close(hidden, their_hidden)
        torch.testing.assert_close(cell, their_cell)


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


def test_the_last_layer_is_as_wide_as_the_embedding() -> None:
    encoder = an_encoder()
    raw, _, state = encoder(some_ids(2, 5), encoder.zero_state(2))
    assert raw.shape == (2, 5, 6)
    assert [tuple(hidden.shape) for hidden, _ in state] == [(1, 2, 10), (1, 2, 10), (1, 2, 6)]


def test_an_encoder_carries_its_direction_but_never_reverses() -> None:
    forward, backward = (an_encoder(direction=direction) for direction in Direction)
    assert LanguageModelNetwork(backward).direction is Direction.BACKWARD
    ids = some_ids(2, 7)
    assert torch.equal(forward(ids, forward.zero_state(2))[0], backward(ids, backward.zero_state(2))[0])


def test_in_training_dropout_changes_what_is_read_and_in_evaluation_nothing_does() -> None:
    encoder = an_encoder(HALF_DROPPED)
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


@torch.no_grad()
def test_bfloat16_reads_nearly_the_same_as_float32_and_weights_stay_float32() -> None:
    encoder = an_encoder().eval()
    expected, _, _ = encoder(some_ids(3, 20), encoder.zero_state(3))
    encoder.compute_type = torch.bfloat16
    found, _, state = encoder(some_ids(3, 20), encoder.zero_state(3))
    assert found.dtype is torch.bfloat16
    assert all(part.dtype is torch.bfloat16 for pair in state for part in pair)
    assert not torch.equal(found.float(), expected)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


def test_bfloat16_trains_in_float32() -> None:
    model = LanguageModelNetwork(an_encoder(HALF_DROPPED)).train()
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


# The dropouts.


def test_locked_dropout_drops_the_same_features_at_every_token_of_a_text() -> None:
    torch.manual_seed(3)
    found = locked_dropout(torch.ones(5, 12, 40), 0.5, is_training=True)
    assert set(found.flatten().tolist()) == {0.0, 2.0}  # what stays is scaled up
    assert torch.equal(found, found[:, :1].expand_as(found))


def test_locked_dropout_drops_other_features_in_other_texts() -> None:
    torch.manual_seed(3)
    masks = locked_dropout(torch.ones(5, 12, 40), 0.5, is_training=True)[:, 0]
    assert len({tuple(mask.tolist()) for mask in masks}) == 5


def test_embedding_dropout_drops_whole_words() -> None:
    torch.manual_seed(3)
    weight = torch.rand(200, 7) + 1
    found = embedding_dropout(weight, 0.25, is_training=True)
    is_dropped = (found == 0).all(dim=1)
    assert 20 < int(is_dropped.sum()) < 80
    torch.testing.assert_close(found[~is_dropped], weight[~is_dropped] / 0.75)


def test_weight_dropout_drops_single_weights() -> None:
    torch.manual_seed(3)
    found = weight_dropout(torch.ones(100, 100), 0.5, is_training=True)
    assert set(found.flatten().tolist()) == {0.0, 2.0}
    rows = (found == 0).float().mean(dim=1)
    assert rows.min() > 0.2
    assert rows.max() < 0.8


@given(probability=st.floats(1e-9, 0.9), columns=st.integers(1, 9))
def test_weight_dropout_drops_with_the_given_probability(probability: float, columns: int) -> None:
    weight = torch.full((999, columns), 3.0)
    found = weight_dropout(weight, probability, is_training=True)
    kept = found[found != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 3 / (1 - probability)))
    share = 1 - len(kept) / found.numel()
    assert abs(share - probability) < 6 * math.sqrt(probability / found.numel()) + 5 / found.numel() + 2**-16


@pytest.mark.parametrize("dropout", [locked_dropout, embedding_dropout, weight_dropout])
@pytest.mark.parametrize(("probability", "is_training"), [(0.5, False), (0.0, True)])
def test_dropout_leaves_values_alone_in_evaluation_and_at_zero(
    dropout: object, probability: float, is_training: bool
) -> None:
    values = torch.rand(3, 4, 5)
    assert callable(dropout)
    assert torch.equal(dropout(values, probability, is_training), values)


def test_weight_dropout_reaches_only_the_hidden_to_hidden_weights_and_leaves_the_parameters() -> None:
    torch.manual_seed(3)
    layer = LstmLayer(4, 5).train()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    one_token = torch.rand(2, 1, 4)
    zero = torch.zeros(1, 2, 5)

    def read(hidden: Tensor) -> Tensor:
        outputs, _ = layer(one_token, (hidden, zero), 0.9)
        assert isinstance(outputs, Tensor)
        return outputs

    # From a hidden state of zero, no hidden-to-hidden weight takes part; from another one, they do.
    torch.testing.assert_close(read(zero), read(zero), rtol=0, atol=0)
    assert not torch.equal(read(torch.ones(1, 2, 5)), read(torch.ones(1, 2, 5)))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_only_weights_that_were_not_dropped_get_a_gradient() -> None:
    torch.manual_seed(3)
    layer = LstmLayer(4, 5).train()
    outputs, _ = layer(torch.rand(2, 6, 4), (torch.rand(1, 2, 5), torch.rand(1, 2, 5)), 0.5)
    outputs.sum().backward()
    assert layer.weight_hh.grad is not None
    assert layer.weight_ih.grad is not None
    share = float((layer.weight_hh.grad == 0).float().mean())
    assert 0.25 < share < 0.75
    assert not (layer.weight_ih.grad == 0).any()


# The language model.


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


@given(st.integers(1, 1200), st.integers(1, 40), st.floats(0.1, 3))
@settings(max_examples=20)
def test_the_loss_in_parts_and_its_gradients_are_those_of_the_whole(tokens: int, vocabulary: int, scale: float) -> None:
    rng = torch.Generator().manual_seed(tokens)
    hidden, weight, bias = (
        torch.randn(*shape, generator=rng).requires_grad_() for shape in ((tokens, 6), (vocabulary, 6), (vocabulary,))
    )
    targets = torch.randint(vocabulary, (tokens,), generator=rng)
    ours = next_token_loss(hidden, weight, bias, targets)
    theirs = functional.cross_entropy(functional.linear(hidden, weight, bias), targets)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(scale * loss, (hidden, weight, bias)) for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        torch.testing.assert_close(next_token_loss(hidden, weight, bias, targets), theirs)


# The penalty on activations.


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


lengths_of_texts = st.lists(st.integers(1, 7), min_size=1, max_size=5)


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


# Pooling.


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0, -4.0], [5.0, -2.0], [3.0, -3.0]], [[-1.0, 2.0], [9.0, 9.0], [9.0, 9.0]]])
    pooled = concat_pool(hidden, torch.tensor([3, 1]))
    assert pooled.tolist() == [[3.0, -3.0, 5.0, -2.0, 3.0, -3.0], [-1.0, 2.0, -1.0, 2.0, -1.0, 2.0]]


@given(lengths_of_texts, st.integers(0, 4), st.sampled_from([1e9, -1e9, float("inf")]))
def test_padding_never_changes_the_pooled_vector(lengths: list[int], extra: int, junk_value: float) -> None:
    torch.manual_seed(sum(lengths))
    counts = torch.tensor(lengths)
    hidden = torch.randn(len(lengths), max(lengths), 3)
    expected = torch.stack(
        [torch.cat([h[n - 1], h[:n].max(0).values, h[:n].mean(0)]) for h, n in zip(hidden, lengths, strict=True)]
    )
    for row, length in enumerate(lengths):
        hidden[row, length:] = junk_value
    junk = torch.full((len(lengths), extra, 3), junk_value)
    torch.testing.assert_close(concat_pool(torch.cat([hidden, junk], dim=1), counts), expected)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([0], r"^lengths must be in 1\.\.4, got 0\.\.0$"),
        ([9], r"^lengths must be in 1\.\.4, got 9\.\.9$"),
        ([1, 1], r"^lengths has shape \(2,\), expected \(1,\)$"),
    ],
)
def test_bad_lengths_are_named(lengths: list[int], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        concat_pool(torch.zeros(1, 4, 2), torch.tensor(lengths))


# The head and the classifier.


def test_the_head_is_two_layers_with_batch_norms() -> None:
    torch.manual_seed(4)
    head = HeadNetwork(6, 4, 3, dropout=0.7).eval()
    for norm in head.norms:
        assert isinstance(norm, nn.BatchNorm1d)
        nn.init.uniform_(norm.running_mean)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
        nn.init.uniform_(norm.weight)
    theirs = nn.Sequential(head.norms[0], head.layers[0], nn.ReLU(), head.norms[1], head.layers[1])
    pooled = torch.randn(5, 6)
    torch.testing.assert_close(head(pooled), theirs(pooled))
    assert {name: tuple(p.shape) for name, p in head.named_parameters()} == {
        "norms.0.weight": (6,),
        "norms.0.bias": (6,),
        "layers.0.weight": (4, 6),
        "layers.0.bias": (4,),
        "norms.1.weight": (4,),
        "norms.1.bias": (4,),
        "layers.1.weight": (3, 4),
        "layers.1.bias": (3,),
    }


@torch.no_grad()
@settings(max_examples=25)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 5))
def test_in_evaluation_no_text_depends_on_padding_or_company(lengths: list[int], extra: int) -> None:
    model = a_classifier().eval()
    ids = some_ids(len(lengths), max(lengths) + extra)
    together, _, _ = model(ids, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone, _, _ = model(ids[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(together[row : row + 1], alone)


@torch.no_grad()
def test_in_evaluation_the_same_text_gets_the_same_bits_again() -> None:
    model = a_classifier()
    model.encoder.dropouts = HALF_DROPPED
    model.eval()
    ids, lengths = some_ids(3, 9), torch.tensor([9, 4, 1])
    assert torch.equal(model(ids, lengths)[0], model(ids, lengths)[0])


@torch.no_grad()
def test_a_text_longer_than_a_window_is_pooled_as_a_whole() -> None:
    model = a_classifier().eval()
    length = 2 * CHUNK_TOKENS + 100
    ids = some_ids(1, length)
    raw, _, _ = model.encoder(ids, model.encoder.zero_state(1))
    logits, read, _ = model(ids, torch.tensor([length]))
    torch.testing.assert_close(read, raw)
    torch.testing.assert_close(logits, model.head(concat_pool(raw, torch.tensor([length]))))


def test_only_the_end_of_a_long_text_gets_gradients_but_all_of_it_is_pooled() -> None:
    length, start = 2600, 1024  # the last window's start that leaves at least 1400 tokens
    assert (length - GRADIENT_TOKENS) // CHUNK_TOKENS * CHUNK_TOKENS == start
    architecture = Architecture(vocabulary_size=length, width_embedding=2, width_hidden=2, layers=1)
    model = a_classifier(architecture).eval()
    ids = torch.arange(length)[None]  # each token once, so that its row tells whether a gradient came by

    logits, raw, _ = model(ids, torch.tensor([length]))
    logits.pow(2).sum().backward()
    gradient = model.encoder.embedding.weight.grad
    assert gradient is not None
    assert not gradient[:start].any()
    assert gradient[start:].any(dim=1).all()

    with torch.no_grad():
        expected = model.head(concat_pool(raw, torch.tensor([length])))
        of_the_end_alone = model.head(concat_pool(raw[:, start:], torch.tensor([length - start])))
    torch.testing.assert_close(logits, expected)
    assert not torch.allclose(logits, of_the_end_alone, atol=1e-6)


def test_a_text_within_the_limit_gets_gradients_everywhere() -> None:
    architecture = Architecture(vocabulary_size=GRADIENT_TOKENS, width_embedding=2, width_hidden=2, layers=1)
    model = a_classifier(architecture).eval()
    logits, _, _ = model(torch.arange(GRADIENT_TOKENS)[None], torch.tensor([GRADIENT_TOKENS]))
    logits.pow(2).sum().backward()
    gradient = model.encoder.embedding.weight.grad
    assert gradient is not None
    assert gradient.any(dim=1).all()


def test_the_shortest_text_of_a_batch_decides_where_gradients_begin() -> None:
    architecture = Architecture(vocabulary_size=2600, width_embedding=2, width_hidden=2, layers=1)
    model = a_classifier(architecture).eval()
    ids = torch.stack([torch.arange(2600), torch.full((2600,), 2599)])
    logits, _, _ = model(ids, torch.tensor([2600, 10]))
    logits[0].pow(2).sum().backward()
    gradient = model.encoder.embedding.weight.grad
    assert gradient is not None
    assert gradient[:512].any()
