"""Simulate active learning: does a model learn faster from the texts that ``bothways label-next`` chooses?

Run: OMP_NUM_THREADS=1 python -m benchmarks.label_next --sets trec6 --seeds 0,1,2,3,4. Needs BOTHWAYS_DATA. The model is
TF-IDF with logistic regression, so that a run takes minutes. It starts with a few random labels and gets more in
rounds. Prints the accuracy on the test rows after each round. Methods: random rows, the smallest margins between two
labels, and ``badge``, the function that ``bothways label-next`` calls.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from bothways.evaluation.label_next import diverse_and_unsure

_FILES = {"trec6": ("trec6/train.csv", "trec6/test.csv"), "clinc150": ("clinc150/train.csv", "clinc150/test.csv")}
_FIRST, _ROUND, _ROUNDS = {"trec6": 60, "clinc150": 300}, {"trec6": 60, "clinc150": 300}, 8
_VECTOR = 100
_WORDS = r"(?u)\b\w+\b|\?"
Chooser = Callable[[NDArray[np.float64], NDArray[np.float64], int, int], Sequence[int]]
"""Takes probabilities, vectors, the number of texts and a seed, and returns places."""


def _random(probabilities: NDArray[np.float64], vectors: NDArray[np.float64], number: int, seed: int) -> Sequence[int]:
    del vectors
    places: list[int] = np.random.default_rng(seed).permutation(len(probabilities))[:number].tolist()
    return places


def _margin(probabilities: NDArray[np.float64], vectors: NDArray[np.float64], number: int, seed: int) -> Sequence[int]:
    del vectors, seed
    in_order = np.sort(probabilities, axis=1)
    places: list[int] = np.argsort(in_order[:, -1] - in_order[:, -2], kind="stable")[:number].tolist()
    return places


def _badge(probabilities: NDArray[np.float64], vectors: NDArray[np.float64], number: int, seed: int) -> Sequence[int]:
    residual = probabilities - np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    return diverse_and_unsure(residual, vectors, number, seed)


METHODS: dict[str, Chooser] = {"random": _random, "margin": _margin, "badge": _badge}


def _read(path: Path) -> tuple[list[str], NDArray[np.str_]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array([row["label"] for row in rows])


@functools.cache
def _features(name: str, folder: Path) -> tuple[Any, NDArray[np.str_], Any, NDArray[np.str_], NDArray[np.float64]]:
    """Return TF-IDF and labels of the pool and of the test rows, and a vector per text of the pool."""
    (texts, labels), (test_texts, test_labels) = (_read(folder / file) for file in _FILES[name])
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=_WORDS)
    pool: Any = features.fit_transform(texts)
    vectors = TruncatedSVD(_VECTOR, random_state=0).fit_transform(pool)
    return pool, labels, features.transform(test_texts), test_labels, vectors


def accuracies(name: str, folder: Path, method: str, seed: int) -> list[float]:
    """Return the accuracy after each round.

    Args:
        name: Data set.
        folder: Folder of the data sets.
        method: How texts are chosen.
        seed: Random seed of the first labels and of the choices.
    """
    pool, labels, test, test_labels, vectors = _features(name, folder)
    order = np.random.default_rng(seed).permutation(len(labels))
    labeled, found = order[: _FIRST[name]], []
    for number in range(_ROUNDS + 1):
        model = LogisticRegression(C=10, tol=1e-3, max_iter=200).fit(pool[labeled], labels[labeled])
        found.append(float((model.predict(test) == test_labels).mean()))
        rest = np.setdiff1d(np.arange(len(labels)), labeled)
        chosen = METHODS[method](model.predict_proba(pool[rest]), vectors[rest], _ROUND[name], seed + number)
        labeled = np.concatenate([labeled, rest[np.asarray(chosen)]])
    return found


def main() -> None:
    """Print the mean accuracy over seeds of each method after each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="trec6", help="Data sets, separated by commas.")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="Random seeds, separated by commas.")
    given = parser.parse_args()
    seeds, folder = [int(seed) for seed in given.seeds.split(",")], Path(os.environ["BOTHWAYS_DATA"])
    for name in given.sets.split(","):
        counts = [_FIRST[name] + number * _ROUND[name] for number in range(_ROUNDS + 1)]
        print(f"{name:>10} {' '.join(f'{count:>6}' for count in counts)}   labels")
        for method in METHODS:
            runs = np.array([accuracies(name, folder, method, seed) for seed in seeds])
            means = " ".join(f"{mean:6.1%}" for mean in runs.mean(axis=0))
            print(f"{method:>10} {means}   ± {runs.std(axis=0, ddof=1).mean():.1%}", flush=True)


if __name__ == "__main__":
    main()
