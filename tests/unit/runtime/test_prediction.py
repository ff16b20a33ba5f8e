"""A8: what a model and its predictions show of themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bothways.bundle.parity import ENSEMBLE
from bothways.runtime.classifier import Classifier, load
from bothways.tasks.single_label import SingleLabel
from tests.bundles import TinyClassifiers, make_classifiers, write_classifiers


def test_a8_the_repr_of_a_model_is_one_line(model: Classifier, fields_model: Classifier) -> None:
    digest = model.digest[:12]
    assert repr(model) == (
        "Classifier(single-label, labels=('bad', 'good', 'so-so'), directions=['forward', 'backward'], "
        f"digest='{digest}…')"
    )
    assert "labels=('bad', 'good', 'so-so'), text_columns=['title', 'body'], directions=" in repr(fields_model)


def test_a8_the_repr_of_a_regression_has_no_labels(regression_model: Classifier, targets_model: Classifier) -> None:
    assert repr(targets_model).startswith("Classifier(regression, targets=['price', 'stars'], directions=[")
    assert repr(regression_model).startswith("Classifier(regression, directions=['forward', 'backward'], digest='")


def test_a8_many_and_long_labels_are_abbreviated(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    labels = ["x" * 900, "\x1b[31mred", *(f"label {number:03}" for number in range(98))]
    placements = {member.direction: member.special_tokens for member in torch_models.members}
    tiny = make_classifiers(torch_models.tokenizer, placements, task=SingleLabel(tuple(labels)))
    write_classifiers(tmp_path / "m.bundle", tiny, verify=lambda _: None)
    found = repr(load(tmp_path / "m.bundle"))
    assert len(found) < 400
    assert found.isprintable()
    assert "… 90 more)" in found


@pytest.mark.parametrize("fixture", ["model", "multi_label_model", "regression_model", "targets_model", "fields_model"])
def test_a8_a_prediction_becomes_json(fixture: str, request: pytest.FixtureRequest) -> None:
    model: Classifier = request.getfixturevalue(fixture)
    text = ("a lovely film", "") if len(model.text_columns) > 1 else "a lovely film"
    (prediction,) = model.stream([text])
    found = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
    assert found == prediction.to_dict()
    assert (found["label"], found["probability"], found["value"]) == (
        prediction.label,
        prediction.probability,
        prediction.value,
    )
    assert found["chosen"] == list(prediction.chosen)
    assert found["labels"] == list(model.labels)
    if model.labels:
        assert found["probabilities"][ENSEMBLE] == model.predict_proba([text])[0].tolist()
    else:
        found_values = found["values"][ENSEMBLE]
        values = list(found_values.values()) if model.targets else found_values
        assert values == model.predict([text])[0].tolist()


def test_a8_labels_that_are_numbers_stay_numbers(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    placements = {member.direction: member.special_tokens for member in torch_models.members}
    task = SingleLabel(("2", "10"), label_kind="integer")
    tiny = make_classifiers(torch_models.tokenizer, placements, task=task)
    write_classifiers(tmp_path / "m.bundle", tiny, verify=lambda _: None)
    model = load(tmp_path / "m.bundle")
    (prediction,) = model.stream(["a"])
    assert "labels=(2, 10)" in repr(model)
    found = json.loads(json.dumps(prediction.to_dict()))
    assert (found["labels"], found["label"] in (2, 10)) == ([2, 10], True)
