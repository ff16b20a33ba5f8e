"""Infer from its weights which way a model reads.

Input: an encoder's weights and its tokenizer. Output: the loss of text read forward and backward, and a verdict. The
embedding of a language model with tied weights is also its decoder, so the encoder's states can be scored against any
word. Text read in the model's own direction has a lower loss than text read in the other direction. This holds for
language models, for encoders, and, more weakly, for classifiers that were fine-tuned from them.
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
from bothways.text.word_tokenizer import WordTokenizer

MIN_Z_SCORE = 4.0
"""Smallest z-score, regardless of its sign, for which a verdict is given."""

_ROTATIONS = 30
"""Random rotations of the embedding from which the distribution without any signal is estimated."""

_MIN_COVERAGE = 0.6
"""Share of a sample's tokens that must be in the vocabulary for the sample's language to be the model's."""

_MIN_WORDS_PER_PIECE = 0.5
"""The same for pieces. A model of 4,000 pieces has 0.6 in its own language and less than 0.4 in others."""

_MIN_TOKENS = 50
_MAX_TOKENS = 50_000
"""Tokens to read of the texts that a caller passes. More do not change the verdict."""

_MAX_POSITIONS = 512
"""Positions of a text among which each token is located. Bounds the memory, which grows with their square."""


_Reading = tuple[NDArray[np.float32], Ids]
"""The states before each token except the first, (T - 1, E), and the ids of those tokens."""


@dataclass(frozen=True)
class DirectionVerdict:
    """Which way a model reads, as far as its weights show.

    The loss is contrastive (InfoNCE): the negative log-likelihood of a token's own position among the positions of its
    text, given the state before each of them. It is 0 if the model foresees every token, and the logarithm of the
    number of positions if it foresees none.

    Attributes:
        forward_loss: Mean loss in nats per token when the texts are read forward.
        backward_loss: Mean loss in nats per token when the texts are read backward.
        null_std: Standard deviation of the difference between the two losses when the embedding is rotated at random,
            so that it decodes nothing.
        z_score: The difference between the two losses in units of ``null_std``, relative to its mean under random
            rotation. Positive for forward, negative for backward.
        tokens: Number of tokens read in each direction.
        sample: The texts that were read: the language of a built-in sample, ``composed`` (sentences composed from the
            vocabulary), or ``given`` (passed by the caller).
        coverage: Share of the tokens that are in the vocabulary, 0 to 1.
        direction: The verdict, or None if the weights do not show a direction.
    """

    forward_loss: float
    backward_loss: float
    null_std: float
    z_score: float
    tokens: int
    sample: str
    coverage: float
    direction: Direction | None

    @property
    def margin(self) -> float:
        """Difference between the two losses in nats per token, 0 or more."""
        return abs(self.backward_loss - self.forward_loss)


def infer(
    architecture: Architecture, weights: Weights, tokenizer: WordTokenizer, texts: Sequence[str] | None = None
) -> DirectionVerdict:
    """Infer which way an encoder reads. Abstains rather than guesses.

    Args:
        architecture: The encoder's sizes.
        weights: The encoder's arrays by the names that bundles use. A decoder's bias is not used, because classifiers
            have none.
        tokenizer: Tokenizer with the vocabulary that the encoder was trained on.
        texts: Texts in the model's language. If None, a built-in sample is chosen by how well the vocabulary covers it.
    """
    sample, tokens = ("given", _tokenized(tokenizer, texts)) if texts is not None else _sample(tokenizer)
    count = sum(len(text) - 1 for text in tokens)
    if count < _MIN_TOKENS:
        return DirectionVerdict(0.0, 0.0, 0.0, 0.0, count, sample, _coverage(tokens, tokenizer.unknown_id), None)
    embedding = weights["encoder.embedding.weight"]
    read_both_ways = [_read(architecture, weights, tokens, direction) for direction in Direction]
    forward, backward = (_loss(reading, embedding, None) for reading in read_both_ways)
    differences = []
    rng = np.random.default_rng(0)
    for _ in range(_ROTATIONS):
        rotation = np.linalg.qr(rng.normal(size=(architecture.width_embedding,) * 2))[0].astype(np.float32)
        rotated_forward, rotated_backward = (_loss(reading, embedding, rotation) for reading in read_both_ways)
        differences.append(rotated_backward - rotated_forward)
    null_std = float(np.std(differences))
    z_score = (backward - forward - float(np.mean(differences))) / null_std if null_std else 0.0
    is_clear = abs(z_score) >= MIN_Z_SCORE and z_score * (backward - forward) > 0
    return DirectionVerdict(
        forward_loss=forward,
        backward_loss=backward,
        null_std=null_std,
        z_score=z_score,
        tokens=count,
        sample=sample,
        coverage=_coverage(tokens, tokenizer.unknown_id),
        direction=(Direction.FORWARD if z_score > 0 else Direction.BACKWARD) if is_clear else None,
    )


def _read(
    architecture: Architecture, weights: Weights, texts: Sequence[TokenizedText], direction: Direction
) -> list[_Reading]:
    """Return the states and ids of each text, read in a direction."""
    ids = [_document_order(text, direction) for text in texts]
    states = hidden_states(architecture, weights, ids)
    return [(before[:-1], row[1:]) for before, row in zip(states, ids, strict=True)]


def _loss(readings: Sequence[_Reading], embedding: NDArray[np.float32], rotation: NDArray[np.float32] | None) -> float:
    """Return the mean contrastive loss of the texts, in nats per token.

    A token's likelihood is that of its own position among the positions of its text (InfoNCE, van den Oord et al.,
    arXiv 1807.03748), not that of the token among all words. So the loss does not depend on how frequent a word is, nor
    on a bias, which classifiers do not have, nor on the class of a text, which dominates the states of classifiers.

    Args:
        readings: States before each token, and the ids of the tokens.
        embedding: (V, E).
        rotation: An orthogonal matrix that rotates the embedding, (E, E), or None.
    """
    total, count = 0.0, 0
    for states, ids in readings:
        for start in range(0, len(ids), _MAX_POSITIONS):
            targets = embedding[ids[start : start + _MAX_POSITIONS]]
            targets = targets if rotation is None else targets @ rotation
            scores = (states[start : start + len(targets)] @ targets.T).astype(np.float64)  # (positions, tokens)
            largest = scores.max(axis=0)
            total += float((largest + np.log(np.exp(scores - largest).sum(axis=0)) - np.diagonal(scores)).sum())
            count += len(targets)
    return total / count


def _document_order(text: TokenizedText, direction: Direction) -> Ids:
    """Return a text's ids as they follow each other in a stream of documents.

    In such a stream, ``xxbos`` precedes a document in both directions. So it is read first both times, and the same
    tokens are predicted both times.
    """
    ids = read(text, direction, SpecialTokenPlacement.AS_WRITTEN)
    return np.roll(ids, 1) if direction is Direction.BACKWARD else ids


def _sample(tokenizer: WordTokenizer) -> tuple[str, list[TokenizedText]]:
    """Return the sample that the vocabulary covers best, or texts composed from the vocabulary if it covers none."""
    by_language = {language: _tokenized(tokenizer, texts) for language, texts in SAMPLE_TEXTS.items()}
    if tokenizer.has_pieces:  # every language has pieces, but those of another one are short
        fits = {language: _words_per_piece(texts, by_language[language]) for language, texts in SAMPLE_TEXTS.items()}
        least = _MIN_WORDS_PER_PIECE
    else:
        fits = {language: _coverage(tokens, tokenizer.unknown_id) for language, tokens in by_language.items()}
        least = _MIN_COVERAGE
    best = max(fits, key=lambda language: fits[language])
    if fits[best] >= least:
        return best, by_language[best]
    return "composed", _tokenized(tokenizer, _composed(tokenizer))


def _composed(tokenizer: WordTokenizer) -> list[str]:
    """Return sentences of random frequent words of the vocabulary.

    Their words are in random order, but their capitals and full stops are not: ``xxmaj`` precedes a capitalized word,
    and the end of a sentence precedes both. This distinguishes the directions in any language that has capitals.
    """
    rng = np.random.default_rng(0)
    words = [word for word in tokenizer.whole_words()[:2000] if word.isalpha()]
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
        if 1 < len(text) <= _MAX_TOKENS - count:
            found.append(text)
            count += len(text)
    return found


def _words_per_piece(texts: Sequence[str], tokens: Sequence[TokenizedText]) -> float:
    return sum(len(text.split()) for text in texts) / max(1, sum(len(text) for text in tokens))


def _coverage(tokens: Sequence[TokenizedText], unknown_id: int) -> float:
    count = sum(len(text) for text in tokens)
    return 1 - sum(int((text.ids == unknown_id).sum()) for text in tokens) / count if count else 0.0
