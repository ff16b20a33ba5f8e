"""What is written stays readable: bundles of format 2 load, verify, and predict what they predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bothways
from bothways.bundle.read import read_manifest

GOLDEN = Path(__file__).parents[1] / "golden" / "format_2"
PREDICTIONS = json.loads((GOLDEN / "predictions.json").read_bytes())


@pytest.mark.parametrize("name", ["numbers.bundle", "topics.bundle", "tiny.pack"])
def test_a_bundle_of_format_2_verifies(name: str) -> None:
    assert read_manifest(GOLDEN / name).format == 2
    assert bothways.verify(GOLDEN / name).passed


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_bundle_of_format_2_predicts_what_it_predicted(name: str) -> None:
    recorded = PREDICTIONS[name]
    texts = [tuple(text) if isinstance(text, list) else text for text in recorded["texts"]]
    model = bothways.load(GOLDEN / name)
    assert model.digest == recorded["digest"]
    chosen = [list(prediction.chosen) for prediction in model.stream(texts)]
    assert json.dumps(chosen) == json.dumps(recorded["labels"])  # also the type of the labels
    found = model.predict_proba_by_direction(texts)
    assert found.keys() == recorded["probabilities"].keys()
    for direction, rows in recorded["probabilities"].items():
        np.testing.assert_allclose(found[direction], rows, rtol=0, atol=1e-5)
    if "read" in recorded:
        quick = bothways.load(GOLDEN / name, early_exit=True)
        assert [prediction.read for prediction in quick.stream(texts)] == recorded["read"]


def test_c3_a_signature_stays_valid() -> None:
    assert bothways.verify(GOLDEN / "topics.bundle", key=GOLDEN / "public.pem").passed
    with pytest.raises(bothways.BundleUntrusted, match="is not signed"):
        bothways.verify(GOLDEN / "numbers.bundle", key=GOLDEN / "public.pem")
