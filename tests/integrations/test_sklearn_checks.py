"""The checks of scikit-learn for estimators (``check_estimator``), on ``TextClassifier`` and ``TextRegressor``.

scikit-learn checks with tables of numbers only, so the two read numbers as texts here. The checks are about the
interface, so the models are not trained.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import pytest
from sklearn.utils import check_array
from sklearn.utils.estimator_checks import parametrize_with_checks

from bothways.sklearn import TextClassifier, TextRegressor

DO_NOT_APPLY = {
    "check_sample_weight_equivalence_on_dense_data": "a weight of 2 is not a text twice: validation rows are drawn, "
    "and gradient steps are counted in rows",
    "check_fit2d_1sample": "a single row has a single class or target, and the error says that",
}
"""Why a check does not apply. Checks of decision functions, transformers, clusters and outliers are not among them."""


def as_texts(numbers: Any) -> list[str]:
    """Return a word per number."""
    rows = check_array(numbers)
    return [" ".join(f"{column}x{value:.2f}" for column, value in enumerate(row)) for row in rows]


class _NumbersAsTexts:
    """Reads rows of numbers as texts."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        fitted: Self = super().fit(as_texts(X), y, sample_weight)  # type: ignore[misc]
        return fitted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        inputs = tags.input_tags
        inputs.string, inputs.one_d_array, inputs.two_d_array = False, False, True
        for kind in (tags.classifier_tags, tags.regressor_tags):
            if kind is not None:
                kind.poor_score = True  # nothing is trained
        return tags


class NumberClassifier(_NumbersAsTexts, TextClassifier):
    """A classifier of rows of numbers."""

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        return super().predict_proba(as_texts(X))


class NumberRegressor(_NumbersAsTexts, TextRegressor):
    """A regression of rows of numbers."""

    def predict(self, X: Any) -> Any:  # noqa: N803
        return super().predict(as_texts(X))


@pytest.mark.usefixtures("one_core", "untrained")
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([NumberClassifier(), NumberRegressor()])
def test_the_checks_of_scikit_learn_pass(estimator: Any, check: Callable[[Any], None]) -> None:
    name = check.func.__name__ if isinstance(check, partial) else check.__name__
    if name in DO_NOT_APPLY:
        pytest.skip(DO_NOT_APPLY[name])
    check(estimator)


def test_the_tags_name_texts() -> None:
    tags = TextClassifier().__sklearn_tags__()
    assert (tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array) == (True, True, False)
    assert tags.classifier_tags.multi_label
    assert TextRegressor().__sklearn_tags__().estimator_type == "regressor"
