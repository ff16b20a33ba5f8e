"""Turn a text into hashed n-grams: of one and two words, and of two to five characters within words.

In: a text. Out: 32-bit hashes. A linear model needs no tokenizer and no vocabulary of words: it stores hashes only
(docs/decisions/004). Lower case; white space separates.
"""

from __future__ import annotations

import functools
import re
import zlib
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.text.fields import Text, fields_of

Hashes = NDArray[np.uint32]

_SEPARATOR = re.compile(r"\s")
_STRING = re.compile(r"\S+")
_WORD = re.compile(r"\w+|[^\w\s]")
_LENGTHS = range(2, 6)
_LONGEST_PART = 100
"""Longer strings without white space are cut into parts of this many characters, so that a part is quickly hashed."""
_KNOWN_PARTS = 20_000
_MOST_WAITING = 1_000_000
_SPACE = b" "


@dataclass(frozen=True, eq=False)
class Counts:
    """The different n-grams of one kind in a text, by their hashes.

    Attributes:
        hashes: In rising order, (N,).
        counts: How often the text has each, (N,).
    """

    hashes: Hashes
    counts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ngrams:
    """The n-grams of a text.

    Attributes:
        words: Single words, punctuation marks and pairs of neighbors.
        characters: Two to five characters. A string between white space begins and ends with a space.
    """

    words: Counts
    characters: Counts


@dataclass(frozen=True, eq=False)
class NgramPlaces:
    """Where a field has its n-grams, each as often as it occurs. All spans are start and end in the field.

    Attributes:
        words: Hashes of single words and punctuation marks in order, (W,).
        word_spans: (W, 2).
        pairs: Hashes of each word with the next one, (W - 1,), or (0,).
        characters: Hashes of n-grams of characters, (N,).
        character_spans: Without the spaces around a string, (N, 2).
    """

    words: Hashes
    word_spans: NDArray[np.int64]
    pairs: Hashes
    characters: Hashes
    character_spans: NDArray[np.int64]


class _Counter:
    """Counts hashes. It holds each only once, but for the last million."""

    def __init__(self) -> None:
        self._counted = Counts(np.zeros(0, np.uint32), np.zeros(0, np.int64))
        self._new: list[Hashes] = []
        self._waiting = 0

    def add(self, hashes: Hashes) -> None:
        self._new.append(hashes)
        self._waiting += len(hashes)
        if self._waiting > _MOST_WAITING:
            self.result()

    def result(self) -> Counts:
        hashes = np.sort(np.concatenate([self._counted.hashes, *self._new]))
        first = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])[: len(hashes)])
        found, counts = hashes[first], np.diff(first, append=len(hashes))
        if len(self._counted.hashes):
            counts[np.searchsorted(found, self._counted.hashes)] += self._counted.counts - 1
        self._counted, self._new, self._waiting = Counts(found, counts.astype(np.int64)), [], 0
        return self._counted


class NgramReader:
    """Collects the n-grams of a text that arrives in parts. The result is that of the whole text read at once."""

    def __init__(self) -> None:
        self._words, self._characters = _Counter(), _Counter()
        self._new_words = array("I")
        self._before: int | None = None
        self._pending: list[str] = []

    def append(self, part: str) -> None:
        """Append a part, cut anywhere. The string after its last white space waits for the next part."""
        *whole, rest = _SEPARATOR.split(part)
        if whole:
            self._read("".join([*self._pending, whole[0]]))
            self._pending = []
            for string in whole[1:]:
                self._read(string)
        self._pending.append(rest)

    def end_field(self) -> None:
        """End a field. A pair of words never spans two fields."""
        self._read("".join(self._pending))
        self._pending = []
        self._before = None

    def ngrams(self) -> Ngrams:
        """Return the n-grams of all fields that have ended."""
        self._count_words()
        return Ngrams(self._words.result(), self._characters.result())

    def _read(self, string: str) -> None:
        for start in range(0, len(string), _LONGEST_PART):
            words, characters = _of_part(string[start : start + _LONGEST_PART])
            self._characters.add(characters)
            for word, alone, followed in words:
                self._new_words.append(alone)
                if self._before is not None:
                    self._new_words.append(zlib.crc32(word, self._before))
                self._before = followed
        if len(self._new_words) > _MOST_WAITING:
            self._count_words()

    def _count_words(self) -> None:
        self._words.add(np.array(self._new_words, dtype=np.uint32))
        self._new_words = array("I")


def ngrams_of(text: Text) -> Ngrams:
    """Return the n-grams of a text."""
    reader = NgramReader()
    for field in fields_of(text):
        reader.append(field)
        reader.end_field()
    return reader.ngrams()


def ngram_places(field: str) -> NgramPlaces:
    """Return where a field has its n-grams, which are those of ``ngrams_of``."""
    words, word_spans, pairs = array("I"), array("q"), array("I")
    characters, character_spans = [np.zeros(0, np.uint32)], [np.zeros((0, 2), np.int64)]
    before: int | None = None
    for string in _STRING.finditer(field):
        for start in range(string.start(), string.end(), _LONGEST_PART):
            part = field[start : min(start + _LONGEST_PART, string.end())]
            lower = part.lower()
            # A lowered character can be several characters. Then places in the part are looked up.
            places = None if len(lower) == len(part) else _places_before_lowering(part)
            found, hashes = _of_part(part)
            for (word, alone, followed), match in zip(found, _WORD.finditer(lower), strict=True):
                words.append(alone)
                if before is not None:
                    pairs.append(zlib.crc32(word, before))
                before = followed
                first, end = match.span()
                word_spans.append(start + (first if places is None else int(places[first])))
                word_spans.append(start + (end if places is None else int(places[end - 1]) + 1))
            spans = _character_spans(len(lower))
            if places is not None:
                spans = np.stack([places[spans[:, 0]], places[spans[:, 1] - 1] + 1], axis=1)
            characters.append(hashes)
            character_spans.append(spans + start)
    return NgramPlaces(
        np.array(words, np.uint32),
        np.array(word_spans, np.int64).reshape(-1, 2),
        np.array(pairs, np.uint32),
        np.concatenate(characters),
        np.concatenate(character_spans),
    )


def _places_before_lowering(part: str) -> NDArray[np.int64]:
    """Return the place in a part of each character of the lowered part."""
    return np.repeat(np.arange(len(part)), [len(character.lower()) for character in part])


@functools.cache
def _character_spans(length: int) -> NDArray[np.int64]:
    """Return start and end of the n-grams of a lowered part, without the spaces around it, (N, 2)."""
    spans = [(first, first + size) for size in _LENGTHS for first in range(-1, length - size + 2)]
    return np.clip(np.array(spans, np.int64), 0, length)


@functools.lru_cache(_KNOWN_PARTS)
def _of_part(part: str) -> tuple[list[tuple[bytes, int, int]], Hashes]:
    """Return the words of a string without white space, and the hashes of its character n-grams.

    Returns:
        For each word its bytes, its hash, and its hash with a space behind it, with which that of a pair begins; and
        the hashes of the n-grams, (N,).
    """
    lower = part.lower()
    words = []
    for word in _WORD.findall(lower):
        data = word.encode("utf-8", "surrogatepass")
        alone = zlib.crc32(data)
        words.append((data, alone, zlib.crc32(_SPACE, alone)))
    padded = f" {lower} "
    found = [
        zlib.crc32(padded[start : start + length].encode("utf-8", "surrogatepass"))
        for length in _LENGTHS
        for start in range(len(padded) - length + 1)
    ]
    return words, np.array(found, dtype=np.uint32)
