from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.text.cleaning import (
    MAX_WORD_LENGTH,
    SPECIAL_TOKENS,
    clean,
    compose,
    decode_html,
    mark_chunk,
    replace_invisible,
    split_chunks,
    word_repeat_tokens,
)

RULES = "bothways-1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("&amp;lt;", "&lt;"),  # once, not twice
        ("&#65;&#x42;", "AB"),
        ("one<br>two<BR />three<br   />four", "one\ntwo\nthree\nfour"),
        ("a < b <bra> <br    /x>", "a < b <bra> <br    /x>"),
        ("R&D", "R&D"),
        ("&#0000000065;", "A"),
    ],
)
def test_html_is_decoded_once(text: str, expected: str) -> None:
    assert decode_html(text) == expected


@pytest.mark.parametrize("digits", [100, 4_300, 4_301, 1_000_000])
def test_a_character_number_without_end_becomes_the_replacement_character(digits: int) -> None:
    assert decode_html(f"a&#{'1' * digits};b") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    "character", ["\0", "\x07", "\x85", "\n", "\ufeff", "\ufffe", "\uffff", "\ufdd0", "\U0010ffff"]
)
def test_what_cannot_be_seen_becomes_a_space(character: str) -> None:
    assert replace_invisible(f"a{character}b") == "a b"


def test_the_sign_of_a_word_start_becomes_an_underscore_even_from_an_entity() -> None:
    assert clean("▁a &#x2581;b", RULES) == "_a _b"


@pytest.mark.parametrize("kept", ["\u200d", "\u200b", "\u202e", "\ufe0f", "\u00ad", "é", "😀"])
def test_what_joins_or_shapes_other_characters_is_kept(kept: str) -> None:
    assert replace_invisible(f"a{kept}b") == f"a{kept}b"


def test_accents_are_composed() -> None:
    assert compose("cafe\u0301") == "café"


@given(st.text())
def test_composing_is_what_unicode_says(text: str) -> None:
    assert compose(text) == unicodedata.normalize("NFC", text)


@given(st.text())
def test_clean_text_has_no_control_characters_and_no_word_starts(text: str) -> None:
    cleaned = clean(text, RULES)
    assert "▁" not in cleaned
    assert all(unicodedata.category(character) != "Cc" or character == "\n" for character in cleaned)
    assert "\n" not in cleaned


def test_a_word_said_three_times_comes_once_with_its_count() -> None:
    assert list(split_chunks("no no NO yes yes")) == [("no", 3), ("yes", 1), ("yes", 1)]


def test_two_runs_of_the_same_word_stay_two() -> None:
    assert list(split_chunks("a a a b a a a")) == [("a", 3), ("b", 1), ("a", 3)]


def test_a_run_at_the_end_counts_too() -> None:
    assert list(split_chunks("so very very very very")) == [("so", 1), ("very", 4)]


def test_a_text_of_white_space_has_no_chunks() -> None:
    assert list(split_chunks(" \t\n\u3000\u00a0 ")) == []


def test_an_endless_word_is_cut() -> None:
    word = "".join(chr(0x4E00 + i) for i in range(2 * MAX_WORD_LENGTH + 1))
    chunks = list(split_chunks(word))
    assert [len(chunk) for chunk, _ in chunks] == [MAX_WORD_LENGTH, MAX_WORD_LENGTH, 1]
    assert "".join(chunk for chunk, _ in chunks) == word


@given(st.lists(st.sampled_from(["a", "A", "b", "cd", "é"]), max_size=30))
def test_counts_add_up_to_the_words_of_the_text(words: list[str]) -> None:
    chunks = list(split_chunks(" ".join(words)))
    told = [chunk.lower() for chunk, count in chunks for _ in range(count)]
    assert told == [word.lower() for word in words]
    assert all(count == 1 or count >= 3 for _, count in chunks)


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        ("cat", ((), "cat")),
        ("Cat", (("xxmaj",), "cat")),
        ("CAT", (("xxup",), "cat")),
        ("(Cat)", (("xxmaj",), "(cat)")),
        ("I", ((), "i")),
        ("iPhone", ((), "iphone")),
        ("B2B", (("xxup",), "b2b")),
        ("soooo", (("xxrep-4",), "so")),
        ("sooo", (("xxrep-3",), "so")),
        ("soo", ((), "soo")),
        ("So" + "o" * 20, (("xxmaj", "xxrep-10"), "so")),
        ("WOOOOOW", (("xxup", "xxrep-5"), "wow")),
        ("aaabbbbb", (("xxrep-5",), "ab")),
        ("10000", ((), "10000")),  # digits are never collapsed
        ("!!!!!!!!!", (("xxrep-5",), "!")),
        ("ÉTÉ", (("xxup",), "été")),
        ("xxmaj", ((), "xxmaj")),
        ("中文", ((), "中文")),
    ],
)
def test_a_word_and_its_special_tokens(chunk: str, expected: tuple[tuple[str, ...], str]) -> None:
    assert mark_chunk(chunk) == expected


@pytest.mark.parametrize(
    ("count", "marker"),
    [(1, ()), (2, ()), (3, ("xxwrep-3",)), (4, ("xxwrep-4",)), (9, ("xxwrep-5",)), (10**6, ("xxwrep-10",))],
)
def test_word_repetition_is_marked_in_steps(count: int, marker: tuple[str, ...]) -> None:
    assert word_repeat_tokens(count) == marker


@given(st.text(min_size=1).filter(lambda text: not any(c.isspace() for c in text)))
def test_special_tokens_are_only_ever_ours_and_a_word_is_never_empty(chunk: str) -> None:
    special_tokens, word = mark_chunk(chunk)
    assert set(special_tokens) <= set(SPECIAL_TOKENS)
    assert word
    assert not any(character.isspace() for character in word)
