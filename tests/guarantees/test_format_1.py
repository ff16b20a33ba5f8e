"""What was written before stays readable: bundles of format 1 load, verify, and predict what they predicted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import bothways
from bothways.bundle.read import read_manifest
from bothways.errors import BundleBroken, BundleError
from tests.bundles import edit_manifest

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


def test_c3_a_bundle_of_format_2_cannot_pass_as_one_of_format_1(bundle_path: Path, tmp_path: Path) -> None:
    """Format 1 has no digest of its manifest: a change of the number alone would switch the check off."""
    copy = Path(shutil.copytree(bundle_path, tmp_path / "copy.bundle"))
    edit_manifest(copy, lambda fields: fields.update(format=1))
    with pytest.raises(BundleBroken, match="format 1 has no key 'digest'"):
        bothways.verify(copy)
    (copy / "bundle.json").write_text(
        json.dumps(
            {name: value for name, value in json.loads((copy / "bundle.json").read_bytes()).items() if name != "digest"}
        )
    )
    with pytest.raises(BundleBroken, match="format 1 has no key"):
        bothways.verify(copy)


def test_a_format_number_of_1_in_a_golden_bundle_cannot_become_2(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(GOLDEN / "topics.bundle", tmp_path / "copy.bundle"))
    fields = json.loads((copy / "bundle.json").read_bytes())
    (copy / "bundle.json").write_text(json.dumps({**fields, "format": 2}))
    with pytest.raises(BundleBroken, match="does not match its own digest"):
        bothways.verify(copy)
    edit_manifest(copy, lambda fields: None)  # with the right digest, its keys are those of format 1
    with pytest.raises(BundleBroken, match=r"markers|special_tokens"):
        bothways.verify(copy)


def test_format_1_has_no_encoder_but_the_lstm(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(GOLDEN / "topics.bundle", tmp_path / "copy.bundle"))
    fields = json.loads((copy / "bundle.json").read_bytes())
    fields["members"][0]["architecture"]["kind"] = "qrnn"
    (copy / "bundle.json").write_text(json.dumps(fields))
    with pytest.raises(BundleBroken, match="format 1 has no key 'kind' in an architecture"):
        bothways.verify(copy)


@pytest.mark.parametrize("change", ["members", "training", "files", "labels", "format"])
@pytest.mark.parametrize("value", [None, 3, "x", [], [3], {}, {"a": 3}], ids=repr)
def test_a_manifest_of_format_1_with_anything_in_it_is_refused(tmp_path: Path, change: str, value: object) -> None:
    copy = Path(shutil.copytree(GOLDEN / "topics.bundle", tmp_path / "copy.bundle"))
    fields = json.loads((copy / "bundle.json").read_bytes())
    (copy / "bundle.json").write_text(json.dumps({**fields, change: value}))
    with pytest.raises(BundleError):
        bothways.verify(copy)


def test_a_copy_of_a_bundle_of_format_1_is_written_in_format_2(tmp_path: Path) -> None:
    """What users have is carried on by whatever writes a bundle, with the same bits."""
    old = bothways.load(GOLDEN / "early_exit.bundle")
    texts = [f"{text} {number}" for number, text in enumerate(PREDICTIONS["early_exit.bundle"]["texts"])]
    rows = {"text": texts, "label": old.predict(texts).tolist()}
    out = tmp_path / "new.bundle"
    bothways.fit_early_exit(GOLDEN / "early_exit.bundle", rows, out=out, text="text", label="label", largest_loss=0.5)
    assert read_manifest(out).format == 2
    assert read_manifest(GOLDEN / "early_exit.bundle").format == 1
    new = bothways.load(out)
    assert new.predict_proba(texts).tobytes() == old.predict_proba(texts).tobytes()
    assert bothways.verify(out).passed
