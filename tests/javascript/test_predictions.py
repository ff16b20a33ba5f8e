"""bothways.js gives the bundle's predictions in Node: every task, in any batch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bothways.bundle.manifest import AbstentionReason
from bothways.bundle.parity import ENSEMBLE
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.text.coverage import Unreadable
from bothways.text.fields import Text
from tests.javascript.conftest import BUNDLES, CALIBRATION, ExportedModels
from tests.javascript.programs import NEEDS_RUNTIME, ROOT, predictions
from tests.parity.nasty_texts import NASTY_TEXTS

pytestmark = NEEDS_RUNTIME

PREDICT = Path(__file__).with_name("predict.mjs")
ABSTENTION = {"abstained", "labelSet", "domainScore"}
UNREADABLE = ["&nbsp;", "漢字 word", "12 / 7", "漢字 かな", "漢字 かな word", "漢字 two words", "², ½ € ^ Ⅷ", "12 ℃"]
CODE = "!!!! ?!?! def f(x): return {x: [y for y in x]} " * 20
LONG = "It was the BEST of times, it was the worst of times: " * 40


def demo_texts() -> list[str]:
    """Return the demo's 1,600 messages."""
    found = []
    for name in ("messages", "unlabeled", "held_out"):
        with (ROOT / "demo" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            found += [row["text"] for row in csv.DictReader(file)]
    return found


def largest_difference(found: list[dict[str, Any]], model: Classifier, texts: list[Text]) -> float:
    """Return the largest difference between predictions and those of the bundle, whose decisions must be the same."""
    largest = 0.0
    for ours, prediction in zip(found, model.stream(texts), strict=True):
        theirs = prediction.to_dict()
        if prediction.value is None:
            assert ours.keys() - ABSTENTION == {"label", "probability", "chosen", "probabilities"}
            check_abstention(ours, prediction, model)
            assert [ours["label"], ours["chosen"]] == [theirs["label"], theirs["chosen"]]
            assert ours["probability"] == max(ours["probabilities"]["ensemble"])
            rows = ours["probabilities"]
        else:
            assert ours.keys() == {"value", "values"}
            assert ours["value"] == ours["values"]["ensemble"]
            rows = {name: [*value.values()] if model.targets else [value] for name, value in ours["values"].items()}
        assert rows.keys() == prediction.scores.keys()
        for name, row in rows.items():
            difference = model.task.difference(np.array([row]), prediction.scores[name][None])
            largest = max(largest, difference)
    return largest


def check_abstention(ours: dict[str, Any], prediction: Prediction, model: Classifier) -> None:
    """Check the reason and the label set. They can differ if a number is within rounding of its threshold."""
    abstention = model.abstention
    if abstention is None:
        assert not ours.keys() & ABSTENTION
        return
    assert ours["domainScore"] == pytest.approx(prediction.domain_score, rel=1e-4)
    ensemble = prediction.scores[ENSEMBLE]
    confidence = model.task.confidence(ensemble[None])
    assert confidence is not None
    compared = [(ours["domainScore"], abstention.domain.threshold, 1e-4), (confidence[0], abstention.threshold, 1e-5)]
    if all(abs(number - threshold) > margin * max(1, threshold) for number, threshold, margin in compared):
        assert ours["abstained"] == prediction.abstained
    if abstention.label_sets is None:
        assert "labelSet" not in ours
    elif np.abs(ensemble - abstention.label_sets.threshold).min() > 1e-5:
        assert ours["labelSet"] == list(map(str, prediction.label_set or ()))


@pytest.mark.parametrize("kind", BUNDLES)
def test_every_kind_of_model_gives_the_bundles_predictions(exported: ExportedModels, kind: str) -> None:
    path, model = exported[kind]
    texts: list[Text] = [*NASTY_TEXTS[:60], "", LONG, *demo_texts()[:60]]
    if kind.endswith("fields"):
        texts = [(str(title), str(body)) for title, body in zip(texts, reversed(texts), strict=True)]
    allowed = 1e-5 if model.labels else 2e-5  # values are not bounded: onnxruntime in Python differs by 1.1e-5 here
    assert largest_difference(predictions(PREDICT, path, texts), model, texts) <= allowed


@pytest.mark.parametrize("kind", ["abstaining", "abstaining multi-label"])
def test_a_model_abstains_for_every_reason_of_the_bundle(exported: ExportedModels, kind: str) -> None:
    path, model = exported[kind]
    texts: list[Text] = [*NASTY_TEXTS, *UNREADABLE, *demo_texts()[:100], *CALIBRATION[::2], CODE]
    found = predictions(PREDICT, path, texts)
    for ours, prediction in zip(found, model.stream(texts), strict=True):
        check_abstention(ours, prediction, model)
    assert {each["abstained"] for each in found} == {None, *Unreadable, *AbstentionReason}
    if kind == "abstaining":
        assert {len(each["labelSet"]) for each in found} >= {1, 2}


def test_1000_texts_get_the_bundles_probabilities(exported: ExportedModels) -> None:
    path, model = exported["linear"]
    texts: list[Text] = [*demo_texts()[:1000]]
    assert len(texts) == 1000
    assert largest_difference(predictions(PREDICT, path, texts), model, texts) <= 1e-5


def test_a_text_without_ngrams_is_predicted_alone(exported: ExportedModels) -> None:
    path, model = exported["linear"]
    assert largest_difference(predictions(PREDICT, path, [""]), model, [""]) <= 1e-5
    assert predictions(PREDICT, path, []) == []
