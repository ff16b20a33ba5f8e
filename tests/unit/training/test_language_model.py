"""What a step of a language model changes."""

from __future__ import annotations

import numpy as np
import torch

from bothways.bundle.manifest import Architecture
from bothways.data.token_store import TokenStore
from bothways.text.reading import Direction
from bothways.training.language_model import StreamTexts, keep_unread_bytes
from bothways.training.models import build_language_model


def test_bytes_that_no_training_text_contains_get_no_gradient() -> None:
    architecture = Architecture(vocabulary_size=20, width_embedding=4, width_hidden=6, layers=2)
    model = build_language_model(architecture, Direction.FORWARD, 0)
    store = TokenStore.of([np.array(ids, dtype=np.int32) for ids in ([2, 5, 13, 6], [2, 14, 5], [2, 15])])
    texts = StreamTexts(store, training=np.array([0, 1]), validation=np.array([2]))
    keep_unread_bytes(model, texts, range(12, 18))
    ids = torch.tensor([[2, 5, 13, 6]])
    loss, *_ = model(ids, ids, model.encoder.zero_state(1))
    loss.backward()
    gradient = model.encoder.embedding.weight.grad
    assert gradient is not None
    has_gradient = gradient.abs().sum(dim=1) > 0
    assert has_gradient.nonzero().flatten().tolist() == [*range(12), 13, 14, 18, 19]
