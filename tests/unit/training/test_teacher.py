"""Teachers of every kind label texts, and answers that are no labels are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from bothways.errors import ConfigError, DataError
from bothways.runtime.classifier import Classifier
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import LabeledTexts, SoftLabel, Task
from bothways.training import teacher as teachers
from bothways.training.teacher import labeled_by_teacher

TASK = SingleLabel(("bad", "good"))
TEXTS = ["a lovely film", "a dull film", "dull, so dull", "lovely"]
IS_GOOD = [True, False, False, True]


def labeled(teacher: object, task: Task = TASK) -> LabeledTexts:
    return labeled_by_teacher(teacher, TEXTS, task, progress=False)


def test_a_function_returns_labels_probabilities_or_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "_TEXTS_AT_ONCE", 3)
    batches = []

    def answer(texts: list[str]) -> list[str]:
        batches.append(len(texts))
        return ["good" if "lovely" in text else "bad" for text in texts]

    assert labeled(answer).label_sets == [("good" if good else "bad",) for good in IS_GOOD]
    assert batches == [3, 1]
    soft = labeled(lambda texts: [{"good": 0.75, "bad": 0.25}] * len(texts))
    assert soft.labels == [SoftLabel(TASK.labels, (0.25, 0.75), ("good",))] * 4
    left_out = labeled(lambda texts: [{"good": 0.4}] * len(texts))  # a label without a probability has none
    assert left_out.labels == [SoftLabel(TASK.labels, (0.0, 1.0), ("good",))] * 4
    assert labeled(lambda texts: [len(text) for text in texts], Regression()).labels == [13.0, 11.0, 13.0, 6.0]
    several = labeled(lambda texts: [["a", "b"]] * len(texts), MultiLabel(("a", "b"), thresholds=(0.5, 0.5)))
    assert several.labels == [("a", "b")] * 4


def test_models_of_scikit_learn_teach() -> None:
    by_probability = make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, IS_GOOD)
    task = SingleLabel(("false", "true"), label_kind="boolean")
    soft = labeled(by_probability, task)
    found = task.soft_targets(soft)
    assert found is not None
    np.testing.assert_allclose(found, by_probability.predict_proba(TEXTS), rtol=1e-6)

    by_decision = make_pipeline(CountVectorizer(), LinearSVC()).fit(TEXTS, IS_GOOD)
    assert labeled(by_decision, task).label_sets == [(str(good).lower(),) for good in IS_GOOD]
    number = make_pipeline(CountVectorizer(), LinearRegression()).fit(TEXTS, [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(labeled(number, Regression()).values[:, 0], number.predict(TEXTS))


def test_a_bundle_teaches(model: Classifier) -> None:
    soft = labeled(model, model.task)
    found = model.task.soft_targets(soft)
    assert found is not None
    np.testing.assert_allclose(found, model.predict_proba(TEXTS), rtol=1e-6)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda texts: ["good"], "returned 1 answers for 4 texts, expected a list with one per text"),
        (lambda texts: None, "returned None for 4 texts"),
        (lambda texts: ["good", "bad", "great", "bad"], "answer to text 3: unknown label 'great'; the training rows"),
        (lambda texts: [{"great": 1.0}] * 4, "answer to text 1: unknown label 'great'"),
        (lambda texts: [{"good": -1.0}] * 4, "answer to text 1: label 'good': found -1.0, expected a number of at"),
        (lambda texts: [{}] * 4, "answer to text 1: the probability of every label is 0"),
        (lambda texts: [None] * 4, "answer to text 1: the label is missing"),
    ],
)
def test_answers_that_are_no_labels_are_refused(answer: Callable[[list[str]], object], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        labeled(answer)


def test_something_that_cannot_teach_is_refused() -> None:
    with pytest.raises(ConfigError, match="teacher is 'gpt', expected a function or an object with predict_proba"):
        labeled("gpt")
