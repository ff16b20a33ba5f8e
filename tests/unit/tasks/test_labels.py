"""A2, A3: what one label is, and which type it has."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bothways.errors import DataError
from bothways.tasks.labels import (
    KnownLabels,
    are_decimal_numbers,
    clean_label,
    compared,
    in_order,
    kind_of,
    label_text,
    label_value,
    looks_multi_hot,
    parse_flag,
    parse_label,
    printed_items,
    spellings,
    warnings_about_missing,
)
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.single_label import SingleLabel

odd_texts = st.text(
    st.one_of(
        st.sampled_from("\u200b\u200c\u200d\ufeff\u00ad\u2060\u200e\u00a0 \t\u0301\u1100\u1161\u11a8e\u2126\u0600🏴👨"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(odd_texts)
@example("\u2000\u200c \u0301e")
@example("e\u200b\u0301")
def test_hygiene_is_idempotent(text: str) -> None:
    """A2: a label that was cleaned once, and written to a file, is read back as it is."""
    clean = clean_label(text)
    assert clean_label(clean) == clean == clean.strip()
    assert unicodedata.is_normalized("NFC", clean)
    assert compared(compared(text)) == compared(text) == compared(clean)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (" pos", "pos"),
        ("pos\u00a0", "pos"),
        ("caf\u00e9", "cafe\u0301"),
        ("po\u200bs", "pos"),
        ("\ufeffpos", "pos"),
        ("hy\u00adphen", "hyphen"),
        ("\u202apos\u202c", "pos"),
    ],
)
def test_labels_that_look_alike_are_equal(one: str, other: str) -> None:
    """A2: separators followed by space, Unicode forms and invisible characters make no classes."""
    assert clean_label(one) == clean_label(other)


def test_joiners_are_shown_and_not_compared() -> None:
    """A2: Persian words and emoji keep the joiners that most rows have."""
    with_joiner, without = "می\u200cخواهم", "میخواهم"
    family, loose = "👨\u200d👩\u200d👧", "👨👩👧"
    assert spellings({with_joiner: 3, without: 1, family: 1, loose: 2, "x": 1}) == {
        with_joiner: with_joiner,
        without: with_joiner,
        family: loose,
        loose: loose,
        "x": "x",
    }


def test_flags_of_countries_stay_different() -> None:
    """A2: the letters in the emoji of a flag are format characters too."""
    england, scotland = (
        "🏴" + "".join(chr(0xE0000 + ord(letter)) for letter in name) + "\U000e007f" for name in ("gbeng", "gbsct")
    )
    assert clean_label(england) != clean_label(scotland)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (True, "true"),
        (np.False_, "false"),
        (3, "3"),
        (np.int8(-3), "-3"),
        (2.0, "2"),
        (np.float32(2.0), "2"),
        (np.float32(3.3), "3.3"),
        (0.5, "0.5"),
        (Decimal("7.00"), "7"),
        (np.str_(" x "), "x"),
        (2**70, str(2**70)),
    ],
)
def test_values_become_their_usual_notation(value: object, label: str) -> None:
    assert parse_label(value) == label


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the label is missing"),
        (float("nan"), "the label is missing"),
        (np.float32("nan"), "the label is missing"),
        ("\u200b \u00a0", "the label is missing"),
        (float("inf"), "the label is inf, expected text, a whole number or a boolean"),
        (10**200, "a whole number of more than 100 digits"),
        (["a"], "the label is a list, expected one label; for several labels per text use --task multi-label"),
        ({"a", "b"}, "the label is a set, expected one label"),
        ({"a": 1}, "the label is a dict, expected one label"),
        (np.array(["a", "b"]), "the label is a ndarray, expected one label"),
        (b"x", "expected a string"),
    ],
)
def test_what_is_no_label_is_refused_with_the_reason(value: object, reason: str) -> None:
    """A7: the cause and the way on."""
    with pytest.raises(DataError, match=reason):
        parse_label(value)


# The type of labels.


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["1", "10", "2"], "integer"),
        (["1.0", "2.0", "-3.00"], "integer"),
        (["-9223372036854775807", "0"], "integer"),
        (["01", "2"], "text"),
        (["+1", "2"], "text"),
        (["-0", "1"], "text"),
        (["9223372036854775808"], "text"),
        (["1", "x"], "text"),
        (["1.5", "2"], "text"),
        (["²"], "text"),
        (["true", "false"], "boolean"),
        (["True", "FALSE"], "boolean"),
        (["true", "1"], "text"),
        (["yes", "no"], "text"),
        ([], "text"),
    ],
)
def test_the_kind_of_labels(labels: list[str], kind: str) -> None:
    """A3: codes such as 01 stay text, because their zeros would be lost."""
    assert kind_of(labels) == kind


def test_whole_numbers_are_sorted_by_value() -> None:
    """A3: 2 comes before 10, and negative numbers come first."""
    assert in_order(map(str, [10, 2, 1, 11, -3, -20])) == ("-20", "-3", "1", "2", "10", "11")
    assert in_order(["b", "10", "2"]) == ("10", "2", "b")


values = st.one_of(
    st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=8),
    st.lists(st.booleans(), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "null", "01", "None", "é", "مى\u200cر"]), min_size=1, max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(values)
def test_values_come_back_as_they_were(labels: list[str | int | bool]) -> None:
    """A3: any labels of one type become text and the same values again."""
    texts = [parse_label(label) for label in labels]
    kind = kind_of(texts)
    back = [label_value(text, kind) for text in texts]
    assert back == labels
    assert [type(value) for value in back] == [type(label) for label in labels]
    assert [label_text(value) for value in back] == texts


def test_a_model_finds_its_label_in_any_spelling() -> None:
    """A2, A3: evaluate reads the labels of other sources as those of the training rows."""
    assert [KnownLabels(("1", "2")).find(label) for label in ("1", "2.0", "02", "x")] == ["1", "2", "02", "x"]
    assert [KnownLabels(("false", "true")).find(label) for label in ("TRUE", "False", "no")] == ["true", "false", "no"]
    assert KnownLabels(("می\u200cر", "x")).find("میر") == "می\u200cر"
    assert KnownLabels((" old", "True", "False")).find("old") == " old"  # labels of format 1
    assert KnownLabels(("True", "False")).find("true") == "True"


def test_predictions_have_the_type_of_the_labels() -> None:
    """A3: an array of int64 or bool, and Python values for one text."""
    scores = [np.array([0.1, 0.9]), np.array([0.8, 0.2])]
    integers = SingleLabel(("2", "10"), label_kind="integer")
    assert integers.array(scores).dtype == np.int64
    assert integers.array(scores).tolist() == [10, 2]
    decision = integers.decide(scores[0])
    assert (decision.label, decision.chosen, type(decision.label)) == (10, (10,), int)
    booleans = SingleLabel(("false", "true"), label_kind="boolean")
    assert booleans.array(scores).dtype == np.bool_
    assert booleans.array(scores).tolist() == [True, False]
    several = MultiLabel(("2", "10"), thresholds=(0.1, 0.1), label_kind="integer")
    assert several.array(scores).tolist() == [(2, 10), (2, 10)]
    assert several.cells(scores[0])[0] == "2|10"


def test_a_record_with_labels_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="the label 'x' is not an integer"):
        SingleLabel.from_record(SingleLabel(("1", "x"), label_kind="integer").record())
    with pytest.raises(ValueError, match="the label '01' is not an integer"):
        SingleLabel.from_record(SingleLabel(("01", "2"), label_kind="integer").record())
    with pytest.raises(ValueError, match="the label 'True' is not a boolean"):
        SingleLabel.from_record(SingleLabel(("True", "false"), label_kind="boolean").record())


# Values that were printed.


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("{'a','b'}", ["a", "b"]),
        ("('a',)", ["a"]),
        ("[1, 0, 1]", ["1", "0", "1"]),
        ("['it\\'s']", ["it's"]),
        ("[True, False]", ["True", "False"]),
        ("[]", []),
        ("set()", []),
        ("[a, b]", None),
        ("(a)", None),
        ("(1)", None),
        ("[']", None),
        ("a]", None),
        ("[,'a']", None),
        ("['a'], ['b']", None),
        ("", None),
    ],
)
def test_lists_that_were_written_as_text(text: str, items: list[str] | None) -> None:
    """A2: pandas writes a column of lists to CSV so."""
    assert printed_items(text) == items


@pytest.mark.parametrize("text", ["['a' 'b']", "[1 0 1]", "['a'\n 'b']"])
def test_lists_as_numpy_prints_them_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="a list without commas; save the labels as a list"):
        printed_items(text)


def test_reading_a_printed_list_takes_linear_time() -> None:
    """D: half a megabyte that almost is a list."""
    assert printed_items("[" + " " * 500_000 + "x]") is None
    assert printed_items("['" + "\\" * 500_000 + "]") is None
    assert printed_items("[" + "1," * 250_000 + "x]") is None


def test_a_printed_list_is_no_single_label() -> None:
    with pytest.raises(DataError, match="the label is a list written as text; for several labels per text use --task"):
        SingleLabel().parse("['a', 'b']")


def test_printed_missing_values_are_counted_and_stay_labels() -> None:
    """A2: ``astype(str)`` writes nan, and a real class may be called null."""
    assert warnings_about_missing("d.csv", ["nan", "x", "nan", "None", "none"]) == [
        "d.csv: 1 row has the label 'None', which is also how programs write a missing value; if it is one, leave the "
        "cells empty and add --drop-invalid",
        "d.csv: 2 rows have the label 'nan', which is also how programs write a missing value; if it is one, leave the "
        "cells empty and add --drop-invalid",
    ]


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (1, True),
        (0, False),
        ("1", True),
        ("0.0", False),
        (1.0, True),
        (True, True),
        ("FALSE", False),
        (np.int8(1), True),
    ],
)
def test_flags(value: object, flag: bool) -> None:
    assert parse_flag(value) is flag


@pytest.mark.parametrize("value", [None, float("nan"), 2, -1, "yes", "", [1]])
def test_what_is_no_flag_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="expected 0 or 1"):
        parse_flag(value)


MULTI_HOT: list[list[object]] = [[1, 0, 1], [0, 0], ["1", "1"], [True, True], [1.0, 0.0, 0.0]]
LISTS_OF_LABELS: list[list[object]] = [[0, 1], [1], ["a", "a"], [0, 1, 2], []]


def test_multi_hot_lists_are_told_from_lists_of_labels() -> None:
    """A2: 0 and 1 were trained as two classes."""
    assert all(looks_multi_hot(each) for each in MULTI_HOT)
    assert not any(looks_multi_hot(each) for each in LISTS_OF_LABELS)


def test_decimal_numbers_are_targets() -> None:
    """A7: labels such as 3.5 are for a regression."""
    assert are_decimal_numbers(["3.5", "4", "nan"])
    assert not are_decimal_numbers(["3", "4.0"])
    assert not are_decimal_numbers(["3.5", "x"])


def test_the_card_names_the_type_of_labels() -> None:
    """A3: a reader of the card knows what predictions are."""
    assert SingleLabel(("2", "10"), label_kind="integer").card()[0] == "Labels, in order (integer): `2`, `10`"
    assert SingleLabel(("a", "b")).card()[0] == "Labels, in order: `a`, `b`"
