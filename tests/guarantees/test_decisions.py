"""C3: what decides an answer is verified, and a text at the edge of a decision never fails it by accident."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bothways
from bothways.bundle.manifest import PARITY_FILE
from bothways.errors import BundleBroken
from bothways.runtime.verify import load_verified
from bothways.text.reading import Direction
from tests.bundles import edit_manifest, edit_weights, record_decisions, replace_file, write_with_early_exit

Fields = dict[str, Any]
TEXTS = ["a b c", "what a lovely film", "the mat", "DOG ate it", "terrible"]
LESS_THAN_THE_LIMIT, MORE_THAN_THE_LIMIT = 4e-7, 4e-5


@pytest.fixture
def topics(multi_label_bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(multi_label_bundle_path, tmp_path / "topics.bundle"))


@pytest.fixture
def quick(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle with an early exit that is confident about some texts of its parity record."""
    texts = [row["text"] for row in map(json.loads, (bundle_path / PARITY_FILE).read_bytes().splitlines())]
    return write_with_early_exit(bundle_path, tmp_path / "quick.bundle", Direction.FORWARD, texts)


@pytest.fixture
def linear_first(linear_bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle with an early exit that starts with the linear member."""
    texts = [row["text"] for row in map(json.loads, (linear_bundle_path / PARITY_FILE).read_bytes().splitlines())]
    path = tmp_path / "linear_first.bundle"
    return write_with_early_exit(linear_bundle_path, path, Direction.FORWARD, texts, starts_with_linear=True)


def rows_of(bundle: Path) -> list[Fields]:
    return [json.loads(line) for line in (bundle / PARITY_FILE).read_bytes().splitlines()]


def edit_row(bundle: Path, number: int, change: Callable[[Fields], object]) -> None:
    rows = rows_of(bundle)
    change(rows[number])
    replace_file(bundle, PARITY_FILE, "".join(json.dumps(row) + "\n" for row in rows).encode())


def test_c3_the_record_holds_labels_and_what_early_exit_does(topics: Path, quick: Path) -> None:
    model = bothways.load(topics)
    for row, found in zip(rows_of(topics), model.stream(row["text"] for row in rows_of(topics)), strict=True):
        assert row["decision"] == {"label": found.label, "chosen": list(found.chosen)}
        assert "early_exit" not in row
    read = set()
    model = bothways.load(quick, early_exit=True)
    for row, found in zip(rows_of(quick), model.stream(row["text"] for row in rows_of(quick)), strict=True):
        assert row["early_exit"]["read"] == found.read
        assert row["early_exit"]["decision"] == {"label": found.label, "chosen": [found.label]}
        read.add(found.read)
    assert read == {"both", "forward"}


@pytest.mark.parametrize("key", ["thresholds", "early_exit"])
def test_c3_a_changed_threshold_is_refused_even_with_the_right_digest(topics: Path, quick: Path, key: str) -> None:
    """The findings: of 25 changed thresholds none was noticed, of 73 of early exit none."""
    bundle = topics if key == "thresholds" else quick
    assert bothways.verify(bundle).passed

    def change(fields: Fields) -> None:
        if key == "thresholds":
            fields["thresholds"][0] = 0.99
        else:
            fields["early_exit"]["threshold"] = 0.99

    edit_manifest(bundle, change)
    for function in (bothways.verify, bothways.load, load_verified):
        with pytest.raises(BundleBroken, match=r"parity\.jsonl, line \d+: the (decision|early exit) is not the one"):
            function(bundle)


def test_c3_another_early_exit_than_the_recorded_fails(quick: Path) -> None:
    """Its confidence is computed on this machine, so that no digest and no threshold gives it away."""
    assert bothways.verify(quick).differences["early_exit"] < 1e-6
    edit_manifest(quick, lambda fields: fields["early_exit"].update(temperature=1.501))
    result = bothways.verify(quick)
    assert result.problem.startswith("early_exit differs by ")
    assert all(result.differences[name] < 1e-6 for name in ("forward", "backward", "ensemble"))
    assert not load_verified(quick, early_exit=True)[1].passed
    assert load_verified(quick)[1].passed  # nothing that this server will answer was changed
    edit_manifest(quick, lambda fields: fields["early_exit"].update(temperature=1.5, first="backward"))
    with pytest.raises(BundleBroken, match="the early exit is not the one"):
        bothways.verify(quick)


def test_c3_the_record_holds_what_the_linear_member_decides(linear_first: Path) -> None:
    rows = rows_of(linear_first)
    found = list(bothways.load(linear_first, early_exit=True).stream(row["text"] for row in rows))
    assert [row["early_exit"]["read"] for row in rows] == [prediction.read for prediction in found]
    assert {prediction.read for prediction in found} == {"linear", "forward", "both"}
    assert [row["early_exit"]["decision"]["label"] for row in rows] == [prediction.label for prediction in found]
    result = bothways.verify(linear_first)
    assert (result.passed, result.changed_labels) == (True, 0)
    assert result.differences["early_exit"] < 1e-6
    assert load_verified(linear_first, early_exit=True)[1].passed


def test_c3_another_start_with_the_linear_member_than_the_recorded_is_noticed(linear_first: Path) -> None:
    edit_manifest(linear_first, lambda fields: fields["early_exit"]["linear"].update(temperature=1.251))
    result = bothways.verify(linear_first)
    assert result.problem.startswith("early_exit differs by ")
    assert all(result.differences[name] < 1e-6 for name in ("forward", "backward", "linear", "ensemble"))
    edit_manifest(linear_first, lambda fields: fields["early_exit"]["linear"].update(temperature=1.25, threshold=0.99))
    with pytest.raises(BundleBroken, match="the early exit is not the one"):
        bothways.verify(linear_first)
    edit_manifest(linear_first, lambda fields: fields["early_exit"].pop("linear"))
    with pytest.raises(BundleBroken, match="the early exit is not the one"):
        bothways.verify(linear_first)


@pytest.mark.parametrize("linear", [None, {}, {"bad": 0.5, "good": 0.5}])
def test_c3_a_record_without_what_the_linear_member_decides_is_refused(linear_first: Path, linear: object) -> None:
    edit_row(linear_first, 3, lambda row: row["early_exit"].update(linear=linear))
    with pytest.raises(BundleBroken, match=r"line 4: expected probabilities with early exit for each label"):
        bothways.verify(linear_first)


def test_int8_is_loaded_with_an_early_exit_that_starts_with_the_linear_member(linear_first: Path) -> None:
    texts = [row["text"] for row in rows_of(linear_first)]
    exact = bothways.load(linear_first, early_exit=True)
    model = bothways.load(linear_first, early_exit=True, precision="int8")
    unread = [[found.read == "linear" for found in each.stream(texts)] for each in (exact, model)]
    assert unread[0] == unread[1]  # the linear member has one precision
    assert bothways.verify(linear_first, precision="int8").passed


def test_early_exit_is_not_compared_in_int8(quick: Path) -> None:
    result = bothways.verify(quick, precision="int8")
    assert result.passed
    assert set(result.differences) == {"forward", "backward", "ensemble"}


@pytest.mark.parametrize("difference", [LESS_THAN_THE_LIMIT, -LESS_THAN_THE_LIMIT])
def test_c3_a_probability_at_a_threshold_never_fails_verification(topics: Path, difference: float) -> None:
    """Another machine computes a number that differs by less than 1e-5, on the other side of a threshold."""
    number, label = 20, 2
    (found,) = bothways.load(topics).stream([rows_of(topics)[number]["text"]])
    here = float(found.scores["ensemble"][label])
    edit_manifest(topics, lambda fields: fields["thresholds"].__setitem__(label, here + difference / 2))
    name = found.labels[label]
    edit_row(topics, number, lambda row: row["probabilities"]["ensemble"].update({name: here + difference}))
    record_decisions(topics)
    result = bothways.verify(topics)
    assert result.passed
    assert result.changed_labels == 1
    assert result.differences["ensemble"] == pytest.approx(LESS_THAN_THE_LIMIT, rel=0.5)


def test_c3_labels_with_equal_probabilities_never_fail_verification(bundle_path: Path, tmp_path: Path) -> None:
    """Another machine computes a tie that is none here, or the other way round."""
    bundle = Path(shutil.copytree(bundle_path, tmp_path / "ties.bundle"))

    def fill(arrays: dict[str, Any]) -> None:
        arrays["head.layers.1.weight"][...] = arrays["head.layers.1.bias"][...] = 0

    for name in ("forward", "backward"):
        edit_weights(bundle, f"{name}.safetensors", fill)
    rows = rows_of(bundle)
    for row in rows:
        for probabilities in row["probabilities"].values():
            probabilities.update({"bad": 1 / 3, "good": 1 / 3 + LESS_THAN_THE_LIMIT, "so-so": 1 / 3})
    replace_file(bundle, PARITY_FILE, "".join(json.dumps(row) + "\n" for row in rows).encode())
    record_decisions(bundle)
    assert {row["decision"]["label"] for row in rows_of(bundle)} == {"good"}
    assert set(bothways.load(bundle).predict(TEXTS)) == {"bad"}  # the first of equal ones
    result = bothways.verify(bundle)
    assert result.passed
    assert result.changed_labels == result.texts


def test_c3_a_probability_far_from_the_recorded_one_fails(topics: Path) -> None:
    number, name = 20, "plot"
    edit_row(topics, number, lambda row: row["probabilities"]["ensemble"].update({name: 0.5 + MORE_THAN_THE_LIMIT}))
    record_decisions(topics)
    assert bothways.verify(topics).problem.startswith("ensemble differs by")


@pytest.mark.parametrize("difference", [LESS_THAN_THE_LIMIT, -LESS_THAN_THE_LIMIT])
def test_c3_a_confidence_at_the_threshold_of_early_exit_never_fails_verification(
    quick: Path, difference: float
) -> None:
    number = 20
    (recorded,) = (row["early_exit"] for row in rows_of(quick)[number : number + 1])
    label, here = max(recorded["probabilities"].items(), key=lambda item: item[1])

    def change(row: Fields) -> None:
        is_enough = difference > 0
        chosen = label if is_enough else row["decision"]["label"]
        row["early_exit"]["probabilities"][label] = here + difference
        row["early_exit"]["read"] = "forward" if is_enough else "both"
        row["early_exit"]["decision"] = {"label": chosen, "chosen": [chosen]}

    threshold = here + difference / 2
    edit_manifest(quick, lambda fields: fields["early_exit"].update(threshold=threshold))
    record_decisions(quick)
    edit_row(quick, number, change)
    result = bothways.verify(quick)
    assert result.passed
    assert result.differences["early_exit"] == pytest.approx(LESS_THAN_THE_LIMIT, rel=0.5)
    (found,) = bothways.load(quick, early_exit=True).stream([rows_of(quick)[number]["text"]])
    assert found.read != rows_of(quick)[number]["early_exit"]["read"]
