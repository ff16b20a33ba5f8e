from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bothways.bundle.manifest import Architecture
from bothways.errors import ShapeError
from bothways.nn.classifier import CHUNK_TOKENS, GRADIENT_TOKENS, HeadNetwork, concat_pool
from tests.unit.nn.networks import (
    EVERY_KIND,
    HALF_DROPPED,
    a_classifier,
    lengths_of_texts,
    some_ids,
)


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


@EVERY_KIND
@torch.no_grad()
@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), extra=st.integers(0, 5))
def test_in_evaluation_no_text_depends_on_padding_or_company(
    kind: Architecture, lengths: list[int], extra: int
) -> None:
    model = a_classifier(kind).eval()
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


@EVERY_KIND
@torch.no_grad()
def test_a_text_longer_than_a_window_is_pooled_as_a_whole(kind: Architecture) -> None:
    model = a_classifier(kind).eval()
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
