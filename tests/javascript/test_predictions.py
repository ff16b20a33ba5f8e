"""bothways.js gives the bundle's predictions in Node: every task, in any batch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bothways.runtime.classifier import Classifier
from bothways.text.fields import Text
from tests.javascript.conftest import BUNDLES, ExportedModels
from tests.javascript.programs import NEEDS_RUNTIME, ROOT, predictions
from tests.parity.nasty_texts import NASTY_TEXTS

pytestmark = NEEDS_RUNTIME

PREDICT = Path(__file__).with_name("predict.mjs")
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
            assert ours.keys() == {"label", "probability", "chosen", "probabilities"}
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


@pytest.mark.parametrize("kind", BUNDLES)
def test_every_kind_of_model_gives_the_bundles_predictions(exported: ExportedModels, kind: str) -> None:
    path, model = exported[kind]
    texts: list[Text] = [*NASTY_TEXTS[:60], "", LONG, *demo_texts()[:60]]
    if kind == "fields":
        texts = [(str(title), str(body)) for title, body in zip(texts, reversed(texts), strict=True)]
    allowed = 1e-5 if model.labels else 2e-5  # values are not bounded: onnxruntime in Python differs by 1.1e-5 here
    assert largest_difference(predictions(PREDICT, path, texts), model, texts) <= allowed


def test_1000_texts_get_the_bundles_probabilities(exported: ExportedModels) -> None:
    path, model = exported["linear"]
    texts: list[Text] = [*demo_texts()[:1000]]
    assert len(texts) == 1000
    assert largest_difference(predictions(PREDICT, path, texts), model, texts) <= 1e-5


def test_a_text_without_ngrams_is_predicted_alone(exported: ExportedModels) -> None:
    path, model = exported["linear"]
    assert largest_difference(predictions(PREDICT, path, [""]), model, [""]) <= 1e-5
    assert predictions(PREDICT, path, []) == []
