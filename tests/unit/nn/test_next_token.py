from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from bothways.nn.next_token import CandidateSampler, next_token_loss


def a_decoder(tokens: int, vocabulary: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Return outputs of an encoder, weights and bias, and the next tokens."""
    rng = torch.Generator().manual_seed(tokens)
    hidden, weight, bias = (
        torch.randn(*shape, generator=rng).requires_grad_() for shape in ((tokens, 6), (vocabulary, 6), (vocabulary,))
    )
    return (hidden, weight, bias), torch.randint(vocabulary, (tokens,), generator=rng)


@given(st.integers(1, 1200), st.integers(1, 40), st.floats(0.1, 3))
@settings(max_examples=20)
def test_the_loss_in_parts_and_its_gradients_are_those_of_the_whole(tokens: int, vocabulary: int, scale: float) -> None:
    values, targets = a_decoder(tokens, vocabulary)
    hidden, weight, bias = values
    ours = next_token_loss(hidden, weight, bias, targets)
    theirs = functional.cross_entropy(functional.linear(hidden, weight, bias), targets)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(scale * loss, values) for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        torch.testing.assert_close(next_token_loss(hidden, weight, bias, targets), theirs)


@given(st.integers(1, 700), st.integers(1, 40))
@settings(max_examples=20)
def test_with_all_tokens_as_candidates_the_sampled_loss_is_the_exact_one(tokens: int, vocabulary: int) -> None:
    values, targets = a_decoder(tokens, vocabulary)
    sampler = CandidateSampler(np.arange(vocabulary), vocabulary)
    losses = [next_token_loss(*values, targets, with_sampler) for with_sampler in (sampler, None)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, values) for loss in losses))


def test_a_sampled_loss_and_its_gradients_are_those_of_a_softmax_over_the_candidates() -> None:
    values, targets = a_decoder(600, 50)
    hidden, weight, bias = values
    sampler = CandidateSampler(np.arange(50), 10)
    torch.manual_seed(0)
    ours = next_token_loss(*values, targets, sampler)
    torch.manual_seed(0)
    ids, correction, places = sampler.draw(targets)
    is_drawn = correction.isfinite()
    assert 0 < is_drawn.sum() < len(ids)
    logits = functional.linear(hidden, weight, bias)
    is_target = functional.one_hot(targets, 50).bool()
    corrected = (logits[:, ids] + correction).exp().masked_fill(is_target[:, ids], 0).sum(1)
    right = logits.gather(1, targets[:, None]).squeeze(1)
    theirs = -(right - (right.exp() + corrected).log()).mean()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, values) for loss in (ours, theirs)))
    assert torch.equal(ids[places], targets)


def test_the_sum_over_drawn_candidates_is_that_over_the_vocabulary_on_average() -> None:
    counts = np.array([0, 1, 5, 100, 10_000, 1, 3, 0, 50, 7])
    exponentials = torch.rand(10, generator=torch.Generator().manual_seed(0)).double()
    sampler = CandidateSampler(counts, 4)
    torch.manual_seed(0)
    sums, sizes = [], []
    for _ in range(4000):
        ids, correction, _ = sampler.draw(torch.tensor([0]))
        sums.append((exponentials[ids] * correction.exp()).sum())
        sizes.append(correction.isfinite().sum())
    assert float(torch.stack(sums).mean()) == pytest.approx(float(exponentials.sum()), rel=0.03)
    assert float(torch.stack(sizes).double().mean()) == pytest.approx(4, rel=0.02)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.integers(1, 60))
def test_as_many_candidates_as_wanted_are_drawn_on_average_and_frequent_tokens_more_often(
    counts: list[int], size: int
) -> None:
    inclusion = CandidateSampler(np.array(counts), size).inclusion.double()
    assert float(inclusion.sum()) == pytest.approx(min(size, len(counts)), rel=1e-5)
    assert bool(((inclusion > 0) & (inclusion <= 1)).all())
    assert bool((inclusion[np.argsort(counts)].diff() >= 0).all())
