"""What was written before stays readable: bundles of format 1 load, verify, and predict what they predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bothways

GOLDEN = Path(__file__).parents[1] / "golden"
PREDICTIONS = json.loads((GOLDEN / "predictions.json").read_bytes())


@pytest.mark.parametrize("name", ["early_exit.bundle", "topics.bundle", "tiny.pack"])
def test_a_bundle_of_format_1_verifies(name: str) -> None:
    assert bothways.verify(GOLDEN / name).passed


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_bundle_of_format_1_predicts_what_it_predicted(name: str) -> None:
    recorded = PREDICTIONS[name]
    model = bothways.load(GOLDEN / name)
    labels = [label if isinstance(label, str) else list(label) for label in model.predict(recorded["texts"])]
    assert labels == recorded["labels"]
    found = model.predict_proba_by_direction(recorded["texts"])
    assert found.keys() == recorded["probabilities"].keys()
    for direction, rows in recorded["probabilities"].items():
        np.testing.assert_allclose(found[direction], rows, rtol=0, atol=1e-5)


def test_an_early_exit_of_format_1_is_used() -> None:
    model = bothways.load(GOLDEN / "early_exit.bundle", early_exit=True)
    texts = ["a b c", "what a lovely film", "the mat", "DOG ate it", "terrible"]  # the threshold is their median
    assert {prediction.read for prediction in model.stream(texts)} == {"both", "forward"}
