"""Estimate how much a model would gain from more training rows, with a linear model on growing parts of them.

In: training rows, and the rows of a report with their targets. Out: the first headline metric per number of training
rows. Training the bundle's own models several times would take hours. A linear model of n-grams takes seconds, and its
curve suggests whether more rows of the same kind still help. It is not the curve of the bundle.

Letters: N texts, F n-grams, C outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.errors import DependencyMissing
from bothways.evaluation.evaluate import confidence_intervals
from bothways.tasks.metrics import Scores
from bothways.tasks.task import LabeledTexts, Targets, Task
from bothways.text.fields import Text, fields_of

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Each part is twice as large as the one before it."""
MOST_ROWS = 20_000
"""If there are more training rows, a random sample of this size counts as all of them."""
_FEWEST_ROWS = 8
_STRENGTH = 16.0
_SEED = 0


@dataclass(frozen=True)
class LearningPoint:
    """The result of a linear model that was trained on a part of the training rows.

    Attributes:
        rows: Number of training rows.
        share: Share of the training rows, 0..1.
        value: The metric on the rows of the report.
        interval: Its 95 % confidence interval (bootstrap over the rows of the report).
    """

    rows: int
    share: float
    value: float
    interval: tuple[float, float]


def learning_curve(
    train: LabeledTexts, train_targets: Targets, texts: Sequence[Text], targets: Targets, task: Task
) -> tuple[LearningPoint, ...]:
    """Return the first headline metric of a linear model by the number of its training rows.

    The parts are random and nested, always the same for the same rows.

    Args:
        train: Training rows.
        train_targets: Their targets.
        texts: Texts of the rows of the report.
        targets: Their targets.
        task: Defines targets, scores and metrics.

    Raises:
        DependencyMissing: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415  (an extra)
        from sklearn.pipeline import make_union  # noqa: PLC0415
    except ImportError:
        raise DependencyMissing("a learning curve needs scikit-learn: pip install 'bothways[train]'") from None
    order = np.random.default_rng(_SEED).permutation(len(train))[:MOST_ROWS]
    metric, points = task.headline[0], []
    for share in SHARES:
        part = order[: round(share * len(order))]
        if len(part) < _FEWEST_ROWS:
            continue
        features = make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
        )
        try:
            matrix = features.fit_transform(_joined(train.texts[number] for number in part))
        except ValueError:  # no text of the part has a word
            continue
        scores = _scores(matrix, train_targets[part], features.transform(_joined(texts)), task)
        found = task.headline_metrics(scores, targets)
        if metric in found:
            intervals = confidence_intervals(task, scores, targets)
            points.append(LearningPoint(len(part), len(part) / len(order), found[metric], intervals[metric]))
    return tuple(points)


def _joined(texts: Any) -> list[str]:
    return ["\n".join(fields_of(text)) for text in texts]


def _scores(matrix: Any, targets: Targets, of_report: Any, task: Task) -> Scores:
    """Return the scores, (N, C), of a linear model that is fitted to each output on its own."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  (an extra)
    from sklearn.linear_model import LogisticRegression, Ridge  # noqa: PLC0415

    wanted = task.one_vs_rest_targets(targets)
    outputs = np.zeros((of_report.shape[0], task.outputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for column, of_output in enumerate(wanted.T):
            if not task.learns_probabilities:
                outputs[:, column] = Ridge(alpha=1 / _STRENGTH, solver="lsqr").fit(matrix, of_output).predict(of_report)
            elif of_output.min() == of_output.max():  # a label that no text of the part has, or all
                outputs[:, column] = _log_odds(of_output)
            else:
                model = LogisticRegression(C=_STRENGTH, solver="liblinear", dual=True, random_state=_SEED)
                outputs[:, column] = model.fit(matrix, of_output).decision_function(of_report)
    return task.activation(task.one_vs_rest_logits(outputs))


def _log_odds(of_output: NDArray[Any]) -> float:
    return float(np.log((of_output.sum() + 0.5) / (len(of_output) - of_output.sum() + 0.5)))
