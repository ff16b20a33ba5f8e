"""``TextClassifier`` and ``TextRegressor`` with the tools of scikit-learn."""

from __future__ import annotations

import copy
import gc
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import bothways
from bothways.errors import BundleBroken, BundleMissing, ConfigError, DataError, OutputExists, TextError
from bothways.runtime.classifier import Classifier
from bothways.sklearn import TextClassifier, TextRegressor
from tests.bundles import run_python

pytestmark = pytest.mark.usefixtures("one_core")

CONFIG = {
    "encoder": {"embedding_size": 8, "hidden_size": 8, "layers": 1, "precision": "float32"},
    "tokenizer": {"vocabulary_size": 100},
    "language_model": {"epochs": 0},
    "classifier": {"epochs": 1, "unfreezing_epochs": 0, "batch_size": 32},
    "linear": {"include": "auto"},  # learns these texts at once
}
OPTIONS: dict[str, Any] = {
    "pretrained": "none",
    "size": "tiny",
    "directions": "forward",
    "config": CONFIG,
    "random_state": 3,
}
X = np.array([f"the film {n} was {word} {word}" for n in range(20) for word in ("awful", "superb")], dtype=object)
Y = np.array(["bad", "good"] * 20)
TEXTS = ["the film was superb", "an awful film", ""]


@pytest.fixture(scope="module")
def fitted(one_core: None) -> TextClassifier:
    """A classifier that was trained and verified as users do it."""
    return TextClassifier(**OPTIONS).fit(X, Y)


def test_a_classifier_is_trained_as_by_the_library(fitted: TextClassifier, tmp_path: Path) -> None:
    assert fitted.classes_.tolist() == ["bad", "good"]
    assert fitted.score(X, Y) == 1.0
    found = fitted.predict_proba(X)
    assert np.array_equal(found, bothways.load(fitted.bundle_).predict_proba(X))
    assert np.array_equal(fitted.predict(X), fitted.model_.predict(X))
    options = {name: value for name, value in OPTIONS.items() if name != "random_state"}
    table = {"text": X, "label": Y}
    same = bothways.train(
        table, text="text", label="label", out=tmp_path / "m.bundle", seed=3, progress=False, **options
    )
    assert same.digest == fitted.model_.digest


def test_a_model_is_pickled_with_its_content(fitted: TextClassifier) -> None:
    data = pickle.dumps(fitted)
    again: TextClassifier = pickle.loads(data)
    folder = Path(again.bundle_).parent
    assert again.bundle_ != fitted.bundle_
    assert again.get_params() == fitted.get_params()
    assert np.array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    copied = copy.deepcopy(again)
    del again
    gc.collect()
    assert not folder.exists()
    assert np.array_equal(copied.predict(TEXTS), fitted.predict(TEXTS))
    weights = (Path(fitted.bundle_) / "forward.safetensors").read_bytes()
    with pytest.raises(BundleBroken, match=r"forward\.safetensors is not the file that its manifest records"):
        pickle.loads(data.replace(weights[-64:], bytes(64)))
    with pytest.raises(BundleBroken, match="is not the bundle that was loaded: its digest differs"):
        pickle.loads(data.replace(fitted.model_.digest.encode(), b"0" * 64, 1))


def test_a_failed_fit_leaves_no_folder_and_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    estimator = TextClassifier(**OPTIONS)
    with pytest.raises(DataError, match="text 1: the text is missing"):
        estimator.fit(["a", None, "b"], ["x", "y", "x"])
    with pytest.raises(DataError, match=r"y has 1 class, expected at least 2: \['x'\]"):
        estimator.fit(["a", "b"], ["x", "x"])
    with pytest.raises(ConfigError, match="unknown directions 'up'"):
        clone(estimator).set_params(directions="up").fit(X, Y)
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    for name in ("model_", "bundle_"):
        assert not hasattr(estimator, name)
    for call in (estimator.predict, estimator.predict_proba, TextRegressor().predict):
        with pytest.raises(NotFittedError):
            call(TEXTS)
    with pytest.raises(NotFittedError):
        estimator.save("m.bundle")


def test_a_saved_model_is_a_bundle(fitted: TextClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m.bundle")
    assert bothways.load(tmp_path / "m.bundle").digest == fitted.model_.digest
    with pytest.raises(OutputExists):
        fitted.save(tmp_path / "m.bundle")
    with pytest.raises(ConfigError, match="does not exist: create it first"):
        fitted.save(tmp_path / "nowhere" / "m.bundle")


def test_a_bundle_takes_part_without_being_fitted(fitted: TextClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m.bundle")
    loaded = FrozenEstimator(TextClassifier.from_bundle(tmp_path / "m.bundle"))
    linear = make_pipeline(TfidfVectorizer(), LogisticRegression())
    voting = VotingClassifier([("bundle", loaded), ("linear", linear)], voting="soft").fit(X, Y)
    assert voting.score(X, Y) == 1.0
    expected = (fitted.predict_proba(TEXTS) + voting.estimators_[1].predict_proba(TEXTS)) / 2
    assert np.allclose(voting.predict_proba(TEXTS), expected)
    calibrated = CalibratedClassifierCV(loaded).fit(X, Y)
    assert calibrated.predict(TEXTS[:2]).tolist() == ["good", "bad"]
    lowered = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), loaded).fit(X, Y)
    assert np.array_equal(lowered.predict_proba(["SUPERB"]), fitted.predict_proba(["superb"]))


def test_a_replaced_bundle_is_not_pickled_as_the_loaded_one(
    bundle_path: Path, mixed_bundle_path: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(bundle_path, tmp_path / "m.bundle")
    estimator = TextClassifier.from_bundle(path)
    assert estimator.classes_.tolist() == ["bad", "good", "so-so"]
    shutil.rmtree(path)
    with pytest.raises(BundleMissing):
        pickle.dumps(estimator)
    shutil.copytree(mixed_bundle_path, path)
    with pytest.raises(BundleBroken, match=r"its digest differs\. Load it again"):
        pickle.dumps(estimator)


@pytest.mark.usefixtures("without_verification")
def test_estimators_are_searched_and_validated() -> None:
    estimator = TextClassifier(**OPTIONS)
    predicted = cross_val_predict(estimator, X, Y, cv=2, method="predict_proba")
    assert (predicted.argmax(axis=1) == (Y == "good")).mean() > 0.9
    without = {**CONFIG, "linear": {"include": "none"}}
    search = GridSearchCV(estimator, {"config": [without, CONFIG]}, cv=2)
    with pytest.warns(ConvergenceWarning, match="the model is no better than the same prediction for every text"):
        search.fit(X, Y, sample_weight=np.linspace(1, 2, len(X)))  # no epoch is enough without the linear member
    assert search.best_params_ == {"config": CONFIG}
    assert search.best_estimator_.model_.manifest.training.weight_column == "weight"


@pytest.mark.slow
@pytest.mark.usefixtures("without_verification")
def test_a_model_that_was_fitted_in_another_process_is_usable(fitted: TextClassifier) -> None:
    (found,) = Parallel(n_jobs=2)([delayed(TextClassifier(**OPTIONS).fit)(X, Y)])
    assert found.model_.digest == fitted.model_.digest
    assert np.array_equal(found.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


@pytest.mark.usefixtures("without_verification")
def test_a_regression_predicts_numbers(tmp_path: Path) -> None:
    numbers = np.where(Y == "good", 10.0, 2.0)
    estimator = TextRegressor(**OPTIONS).fit(pd.Series(X, index=range(5, 45)), numbers)
    assert estimator.score(X, numbers) > 0.3
    again = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(again.predict(TEXTS), bothways.load(estimator.bundle_).predict(TEXTS))
    estimator.save(tmp_path / "m.bundle")
    assert np.array_equal(TextRegressor.from_bundle(tmp_path / "m.bundle").predict(TEXTS), again.predict(TEXTS))
    with pytest.raises(ConfigError, match=r"holds a text regression model\. Use TextRegressor\.from_bundle"):
        TextClassifier.from_bundle(tmp_path / "m.bundle")
    with pytest.raises(ValueError, match="Input y contains NaN"):
        estimator.fit(X, [np.nan, *numbers[1:]])
    with pytest.raises(ValueError, match="y should be a 1d array"):
        estimator.fit(X, np.column_stack([numbers, numbers]))


def test_several_labels_per_text_are_an_indicator_matrix(
    multi_label_model: Classifier, multi_label_bundle_path: Path
) -> None:
    estimator = TextClassifier.from_bundle(multi_label_bundle_path)
    found = estimator.predict(TEXTS)
    chosen = [tuple(label for label, flag in zip(estimator.classes_, row, strict=True) if flag) for row in found]
    assert chosen == list(multi_label_model.predict(TEXTS))
    assert np.array_equal(estimator.predict_proba(TEXTS), multi_label_model.predict_proba(TEXTS))
    assert estimator.score(TEXTS, found) == 1.0


@pytest.mark.usefixtures("untrained")
def test_labels_per_text_are_named_by_columns() -> None:
    flags = pd.DataFrame({"plot": [1, 0] * 20, "acting": [1, 1, 0, 0] * 10})
    estimator = TextClassifier().fit(X, flags)
    assert estimator.classes_.tolist() == ["plot", "acting"]
    assert estimator.model_.labels == ("plot", "acting")
    numbered = TextClassifier().fit(X, flags.to_numpy())
    assert numbered.classes_.tolist() == [0, 1]
    assert numbered.predict(TEXTS).shape == numbered.predict_proba(TEXTS).shape == (3, 2)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    "classes",
    [["good", "bad", "so-so"], [1, 10, 2], [True, False], [1.0, 2.0], ["10", "9", "2"], np.array(["b", "a"], object)],
    ids=str,
)
def test_classes_are_those_of_y(classes: Any) -> None:
    y = np.array(classes)[np.arange(len(X)) % len(classes)]
    estimator = TextClassifier().fit(X, y)
    assert np.array_equal(estimator.classes_, np.unique(y))
    assert estimator.predict(X).dtype == estimator.classes_.dtype
    labels = [type(each)(label) for label, each in zip(estimator.model_.predict(X), estimator.predict(X), strict=True)]
    assert labels == estimator.predict(X).tolist()


@pytest.mark.usefixtures("untrained")
def test_classes_that_are_one_label_are_refused() -> None:
    with pytest.raises(DataError, match="several classes of y are the label 'good'"):
        TextClassifier().fit(X, np.where(Y == "bad", " good", "good"))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        TextClassifier().fit(X, np.linspace(0, 1, len(X)))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        TextClassifier().fit(X[1:], Y)
    with pytest.raises(TextError, match="got a single string"):
        TextClassifier().fit("a text", ["good", "bad"])
    with pytest.raises(TextError, match="expected a string"):
        TextClassifier().fit(np.column_stack([X, X]), Y)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("library", [pd, pl])
def test_a_table_has_a_text_column_per_column(library: Any) -> None:
    table = library.DataFrame({"label": X, "body": ["and so on"] * len(X)})
    estimator = TextClassifier().fit(table, Y, sample_weight=[1] * len(X))
    assert estimator.model_.text_columns == ("label", "body")
    found = estimator.predict_proba(table[:3])
    assert np.array_equal(found, estimator.predict_proba([(text, "and so on") for text in X[:3]]))
    with pytest.raises(TextError, match="has no column 'body'"):
        estimator.predict(table[["label"]])


def test_the_random_state_is_the_seed(monkeypatch: pytest.MonkeyPatch, random_models: Any) -> None:
    seeds = []

    def train(*arguments: Any, seed: int, **options: Any) -> Classifier:
        seeds.append(seed)
        model: Classifier = random_models(*arguments, **options)
        return model

    monkeypatch.setattr("bothways.sklearn.train", train)
    for state in (7, np.int64(7), np.random.RandomState(7), np.random.RandomState(7), None, None):
        TextClassifier(random_state=state).fit(X, Y)
    assert seeds[:2] == [7, 7]
    assert seeds[2] == seeds[3]
    assert seeds[4] != seeds[5]


def test_a_regression_bundle_predicts_its_targets(targets_bundle_path: Path) -> None:
    values: NDArray[np.float64] = TextRegressor.from_bundle(targets_bundle_path).predict(TEXTS)
    assert values.shape == (3, 2)
    assert np.array_equal(values, bothways.load(targets_bundle_path).predict(TEXTS))


def test_a_classifier_is_not_a_regression(bundle_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Use TextClassifier\.from_bundle"):
        TextRegressor.from_bundle(bundle_path)


def test_libraries_of_others_are_imported_explicitly() -> None:
    code = """if True:
    import sys, bothways
    print(sorted({"sklearn", "mlflow", "pandas"} & set(sys.modules)))
    for name in ("sklearn", "mlflow"):
        sys.modules[name] = None
        try:
            __import__(f"bothways.{name}")
        except bothways.DependencyMissing as error:
            print(error)
    """
    found = run_python(code)
    assert found.stdout.splitlines() == [
        "[]",
        "bothways.sklearn needs scikit-learn: pip install 'bothways[train]'",
        "bothways.mlflow needs MLflow: pip install mlflow",
    ], found.stderr
