"""The data sets as tasks: training rows, validation rows if the data set has them, and test rows.

Input: the folder in BOTHWAYS_DATA, and a seed. Output: a ``Task``. Official test splits are only used for testing.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.accuracy.splits import distinct_first, groups_of, stratified_numbers
from numpy.typing import NDArray

IMDB_TEST_ROWS = 5_000
IMDB_FEW_LABELS_TEST_ROWS = 1_000
"""Fewer rows, since MiniLM embeds about 11 reviews per CPU second."""
IMDB_UNLABELED_ROWS = 20_000
IMDB_SHARED = "imdb"
IMDB_FEWER_UNLABELED_ROWS = 5_000
"""Fewer rows for fastai on two cores, where 20,000 take two hours."""
IMDB_FEWER_SHARED = "imdb-5k"
IMDB_FULL_SHARED = "imdb-full"
SMS_TEST_SHARE = 0.2
LABELS_PER_CLASS = (8, 64)
"""Sizes of the few-label sets."""
OTHER_TEXTS = 500
"""Maximum number of texts without labels in the variants that have some."""
_ROOT = Path(__file__).parents[2]
_FIXED_SEED = 20_180_101
"""Seed of the choices that do not depend on the seed of a run."""


@dataclass(frozen=True)
class Rows:
    """Texts and their labels: one label per text, or any number for multi-label tasks."""

    texts: list[str]
    labels: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.texts)

    def selected(self, numbers: Sequence[int] | NDArray[np.int64]) -> Rows:
        """Return the rows with these numbers."""
        return Rows([self.texts[i] for i in numbers], [self.labels[i] for i in numbers])


@dataclass(frozen=True)
class Task:
    """A classification task that a method learns and is evaluated on.

    Attributes:
        name: Name of the data set, as in ``--sets``.
        labels: All labels, sorted.
        is_multi_label: Whether a text can have any number of labels, instead of exactly one.
        train: Training rows. Settings are chosen on a part of them if there is no ``valid``.
        valid: Official validation rows, or None.
        test: Test rows, used only for the finished model.
        test_split: Description of the test rows.
        unlabeled: Unlabeled texts, for the language models.
        shared: Name shared by the tasks that use the same language models, fine-tuned once on ``unlabeled``.
    """

    name: str
    labels: tuple[str, ...]
    is_multi_label: bool
    train: Rows
    valid: Rows | None
    test: Rows
    test_split: str
    unlabeled: list[str] = field(default_factory=list)
    shared: str | None = None


def load_task(name: str, folder: Path, seed: int) -> Task:
    """Return a task. If a set uses only some labeled rows, the seed selects them."""
    return SETS[name](name, folder, seed)


def _official_split(name: str, folder: Path, seed: int, subfolder: str = "", label: str = "label") -> Task:
    """Return a single-label set with its official split. Its folder defaults to the name of the set."""
    del seed
    train, test = (_read_csv(folder / (subfolder or name) / f"{part}.csv", label) for part in ("train", "test"))
    return Task(name, _labels(train), False, train, None, test, "official test split")


def _sms(name: str, folder: Path, seed: int) -> Task:
    del seed
    rows = _read_csv(folder / "sms_spam" / "sms.csv", "label")
    held = stratified_numbers(rows.texts, groups_of(rows.labels), SMS_TEST_SHARE, _FIXED_SEED)
    train = np.setdiff1d(np.arange(len(rows)), held)
    split = "a fixed stratified fifth; rows with the same text are on one side"
    return Task(name, _labels(rows), False, rows.selected(train), None, rows.selected(held), split)


def _demo(name: str, folder: Path, seed: int) -> Task:
    """Return the messages of the demo, which are in this repository."""
    del folder, seed
    train, test = (_read_csv(_ROOT / "demo" / f"{part}.csv", "label") for part in ("messages", "held_out"))
    unlabeled = _read_texts(_ROOT / "demo" / "unlabeled.csv")
    return Task(name, _labels(train), False, train, None, test, "240 held-out messages", unlabeled)


def _clinc150(name: str, folder: Path, seed: int) -> Task:
    """Return the intents without the queries that have none of them."""
    del seed
    train, valid, test = (_read_csv(folder / name / f"{part}.csv", "label") for part in ("train", "valid", "test"))
    return Task(name, _labels(train), False, train, valid, test, "official test split, without out-of-scope queries")


def _goemotions(name: str, folder: Path, seed: int) -> Task:
    del seed
    parts = (_read_csv(folder / "goemotions" / f"{part}.csv", "labels") for part in ("train", "valid", "test"))
    train, valid, test = parts
    return Task(name, _labels(train), True, train, valid, test, "official test split")


def _imdb(
    name: str,
    folder: Path,
    seed: int,
    labeled: int | None,
    unlabeled_rows: int = IMDB_UNLABELED_ROWS,
    shared: str = IMDB_SHARED,
) -> Task:
    train, test = (_read_parquet(folder / "imdb" / f"{part}.parquet") for part in ("train", "test"))
    labels, split = _labels(train), "official test split"
    if labeled is not None:
        train = drawn(train, labels, labeled // len(labels), seed)
        test, split = _imdb_test_subset(test, labels, IMDB_TEST_ROWS)
    unlabeled = _read_column(folder / "imdb" / "unlabelled.parquet", "text")
    if labeled is None:
        return Task(name, labels, False, train, None, test, split, [*train.texts, *unlabeled], IMDB_FULL_SHARED)
    return Task(name, labels, False, train, None, test, split, unlabeled[:unlabeled_rows], shared)


_Loader = Callable[[str, Path, int], Task]

_ALL_LABELS: dict[str, _Loader] = {
    "trec6": _official_split,
    "trec50": partial(_official_split, subfolder="trec6", label="fine_label"),
    "sms": _sms,
    "demo": _demo,
    "clinc150": _clinc150,
    "germeval2018": _official_split,
    "waimai": _official_split,
    "goemotions": _goemotions,
    "imdb-100": partial(_imdb, labeled=100),
    "imdb-500": partial(_imdb, labeled=500),
    "imdb-2000": partial(_imdb, labeled=2000),
    "imdb-100-5k": partial(_imdb, labeled=100, unlabeled_rows=IMDB_FEWER_UNLABELED_ROWS, shared=IMDB_FEWER_SHARED),
    "imdb": partial(_imdb, labeled=None),
}
WITH_FEW_LABELS = ("trec6", "trec50", "sms", "demo", "clinc150", "germeval2018", "waimai", "goemotions", "imdb")
"""Sets with few-label variants."""


def few_labels_name(name: str, per_class: int, *, has_unlabeled: bool = False) -> str:
    """Return the name of the variant of a set with this number of labels per class, with unlabeled texts or without."""
    return f"{name}-{per_class}-per-class{'-unlabeled' if has_unlabeled else ''}"


def with_few_labels(task: Task, name: str, per_class: int, seed: int, unlabeled: int = 0) -> Task:
    """Return a variant of a task with few labels and without official validation rows.

    Methods set aside validation rows from the drawn rows, so all methods have the same number of labels.

    Args:
        task: Task with all labels.
        name: Name of the variant.
        per_class: Number of distinct texts drawn per class. A class with fewer gives all. A multi-label task has at
            least this number per label.
        seed: Seed of the draw. A smaller draw with the same seed is a subset.
        unlabeled: Maximum number of unlabeled texts: other training texts, drawn with the seed. None by default.
    """
    train = drawn(task.train, task.labels, per_class, seed)
    labeled = set(train.texts)
    others = [text for i in distinct_first(task.train.texts, seed) if (text := task.train.texts[i]) not in labeled]
    return Task(name, task.labels, task.is_multi_label, train, None, task.test, task.test_split, others[:unlabeled])


def _few_labels(name: str, folder: Path, seed: int, source: str, per_class: int, unlabeled: int) -> Task:
    task = _ALL_LABELS[source](source, folder, seed)
    if source == "imdb":
        test, split = _imdb_test_subset(task.test, task.labels, IMDB_FEW_LABELS_TEST_ROWS)
        task = replace(task, test=test, test_split=split)
    return with_few_labels(task, name, per_class, seed, unlabeled)


FEW_LABEL_SETS: dict[str, _Loader] = {
    few_labels_name(source, count, has_unlabeled=unlabeled > 0): partial(
        _few_labels, source=source, per_class=count, unlabeled=unlabeled
    )
    for source in WITH_FEW_LABELS
    for count in LABELS_PER_CLASS
    for unlabeled in (0, OTHER_TEXTS)
}
SETS = {**_ALL_LABELS, **FEW_LABEL_SETS}
OPTIONAL_SETS = ("demo", "imdb-100-5k", "imdb", *FEW_LABEL_SETS)
"""Sets that run only if named in ``--sets``."""


def drawn(rows: Rows, labels: tuple[str, ...], per_label: int, seed: int) -> Rows:
    """Return, for each label, the first ``per_label`` distinct texts that have it, in an order drawn with the seed.

    A smaller draw with the same seed is a subset. A text that several labels draw occurs once.
    """
    order = distinct_first(rows.texts, seed)
    by_label = ([i for i in order if label in rows.labels[i]][:per_label] for label in labels)
    return rows.selected(sorted({i for numbers in by_label for i in numbers}))


def _imdb_test_subset(test: Rows, labels: tuple[str, ...], count: int) -> tuple[Rows, str]:
    subset = drawn(test, labels, count // len(labels), _FIXED_SEED)
    return subset, f"a fixed balanced subset of {len(subset):,} rows of the official test split"


def _labels(rows: Rows) -> tuple[str, ...]:
    return tuple(sorted({label for labels in rows.labels for label in labels}))


def _read_csv(path: Path, label_column: str) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    is_multi = label_column == "labels"
    labels = [tuple(row[label_column].split("|")) if is_multi else (row[label_column],) for row in rows]
    return Rows([row["text"] for row in rows], labels)


def _read_texts(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def _read_parquet(path: Path) -> Rows:
    return Rows(_read_column(path, "text"), [(label,) for label in _read_column(path, "label")])


def _read_column(path: Path, name: str) -> list[str]:
    from pyarrow import parquet  # noqa: PLC0415  (only where such a file is read)

    return list(parquet.read_table(path, columns=[name])[name].to_pylist())
