"""Explanations compared with an oracle: integrated gradients by captum, through the network that trained the bundle.

Integrated gradients (Sundararajan et al., arXiv 1703.01365) follow the probability from embeddings of zeros to those of
the text. Occlusion removes words. The methods differ, but on a trained model they must name the same words.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import bothways
from bothways.nn.classifier import ClassifierNetwork, concat_pool
from bothways.runtime.classifier import Classifier
from bothways.text.reading import Direction, SpecialTokenPlacement, reading_positions
from bothways.text.subword_tokenizer import SubwordTokenizer
from tests.bundles import LABELS, TinyClassifiers, make_classifiers, write_classifiers

DECIDING = {"bad": ["awful", "sad"], "good": ["lovely", "fine"], "so-so": ["okay", "fair"]}
OTHERS = ["the", "film", "was", "about", "a", "dog", "and", "its", "cat", "on", "mat"]
STEPS, BATCH = 100, 16


def some_texts(count: int, seed: int) -> list[tuple[str, int, str]]:
    """Return texts of eight words, their labels, and the only word that decides."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        label = number % len(LABELS)
        word = rng.choice(DECIDING[LABELS[label]])
        words = rng.sample(OTHERS, 7)
        words.insert(rng.randrange(8), word)
        found.append((" ".join(words), label, word))
    return found


def ids_of(tiny: TinyClassifiers, text: str, direction: Direction) -> NDArray[np.int64]:
    tokens = tiny.tokenizer.tokenize(text)
    return tokens.ids[reading_positions(tokens, direction, SpecialTokenPlacement.READING_ORDER)].astype(np.int64)


def trained(network: ClassifierNetwork, tiny: TinyClassifiers) -> None:
    """Train a network for a few seconds."""
    rows = some_texts(STEPS * BATCH, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    torch.manual_seed(0)
    network.train()
    network.encoder.dropouts = network.encoder.dropouts.scaled(0)
    for dropout in network.head.dropouts:
        assert isinstance(dropout, nn.Dropout)
        dropout.p = 0.0
    for start in range(0, len(rows), BATCH):
        ids = [torch.from_numpy(ids_of(tiny, text, network.direction)) for text, _, _ in rows[start : start + BATCH]]
        lengths = torch.tensor([len(each) for each in ids])
        logits, _, _ = network(nn.utils.rnn.pad_sequence(ids, batch_first=True), lengths)
        loss = functional.cross_entropy(logits, torch.tensor([label for _, label, _ in rows[start : start + BATCH]]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval()


@pytest.fixture(scope="module")
def tiny(tiny_tokenizer: SubwordTokenizer) -> TinyClassifiers:
    found = make_classifiers(tiny_tokenizer, dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER))
    for network in found.models.values():
        trained(network, found)
    return found


@pytest.fixture(scope="module")
def trained_model(tiny: TinyClassifiers, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    path: Path = tmp_path_factory.mktemp("trained") / "m.bundle"
    write_classifiers(path, tiny)
    return bothways.load(path)


def integrated_gradients(network: ClassifierNetwork, tiny: TinyClassifiers, text: str, label: int) -> list[float]:
    """Return the attribution of each word: the sum over its tokens."""
    tokens = tiny.tokenizer.tokenize(text)
    assert len(tokens.group_starts) == 1 + len(text.split())  # the start of the text, and a group per word
    order = reading_positions(tokens, network.direction, SpecialTokenPlacement.READING_ORDER)
    embedded = network.encoder.embedding(torch.from_numpy(tokens.ids[order].astype(np.int64)))[None].detach()

    def probability(values: Tensor) -> Tensor:
        lengths = torch.full((len(values),), values.shape[1])
        state = network.encoder.zero_state(len(values))
        for layer, layer_state in zip(network.encoder.layers, state, strict=True):
            values, _ = layer(values, layer_state, 0.0)
        return functional.softmax(network.head(concat_pool(values, lengths)), dim=-1)[:, label]

    found = IntegratedGradients(probability).attribute(embedded, n_steps=32).sum(dim=-1)[0]
    in_text = np.zeros(len(order))
    in_text[order] = found.numpy()
    groups = np.add.reduceat(in_text, tokens.group_starts)
    return [float(value) for value in groups[1:]]


def test_occlusion_names_the_words_that_integrated_gradients_name(
    tiny: TinyClassifiers, trained_model: Classifier
) -> None:
    rows = some_texts(30, seed=1)
    predicted = trained_model.predict([text for text, _, _ in rows]).tolist()
    assert predicted == [LABELS[label] for _, label, _ in rows]
    explanations = [trained_model.explain(text) for text, _, _ in rows]
    rng = np.random.default_rng(0)
    for direction, network in tiny.models.items():
        is_deciding, is_same, correlations, of_shuffled = [], [], [], []
        for (text, label, word), explanation in zip(rows, explanations, strict=True):
            ours = np.array([each.attributions[str(direction)] for each in explanation.words])
            theirs = np.array(integrated_gradients(network, tiny, text, label))
            is_deciding.append(explanation.words[int(ours.argmax())].text == word)
            is_same.append(ours.argmax() == theirs.argmax())
            correlations.append(spearman(ours, theirs))
            of_shuffled.append(spearman(rng.permutation(ours), theirs))
        assert np.mean(is_deciding) > 0.9, direction  # 1 of 8 by chance
        assert np.mean(is_same) > 0.9, direction
        assert np.mean(correlations) > np.mean(of_shuffled) + 0.2, direction


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    ranks = np.array([each.argsort().argsort() for each in (first, second)])
    return float(np.corrcoef(ranks)[0, 1])
