"""Explanations: what each word adds, for every task, with the numbers of ``predict``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bothways
from bothways import strict_json
from bothways.bundle.manifest import LINEAR
from bothways.bundle.parity import ENSEMBLE
from bothways.runtime.classifier import Classifier
from bothways.runtime.linear import LinearModel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Target
from bothways.text.ngrams import ngrams_of
from bothways.text.reading import Direction
from tests.bundles import TinyClassifiers, make_linear, write_with_early_exit

TEXT = "What a lovely film,  I LOVED it!!!"
WORDS = ["What", "a", "lovely", "film,", "I", "LOVED", "it!!!"]
WITHOUT = [
    "a lovely film,  I LOVED it!!!",
    "What lovely film,  I LOVED it!!!",
    "What a film,  I LOVED it!!!",
    "What a lovely I LOVED it!!!",
    "What a lovely film,  LOVED it!!!",
    "What a lovely film,  I it!!!",
    "What a lovely film,  I LOVED ",
]
"""The text without each word."""
MODELS = ["model", "linear_model", "qrnn_model", "multi_label_model", "regression_model", "targets_model"]


def model_of(request: pytest.FixtureRequest, name: str) -> Classifier:
    found = request.getfixturevalue(name)
    assert isinstance(found, Classifier)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_an_attribution_is_the_score_minus_the_score_without_the_word(
    request: pytest.FixtureRequest, name: str
) -> None:
    model = model_of(request, name)
    found = model.explain(TEXT)
    assert [word.text for word in found.words] == WORDS
    assert [TEXT[word.start : word.end] for word in found.words] == WORDS
    assert found.readings == 8
    output = [*(model.labels or model.task.output_names)].index(found.label)
    by_direction = model.scores_by_direction([TEXT, *WITHOUT])
    for direction in [*model.directions, ENSEMBLE]:
        rows = by_direction[direction]
        assert found.methods[direction] == "occlusion"
        ours = [word.attributions[direction] for word in found.words]
        assert np.array(ours).any()
        np.testing.assert_array_equal(ours, rows[0, output] - rows[1:, output])


@pytest.mark.parametrize("name", MODELS)
def test_the_scores_are_those_of_predict_to_the_last_bit(request: pytest.FixtureRequest, name: str) -> None:
    model = model_of(request, name)
    found, again = model.explain(TEXT), model.explain(TEXT)
    assert found.to_dict() == again.to_dict()
    for direction, row in model.scores_by_direction([TEXT]).items():
        assert found.prediction.scores[direction].tobytes() == row[0].tobytes()
        output = [*(model.labels or model.task.output_names)].index(found.label)
        assert found.scores[direction] == row[0, output]
    assert model.task.array([found.prediction.scores[ENSEMBLE]]).tolist() == model.predict([TEXT]).tolist()


def test_the_most_probable_label_is_explained_unless_another_is_named(
    model: Classifier, multi_label_model: Classifier
) -> None:
    for each in (model, multi_label_model):
        (prediction,) = each.stream([TEXT])
        assert each.explain(TEXT).label == prediction.label
        for number, label in enumerate(each.labels):
            assert each.explain(TEXT, label=label).scores[ENSEMBLE] == prediction.scores[ENSEMBLE][number]


def test_the_attributions_of_all_labels_of_a_text_add_up_to_nothing(model: Classifier) -> None:
    each = [model.explain(TEXT, label=label).words for label in model.labels]
    for words in zip(*each, strict=True):
        assert abs(sum(word.attributions["forward"] for word in words)) < 1e-12


def test_a_target_is_explained_by_its_name(targets_model: Classifier) -> None:
    assert targets_model.explain(TEXT).label == "price"
    found = targets_model.explain(TEXT, label="stars")
    assert found.label == "stars"
    assert found.scores[ENSEMBLE] == targets_model.predict([TEXT])[0, 1]


def test_a_label_that_is_a_number_or_its_text_names_the_same(linear_torch_models: TinyClassifiers) -> None:
    assert linear_torch_models.task.output_number("good") == 1
    numbers = SingleLabel(("1", "2", "10"), label_kind="integer")
    assert [numbers.output_number(each) for each in (10, "10", np.int64(2))] == [2, 2, 1]
    flags = SingleLabel(("false", "true"), label_kind="boolean")
    assert [flags.output_number(each) for each in (True, "True", np.bool_(False))] == [1, 1, 0]


def test_words_of_several_columns_name_their_column(fields_model: Classifier) -> None:
    found = fields_model.explain({"body": "I LOVED it", "title": "A film"})
    assert [(word.column, word.text, word.start) for word in found.words] == [
        ("title", "A", 0),
        ("title", "film", 2),
        ("body", "I", 0),
        ("body", "LOVED", 2),
        ("body", "it", 8),
    ]
    rows = fields_model.scores_by_direction([("A film", "I LOVED it"), ("A ", "I LOVED it")])["forward"]
    output = fields_model.labels.index(found.label)
    assert found.words[1].attributions["forward"] == rows[0, output] - rows[1, output]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_blank_text_has_no_words(linear_model: Classifier, text: str) -> None:
    found = linear_model.explain(text)
    assert found.words == ()
    assert found.readings == 1
    assert found.scores[ENSEMBLE] == linear_model.predict_proba([text]).max()


def test_a_long_text_is_explained_with_a_bounded_number_of_readings(model: Classifier) -> None:
    text = "the film was lovely " * 100
    found = model.explain(text)
    assert found.readings == 101
    assert {len(word.text.split()) for word in found.words} == {4}
    assert model.explain(text, max_readings=2).readings == 2


def test_wrong_arguments_are_refused(model: Classifier, fields_model: Classifier) -> None:
    with pytest.raises(bothways.ConfigError, match="the model has no label or target 'best', expected one of 'bad'"):
        model.explain(TEXT, label="best")
    with pytest.raises(bothways.ConfigError, match="the label is a list"):
        model.explain(TEXT, label=["good"])  # type: ignore[arg-type]
    with pytest.raises(bothways.ConfigError, match="max_readings is 1, expected 2 or more"):
        model.explain(TEXT, max_readings=1)
    with pytest.raises(bothways.ConfigError, match="max_readings is '9'"):
        model.explain(TEXT, max_readings="9")  # type: ignore[arg-type]
    with pytest.raises(bothways.TextError, match="the text is a list of 1 values"):
        model.explain([TEXT])
    with pytest.raises(bothways.TextError, match="the text is missing"):
        model.explain(None)
    with pytest.raises(bothways.ConfigError, match="at least 3"):
        fields_model.explain(("a", "b"), max_readings=2)


def test_an_explanation_is_json(linear_model: Classifier) -> None:
    found = json.loads(strict_json.dump(linear_model.explain(TEXT).to_dict()))
    assert [*found] == ["label", "scores", "methods", "readings", "words"]
    assert [*found["words"][2]] == ["text", "start", "end", "column", "attributions"]
    assert [*found["words"][2]["attributions"]] == ["forward", "backward", "linear", "ensemble"]


def test_a_direction_that_early_exit_skipped_is_left_out(bundle_path: Path, tmp_path: Path) -> None:
    texts = [TEXT, *WITHOUT]
    write_with_early_exit(bundle_path, tmp_path / "m.bundle", Direction.FORWARD, texts, starts_with_linear=False)
    quick = bothways.load(tmp_path / "m.bundle", early_exit=True)
    assert {prediction.read for prediction in quick.stream(texts)} == {"forward", "both"}
    found = quick.explain(TEXT)
    assert [*found.methods] == ["forward", ENSEMBLE]
    assert found.scores[ENSEMBLE] == quick.predict_proba([TEXT]).max()


@settings(max_examples=50)
@given(
    st.one_of(st.text(st.sampled_from("thecat ILOVEdfilm!\u0130\u3000"), max_size=300), st.tuples(st.text(), st.text()))
)
def test_what_the_linear_member_finds_adds_up_to_its_output(text: str | tuple[str, str]) -> None:
    task = Regression((Target("x"), Target("y"), Target("z")))  # whose scores are the outputs
    _, arrays = make_linear(3, ["the cat I LOVE film!", "Ilovedthe"])
    linear = LinearModel(arrays, task)
    for output in range(3):
        found = sum(part.sum() for part in linear.contributions(text, output))
        expected = linear.scores_of(ngrams_of(text))[output] - arrays["bias"].astype(np.float64)[output]
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_linear_member_is_explained_in_log_odds(
    linear_model: Classifier, linear_torch_models: TinyClassifiers
) -> None:
    found = linear_model.explain(TEXT, label="good")
    assert found.methods[LINEAR] == "exact"
    assert found.words[2].attributions[LINEAR] != 0
    assert linear_torch_models.linear is not None
    outputs = LinearModel(linear_torch_models.linear[1], Regression((Target("x"), Target("y"), Target("z"))))
    total = outputs.scores(TEXT)[1] - outputs.scores("")[1]
    assert sum(word.attributions[LINEAR] for word in found.words) == pytest.approx(total, abs=1e-9)
