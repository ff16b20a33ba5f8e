from __future__ import annotations

import enum
import random
import string

import numpy as np
import pandas
import pytest

from bothways.errors import TextError
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer import START_ID, UNKNOWN_ID
from bothways.text.validation import check_text, check_texts

FAMILY = "👩\u200d👩\u200d👧\u200d👦"


def tokens_of(tokenizer: SubwordTokenizer, text: str) -> list[str]:
    return tokenizer.tokens(tokenizer.tokenize(check_text(text, "text 0")).ids.tolist())


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t\r", "\u3000\u00a0\u2028\u2029", "\0", "\0\0\0", "\ufeff", "\ufffe\uffff"]
)
def test_a_text_without_a_word_is_its_start_alone(tiny_tokenizer: SubwordTokenizer, text: str) -> None:
    assert tiny_tokenizer.tokenize(check_text(text, "text 0")).ids.tolist() == [START_ID]


@pytest.mark.parametrize("between", ["\0", "\ufeff", "\ufffe", "\uffff", "\U0001ffff", "\x1b"])
def test_invisible_characters_part_words_as_a_space_does(tiny_tokenizer: SubwordTokenizer, between: str) -> None:
    assert tokens_of(tiny_tokenizer, f"lovely{between}film") == tokens_of(tiny_tokenizer, "lovely film")


def test_a_joined_emoji_is_one_word(tiny_tokenizer: SubwordTokenizer) -> None:
    text = tiny_tokenizer.tokenize(check_text(f"a {FAMILY} b", "text 0"))
    assert len(text.group_starts) == 4
    assert UNKNOWN_ID in text.ids


def test_text_from_right_to_left_keeps_its_order(tiny_tokenizer: SubwordTokenizer) -> None:
    assert tokens_of(tiny_tokenizer, "film \u202eשלום\u202c film") == ["xxbos", "▁film", "▁", "xxunk", "▁film"]


@pytest.mark.parametrize("marks", ["\u0301", "\u0301\u0323", "\u0345\u0301\u0323\u0334"])
def test_a_megabyte_of_combining_marks_takes_no_time(tiny_tokenizer: SubwordTokenizer, marks: str) -> None:
    bomb = "a" + marks * (500_000 // len(marks))
    assert len(bomb.encode()) > 999_000
    text = tiny_tokenizer.tokenize(check_text(bomb, "text 0"))
    assert 1 < len(text) < 10_000


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("\ud800", "D800", 1),
        ("ab\udfff", "DFFF", 3),
        ("😀\udc80 x", "DC80", 2),
        ("\ud83d \ude00", "D83D", 1),
        ("é" * 1_000_000 + "\udead", "DEAD", 1_000_001),
    ],
)
def test_a_lone_surrogate_is_named_with_its_place(text: str, code: str, place: int) -> None:
    with pytest.raises(TextError, match=rf"^text 5 contains a lone surrogate \(U\+{code}\) at character {place}\. "):
        check_text(text, "text 5")


@pytest.mark.parametrize(
    "text",
    [
        "lovely " * 1_500_000,
        "a" * 10_000_000,
        "&" * 10_000_000,
        "&#" + "9" * 10_000_000,
        "<br " * 2_500_000,
        " " * 10_000_000,
        "ab" * 5_000_000,
    ],
    ids=["words", "letter", "ampersands", "entity", "tags", "spaces", "no spaces"],
)
def test_ten_megabytes_of_the_same_are_read(tiny_tokenizer: SubwordTokenizer, text: str) -> None:
    tokenized = tiny_tokenizer.tokenize(check_text(text, "text 0"))
    assert tokenized.ids[0] == START_ID
    assert len(tokenized) < 2_000


@pytest.mark.parametrize(("alphabet", "words"), [(string.ascii_lowercase + " " * 6, 50_000), ("abcdefgh", 3_500)])
def test_megabytes_of_anything_are_read(tiny_tokenizer: SubwordTokenizer, alphabet: str, words: int) -> None:
    text = "".join(random.Random(0).choices(alphabet, k=1_000_000))
    assert len(tiny_tokenizer.tokenize(check_text(text, "text 0")).group_starts) > words


class Colour(enum.StrEnum):
    RED = "red"


class Boastful(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.str_("naïve"), "naïve"), (Colour.RED, "red"), (Boastful("plain"), "plain")],
    ids=["numpy", "enum", "subclass"],
)
def test_a_kind_of_string_becomes_the_plain_string_it_holds(value: str, expected: str) -> None:
    checked = check_text(value, "text 0")
    assert type(checked) is str
    assert checked == expected


NO_TEXTS: list[tuple[object, str]] = [
    (b"abc", " is bytes b'abc', expected a string. Decode it first"),
    (bytearray(b"abc"), " is bytearray bytearray(b'abc'), expected a string"),
    (None, ": the text is missing (null). Leave it out, or write an empty text"),
    (7, " is int 7, expected a string"),
    (True, " is bool True, expected a string"),
    (float("nan"), ": the text is missing (null). Leave it out, or write an empty text"),
    (["a"], " is list ['a'], expected a string"),
    ({"text": "a"}, " is dict {'text': 'a'}, expected a string"),
    (pandas.NA, ": the text is missing (null). Leave it out, or write an empty text"),
    (pandas.NaT, ": the text is missing (null). Leave it out, or write an empty text"),
    (np.float64("nan"), ": the text is missing (null). Leave it out, or write an empty text"),
    (np.array(["a"]), " is ndarray array(['a'], dtype='<U1'), expected a string"),
]


@pytest.mark.parametrize(("value", "problem"), NO_TEXTS, ids=[type(value).__name__ for value, _ in NO_TEXTS])
def test_a_value_that_is_not_a_text_is_reported_with_its_number(value: object, problem: str) -> None:
    with pytest.raises(TextError) as caught:
        list(check_texts(["fine", value]))
    assert str(caught.value) == f"text 1{problem}"


@pytest.mark.parametrize("value", [None, 7, 1.5, float("nan"), pandas.NA, object], ids=repr)
def test_what_holds_no_texts_is_refused_at_once(value: object) -> None:
    with pytest.raises(TextError, match="expected a list, array, Series or other iterable of texts"):
        check_texts(value)  # type: ignore[arg-type]


def test_one_numpy_string_is_one_string() -> None:
    with pytest.raises(TextError, match="got a single string"):
        check_texts(np.str_("a text"))


def test_a_data_frame_is_refused_because_only_its_column_names_would_be_read() -> None:
    frame = pandas.DataFrame({"text": ["a", "b"]})
    with pytest.raises(TextError, match=r"got a DataFrame, expected a list of texts\. Pass one of its columns"):
        check_texts(frame)


def test_columns_of_pandas_and_numpy_are_lists_of_texts() -> None:
    assert list(check_texts(pandas.Series(["a", "b"]))) == ["a", "b"]
    assert list(check_texts(np.array(["a", "b"]))) == ["a", "b"]
    assert list(check_texts(np.array(["a", "b"], dtype=object))) == ["a", "b"]


def test_a_missing_value_in_a_series_is_reported_with_its_number() -> None:
    with pytest.raises(TextError, match=r"^text 2: "):
        list(check_texts(pandas.Series(["a", "b", None])))
