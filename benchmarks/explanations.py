"""Measure whether the words that an explanation names really decide, by deletion and insertion.

    BOTHWAYS_DATA=... python -m benchmarks.explanations BUNDLE [--set trec6] [--texts 200] [--seed 0]

For each text, the words are removed one by one, those first that speak for the predicted label. The area under the
curve (AUC) of the label's probability over the share of removed words is the deletion AUC: the lower, the better the
explanation. The insertion AUC starts without words and adds them in the same order: the higher, the better (Petsiuk et
al., arXiv 1806.07421). Each direction, the linear member and the ensemble are explained and scored on their own. Random
orders are the mean of several per text. Intervals are 95 %, by the bootstrap over texts, of the difference to random.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.accuracy.sets import load_task
from numpy.typing import NDArray

import bothways
from bothways.runtime.explanation import MAX_READINGS

RANDOM_ORDERS, RESAMPLES, FEWEST_WORDS = 5, 2000, 4


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--set", default="trec6")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = bothways.load(arguments.bundle)
    rng = np.random.default_rng(arguments.seed)
    texts = load_task(arguments.set, Path(os.environ["BOTHWAYS_DATA"]), arguments.seed).test.texts
    usable = [text for text in texts if FEWEST_WORDS <= len(text.split()) < MAX_READINGS]
    chosen = [usable[number] for number in sorted(rng.permutation(len(usable))[: arguments.texts])]
    words = np.mean([len(text.split()) for text in chosen])
    print(f"{len(chosen)} of {len(texts)} test texts of {arguments.set} with {words:.1f} words on average\n")
    print("| | deletion | random | difference | insertion | random | difference |\n|---|--:|--:|--:|--:|--:|--:|")
    found: dict[str, list[list[float]]] = {}
    for text in chosen:
        for name, row in areas_of(model, text, rng).items():
            found.setdefault(name, []).append(row)
    for name, rows in found.items():
        print(f"| {name} | {' | '.join(_cells(np.array(rows), rng))} |")


def areas_of(model: bothways.Classifier, text: str, rng: np.random.Generator) -> dict[str, list[float]]:
    """Return by name: deletion AUC, that of random orders, insertion AUC, that of random orders."""
    explanation = model.explain(text)
    output = model.labels.index(explanation.label)
    words = [word.text for word in explanation.words]
    orders = {
        name: sorted(range(len(words)), key=lambda n: -explanation.words[n].attributions[name])
        for name in explanation.methods
    }
    randoms = [rng.permutation(len(words)).tolist() for _ in range(RANDOM_ORDERS)]
    every = [*orders.values(), *randoms]
    texts = [each for order in every for each in _curves(words, order)]
    scores = {name: rows[:, output] for name, rows in model.scores_by_direction(texts).items()}
    found = {}
    for number, name in enumerate(orders):
        curves = scores[name].reshape(len(every), 2, len(words) + 1)
        areas = (curves[:, :, 1:] + curves[:, :, :-1]).mean(axis=2) / 2
        random = areas[len(orders) :].mean(axis=0)
        found[name] = [areas[number, 0], random[0], areas[number, 1], random[1]]
    return found


def _curves(words: Sequence[str], order: Sequence[int]) -> list[str]:
    """Return the texts while words are removed in an order, and then those while they are added in it."""
    place = {number: step for step, number in enumerate(order)}
    removed = [" ".join(w for n, w in enumerate(words) if place[n] >= step) for step in range(len(words) + 1)]
    added = [" ".join(w for n, w in enumerate(words) if place[n] < step) for step in range(len(words) + 1)]
    return [*removed, *added]


def _cells(rows: NDArray[np.float64], rng: np.random.Generator) -> list[str]:
    cells = []
    for first in (0, 2):
        difference = rows[:, first] - rows[:, first + 1]
        means = [difference[rng.integers(0, len(rows), len(rows))].mean() for _ in range(RESAMPLES)]
        low, high = np.quantile(means, [0.025, 0.975])
        cells += [f"{rows[:, first].mean():.3f}", f"{rows[:, first + 1].mean():.3f}"]
        cells.append(f"{difference.mean():+.3f} ({low:+.3f} to {high:+.3f})")
    return cells


if __name__ == "__main__":
    main()
