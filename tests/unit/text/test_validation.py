from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import DataError, TextError
from bothways.text.validation import check_text, check_texts


def test_a_text_comes_back_as_it_is() -> None:
    assert check_text("naïve 😀", "text 0") == "naïve 😀"


@given(st.lists(st.text()))
def test_texts_come_back_in_order(texts: list[str]) -> None:
    assert list(check_texts(texts)) == texts


def test_the_error_names_the_text_and_what_it_is() -> None:
    with pytest.raises(TextError, match=r"^reviews\.csv, row 3 is int 7, expected a string$"):
        check_text(7, "reviews.csv, row 3")


def test_the_error_for_bytes_says_to_decode_them() -> None:
    with pytest.raises(TextError, match=r"^text 1 is bytes b'abc', expected a string\. Decode it first$"):
        list(check_texts(["fine", b"abc"]))


def test_a_long_value_is_shown_in_short() -> None:
    with pytest.raises(TextError) as caught:
        check_text(["word"] * 10_000, "text 0")
    assert len(str(caught.value)) < 90


def test_a_lone_surrogate_is_reported_with_its_place() -> None:
    with pytest.raises(TextError, match=r"^text 0 contains a lone surrogate \(U\+D83D\) at character 4\."):
        check_text("añb\ud83d!", "text 0")


def test_text_errors_are_data_errors() -> None:
    with pytest.raises(DataError):
        check_text(None, "text 0")


@pytest.mark.parametrize("lone", ["a text", b"a text"])
def test_one_string_instead_of_a_list_is_refused_at_once(lone: object) -> None:
    with pytest.raises(TextError, match=r"Use predict\(\[text\]\)"):
        check_texts(lone)  # type: ignore[arg-type]


def test_a_value_that_is_not_iterable_is_refused_at_once() -> None:
    with pytest.raises(TextError, match="got int 3, expected a list"):
        check_texts(3)  # type: ignore[arg-type]


def test_a_dictionary_is_refused_because_only_its_keys_would_be_read() -> None:
    with pytest.raises(TextError, match=r"got a dict, expected a list of texts\. Pass one of its columns"):
        check_texts({"text": ["a", "b"]})


def test_texts_are_taken_one_at_a_time() -> None:
    taken: list[int] = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(1)
            yield "a"

    checked = check_texts(endless())
    assert not taken
    assert next(checked) == "a"
    assert len(taken) == 1


def test_an_array_without_dimensions_is_one_string() -> None:
    with pytest.raises(TextError, match="got a single string"):
        check_texts(np.array("text"))
