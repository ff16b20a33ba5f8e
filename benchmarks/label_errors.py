"""Plant wrong labels in a data set, and count how many of them ``bothways audit`` finds.

Run: python -m benchmarks.label_errors --sets trec6 --seeds 0,1,2,3,4. Needs BOTHWAYS_DATA. Each planted label is drawn
from the other labels with equal probability. Prints per seed the precision among as many of the first findings as were
planted, the number of all findings, their precision, and the share of the planted ones that are among them (recall).
Labels of the data set that are wrong count as errors of the audit. With --cleanlab, the ranking of cleanlab is printed
for the same probabilities, too. It has to be installed for that: pip install cleanlab.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import bothways
from bothways.tasks.single_label import SingleLabel
from bothways.text.similarity import key_of
from bothways.training.audit import FOLDS
from bothways.training.linear import out_of_fold_scores

_FILES = {"trec6": "trec6/train.csv", "clinc150": "clinc150/train.csv", "sms": "sms_spam/sms.csv"}


def read(path: Path) -> tuple[list[str], list[str]]:
    """Return texts and labels."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def planted(labels: list[str], share: float, seed: int) -> tuple[list[str], set[int]]:
    """Return labels of which a share is wrong, and the places of the wrong ones."""
    rng, names = np.random.default_rng(seed), sorted(set(labels))
    places = rng.choice(len(labels), round(share * len(labels)), replace=False)
    changed = list(labels)
    for place in places:
        changed[place] = names[(names.index(labels[place]) + int(rng.integers(1, len(names)))) % len(names)]
    return changed, set(map(int, places))


def _of_cleanlab(texts: list[str], labels: list[str], count: int) -> list[int]:
    """Return as many places as cleanlab finds most doubtful, with the probabilities of the audit."""
    from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415  (not a dependency)

    names = sorted(set(labels))
    task, targets = SingleLabel(tuple(names)), np.array([names.index(label) for label in labels])
    scores = out_of_fold_scores(texts, targets, list(map(key_of, texts)), task, FOLDS, 0)
    quality: Any = get_label_quality_scores(targets, scores, method="self_confidence")
    places: list[int] = np.argsort(quality, kind="stable")[:count].tolist()
    return places


def main() -> None:
    """Print a line per data set and seed, and the mean precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="trec6", help="Data sets, separated by commas.")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="Random seeds, separated by commas.")
    parser.add_argument("--share", type=float, default=0.05, help="Share of the labels to make wrong.")
    parser.add_argument("--cleanlab", action="store_true", help="Compare with the ranking of cleanlab.")
    given = parser.parse_args()
    for name in given.sets.split(","):
        texts, labels = read(Path(os.environ["BOTHWAYS_DATA"]) / _FILES[name])
        precisions = []
        for seed in map(int, given.seeds.split(",")):
            changed, wrong = planted(labels, given.share, seed)
            start = time.perf_counter()
            audit = bothways.audit(texts, changed)
            seconds = time.perf_counter() - start
            found = [each.row - 1 for each in audit.of_kind("label-error")]
            precisions.append(len(wrong & {*found[: len(wrong)]}) / len(wrong))
            hits = len(wrong & {*found})
            print(
                f"{name} seed {seed}: {len(wrong)} planted, precision at their number {precisions[-1]:.1%}, "
                f"{len(found)} findings, precision {hits / len(found):.1%}, recall {hits / len(wrong):.1%}, "
                f"{seconds:.0f} s",
                flush=True,
            )
            if given.cleanlab:
                theirs = len(wrong & {*_of_cleanlab(texts, changed, len(wrong))}) / len(wrong)
                print(f"  cleanlab, self-confidence: precision at their number {theirs:.1%}", flush=True)
        print(f"{name}: mean precision at the number of planted errors {np.mean(precisions):.1%}", flush=True)


if __name__ == "__main__":
    main()
