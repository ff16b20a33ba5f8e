"""Small networks that the tests of this package share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from bothways.bundle.manifest import Architecture
from bothways.nn.classifier import ClassifierNetwork, HeadNetwork
from bothways.nn.encoder import Dropouts, EncoderNetwork
from bothways.text.reading import Direction

ARCHITECTURE = Architecture(vocabulary_size=30, width_embedding=6, width_hidden=10, layers=3)
QRNN = ARCHITECTURE.model_copy(update={"kind": "qrnn", "first_window": 2})
EVERY_KIND = pytest.mark.parametrize("kind", [ARCHITECTURE, QRNN], ids=["lstm", "qrnn"])
NO_DROPOUT = Dropouts(embedding=0, input=0, weight=0, hidden=0, output=0)
HALF_DROPPED = Dropouts(embedding=0.5, input=0.5, weight=0.5, hidden=0.5, output=0.5)
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
lengths_of_texts = st.lists(st.integers(1, 7), min_size=1, max_size=5)


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
