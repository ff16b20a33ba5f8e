"""Single-label classification: labels checked, split, calibrated and decided."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import DataError
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import LabeledTexts

SINGLE = SingleLabel()
THREE = SingleLabel(("x", "y", "z"))


def rows(*pairs: tuple[str, str], name: str = "d.csv") -> LabeledTexts:
    return LabeledTexts(name, [text for text, _ in pairs], [(label,) for _, label in pairs])


def names(data: LabeledTexts) -> list[str]:
    """Return the only label of each row."""
    return [label for (label,) in data.label_sets]


# Labels that nothing can be learned from.


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"^d\.csv: all 2 rows have the label 'x'; at least 2 are needed$"):
        SINGLE.check(rows(("a", "x"), ("b", "x")))


def test_classes_with_one_text_are_trained() -> None:
    """A4: 12 rare classes do not stop a training. What is not validated is reported with the data."""
    rare = [(f"rare {letter}", letter) for letter in "abcdefghijkl"]
    data = rows(("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "y"), *rare)
    assert SINGLE.check(data) == []
    split = SINGLE.split(data, 0.1, 0)
    assert {label for (label,) in split.train.label_sets} == {*"xyabcdefghijkl"}
    assert {label for (label,) in split.valid.label_sets} == {*"xy"}


def test_classes_with_one_text_are_fine_with_validation_rows() -> None:
    """A4: the rows of a class need not be divided if the user did it."""
    train, valid = rows(("a", "x"), ("b", "y")), rows(("c", "x"), ("d", "y"))
    assert SINGLE.split_with(train, valid).warnings == []


def test_classes_with_one_text_each_cannot_be_divided() -> None:
    with pytest.raises(DataError, match=r"^d\.csv: no text can be set aside for validation, .* with --valid$"):
        SINGLE.split(rows(("a", "x"), ("b", "y"), ("b", "y")), 0.5, 0)


def test_two_different_texts_a_class_are_enough() -> None:
    assert SINGLE.check(rows(("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"))) == []


@pytest.mark.parametrize(("one", "other"), [("pos", "Pos"), ("a b", "ab"), ("Straße", "STRASSE"), ("a\u00a0b", "ab")])
def test_labels_that_differ_by_white_space_or_case_are_warned_of(one: str, other: str) -> None:
    labels = [one, one, other, other, "neg", "neg"]
    data = rows(*zip("abcdef", labels, strict=True))
    first, second = sorted([one, other])
    assert SINGLE.check(data) == [
        f"d.csv: the labels {first!r} and {second!r} differ only by white space or case; "
        "they are treated as different labels"
    ]


# Splitting.


def split_of(pairs: list[tuple[str, str]], share: float = 0.1, seed: int = 0) -> tuple[LabeledTexts, LabeledTexts]:
    split = SINGLE.split(rows(*pairs), share, seed)
    return split.train, split.valid


MANY = [(f"text {number}", "xyy"[number % 3]) for number in range(300)]


def test_a_share_of_each_class_is_set_aside() -> None:
    train, valid = split_of(MANY, share=0.2)
    assert Counter(valid.labels) == {("x",): 20, ("y",): 40}
    assert Counter(train.labels) == {("x",): 80, ("y",): 160}


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert split_of(MANY, seed=7) == split_of(MANY, seed=7)
    assert split_of(MANY, seed=7)[1].texts != split_of(MANY, seed=8)[1].texts


def test_a_split_does_not_depend_on_the_order_of_the_rows() -> None:
    assert set(split_of(MANY)[1].texts) == set(split_of(MANY[::-1])[1].texts)


def test_the_smallest_class_has_a_text_on_both_sides() -> None:
    train, valid = split_of([*MANY, ("rare 1", "z"), ("rare 2", "z")])
    assert train.labels.count(("z",)) == valid.labels.count(("z",)) == 1


labeled_pairs = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=4, max_size=30)


@given(labeled_pairs, st.floats(0.05, 0.95), st.integers(0, 9))
def test_every_row_is_on_one_side_and_rows_of_one_text_stay_together(
    pairs: list[tuple[str, str]], share: float, seed: int
) -> None:
    pairs = [*pairs, ("p", "x"), ("q", "x")]  # one of them can always be set aside
    train, valid = split_of(pairs, share, seed)
    found = [*zip(train.texts, names(train), strict=True), *zip(valid.texts, names(valid), strict=True)]
    assert Counter(found) == Counter(pairs)
    assert not set(train.texts) & set(valid.texts)


def is_learnable(pairs: list[tuple[str, str]]) -> bool:
    texts = {label: {text for text, other in pairs if other == label} for _, label in pairs}
    return len(texts) > 1 and all(len(each) > 1 for each in texts.values())


@given(labeled_pairs.filter(is_learnable), st.floats(0.05, 0.95), st.integers(0, 9))
def test_something_is_validated_and_never_on_a_class_that_was_not_trained(
    pairs: list[tuple[str, str]], share: float, seed: int
) -> None:
    train, valid = split_of(pairs, share, seed)
    assert set(names(train)) == {label for _, label in pairs}
    assert len(valid) > 0


def test_a_class_that_shares_all_its_texts_with_another_is_still_trained() -> None:
    pairs = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "x"), ("a", "y"), ("b", "y")]
    for seed in range(20):
        train, valid = split_of(pairs, share=0.5, seed=seed)
        assert set(names(train)) == {"x", "y"}
        assert 1 <= len(set(valid.texts)) <= 2


def test_texts_with_several_labels_are_warned_of_with_their_number() -> None:
    pairs = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("b", "y"), ("c", "x"), ("d", "y"), ("d", "y")]
    split = SINGLE.split(rows(*pairs), 0.1, 0)
    assert split.warnings == ["d.csv: 2 duplicate texts with conflicting labels"]
    assert SINGLE.split(rows(("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")), 0.1, 0).warnings == []


def test_a_file_of_validation_rows_is_taken_as_it_is() -> None:
    train, valid = rows(("a", "x"), ("b", "y")), rows(("c", "x"), name="v.csv")
    split = SINGLE.split_with(train, valid)
    assert (split.train, split.valid, split.warnings) == (train, valid, [])


def test_texts_on_both_sides_are_warned_of_with_their_number() -> None:
    train = rows(("a", "x"), ("b", "y"), ("b", "x"))
    valid = rows(("a", "x"), ("c", "x"), ("b", "y"), name="v.csv")
    assert SINGLE.split_with(train, valid).warnings == [
        "d.csv: 1 duplicate texts with conflicting labels",
        "v.csv: 2 of 3 texts are also in d.csv; validation will look too good",
    ]


# Calibration.


def overconfident(texts: int, factor: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities whose logits are too large by a factor, and classes drawn from the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (texts, 3))
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = np.array([rng.choice(3, p=row) for row in right])
    said = np.exp(factor * logits) / np.exp(factor * logits).sum(axis=1, keepdims=True)
    return said, classes


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.0])
def test_the_temperature_undoes_too_much_or_too_little_confidence(factor: float) -> None:
    said, classes = overconfident(4000, factor, seed=1)
    temperature = THREE.calibrated(said, classes).temperature
    assert temperature == pytest.approx(factor, rel=0.1)
    calibrated = THREE.with_temperature(said, temperature)
    assert replace(THREE, temperature=temperature).metrics(calibrated, classes).summary["ece"] < 0.03
    assert np.array_equal(calibrated.argmax(axis=1), said.argmax(axis=1))


@given(st.integers(0, 1000))
def test_calibration_never_makes_the_validation_loss_worse(seed: int) -> None:
    said, classes = overconfident(30, 2.0, seed)
    temperature = THREE.calibrated(said, classes).temperature
    assert 0.25 <= temperature <= 4
    before, after = (
        THREE.epoch_metrics(rows, classes)["loss"] for rows in (said, THREE.with_temperature(said, temperature))
    )
    assert after <= before + 1e-9
