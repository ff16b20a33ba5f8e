"""Find texts that are equal, or nearly equal, among many.

In: texts. Out: keys that equal texts share, and pairs of keys with their similarity. Time grows in proportion to the
number of texts: candidates are found by MinHash and locality-sensitive hashing (Broder, 1997), and then compared.

Letters: N texts, S shingles of all of them, K hash functions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.terminal import OnProgress, ignore_progress, reported
from bothways.text.cleaning import CLEANING_RULES, clean
from bothways.text.fields import Text, fields_of

LEAST_SIMILARITY = 0.8
"""Similarity from which on texts are near-duplicates."""
_SHINGLE = 5
_LONGEST = 20_000
"""Number of characters of a text that are compared."""
_BANDS, _BAND_HASHES = 16, 4
"""Texts are compared if the hashes of one band agree: 99.98 % of those with a similarity of 0.8."""
_CHARACTERS_AT_ONCE = 200_000
_LEAST_ESTIMATE = 0.6
_SETS_KEPT = 4096
_SEED = 0
_Numbers = NDArray[np.uint64]
_Pairs = NDArray[np.intp]


@dataclass(frozen=True)
class NearDuplicate:
    """A text that is nearly equal to another one.

    Attributes:
        place: Its place among the texts.
        other: The place of the other text.
        similarity: Share of the shingles of both that they have in common (Jaccard), 0..1.
    """

    place: int
    other: int
    similarity: float


def key_of(text: Text) -> str:
    """Return what equal texts have in common: the cleaned text in lower case, with single spaces."""
    rules = next(reversed(CLEANING_RULES))
    return "\n".join(" ".join(clean(field, rules).casefold().split()) for field in fields_of(text)).strip("\n")


def near_duplicates(
    keys: Sequence[str], others: Sequence[str] | None = None, on_progress: OnProgress = ignore_progress
) -> list[NearDuplicate]:
    """Return the keys that have nearly the same shingles of five characters as an earlier one.

    Args:
        keys: Distinct keys that are not empty.
        others: Distinct keys to compare each one with. Defaults to the earlier ones of ``keys``.
        on_progress: Called with a stage, and how much of it is done and in total.

    Returns:
        At most one match per key, in the order of ``keys``.
    """
    before = 0 if others is None else len(others)
    everything = [key[:_LONGEST] for key in (*(others or ()), *keys)]
    if len(everything) < 2:
        return []
    counted = reported(everything, "hashing texts", len(everything), on_progress)
    signatures = np.concatenate(list(_signatures(counted)))
    pairs = _candidates(signatures, None if others is None else before, on_progress)
    estimates = np.concatenate(
        [
            (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1)
            for part in np.array_split(pairs, 1 + len(pairs) // 100_000)
        ]
    )
    order = np.lexsort((pairs[:, 0], -estimates, pairs[:, 1]))
    found: dict[int, NearDuplicate] = {}
    order = order[estimates[order] >= _LEAST_ESTIMATE]
    for number in reported(order, "comparing similar texts", len(order), on_progress):
        other, place = map(int, pairs[number])
        if place in found:
            continue
        similarity = _similarity(everything[other], everything[place])
        if similarity >= LEAST_SIMILARITY:
            found[place] = NearDuplicate(place - before, other, similarity)
    return [found[place] for place in sorted(found)]


def _similarity(one: str, other: str) -> float:
    ours, theirs = _shingles(one), _shingles(other)
    return len(ours & theirs) / len(ours | theirs)


@functools.lru_cache(_SETS_KEPT)
def _shingles(key: str) -> frozenset[str]:
    padded = _padded(key)
    return frozenset(padded[start : start + _SHINGLE] for start in range(len(padded) - _SHINGLE + 1))


def _padded(key: str) -> str:
    return f" {key} ".ljust(_SHINGLE)


def _signatures(keys: Iterable[str]) -> Iterator[NDArray[np.uint32]]:
    """Yield the smallest hash of the shingles of each key by each hash function, (N, K), some keys at a time."""
    waiting, characters = [], 0
    for key in keys:
        waiting.append(_padded(key))
        characters += len(waiting[-1])
        if characters > _CHARACTERS_AT_ONCE:
            yield _signatures_of(waiting)
            waiting, characters = [], 0
    if waiting:
        yield _signatures_of(waiting)


def _signatures_of(padded: Sequence[str]) -> NDArray[np.uint32]:
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    rng = np.random.default_rng(_SEED)
    factors, multipliers, summands = (rng.integers(1, 2**63, size, dtype=np.uint64) | 1 for size in (5, 64, 64))
    count = len(codes) - _SHINGLE + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for place, factor in enumerate(factors):
        hashes += codes[place : place + count] * factor
    hashes ^= hashes >> np.uint64(29)
    lengths = np.array([len(text) for text in padded])
    of_text = np.repeat(np.arange(len(padded)), lengths)[:count]
    ends = np.cumsum(lengths)
    hashes = hashes[np.arange(count) <= ends[of_text] - _SHINGLE]  # no shingle spans two texts
    starts = np.concatenate([[0], np.cumsum(lengths - _SHINGLE + 1)[:-1]])
    smallest = [
        np.minimum.reduceat((hashes * multiplier + summand) >> np.uint64(32), starts)
        for multiplier, summand in zip(multipliers, summands, strict=True)
    ]
    return np.stack(smallest, axis=1).astype(np.uint32)


def _candidates(signatures: NDArray[np.uint32], before: int | None, on_progress: OnProgress) -> _Pairs:
    """Return pairs of places whose signatures agree in a band, (P, 2), the second one behind the first.

    Each place is paired with the first one that has the same band, and with the one before it.

    Args:
        signatures: Smallest hashes, (N, K).
        before: Number of texts that all others are compared with. Defaults to comparing all texts.
        on_progress: See ``near_duplicates``.
    """
    found = [np.zeros((0, 2), dtype=np.intp)]
    for band in reported(range(_BANDS), "finding similar texts", _BANDS, on_progress):
        hashes = np.ascontiguousarray(signatures[:, band * _BAND_HASHES : (band + 1) * _BAND_HASHES])
        _, keys = np.unique(hashes, axis=0, return_inverse=True)
        order = np.argsort(keys.ravel(), kind="stable")
        in_order = keys.ravel()[order]
        numbers = np.arange(len(order))
        is_first = np.concatenate([[True], in_order[1:] != in_order[:-1]])
        first = np.maximum.accumulate(np.where(is_first, numbers, 0))
        if before is None:
            second, previous = numbers[~is_first], numbers[~is_first] - 1
        else:
            is_other = order < before
            last = np.maximum.accumulate(np.where(is_other, numbers, -1))
            second = numbers[~is_other & (last >= first)]
            previous = last[second]
        found += [np.stack([order[one], order[second]], axis=1) for one in (first[second], previous)]
    return np.unique(np.concatenate(found), axis=0)
