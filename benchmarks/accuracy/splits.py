"""Split rows at random: stratified, and never with the same text on both sides.

Input: texts and the stratum of each. Output: row numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def groups_of(labels: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the stratum of each row: its first label."""
    return [row[0] for row in labels]


def stratified_numbers(texts: Sequence[str], strata: Sequence[Hashable], share: float, seed: int) -> Numbers:
    """Return row numbers, in order, that hold about this share of each stratum's distinct texts, and at least one."""
    held: set[str] = set()
    for distinct in _shuffled_strata(texts, strata, seed):
        held.update(distinct[: max(1, round(share * len(distinct)))])
    return np.array([i for i, text in enumerate(texts) if text in held], dtype=np.int64)


def fold_numbers(texts: Sequence[str], strata: Sequence[Hashable], count: int, seed: int) -> list[Numbers]:
    """Return the row numbers of each of ``count`` folds, in order. Every row is in exactly one fold."""
    fold: dict[str, int] = {}
    dealt = 0
    for distinct in _shuffled_strata(texts, strata, seed):
        for text in distinct:
            fold[text] = dealt % count
            dealt += 1
    folds = np.array([fold[text] for text in texts])
    return [np.flatnonzero(folds == number).astype(np.int64) for number in range(count)]


def distinct_first(texts: Sequence[str], seed: int) -> list[int]:
    """Return the row number of the first occurrence of each distinct text, shuffled with the seed."""
    first: dict[str, int] = {}
    for number, text in enumerate(texts):
        first.setdefault(text, number)
    numbers = np.array(list(first.values()))
    shuffled: list[int] = numbers[np.random.default_rng(seed).permutation(len(numbers))].tolist()
    return shuffled


def _shuffled_strata(texts: Sequence[str], strata: Sequence[Hashable], seed: int) -> Iterator[list[str]]:
    """Yield the distinct texts of each stratum, shuffled. A text belongs to the stratum of its first occurrence."""
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    by_stratum: dict[Hashable, list[str]] = defaultdict(list)
    for text, stratum in zip(texts, strata, strict=True):
        if text not in seen:
            seen.add(text)
            by_stratum[stratum].append(text)
    for distinct in by_stratum.values():
        yield [distinct[i] for i in rng.permutation(len(distinct))]
