"""The direction of a model is inferred from its weights, or there is no verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bothways.bundle.manifest import Architecture
from bothways.interop.direction import DirectionVerdict, infer
from bothways.nn.encoder import Dropouts, EncoderNetwork
from bothways.nn.language_model import LanguageModelNetwork
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.text.word_tokenizer import WordTokenizer
from tests.words import make_word_tokenizer

FORWARD = Direction.FORWARD
SIZES = Architecture(vocabulary_size=30, width_embedding=16, width_hidden=24, layers=2)
QRNN = SIZES.model_copy(update={"kind": "qrnn", "first_window": 2})
WORDS = [f"w{letter}" for letter in "abcdefghijklmnopqrstu"]


def tokenizer() -> WordTokenizer:
    return make_word_tokenizer("fastai-v2", WORDS)


def sentences(count: int, seed: int) -> list[str]:
    """Return texts whose words follow each other by a rule: each word is mostly followed by the next one of three."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        words, word = [], int(rng.integers(0, 21))
        for _ in range(20):
            words.append(WORDS[word])
            word = (word + int(rng.choice([1, 2, 3], p=[0.8, 0.1, 0.1]))) % 21
        texts.append(" ".join(words))
    return texts


def trained(
    direction: Direction, steps: int, sizes: Architecture = SIZES
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Return the weights of a language model that read sentences in this direction for some steps."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = LanguageModelNetwork(EncoderNetwork(sizes, direction, Dropouts())).eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    words = tokenizer()
    rows = [read(words.tokenize(text), direction, SpecialTokenPlacement.AS_WRITTEN) for text in sentences(64, seed=2)]
    ids = torch.tensor(np.array(rows), dtype=torch.int64)
    for _ in range(steps):
        loss, *_ = model(ids[:, :-1], ids[:, 1:], model.encoder.zero_state(len(ids)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


def verdict(
    weights: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], sizes: Architecture = SIZES
) -> DirectionVerdict:
    return infer(sizes, weights, tokenizer(), sentences(30, seed=3))


@pytest.mark.parametrize(
    ("direction", "sizes"), [(Direction.FORWARD, SIZES), (Direction.BACKWARD, SIZES), (Direction.BACKWARD, QRNN)]
)
def test_the_direction_of_a_trained_model_is_inferred(direction: Direction, sizes: Architecture) -> None:
    found = verdict(trained(direction, steps=200, sizes=sizes), sizes)
    assert found.direction is direction
    assert found.margin > 0.1
    loss = {Direction.FORWARD: found.forward_loss, Direction.BACKWARD: found.backward_loss}
    assert min(loss, key=lambda way: loss[way]) is direction
    assert (found.z_score > 0) == (direction is Direction.FORWARD)
    assert (found.sample, found.tokens, found.coverage) == ("given", 600, 1.0)


def test_a_decoders_bias_is_not_needed() -> None:
    weights = trained(Direction.BACKWARD, steps=200)
    encoder = {name: array for name, array in weights.items() if name != "decoder.bias"}
    assert verdict(encoder) == verdict(weights)


@pytest.mark.parametrize("seed", range(8))
def test_there_is_no_verdict_on_random_weights(seed: int) -> None:
    """However large the weights are: random rotations explain any difference between the losses."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(0, 0.5, array.shape).astype(np.float32) for name, array in trained(FORWARD, 0).items()}
    found = verdict(weights)
    assert found.direction is None
    assert found.null_std > 0


@pytest.mark.parametrize("texts", [[], [""], ["wa"], ["zebra"], ["wa wb wc wd"]])
def test_there_is_no_verdict_on_too_little_text(texts: list[str]) -> None:
    found = infer(SIZES, trained(Direction.FORWARD, steps=200), tokenizer(), texts)
    assert found.direction is None


def test_sentences_are_composed_from_a_vocabulary_that_covers_no_sample() -> None:
    found = infer(SIZES, trained(Direction.FORWARD, steps=0), tokenizer(), None)
    assert found.sample == "composed"
    assert found.tokens > 500


def test_samples_are_chosen_by_vocabulary_coverage() -> None:
    german = (
        "ich habe diesen film jetzt schon und weiß nicht was davon halten soll die der das ist gut . , es war sie er"
    )
    words = make_word_tokenizer("fastai-v1", german.split() + [f"w{i}" for i in range(200)])
    sizes = SIZES.model_copy(update={"vocabulary_size": len(words)})
    rng = np.random.default_rng(0)
    model = EncoderNetwork(sizes, Direction.FORWARD, Dropouts())
    weights = {f"encoder.{name}": tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    weights["encoder.embedding.weight"] = rng.normal(size=(len(words), 16)).astype(np.float32)
    found = infer(sizes, weights, words, None)
    assert (found.sample, found.direction) == (
        "composed",
        None,
    )  # covers a third of the German sample, which is too little
    assert found.coverage > 0.9


def test_a_huge_text_is_skipped() -> None:
    texts = [*sentences(30, seed=3), "wa wb " * 50_000]
    assert infer(SIZES, trained(Direction.FORWARD, steps=0), tokenizer(), texts).tokens == 600
