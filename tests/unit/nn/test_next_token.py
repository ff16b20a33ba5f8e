from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bothways.nn.next_token import next_token_loss


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
