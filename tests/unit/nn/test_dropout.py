from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bothways.nn.dropout import embedding_dropout, locked_dropout, weight_dropout


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
