"""Plant wrong labels in a data set, and count how many of them ``bothways audit`` finds.

Run: python -m benchmarks.label_errors --sets trec6 --seeds 0,1,2,3,4. Needs BOTHWAYS_DATA. Each planted label is drawn
from the other labels with equal probability. Prints per seed the precision among as many of the first findings as were
planted, the number of all findings, their precision, and the share of the planted ones that are among them (recall).
Labels of the data set that are wrong count as errors of the audit. With --cleanlab, the ranking of cleanlab is printed
for the same probabilities, too. It has to be installed for that: pip install cleanlab.

Multi-label: --sets goemotions,trec6-levels. The second one has the coarse and the fine label of each question. In a
planted row a label is removed, another one is added, or both, with equal probability. A text keeps at least one label.
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
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import TaskName
from bothways.text.similarity import key_of
from bothways.training.audit import FOLDS
from bothways.training.linear import out_of_fold_scores

_FILES = {"trec6": "trec6/train.csv", "clinc150": "clinc150/train.csv", "sms": "sms_spam/sms.csv"}
_MULTI_LABEL = {
    "goemotions": ("goemotions/valid.csv", ("labels",)),
    "trec6-levels": ("trec6/train.csv", ("label", "fine_label")),
}
"""Files with several labels per text, and their columns. A cell may have several labels with | between them."""


def read(path: Path) -> tuple[list[str], list[str]]:
    """Return texts and labels."""
    rows = _rows(path)
    return [row["text"] for row in rows], [row["label"] for row in rows]


def read_sets(path: Path, columns: tuple[str, ...]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return texts and all labels of each."""
    rows = _rows(path)
    cells = ["|".join(row[column] for column in columns) for row in rows]
    return [row["text"] for row in rows], [tuple(filter(None, cell.split("|"))) for cell in cells]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def planted(labels: list[str], share: float, seed: int) -> tuple[list[str], set[int]]:
    """Return labels of which a share is wrong, and the places of the wrong ones."""
    rng, names = np.random.default_rng(seed), sorted(set(labels))
    places = rng.choice(len(labels), round(share * len(labels)), replace=False)
    changed = list(labels)
    for place in places:
        changed[place] = names[(names.index(labels[place]) + int(rng.integers(1, len(names)))) % len(names)]
    return changed, set(map(int, places))


def planted_sets(labels: list[tuple[str, ...]], share: float, seed: int) -> tuple[list[tuple[str, ...]], set[int]]:
    """Return labels of which a share of the rows has a wrong or a missing one, and the places of these rows."""
    rng, names = np.random.default_rng(seed), sorted({name for row in labels for name in row})
    places = rng.choice(len(labels), round(share * len(labels)), replace=False)
    changed = list(labels)
    for place in places:
        row, kind = list(labels[place]), int(rng.integers(3))
        others = [name for name in names if name not in row]
        added = [others[int(rng.integers(len(others)))]] if kind or len(row) < 2 else []
        if kind != 1 and row:
            row.pop(int(rng.integers(len(row))))
        changed[place] = (*row, *added)
    return changed, set(map(int, places))


def _of_cleanlab(texts: list[str], labels: list[str]) -> list[int]:
    """Return all places in the order of cleanlab, with the probabilities of the audit."""
    from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415  (not a dependency)

    names = sorted(set(labels))
    task, targets = SingleLabel(tuple(names)), np.array([names.index(label) for label in labels])
    scores = out_of_fold_scores(texts, targets, list(map(key_of, texts)), task, FOLDS, 0)
    quality: Any = get_label_quality_scores(targets, scores, method="self_confidence")
    places: list[int] = np.argsort(quality, kind="stable").tolist()
    return places


def _sets_of_cleanlab(texts: list[str], labels: list[tuple[str, ...]]) -> tuple[list[int], dict[str, list[int]]]:
    """Return all places in the order of cleanlab, and the places that each of its filters lists.

    The order is that of the exponential moving average of the confidence in each label (Thyagarajan et al., arXiv
    2211.13895), cleanlab's default.
    """
    from cleanlab.filter import find_label_issues  # noqa: PLC0415  (not a dependency)
    from cleanlab.multilabel_classification import get_label_quality_scores  # noqa: PLC0415

    names = sorted({name for row in labels for name in row})
    task = MultiLabel(tuple(names), thresholds=(0.5,) * len(names))
    targets = np.array([[name in row for name in names] for row in labels], dtype=np.float32)
    scores = out_of_fold_scores(texts, targets, list(map(key_of, texts)), task, FOLDS, 0)
    given = [np.flatnonzero(row).tolist() for row in targets]
    ranked: list[int] = np.argsort(get_label_quality_scores(given, scores), kind="stable").tolist()
    listed = {
        name: find_label_issues(
            given, scores, multi_label=True, filter_by=name, return_indices_ranked_by="self_confidence"
        ).tolist()
        for name in ("prune_by_noise_rate", "confident_learning")
    }
    return ranked, listed


def _compare(ranked: list[int], listed: dict[str, list[int]], wrong: set[int]) -> None:
    """Print what cleanlab finds."""
    precision = len(wrong & {*ranked[: len(wrong)]}) / len(wrong)
    print(f"  cleanlab, its ranking: precision at their number {precision:.1%}", flush=True)
    for name, places in listed.items():
        hits = len(wrong & {*places})
        print(
            f"  cleanlab, {name}: {len(places)} findings, precision {hits / len(places):.1%}, "
            f"recall {hits / len(wrong):.1%}",
            flush=True,
        )


def main() -> None:
    """Print a line per data set and seed, and the mean precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="trec6", help="Data sets, separated by commas.")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="Random seeds, separated by commas.")
    parser.add_argument("--share", type=float, default=0.05, help="Share of the labels to make wrong.")
    parser.add_argument("--cleanlab", action="store_true", help="Compare with the ranking of cleanlab.")
    given = parser.parse_args()
    data = Path(os.environ["BOTHWAYS_DATA"])
    for name in given.sets.split(","):
        precisions = []
        for seed in map(int, given.seeds.split(",")):
            changed: Any
            if name in _MULTI_LABEL:
                file, columns = _MULTI_LABEL[name]
                texts, sets = read_sets(data / file, columns)
                changed, wrong = planted_sets(sets, given.share, seed)
            else:
                texts, labels = read(data / _FILES[name])
                changed, wrong = planted(labels, given.share, seed)
            start = time.perf_counter()
            task: TaskName = "multi-label" if name in _MULTI_LABEL else "single-label"
            audit = bothways.audit(texts, changed, task=task, progress=False)
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
                ranked, listed = (
                    _sets_of_cleanlab(texts, changed) if name in _MULTI_LABEL else (_of_cleanlab(texts, changed), {})
                )
                _compare(ranked, listed, wrong)
        print(f"{name}: mean precision at the number of planted errors {np.mean(precisions):.1%}", flush=True)


if __name__ == "__main__":
    main()
