"""The linear baseline: TF-IDF of words, of characters or of both, and logistic regression.

Input: a task. Output: an ``Outcome``. Features and C are those with the lowest loss on the validation rows. The model
is then fitted again on all training rows. More than two classes are learned one-vs-rest, which on texts is as accurate
as a multinomial model and ten times faster.
"""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from benchmarks.accuracy import validation
from benchmarks.accuracy.metrics import Probabilities, Truth, loss_on_validation, truth_of
from benchmarks.accuracy.outcomes import SINGLE, Outcome, Stopwatch, megabytes, versions_of
from benchmarks.accuracy.sets import Rows, Task
from scipy import sparse  # type: ignore[import-untyped, unused-ignore]
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline

KINDS = {
    "words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5)},
}
FEATURES = (("words",), ("characters",), ("words", "characters"))
STRENGTHS = (0.25, 1.0, 4.0, 16.0, 64.0)
"""Values of C."""
_MANY_ROWS = 20_000
"""From this number of rows on, features that occur only once are dropped."""
_TEXTS_TO_WARM_UP = 32


def run(task: Task, seed: int) -> Outcome:
    """Choose the settings, fit and predict."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    watch = Stopwatch()
    tried = _tried(task, validation.parts(task, seed))
    losses = {setting: loss for setting, (loss, _) in tried.items()}
    features, strength = min(losses, key=lambda setting: losses[setting])  # ties: the fewest features, the smallest C
    model = _model(features, strength, task)
    truth = _targets(task.train, task)
    model.fit(task.train.texts, truth)
    train = watch.stop()

    model.predict_proba(task.test.texts[:_TEXTS_TO_WARM_UP])
    watch = Stopwatch()
    probabilities = np.asarray(model.predict_proba(task.test.texts), dtype=np.float64)
    predict = watch.stop()

    return Outcome(
        test={SINGLE: probabilities},
        train=train,
        predict=predict,
        rows={"training": len(task.train), "validation": len(task.valid) if task.valid else 0},
        facts={
            "chosen": {"features": " and ".join(features), "C": strength},
            "chosen_on": validation.described(task, seed),
            "validation": [
                {"features": " and ".join(kinds), "C": c, "loss": round(loss, 6)} for (kinds, c), loss in losses.items()
            ],
            "features": sum(len(part.vocabulary_) for _, part in model.named_steps["features"].transformer_list),
            "megabytes": megabytes([len(pickle.dumps(model))]),
        },
        packages=versions_of("scikit-learn", "numpy", "scipy"),
        valid={SINGLE: tried[features, strength][1]} if task.is_multi_label else {},
        valid_rows=validation.joined(task, seed) if task.is_multi_label else None,
    )


Setting = tuple[tuple[str, ...], float]


def _tried(task: Task, parts: Sequence[tuple[Rows, Rows]]) -> dict[Setting, tuple[float, Probabilities]]:
    """Return, per setting, the loss on the validation rows of all parts together, and their probabilities."""
    found: dict[Setting, list[Probabilities]] = {setting: [] for setting in itertools.product(FEATURES, STRENGTHS)}
    for fit, valid in parts:
        targets = _targets(fit, task)
        for features, fit_matrix, valid_matrix in _matrices(fit, valid, task):
            for strength in STRENGTHS:
                classifier = _classifier(strength, task).fit(fit_matrix, targets)
                found[features, strength].append(np.asarray(classifier.predict_proba(valid_matrix), dtype=np.float64))
    truth = np.concatenate([_targets(valid, task) for _, valid in parts])
    together = {setting: np.concatenate(rows) for setting, rows in found.items()}
    return {setting: (loss_on_validation(rows, truth), rows) for setting, rows in together.items()}


def _matrices(fit: Rows, valid: Rows, task: Task) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the matrices of both sides for each choice of features. Each kind of features is computed once."""
    known: dict[str, tuple[Any, Any]] = {}
    for kind in KINDS:
        vectorizer = _vectorizer(kind, task)
        known[kind] = (vectorizer.fit_transform(fit.texts), vectorizer.transform(valid.texts))
    for features in FEATURES:
        sides = zip(*(known[kind] for kind in features), strict=True)
        fit_matrix, valid_matrix = (sparse.hstack(matrices, format="csr") for matrices in sides)
        yield features, fit_matrix, valid_matrix


def _model(features: tuple[str, ...], strength: float, task: Task) -> Pipeline:
    union = FeatureUnion([(kind, _vectorizer(kind, task)) for kind in features])
    return Pipeline([("features", union), ("classifier", _classifier(strength, task))])


def _vectorizer(kind: str, task: Task) -> TfidfVectorizer:
    least = 2 if len(task.train) >= _MANY_ROWS else 1
    return TfidfVectorizer(**KINDS[kind], sublinear_tf=True, min_df=least, dtype=np.float32)


def _classifier(strength: float, task: Task) -> Any:
    binary = LogisticRegression(C=strength, solver="liblinear", dual=True, max_iter=1000, random_state=0)
    return binary if len(task.labels) == 2 and not task.is_multi_label else OneVsRestClassifier(binary)


def _targets(rows: Rows, task: Task) -> Truth:
    truth = truth_of(rows.labels, task.labels, task.is_multi_label)
    return truth.astype(np.int64)
