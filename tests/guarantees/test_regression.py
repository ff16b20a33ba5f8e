"""Guarantees 1, 2, 4, 6 and 8 for regression, and what a regression refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bothways
from bothways.bundle.parity import ENSEMBLE, NASTY_TEXTS
from bothways.errors import ConfigError
from bothways.runtime.classifier import Classifier
from bothways.text.reading import Direction
from tests.bundles import Change, TinyClassifiers, edit_manifest, write_classifiers
from tests.guarantees.test_runtime import lengths_of_texts, text_of_words

TEXTS = [*NASTY_TEXTS, *(text_of_words(words, seed) for seed, words in enumerate([1, 2, 5, 30, 60] * 4))]
NAMES = ["forward", "backward", ENSEMBLE]


# Guarantee 1. Direction.


def test_values_are_those_of_the_trainer_in_every_direction(
    regression_model: Classifier, regression_torch_models: TinyClassifiers
) -> None:
    ours, theirs = regression_model.scores_by_direction(TEXTS), regression_torch_models.probabilities(TEXTS)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=5e-5, err_msg=name)  # 1e-5 of scale 5
    assert np.array_equal(ours[ENSEMBLE], 0.5 * ours["forward"] + 0.5 * ours["backward"])
    assert 1 < ours[ENSEMBLE].std() < 50  # values that never change would show nothing
    assert np.abs(ours["forward"] - ours["backward"]).max() > 0.1


def test_several_targets_within_a_range_are_those_of_the_trainer(
    targets_model: Classifier, targets_torch_models: TinyClassifiers
) -> None:
    ours, theirs = targets_model.scores_by_direction(TEXTS), targets_torch_models.probabilities(TEXTS)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=5e-5, err_msg=name)  # 1e-5 of unit 5
    assert np.array_equal(ours[ENSEMBLE], 0.5 * ours["forward"] + 0.5 * ours["backward"])  # the mean of values
    assert (ours[ENSEMBLE].min(axis=0) > -1).all()
    assert (ours[ENSEMBLE].max(axis=0) < 9).all()
    assert (ours[ENSEMBLE].std(axis=0) > 0.1).all()
    assert np.array_equal(targets_model.predict(TEXTS), ours[ENSEMBLE])
    (prediction,) = targets_model.stream(TEXTS[:1])
    assert prediction.value == dict(zip(("price", "stars"), ours[ENSEMBLE][0].tolist(), strict=True))
    assert prediction.value == prediction.values[ENSEMBLE] == prediction.to_dict()["value"]
    assert (targets_model.targets, targets_model.labels) == (("price", "stars"), ())


def test_another_range_or_order_of_targets_does_not_verify(targets_bundle_path: Path, tmp_path: Path) -> None:
    changes: list[Change] = [
        lambda fields: fields.update(value_range=[-1.0, 9.001]),
        lambda fields: fields.update(value_range=None),
        lambda fields: fields["targets"].reverse(),
    ]
    verdicts = []
    for number, change in enumerate(changes):
        copy = Path(shutil.copytree(targets_bundle_path, tmp_path / f"{number}.bundle"))
        edit_manifest(copy, change)
        verdicts.append(bothways.verify(copy).passed)
    assert verdicts == [False, False, False]


@pytest.mark.parametrize("change", [{"center": 20.001}, {"scale": 5.001}], ids=str)
def test_another_scale_than_the_trainers_does_not_verify(
    regression_bundle_path: Path, tmp_path: Path, change: dict[str, float]
) -> None:
    assert bothways.verify(regression_bundle_path).passed
    copy = Path(shutil.copytree(regression_bundle_path, tmp_path / "copy.bundle"))
    edit_manifest(copy, lambda fields: fields["target"].update(change))
    assert not bothways.verify(copy).passed


# Guarantees 2, 4 and 6. Batching, order, windows.


@settings(max_examples=20)
@given(st.lists(lengths_of_texts, min_size=1, max_size=6), st.integers(1, 40), st.integers(0, 99))
def test_a_value_is_the_same_alone_and_in_any_batch(
    regression_model: Classifier, lengths: list[int], lookahead: int, seed: int
) -> None:
    texts = [text_of_words(words, seed + number) for number, words in enumerate(lengths)]
    together = [prediction.value for prediction in regression_model.stream(texts, lookahead)]
    assert together == [next(regression_model.stream([text])).value for text in texts]
    assert together == regression_model.predict(texts).tolist()


def test_a_text_in_parts_has_the_value_of_the_whole(regression_model: Classifier) -> None:
    text = text_of_words(90, seed=3)
    reader = regression_model.open()
    for start in range(0, len(text), 17):
        assert reader.append(text[start : start + 17]).shape == (1,)
    assert reader.close().value == regression_model.predict([text])[0]


# Guarantee 8. The same numbers everywhere.


def test_a_prediction_is_a_number_and_has_no_label(regression_model: Classifier) -> None:
    (prediction,) = regression_model.stream(["what a lovely film"])
    assert prediction.value == prediction.values[ENSEMBLE] == prediction.scores[ENSEMBLE][0]
    assert set(prediction.values) == set(NAMES)
    assert (prediction.label, prediction.probability, prediction.chosen, prediction.labels) == (None, None, (), ())
    assert dict(prediction.probabilities) == {}
    values = regression_model.predict(["a", "b c"])
    assert values.dtype == np.float64
    assert values.shape == (2,)
    assert regression_model.predict([]).shape == (0,)


def test_the_exported_graph_gives_the_values(
    regression_bundle_path: Path, targets_bundle_path: Path, tmp_path: Path
) -> None:
    for number, bundle in enumerate((regression_bundle_path, targets_bundle_path)):
        exported = bothways.export_onnx(bundle, out=tmp_path / f"{number}.onnx")
        assert exported.differences.keys() == set(NAMES)
        assert max(exported.differences.values()) <= 1e-5


def test_int8_is_near_the_values(
    regression_bundle_path: Path,
    regression_model: Classifier,
    targets_bundle_path: Path,
    targets_model: Classifier,
) -> None:
    for bundle, model in ((regression_bundle_path, regression_model), (targets_bundle_path, targets_model)):
        near, exact = bothways.load(bundle, precision="int8").predict(TEXTS), model.predict(TEXTS)
        assert 0 < np.abs(near - exact).max() < exact.std()


# Refused with a reason.


def test_what_needs_a_probability_is_refused(regression_bundle_path: Path, tmp_path: Path) -> None:
    model = bothways.load(regression_bundle_path)
    for ask in (model.predict_proba, model.predict_proba_by_direction):
        with pytest.raises(ConfigError, match="a regression model predicts a number and has no probabilities"):
            ask(["a"])
    with pytest.raises(ConfigError, match="early exit needs the confidence of a single-label classifier"):
        bothways.load(regression_bundle_path, early_exit=True)
    table = {"text": ["a", "b"], "stars": [1.0, 2.0]}
    with pytest.raises(ConfigError, match="early exit needs the confidence of a single-label classifier"):
        bothways.fit_early_exit(regression_bundle_path, table, out=tmp_path / "fast", text="text", label="stars")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"target": None}, "needs a target with center and scale"),
        ({"calibration": {"temperature": 1.0}}, "has no calibration"),
        ({"thresholds": [0.5]}, "no labels and no thresholds"),
        ({"labels": ["a", "b"]}, "no labels and no thresholds"),
        ({"target": {"center": 0, "scale": 0}}, "greater than 0"),
        ({"value_range": [1.0, 1.0]}, "the first value of the range is not below the second"),
        ({"value_range": [1.0]}, "at least 2 items"),
        ({"targets": [{"name": "a", "center": 0, "scale": 1}] * 2}, "either one target or several"),
        (
            {"target": None, "targets": [{"name": "a", "center": 0, "scale": 1}] * 2},
            "the name of a target occurs twice",
        ),
        ({"task": "single-label"}, "needs at least 2 labels"),
        ({"label_kind": "integer"}, "there are no labels, but their kind is integer"),
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_itself_is_refused(
    regression_bundle_path: Path, tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    copy = Path(shutil.copytree(regression_bundle_path, tmp_path / "copy.bundle"))
    edit_manifest(copy, lambda fields: fields.update(change))
    with pytest.raises(bothways.BundleBroken, match=problem):
        bothways.load(copy)


def test_a_regression_of_one_direction_is_a_bundle_too(
    regression_torch_models: TinyClassifiers, tmp_path: Path
) -> None:
    backward = Direction.BACKWARD
    one = TinyClassifiers(
        {backward: regression_torch_models.models[backward]},
        [member for member in regression_torch_models.members if member.direction is backward],
        regression_torch_models.tokenizer,
        regression_torch_models.task,
    )
    write_classifiers(tmp_path / "one.bundle", one)
    scores = bothways.load(tmp_path / "one.bundle").scores_by_direction(["a b c"])
    assert np.array_equal(scores["backward"], scores[ENSEMBLE])
