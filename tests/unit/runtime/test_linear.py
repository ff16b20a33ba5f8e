"""A linear member: TF-IDF as scikit-learn has it, scores of each task, and what is mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer

import bothways
from bothways.bundle.parity import ENSEMBLE
from bothways.runtime.classifier import Classifier
from bothways.runtime.linear import KnownNgrams, LinearModel
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Target, Task
from bothways.text.ngrams import Counts, Ngrams
from tests.bundles import TinyClassifiers, make_linear

TASKS: list[Task] = [
    SingleLabel(("a", "b", "c")),
    MultiLabel(("a", "b", "c"), 1.0, (0.5, 0.5, 0.5), ";"),
    Regression((Target("x", 1.0, 2.0), Target("y", -1.0, 0.5), Target("z", 0.0, 1.0))),
]


@given(
    st.lists(st.lists(st.integers(0, 20)), min_size=2, max_size=2),
    st.lists(st.sets(st.integers(0, 20)), min_size=2, max_size=2),
)
def test_values_are_those_of_scikit_learns_tf_idf(found: list[list[int]], known: list[set[int]]) -> None:
    words, characters = (np.array(sorted(numbers), dtype=np.uint32) for numbers in known)
    idf = np.random.default_rng(0).uniform(1, 5, sum(map(len, known))).astype(np.float16)
    ngrams = Ngrams(*(Counts(*np.unique(np.array(each, dtype=np.uint32), return_counts=True)) for each in found))
    places, values = KnownNgrams(words, characters, idf).row(ngrams)
    assert places.tolist() == sorted(set(places.tolist()))
    ours = np.zeros(len(idf))
    ours[places] = values
    for numbers, all_found, part in zip(
        known, found, (slice(0, len(known[0])), slice(len(known[0]), None)), strict=True
    ):
        counts = np.array([[all_found.count(number) for number in sorted(numbers)]])
        if not counts.size:
            continue
        theirs = TfidfTransformer(sublinear_tf=True)
        theirs.fit(np.ones_like(counts))
        theirs.idf_ = idf[part].astype(np.float64)
        np.testing.assert_allclose(ours[part], theirs.transform(counts).toarray()[0], rtol=1e-9)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_outputs_become_scores_of_the_task(task: Task) -> None:
    _, arrays = make_linear(3, ["a lovely film", "an awful film"])
    bias = arrays["bias"].astype(np.float64)
    scores = LinearModel(arrays, task).scores("")  # a text without n-grams: the biases alone
    each = 1 / (1 + np.exp(-bias))
    expected = {"single-label": each / each.sum(), "multi-label": each, "regression": bias * [2, 0.5, 1] + [1, -1, 0]}
    np.testing.assert_allclose(scores, expected[task.name], rtol=1e-12)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_mixture_goes_from_the_directions_to_the_linear_member(task: Task) -> None:
    directions, linear = (task.activation(np.random.default_rng(seed).normal(size=(4, 3))) for seed in (0, 1))
    np.testing.assert_allclose(task.mixed(directions, linear, 0.0), directions, rtol=1e-9)
    np.testing.assert_allclose(task.mixed(directions, linear, 1.0), linear, rtol=1e-9)
    half = task.mixed(directions, linear, 0.5)
    np.testing.assert_allclose(half, task.mixed(linear, directions, 0.5), rtol=1e-9)
    rows = [task.mixed(*row, 0.3) for row in zip(directions, linear, strict=True)]
    np.testing.assert_allclose(task.mixed(directions, linear, 0.3), rows, rtol=1e-12)


@pytest.mark.parametrize("task", TASKS[:2], ids=lambda task: task.name)
def test_certain_members_that_disagree_give_finite_probabilities(task: Task) -> None:
    mixed = task.mixed(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]), 0.5)
    assert np.isfinite(mixed).all()
    assert mixed[0] == pytest.approx(mixed[1])


def test_all_surfaces_of_the_library_report_the_linear_member(linear_model: Classifier) -> None:
    assert linear_model.scored_by == ["forward", "backward", "linear"]
    (prediction,) = linear_model.stream(["What a lovely film"])
    assert set(prediction.probabilities) == {"forward", "backward", "linear", ENSEMBLE}
    assert set(prediction.to_dict()["probabilities"]) == set(prediction.probabilities)  # type: ignore[call-overload]
    found = bothways.evaluate(linear_model, (["a film", "I hated it"], ["good", "bad"]))
    assert set(found.summary) == {"forward", "backward", "linear", ENSEMBLE}


def test_a_text_with_more_ngrams_than_are_read_at_once_gets_the_scores_of_its_definition(
    linear_torch_models: TinyClassifiers, linear_model: Classifier
) -> None:
    text = " ".join(map(str, range(3000)))  # most of its n-grams are known by a difficult text of the parity record
    ours, theirs = linear_model.predict_proba_by_direction([text]), linear_torch_models.probabilities([text])
    np.testing.assert_allclose(ours["linear"], theirs["linear"], rtol=0, atol=1e-9)
