"""Find out which way a model reads, from its weights alone.

In: an encoder's weights and its tokenizer. Out: how surprising text is, read forward and read backward, and a verdict.
The embedding of a tied language model is a decoder too, so what the encoder has read can be held against any word: text
that is read the right way is less surprising than text read the wrong way. This holds for language models, for
encoders, and, more faintly, for classifiers that were fine-tuned from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import Weights
from bothways.interop.reference import hidden_states
from bothways.interop.sample_texts import SAMPLE_TEXTS
from bothways.text.reading import Direction, Ids, SpecialTokenPlacement, TokenizedText, read
from bothways.text.tokenizer import UNKNOWN_ID
from bothways.text.word_tokenizer import WordTokenizer

LEAST_DEVIATIONS = 4.0
"""By how many times what chance gives the two ways must differ for a verdict."""

_CHANCES = 30
_LEAST_KNOWN = 0.6
"""Share of a sample's tokens that must be in the vocabulary for its language to be the model's."""

_LEAST_TOKENS = 50
_MOST_TOKENS = 50_000
"""Of texts that a person gives: more would tell no more."""

_PLACES_COMPARED = 512
"""Places of a text that are told from each other."""


_Reading = tuple[NDArray[np.float32], Ids]
"""The states before each token behind the first, (T - 1, E), and those tokens' ids."""


@dataclass(frozen=True)
class DirectionVerdict:
    """Which way a model reads, as far as its weights tell.

    The surprise of a word is how hard its place is to find among the places of its text by what was read before each of
    them: nats a token, 0 if the model foresees every word, the logarithm of the number of places if it foresees none.

    Attributes:
        forward_surprise: Read forward.
        backward_surprise: Read backward.
        chance: What the difference of the two comes to by chance: its standard deviation with the embedding turned
            around at random, so that it decodes nothing.
        deviations: How many times ``chance`` the difference is, above 0 for forward and below for backward.
        tokens: How many tokens were read, each way.
        sample: What was read: a language's samples, ``composed`` from the vocabulary, or ``given``.
        known: The share of tokens that the vocabulary has.
        direction: The verdict; None where the weights don't tell.
    """

    forward_surprise: float
    backward_surprise: float
    rng: float
    deviations: float
    tokens: int
    sample: str
    known: float
    direction: Direction | None

    @property
    def margin(self) -> float:
        """By how much the one way is less surprising than the other, nats a token, 0 or more."""
        return abs(self.backward_surprise - self.forward_surprise)


def infer(
    architecture: Architecture, weights: Weights, tokenizer: WordTokenizer, texts: Sequence[str] | None = None
) -> DirectionVerdict:
    """Tell which way an encoder reads; abstains rather than guesses.

    Args:
        architecture: The encoder's sizes.
        weights: Its arrays by the names that bundles use; a decoder's bias is not looked at: classifiers have none.
        tokenizer: With the vocabulary that the encoder was trained on.
        texts: In the model's own language; None to choose from the samples by what the vocabulary knows.
    """
    sample, tokens = ("given", _tokenized(tokenizer, texts)) if texts is not None else _sample(tokenizer)
    count = sum(len(text) - 1 for text in tokens)
    if count < _LEAST_TOKENS:
        return DirectionVerdict(0.0, 0.0, 0.0, 0.0, count, sample, _known(tokens), None)
    embedding = weights["encoder.embedding.weight"]
    read_both_ways = [_read(architecture, weights, tokens, direction) for direction in Direction]
    forward, backward = (_surprise(reading, embedding, None) for reading in read_both_ways)
    by_chance = []
    generator = np.random.default_rng(0)
    for _ in range(_CHANCES):
        turn = np.linalg.qr(generator.normal(size=(architecture.width_embedding,) * 2))[0].astype(np.float32)
        turned_forward, turned_backward = (_surprise(reading, embedding, turn) for reading in read_both_ways)
        by_chance.append(turned_backward - turned_forward)
    rng = float(np.std(by_chance))
    deviations = (backward - forward - float(np.mean(by_chance))) / rng if rng else 0.0
    is_clear = abs(deviations) >= LEAST_DEVIATIONS and deviations * (backward - forward) > 0
    return DirectionVerdict(
        forward_surprise=forward,
        backward_surprise=backward,
        rng=rng,
        deviations=deviations,
        tokens=count,
        sample=sample,
        known=_known(tokens),
        direction=(Direction.FORWARD if deviations > 0 else Direction.BACKWARD) if is_clear else None,
    )


def _read(
    architecture: Architecture, weights: Weights, texts: Sequence[TokenizedText], direction: Direction
) -> list[_Reading]:
    """Return what an encoder says of each text, read in a direction."""
    ids = [_documents_order(text, direction) for text in texts]
    states = hidden_states(architecture, weights, ids)
    return [(before[:-1], row[1:]) for before, row in zip(states, ids, strict=True)]


def _surprise(readings: Sequence[_Reading], embedding: NDArray[np.float32], turn: NDArray[np.float32] | None) -> float:
    """Return how surprising the texts are, nats a token.

    A token's likelihood is that of its own place among the places of its text (as in van den Oord et al., arXiv
    1807.03748), not that of the token among all words: so it depends neither on how frequent a word is, nor on a bias,
    which classifiers have lost, nor on a text's class, which their states tell most of all.

    Args:
        readings: States before each token and the tokens' ids.
        embedding: (V, E).
        turn: An orthogonal matrix that turns the embedding, (E, E); None leaves it as it is.
    """
    total, count = 0.0, 0
    for states, ids in readings:
        for start in range(0, len(ids), _PLACES_COMPARED):
            targets = embedding[ids[start : start + _PLACES_COMPARED]]
            targets = targets if turn is None else targets @ turn
            fit = (states[start : start + len(targets)] @ targets.T).astype(np.float64)  # (places, tokens)
            largest = fit.max(axis=0)
            total += float((largest + np.log(np.exp(fit - largest).sum(axis=0)) - np.diagonal(fit)).sum())
            count += len(targets)
    return total / count


def _documents_order(text: TokenizedText, direction: Direction) -> Ids:
    """Return a text's ids as they follow each other in a stream of documents.

    There, an ``xxbos`` stands before a document whichever way it is read: it is read first both ways, and both ways the
    same tokens are predicted.
    """
    ids = read(text, direction, SpecialTokenPlacement.AS_WRITTEN)
    return np.roll(ids, 1) if direction is Direction.BACKWARD else ids


def _sample(tokenizer: WordTokenizer) -> tuple[str, list[TokenizedText]]:
    """Return the samples of the language that the vocabulary knows best, or texts composed from it if it knows none."""
    by_language = {language: _tokenized(tokenizer, texts) for language, texts in SAMPLE_TEXTS.items()}
    best = max(by_language, key=lambda language: _known(by_language[language]))
    if _known(by_language[best]) >= _LEAST_KNOWN:
        return best, by_language[best]
    return "composed", _tokenized(tokenizer, _composed(tokenizer))


def _composed(tokenizer: WordTokenizer) -> list[str]:
    """Return senseless sentences of the vocabulary's frequent words.

    Their words stand in no order, but capitals and full stops do: before a capitalised word stands ``xxmaj``, and
    before that the end of a sentence, which tells the directions apart in any language that has them.
    """
    rng = np.random.default_rng(0)
    words = [word for word in tokenizer.decode(range(min(2000, len(tokenizer)))).split() if word.isalpha()]
    if not words:
        return []
    texts = []
    for _ in range(20):
        sentences = [" ".join(rng.choice(words, size=6)).capitalize() + "." for _ in range(6)]
        texts.append(" ".join(sentences))
    return texts


def _tokenized(tokenizer: WordTokenizer, texts: Iterable[str]) -> list[TokenizedText]:
    found, count = [], 0
    for text in map(tokenizer.tokenize, texts):
        if 1 < len(text) <= _MOST_TOKENS - count:
            found.append(text)
            count += len(text)
    return found


def _known(tokens: Sequence[TokenizedText]) -> float:
    count = sum(len(text) for text in tokens)
    return 1 - sum(int((text.ids == UNKNOWN_ID).sum()) for text in tokens) / count if count else 0.0
