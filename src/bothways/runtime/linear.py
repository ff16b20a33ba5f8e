"""Compute the scores of a linear member: TF-IDF of hashed n-grams, times one weight per n-gram and output.

In: a text. Out: its scores. Needs numpy only. Each text is computed alone and in a fixed order, so that its scores have
the same bits in any batch.

Letters: F n-grams that the member knows, C outputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.weights import CHARACTERS, LINEAR_BIAS, LINEAR_IDF, LINEAR_WEIGHT, WORDS
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Task
from bothways.text.fields import Text, fields_of
from bothways.text.ngrams import Hashes, NgramPlaces, Ngrams, ngram_places, ngrams_of

_ROWS_AT_ONCE = 4096
"""A text may have hundreds of thousands of different n-grams. Their weights are converted this many at a time."""
_CHARACTERS_FROM = np.uint64(2**32)


class LinearModel:
    """A linear member in memory. It never changes, so that several threads can use it.

    Args:
        arrays: Its tensors by name (``linear_tensors``).
        task: What its outputs mean.
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]], task: Task) -> None:
        self._features = KnownNgrams.of(arrays)
        self._weight = np.asarray(arrays[LINEAR_WEIGHT], dtype=np.float16)
        self._bias = np.asarray(arrays[LINEAR_BIAS], dtype=np.float64)
        self._task = task

    def scores(self, text: Text) -> Scores:
        """Return the scores of a text, (C,) float64."""
        return self.scores_of(ngrams_of(text))

    def scores_of(self, ngrams: Ngrams) -> Scores:
        """Return the scores of a text with these n-grams, (C,) float64."""
        places, values = self._features.row(ngrams)
        outputs = self._bias
        for start in range(0, len(places), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            outputs = outputs + (self._weight[places[rows]].astype(np.float64) * values[rows, None]).sum(axis=0)
        return self._task.activation(self._task.one_vs_rest_logits(outputs))

    def contributions(self, text: Text, output: int) -> list[NDArray[np.float64]]:
        """Return what each character of a text adds to an output, by field.

        Exact: together with the output for a text without known n-grams they add up to the output, before the
        activation. An n-gram that occurs several times adds equal parts, a pair of words adds half to each, and
        characters share equally what an n-gram or a word adds.

        Args:
            text: The text.
            output: Number of the output.
        """
        places = [ngram_places(field) for field in fields_of(text)]
        known, values = self._features.row(ngrams_of(text))
        of_known = self._weight[known, output].astype(np.float64) * values
        found = [self._features.find(each) for each in places]
        counts = np.bincount(np.concatenate(found)[np.concatenate(found) >= 0], minlength=1)
        of_each = np.zeros(len(counts) + 1)  # the last one is that of -1, an n-gram that is not known
        of_each[known] = of_known / counts[known]
        return [
            _spread(each, of_each[numbers], len(field))
            for each, numbers, field in zip(places, found, fields_of(text), strict=True)
        ]


class KnownNgrams:
    """The n-grams that a linear member knows, and the inverse document frequency (IDF) of each.

    Attributes:
        words: Hashes of n-grams of words, in rising order.
        characters: Hashes of n-grams of characters, in rising order.
        idf: IDF of the words, followed by those of the characters, (F,).
    """

    def __init__(self, words: Hashes, characters: Hashes, idf: NDArray[np.float16]) -> None:
        self.words, self.characters, self.idf = words, characters, idf
        self._keys = _keys(words, characters)
        self._idf = idf.astype(np.float64)

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.generic]]) -> KnownNgrams:
        """Return those of a linear member with these tensors."""
        words, characters = (np.asarray(arrays[name], dtype=np.uint32) for name in (WORDS, CHARACTERS))
        return cls(words, characters, np.asarray(arrays[LINEAR_IDF], dtype=np.float16))

    def row(self, ngrams: Ngrams) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the places of the n-grams that a text has, in rising order, and the TF-IDF value of each.

        A term frequency is 1 plus the logarithm of the count. The squares of the values of words add up to 1, and so do
        those of the values of characters.
        """
        if not len(self._keys):
            return np.zeros(0, dtype=np.intp), np.zeros(0)
        keys = _keys(ngrams.words.hashes, ngrams.characters.hashes)
        found = self._find(keys)
        is_known = found >= 0
        places, counts = found[is_known], np.concatenate([ngrams.words.counts, ngrams.characters.counts])[is_known]
        values = (1 + np.log(counts)) * self._idf[places]
        split = int(np.searchsorted(places, len(self.words)))
        for part in (values[:split], values[split:]):
            part[:] = part / (np.sqrt((part * part).sum()) or 1.0)
        return places, values

    def find(self, places: NgramPlaces) -> NDArray[np.intp]:
        """Return the places of the words, the pairs and the n-grams of characters that a field has, -1 if not known."""
        keys = _keys(np.concatenate([places.words, places.pairs]), places.characters)
        return self._find(keys) if len(self._keys) else np.full(len(keys), -1, dtype=np.intp)

    def _find(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[found] == keys, found, -1)


def _spread(places: NgramPlaces, contributions: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return what each character of a field adds, (length,).

    Args:
        places: Where its n-grams are.
        contributions: What each occurrence adds: of the words, the pairs and the n-grams of characters.
        length: Number of characters of the field.
    """
    characters = np.zeros(length)
    ends = np.cumsum([len(places.words), len(places.pairs)])
    words, pairs, of_characters = np.split(contributions, ends)
    words = words.copy()
    words[: len(pairs)] += pairs / 2
    words[1 : len(pairs) + 1] += pairs / 2
    spans = np.concatenate([places.word_spans, places.character_spans])
    lengths = spans[:, 1] - spans[:, 0]
    shares = np.concatenate([words, of_characters]) / lengths
    for offset in range(int(lengths.max(initial=0))):
        is_longer = lengths > offset
        np.add.at(characters, spans[is_longer, 0] + offset, shares[is_longer])
    return characters


def _keys(words: Hashes, characters: Hashes) -> NDArray[np.uint64]:
    """Return numbers that tell n-grams of words and of characters apart, and are in order if the hashes are."""
    return np.concatenate([words.astype(np.uint64), characters.astype(np.uint64) + _CHARACTERS_FROM])
