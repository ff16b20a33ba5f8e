"""Measure the time of the search for near-duplicates, and how many of the planted ones it finds.

Run: python -m benchmarks.similarity --texts 100000. Texts are random words of a Zipf-like vocabulary. A tenth of them
is an earlier text with one word replaced.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from bothways.text.similarity import LEAST_SIMILARITY, key_of, near_duplicates

_VOCABULARY, _SHORTEST, _LONGEST = 20_000, 12, 40


def _texts(count: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Return texts, and the pairs of places that were planted: a text, and the earlier one that it was made of."""
    rng = np.random.default_rng(0)
    words = [
        "".join(chr(97 + letter) for letter in rng.integers(0, 26, rng.integers(3, 10))) for _ in range(_VOCABULARY)
    ]
    texts: list[str] = []
    pairs = []
    for place in range(count):
        if place and rng.random() < 0.1:
            other = int(rng.integers(place))
            changed = texts[other].split()
            changed[int(rng.integers(len(changed)))] = words[int(rng.integers(_VOCABULARY))]
            pairs.append((place, other))
            texts.append(" ".join(changed))
        else:
            numbers = (rng.random(rng.integers(_SHORTEST, _LONGEST)) ** 3 * _VOCABULARY).astype(int)
            texts.append(" ".join(words[number] for number in numbers))
    return texts, pairs


def _similarity(one: str, other: str) -> float:
    ours, theirs = ({f" {text} "[start : start + 5] for start in range(len(text) - 2)} for text in (one, other))
    return len(ours & theirs) / len(ours | theirs)


def main() -> None:
    """Print the seconds, and the share of the planted near-duplicates that were found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000, help="Number of texts.")
    texts, pairs = _texts(parser.parse_args().texts)
    start = time.perf_counter()
    keys = list(dict.fromkeys(map(key_of, texts)))
    found = {keys[each.place] for each in near_duplicates(keys)}
    seconds = time.perf_counter() - start
    near = [place for place, other in pairs if LEAST_SIMILARITY <= _similarity(texts[place], texts[other]) < 1]
    hits = sum(key_of(texts[place]) in found for place in near)
    print(f"{len(texts):,} texts in {seconds:.0f} s: {hits:,} of {len(near):,} near-duplicates found")


if __name__ == "__main__":
    main()
