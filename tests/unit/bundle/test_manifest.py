from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bothways.bundle.manifest import LARGEST_DOCUMENT_BYTES, Architecture, Kind, LinearExit, Manifest
from bothways.bundle.read import read_manifest
from bothways.text.reading import Direction

Fields = dict[str, Any]


@pytest.fixture(scope="module")
def good(bundle_path: Path) -> Fields:
    fields: Fields = json.loads((bundle_path / "bundle.json").read_bytes())
    return fields


def refuse(fields: Fields, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Manifest.model_validate_json(json.dumps(fields), strict=True)
    assert problem in str(caught.value)


def test_what_is_written_reads_back_equal(bundle_path: Path) -> None:
    manifest, data = read_manifest(bundle_path), (bundle_path / "bundle.json").read_bytes()
    assert (manifest.model_dump_json(indent=1) + "\n").encode() == data
    assert manifest.kind is Kind.CLASSIFIER
    assert manifest.labels == ["bad", "good", "so-so"]
    assert manifest.directions == [Direction.FORWARD, Direction.BACKWARD]
    assert manifest.member(Direction.BACKWARD).weights == "backward.safetensors"
    assert manifest.combination is not None
    assert manifest.combination.weights == [0.5, 0.5]


def test_the_last_layer_is_as_wide_as_the_embedding() -> None:
    sizes = Architecture(vocabulary_size=9, width_embedding=4, width_hidden=7, layers=3)
    assert sizes.layer_widths == [(4, 7), (7, 7), (7, 4)]
    assert sizes.model_copy(update={"layers": 1}).layer_widths == [(4, 4)]


def test_only_a_qrnn_names_its_kind_and_has_variants() -> None:
    """The manifest of an LSTM is, byte for byte, that of earlier versions."""
    sizes = {"vocabulary_size": 9, "width_embedding": 4, "width_hidden": 7, "layers": 3}
    lstm = Architecture.model_validate({**sizes, "kind": "lstm"})
    assert lstm == Architecture.model_validate(sizes)
    assert json.loads(lstm.model_dump_json()) == sizes
    assert lstm.title == "AWD-LSTM"
    variants = [(1, True, "QRNN"), (2, True, "QRNN (window 2)"), (2, False, "QRNN (window 2, no output gate)")]
    for window, gate, title in variants:
        fields = {**sizes, "kind": "qrnn", "first_window": window, "output_gate": gate}
        qrnn = Architecture.model_validate(fields)
        assert json.loads(qrnn.model_dump_json()) == fields
        assert (qrnn.layer_widths, qrnn.layer_windows) == (lstm.layer_widths, [window, 1, 1])
        assert (qrnn.title, qrnn.qrnn_gates) == (title, 3 if gate else 2)


def test_the_manifest_of_these_tests_is_good(good: Fields) -> None:
    Manifest.model_validate_json(json.dumps(good), strict=True)


CHANGES: list[tuple[Callable[[Fields], object], str]] = [
    (lambda m: m.update(task="next-token"), "a classifier cannot have the task 'next-token'"),
    (lambda m: m.update(labels=["one"]), "a single-label classifier needs at least 2 labels, found 1"),
    (lambda m: m.update(labels=[]), "a single-label classifier needs at least 2 labels, found 0"),
    (lambda m: m.update(labels=["a", "b", "a"]), "a label occurs twice"),
    (lambda m: m.update(labels=["a", "", "b"]), "at least 1 character"),
    (lambda m: m.update(labels=["a", "x" * 1001, "b"]), "at most 1000 characters"),
    (lambda m: m.update(labels=["a", 3, "b"]), "valid string"),
    (lambda m: m.update(labels="abc"), "valid array"),
    (lambda m: m.update(combination=None), "a classifier needs a combination"),
    (lambda m: m.update(calibration=None), "a classifier needs a calibration"),
    (lambda m: m["combination"].update(method="max"), "'mean'"),
    (lambda m: m["combination"].update(weights=[1.0]), "1 weights for 2 members"),
    (lambda m: m["combination"].update(weights=[0.5, 0.25, 0.25]), "3 weights for 2 members"),
    (lambda m: m["combination"].update(weights=[0.5, 0.4]), "the members' weights add up to 0.9, expected 1"),
    (lambda m: m["combination"].update(weights=[1.5, -0.5]), "less than or equal to 1"),
    (lambda m: m["combination"].update(weights=[1, 0]), "greater than 0"),
    (lambda m: m["calibration"].update(temperature=0), "greater than 0"),
    (lambda m: m["calibration"].update(temperature=-1), "greater than 0"),
    (lambda m: m["calibration"].update(temperature=1e9), "less than or equal to 1000"),
    (lambda m: m["calibration"].update(temperature="1"), "valid number"),
    (lambda m: m.update(members=[]), "at least 1 item"),
    (lambda m: m.update(members=m["members"][:1] * 2), "two members read forward"),
    (lambda m: m.update(members=m["members"] * 2), "at most 2 items"),
    (lambda m: m.update(members=m["members"][:1]), "not those of these members: backward.safetensors"),
    (lambda m: m["members"][0].update(weights="backward.safetensors"), "must be forward.safetensors"),
    (lambda m: m["members"][0].update(weights="../forward.safetensors"), "weights"),
    (lambda m: m["members"][0].update(direction="sideways"), "'forward' or 'backward'"),
    (lambda m: m["members"][0].update(special_tokens="none"), "'as-written' or 'reading-order'"),
    (lambda m: m["members"][0].update(widths_head=None), "needs widths_head"),
    (lambda m: m["members"][0].update(widths_head=[0]), "greater than or equal to 1"),
    (lambda m: m["members"][0]["architecture"].update(layers=65), "less than or equal to 64"),
    (lambda m: m["members"][0]["architecture"].update(width_hidden=10**6), "less than or equal to 65536"),
    (lambda m: m["members"][0]["architecture"].update(width_hidden=True), "valid integer"),
    (lambda m: m["members"][0]["architecture"].update(width_hidden=24.0), "valid integer"),
    (lambda m: m["members"][0]["architecture"].update(vocabulary_size=7), "vocabularies of different sizes"),
    (lambda m: m["members"][0]["architecture"].update(kind="gru"), "'lstm' or 'qrnn'"),
    (lambda m: m["members"][0]["architecture"].update(first_window=2), "but the kind is lstm"),
    (lambda m: m["members"][0]["architecture"].update(output_gate=False), "but the kind is lstm"),
    (lambda m: m["members"][0]["architecture"].update(kind="qrnn", first_window=3), "less than or equal to 2"),
    (lambda m: m["members"][0]["architecture"].update(kind="qrnn", first_window=True), "valid integer"),
    (lambda m: m["members"][0]["architecture"].update(kind="qrnn", output_gate=1), "valid boolean"),
    (lambda m: m["files"].pop("README.md"), "the files listed are not those of these members: README.md"),
    (lambda m: m["files"].update({"run.py": m["files"]["README.md"]}), "files"),
    (lambda m: m["files"].update({"../README.md": m["files"].pop("README.md")}), "files"),
    (lambda m: m["files"].update({"/etc/passwd": m["files"].pop("README.md")}), "files"),
    (lambda m: m["files"]["README.md"].update(sha256="0" * 63), "pattern"),
    (lambda m: m["files"]["README.md"].update(sha256="0" * 64 + "\n"), "pattern"),
    (lambda m: m["files"]["README.md"].update(sha256="A" * 64), "pattern"),
    (lambda m: m["files"]["README.md"].update(size_bytes=-1), "greater than or equal to 0"),
    (lambda m: m["files"]["README.md"].update(size_bytes=LARGEST_DOCUMENT_BYTES + 1), "README.md has 268435457 bytes"),
    (lambda m: m["files"]["forward.safetensors"].update(size_bytes=2**40), "less than or equal to 4294967296"),
    (lambda m: m.update(kind="pickle"), "'classifier' or 'language-model'"),
    (lambda m: m.update(kind="language-model"), "a language model has no labels, combination, calibration or target"),
    (lambda m: m.update(format=3), "less than or equal to 2"),
    (lambda m: m.update(format=0), "greater than or equal to 1"),
    (lambda m: m.update(format=True), "valid integer"),
    (lambda m: m.update(format=1.0), "valid integer"),
    (lambda m: m.update(format="1"), "valid integer"),
    (lambda m: m.update(note="hello"), "note"),
    (lambda m: m.pop("training"), "training"),
    (lambda m: m["training"].update(seed="5"), "seed"),
]


@pytest.mark.parametrize(("change", "problem"), CHANGES, ids=[problem for _, problem in CHANGES])
def test_a_contradiction_is_refused_by_name(good: Fields, change: Callable[[Fields], object], problem: str) -> None:
    fields = copy.deepcopy(good)
    change(fields)
    assert json.dumps(fields) != json.dumps(good)
    refuse(fields, problem)


MULTI_LABEL_CHANGES: list[tuple[Callable[[Fields], object], str]] = [
    (lambda m: m.update(labels=[], thresholds=[]), "a multi-label classifier needs at least 1 labels, found 0"),
    (lambda m: m.update(thresholds=None), "a multi-label classifier needs thresholds, one per label"),
    (lambda m: m.pop("thresholds"), "a multi-label classifier needs thresholds, one per label"),
    (lambda m: m.update(thresholds=[0.5] * 3), "3 thresholds for 4 labels"),
    (lambda m: m.update(thresholds=[0.5] * 5), "5 thresholds for 4 labels"),
    (lambda m: m["thresholds"].__setitem__(1, 0), "greater than 0"),
    (lambda m: m["thresholds"].__setitem__(1, 1), "less than 1"),
    (lambda m: m["thresholds"].__setitem__(1, "0.5"), "valid number"),
    (lambda m: m["thresholds"].__setitem__(1, None), "valid number"),
    (lambda m: m.update(thresholds=0.5), "valid array"),
    (lambda m: m.update(thresholds=dict.fromkeys(m["labels"], 0.5)), "valid array"),
    (lambda m: m.update(task="single-label"), "a single-label classifier has no thresholds"),
    (lambda m: m.update(task="multi-class"), "'single-label', 'multi-label', 'regression' or 'next-token'"),
    (lambda m: m.update(calibration=None), "a classifier needs a calibration"),
    (lambda m: m["training"].update(label_separator=""), "at least 1 character"),
]


@pytest.mark.parametrize(("change", "problem"), MULTI_LABEL_CHANGES)
def test_a_contradiction_of_several_labels_is_refused_by_name(
    multi_label_bundle_path: Path, change: Callable[[Fields], object], problem: str
) -> None:
    fields = json.loads((multi_label_bundle_path / "bundle.json").read_bytes())
    Manifest.model_validate_json(json.dumps(fields), strict=True)
    change(fields)
    refuse(fields, problem)


LINEAR_EXIT_CHANGES: list[tuple[Callable[[Fields], object], str]] = [
    (lambda m: m["early_exit"]["linear"].update(threshold=-0.1), "greater than or equal to 0"),
    (lambda m: m["early_exit"]["linear"].update(threshold=1.1), "less than or equal to 1"),
    (lambda m: m["early_exit"]["linear"].update(threshold="0.5"), "valid number"),
    (lambda m: m["early_exit"]["linear"].update(threshold=None), "valid number"),
    (lambda m: m["early_exit"]["linear"].update(temperature=0), "greater than 0"),
    (lambda m: m["early_exit"]["linear"].update(temperature=1001), "less than or equal to 1000"),
    (lambda m: m["early_exit"]["linear"].update(read_by_linear=1.5), "less than or equal to 1"),
    (lambda m: m["early_exit"]["linear"].update(read_by_linear=0.75), "add up to more than 1"),
    (lambda m: m["early_exit"]["linear"].pop("read_by_linear"), "Field required"),
    (lambda m: m["early_exit"]["linear"].update(first="linear"), "Extra inputs"),
    (lambda m: m["early_exit"].update(linear=[]), "should be an object"),
    (lambda m: m["early_exit"].update(first="linear"), "'forward' or 'backward'"),
    (lambda m: m.pop("linear"), "not those of these members: linear.safetensors"),
    (
        lambda m: (m.pop("linear"), m["files"].pop("linear.safetensors")),
        "starts with a linear member, but the bundle lacks one",
    ),
]


@pytest.mark.parametrize(("change", "problem"), LINEAR_EXIT_CHANGES)
def test_a_contradiction_of_an_early_exit_with_a_linear_member_is_refused_by_name(
    linear_bundle_path: Path, change: Callable[[Fields], object], problem: str
) -> None:
    fields = json.loads((linear_bundle_path / "bundle.json").read_bytes())
    alone = LinearExit(temperature=1.5, threshold=0.9, read_by_linear=0.5)
    shares = {"read_by_both": 0.5, "accuracy": 1, "accuracy_of_ensemble": 1}
    early_exit = {"first": "forward", "temperature": 1.5, "threshold": 0.5, "largest_loss": 0.1, "rows": 9, "curve": []}
    fields["early_exit"] = {**early_exit, **shares, "linear": alone.model_dump()}
    Manifest.model_validate_json(json.dumps(fields), strict=True)
    change(fields)
    refuse(fields, problem)


def test_a_multi_label_classifier_may_have_a_single_label(multi_label_bundle_path: Path) -> None:
    fields = json.loads((multi_label_bundle_path / "bundle.json").read_bytes())
    fields.update(labels=["only"], thresholds=[0.5])
    assert Manifest.model_validate_json(json.dumps(fields), strict=True).labels == ["only"]


def test_a_manifest_from_before_there_were_thresholds_is_read(good: Fields) -> None:
    older = copy.deepcopy(good)
    del older["thresholds"]
    del older["training"]["label_separator"]
    manifest = Manifest.model_validate_json(json.dumps(older), strict=True)
    assert manifest == Manifest.model_validate_json(json.dumps(good), strict=True)
    assert (manifest.task, manifest.thresholds) == ("single-label", None)


def test_a_language_model_has_no_thresholds(pack_path: Path) -> None:
    fields = json.loads((pack_path / "bundle.json").read_bytes())
    fields["thresholds"] = [0.5]
    refuse(fields, "a language model has no thresholds")


@pytest.mark.parametrize("key", ["labels", "combination", "calibration", "task"])
def test_a_language_model_has_nothing_of_a_classifier(pack_path: Path, good: Fields, key: str) -> None:
    fields = json.loads((pack_path / "bundle.json").read_bytes())
    Manifest.model_validate_json(json.dumps(fields), strict=True)
    fields[key] = good[key]
    refuse(fields, "a language model has no labels, combination, calibration or target")


def test_a_language_model_has_no_head(pack_path: Path) -> None:
    fields = json.loads((pack_path / "bundle.json").read_bytes())
    fields["members"][1]["widths_head"] = [8]
    refuse(fields, "a language model's member has no widths_head")
