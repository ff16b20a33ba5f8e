"""Find out which way a model reads, from its weights alone.

In: an encoder's weights and its tokenizer. Out: how surprising text is, read forward and read backward, and a verdict.
The embedding of a tied language model is a decoder too, so what the encoder has read can be held against any word: in
text that is read the right way it points more clearly to the word that comes next. This holds for language models, for
encoders, and for classifiers that were fine-tuned from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import Weights
from bothways.interop.reference import hidden_states
from bothways.interop.sample_texts import SAMPLE_TEXTS
from bothways.text.reading import Direction, Ids, MarkerPlacement, TokenizedText, read
from bothways.text.tokenizer import UNKNOWN_ID
from bothways.text.word_tokenizer import WordTokenizer

LEAST_MARGIN = 0.03
"""Nats a token: below it, no verdict."""

LEAST_DEVIATIONS = 4.0
"""Standard errors by which the margin must differ from none."""

_LEAST_KNOWN = 0.6
"""Share of a sample's tokens that must be in the vocabulary for its language to be the model's."""

_LEAST_TOKENS = 50
_PLACES_AT_ONCE = 512
_MOST_TOKENS = 20_000
"""Of texts that a person gives; more would tell no more, and take memory by their square."""


@dataclass(frozen=True)
class DirectionVerdict:
    """Which way a model reads, as far as its weights tell.

    Attributes:
        forward_surprise: How hard it is, read forward, to find each token's place among all places of the texts by what
            was read before: nats a token, below the logarithm of their number where the model knows the language.
        backward_surprise: The same, read backward.
        standard_error: Of the difference of the two, nats a token.
        tokens: How many tokens were read, each way.
        sample: What was read: a language's samples, ``composed`` from the vocabulary, or ``given``.
        known: The share of tokens that the vocabulary has.
        direction: The verdict; None where the weights don't tell.
    """

    forward_surprise: float
    backward_surprise: float
    standard_error: float
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
    counts = np.array([len(text) - 1 for text in tokens], dtype=np.float64)
    total = max(1.0, float(counts.sum()))
    forward, backward = (_surprises(architecture, weights, tokens, direction) for direction in Direction)
    mean = float((backward - forward).sum()) / total  # positive: forward is less surprising
    spread = float(((backward - forward - mean * counts) ** 2).sum())
    error = math.sqrt(spread) / total if len(tokens) > 1 else math.inf
    is_clear = total >= _LEAST_TOKENS and abs(mean) >= LEAST_MARGIN and abs(mean) >= LEAST_DEVIATIONS * error
    return DirectionVerdict(
        forward_surprise=float(forward.sum()) / total,
        backward_surprise=float(backward.sum()) / total,
        standard_error=error,
        tokens=int(counts.sum()),
        sample=sample,
        known=_known(tokens),
        direction=(Direction.FORWARD if mean > 0 else Direction.BACKWARD) if is_clear else None,
    )


def _surprises(
    architecture: Architecture, weights: Weights, texts: Sequence[TokenizedText], direction: Direction
) -> NDArray[np.float64]:
    """Give how surprising each text is, nats, (texts,).

    A token's likelihood is that of its own place among all places of all texts (van den Oord et al., arXiv 1807.03748),
    not that of the token among all words: so it depends neither on how frequent the token is nor on a bias.
    """
    if not texts:
        return np.zeros(0)
    ids = [_documents_order(text, direction) for text in texts]
    hidden = hidden_states(architecture, weights, ids)
    before = np.concatenate([states[:-1] for states in hidden])  # (N, E): what was read before each place
    targets = weights["encoder.embedding.weight"][np.concatenate([row[1:] for row in ids])]  # (N, E)
    surprises = []
    for start in range(0, len(targets), _PLACES_AT_ONCE):
        scores = (before @ targets[start : start + _PLACES_AT_ONCE].T).astype(np.float64)  # (N, part)
        largest = scores.max(axis=0)
        own = scores[np.arange(start, start + scores.shape[1]), np.arange(scores.shape[1])]
        surprises.append(largest + np.log(np.exp(scores - largest).sum(axis=0)) - own)
    cuts = np.cumsum([len(row) - 1 for row in ids])[:-1]
    return np.array([part.sum() for part in np.split(np.concatenate(surprises), cuts)])


def _documents_order(text: TokenizedText, direction: Direction) -> Ids:
    """Give a text's ids as they follow each other in a stream of documents.

    There, an ``xxbos`` stands before a document whichever way it is read: it is read first both ways, and both ways the
    same tokens are predicted.
    """
    ids = read(text, direction, MarkerPlacement.AS_WRITTEN)
    return np.roll(ids, 1) if direction is Direction.BACKWARD else ids


def _sample(tokenizer: WordTokenizer) -> tuple[str, list[TokenizedText]]:
    """Give the samples of the language that the vocabulary knows best, or texts composed from it if it knows none."""
    by_language = {language: _tokenized(tokenizer, texts) for language, texts in SAMPLE_TEXTS.items()}
    best = max(by_language, key=lambda language: _known(by_language[language]))
    if _known(by_language[best]) >= _LEAST_KNOWN:
        return best, by_language[best]
    return "composed", _tokenized(tokenizer, _composed(tokenizer))


def _composed(tokenizer: WordTokenizer) -> list[str]:
    """Give senseless sentences of the vocabulary's frequent words.

    Their words stand in no order, but capitals and full stops do: before a capitalised word stands ``xxmaj``, and
    before that the end of a sentence, which tells the directions apart in any language that has them.
    """
    chance = np.random.default_rng(0)
    words = [word for word in tokenizer.compose(range(min(2000, len(tokenizer)))).split() if word.isalpha()]
    if not words:
        return []
    texts = []
    for _ in range(20):
        sentences = [" ".join(chance.choice(words, size=6)).capitalize() + "." for _ in range(6)]
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
