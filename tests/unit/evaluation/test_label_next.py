"""Texts to label next: unsure ones, different ones, and never the same twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bothways
from bothways.errors import ConfigError
from bothways.evaluation import label_next as module
from bothways.evaluation.label_next import diverse_and_unsure
from bothways.runtime.classifier import Classifier


def test_unsure_texts_of_every_group_come_before_sure_ones() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(3), 20, axis=0)
    vectors = groups + 0.01 * rng.standard_normal(groups.shape)
    is_unsure = np.arange(60) % 20 < 3
    residual = np.where(is_unsure[:, None], [0.5, -0.5], [0.01, -0.01])
    for seed in range(5):
        chosen = diverse_and_unsure(residual, vectors, 4, seed)
        unsure = [place for place in chosen if is_unsure[place]]
        assert len(unsure) >= 3  # all sure texts have nearly the same gradient, which one of them covers
        assert {place // 20 for place in unsure} == {0, 1, 2}


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 3))
def test_no_text_is_chosen_twice(count: int, number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    residual, vectors = rng.standard_normal((count, 2)), rng.standard_normal((count, 4))
    chosen = diverse_and_unsure(residual, vectors, number, seed)
    assert len(set(chosen)) == len(chosen) == min(count, number)
    same = diverse_and_unsure(np.ones((count, 2)), np.ones((count, 4)), number, seed)
    assert len(set(same)) == min(count, number)


def test_distances_are_those_of_the_outer_products() -> None:
    rng = np.random.default_rng(1)
    residual, vectors = rng.standard_normal((12, 3)), rng.standard_normal((12, 5))
    gradients = np.einsum("nc,nv->ncv", residual, vectors).reshape(12, -1)
    first = int((gradients**2).sum(axis=1).argmax())
    distances = ((gradients - gradients[first]) ** 2).sum(axis=1)
    drawn = int(np.random.default_rng(7).choice(12, p=np.where(np.arange(12) == first, 0, distances) / distances.sum()))
    assert diverse_and_unsure(residual, vectors, 2, seed=7) == [first, drawn]


def test_texts_of_a_bundle_are_chosen_once_and_with_their_rows(model: Classifier) -> None:
    texts = ["a lovely film", "", "A LOVELY  film", "the cat hated it", "people came", "the cat hated it"]
    found = bothways.label_next(model, texts, number=10, text=model.text_columns or "text")
    assert {each.row for each in found} == {1, 4, 5}
    assert all(each.text == texts[each.row - 1] for each in found)
    assert [each.predicted[0] for each in found] == [str(model.predict([each.text])[0]) for each in found]
    assert all(0 <= each.uncertainty <= 1 for each in found)
    assert bothways.label_next(model, texts, number=10) == found


def test_few_of_many_texts_are_kept_in_memory(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_COMPARED", 20)
    texts = [f"text number {number} is about film {number % 7}" for number in range(90)]
    found = bothways.label_next(model, texts, number=2)
    second, first = np.sort(model.predict_proba(texts), axis=1)[:, -2:].T
    assert len(found) == 2
    assert all(each.row - 1 in np.argsort(first - second)[:45] for each in found)


def test_a_wrong_number_is_refused(model: Classifier) -> None:
    with pytest.raises(ConfigError, match="number is 0, expected at least 1"):
        bothways.label_next(model, ["a"], number=0)
    with pytest.raises(ConfigError, match="seed is -1"):
        bothways.label_next(model, ["a"], seed=-1)
