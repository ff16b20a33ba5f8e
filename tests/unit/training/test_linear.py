"""Fitting a linear member: what it learns, a weight that helps, and none where it doesn't."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from bothways.tasks.metrics import Scores
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import LabeledTexts, Task
from bothways.text.ngrams import Ngrams, ngrams_of
from bothways.training import linear
from bothways.training.linear import TrainedLinear, fit_linear

LABELS = ("bad", "good")
RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 2, 200)
TEXTS = [f"a {('dull', 'lovely')[label]} film {number}" for number, label in enumerate(CLASSES)]
TRAIN, VALID = slice(0, 150), slice(150, 200)


def fitted(task: Task, targets: NDArray[np.generic], directions: Scores, **options: object) -> TrainedLinear | None:
    arguments = {"weights": None, "class_weights": None, "seed": 0, **options}
    return fit_linear(
        TEXTS[TRAIN],
        targets=targets[TRAIN],
        valid_texts=TEXTS[VALID],
        valid_targets=targets[VALID],
        directions=directions,
        task=task,
        **arguments,  # type: ignore[arg-type]
    )


def unsure(labels: int) -> Scores:
    return np.full((50, labels), 1 / labels)


def test_words_that_tell_the_labels_are_learned() -> None:
    found = fitted(SingleLabel(LABELS), CLASSES, unsure(2))
    assert found is not None
    assert (found.validation.argmax(axis=1) == CLASSES[VALID]).all()
    assert found.model.scores("A LOVELY day")[1] > 0.9
    assert found.model.scores("how dull")[0] > 0.9
    assert found.member.words == len(found.arrays["words"])


def test_the_weight_is_large_where_the_directions_know_nothing_and_0_where_they_know_more() -> None:
    task = SingleLabel(LABELS)
    alone = fitted(task, CLASSES, unsure(2))
    assert alone is not None
    assert alone.member.weight >= 0.5
    flipped = np.where(np.arange(200) < 150, 1 - CLASSES, CLASSES)  # what is learned is wrong for the validation texts
    known = np.where(np.arange(50) < 5, 1 - CLASSES[VALID], CLASSES[VALID])
    sure = np.where(np.arange(2) == known[:, None], 0.9, 0.1)
    assert fitted(task, flipped, sure) is None


def test_several_labels_and_numbers_are_learned() -> None:
    flags = np.stack([CLASSES == 1, CLASSES == 0, np.zeros(200, bool)], axis=1).astype(np.float32)
    several = fitted(MultiLabel(("x", "y", "never")), flags, unsure(3))
    assert several is not None
    assert ((several.validation[:, :2] > 0.5) == flags[VALID][:, :2].astype(bool)).all()
    assert several.validation[:, 2].max() < 0.01  # a label that no training text has

    values = 10.0 + 5.0 * CLASSES[:, None]
    rows = LabeledTexts("rows", [*TEXTS[TRAIN]], [float(value) for (value,) in values[TRAIN]])
    number = fitted(Regression().fitted(rows), values, np.full((50, 1), 12.5))
    assert number is not None
    assert np.abs(number.validation - values[VALID]).max() < 2


def test_weights_of_rows_and_classes_count() -> None:
    task = SingleLabel(LABELS)
    doubtful = CLASSES.copy()
    doubtful[:20] = 1 - doubtful[:20]
    trusted = np.where(np.arange(200) < 20, 1e-3, 1.0)
    plain, weighted, balanced = (
        fitted(task, doubtful, unsure(2), **options)
        for options in ({}, {"weights": trusted[TRAIN]}, {"class_weights": [1.0, 50.0]})
    )
    assert plain is not None
    assert weighted is not None
    assert balanced is not None
    right = [float(each.validation[np.arange(50), CLASSES[VALID]].mean()) for each in (plain, weighted)]
    assert right[1] > right[0]
    assert balanced.model.scores("film")[1] > plain.model.scores("film")[1]


def test_the_same_rows_give_the_same_bytes() -> None:
    first, second = (fitted(SingleLabel(LABELS), CLASSES, unsure(2)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert {name: array.tobytes() for name, array in first.arrays.items()} == {
        name: array.tobytes() for name, array in second.arrays.items()
    }


def test_many_ngrams_and_many_texts_are_limited_to_the_most_frequent_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_MOST_NGRAMS", 40)
    few = fitted(SingleLabel(LABELS), CLASSES, unsure(2))
    assert few is not None
    assert few.member.words + few.member.characters == 40
    assert (few.validation.argmax(axis=1) == CLASSES[VALID]).all()  # the frequent ones tell the labels
    monkeypatch.setattr(linear, "_MOST_VALUES", 1000)
    fewer = fitted(SingleLabel(LABELS), CLASSES, unsure(2))
    assert fewer is not None
    assert fewer.arrays["idf"].max() != few.arrays["idf"].max()  # counted in fewer texts


def test_texts_without_any_ngram_are_no_problem() -> None:
    texts: Sequence[str] = ["", " ", "\n"]
    found = fit_linear(
        texts, np.array([0, 1, 0]), None, None, texts, np.array([0, 0, 1]), np.full((3, 2), 0.5), SingleLabel(LABELS), 0
    )
    assert found is None


def test_soft_labels_without_doubt_teach_the_same_and_doubtful_ones_little() -> None:
    task = SingleLabel(("bad", "good", "never"))
    certain = np.eye(3, dtype=np.float32)[CLASSES]

    def taught(soft: NDArray[np.float32]) -> Scores:
        found = fit_linear(
            TEXTS[TRAIN], soft[TRAIN], None, None, TEXTS[VALID], CLASSES[VALID], unsure(3), task=task, seed=0
        )
        assert found is not None
        return found.validation

    hard = fitted(task, CLASSES, unsure(3))
    assert hard is not None
    np.testing.assert_allclose(taught(certain), hard.validation, atol=0.02)
    doubtful = taught(0.2 * certain + np.array([0.4, 0.4, 0.0], dtype=np.float32))
    right = np.arange(50), CLASSES[VALID]
    assert 0.5 < doubtful[right].mean() < 0.7 < hard.validation[right].mean()


def test_out_of_fold_each_text_is_read_once_and_the_scores_are_those_of_an_exact_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    def reading(text: str) -> Ngrams:
        read.append(text)
        return ngrams_of(text)

    monkeypatch.setattr(linear, "ngrams_of", reading)
    stages: dict[str, tuple[int, int]] = {}

    def on_progress(stage: str, done: int, total: int) -> None:
        stages[stage] = done + 1, total

    of_audit = (TEXTS, CLASSES, [*map(str, range(200))], SingleLabel(LABELS), 5, 0)
    found = linear.out_of_fold_scores(*of_audit, on_progress)
    assert sorted(read) == sorted(TEXTS)
    assert stages == {"reading n-grams": (200, 200), "weighting n-grams": (200, 200), "fitting linear models": (10, 10)}
    monkeypatch.setattr(linear, "_TOLERANCE_OUT_OF_FOLD", 1e-6)
    assert np.abs(found - linear.out_of_fold_scores(*of_audit)).max() < 1e-3
