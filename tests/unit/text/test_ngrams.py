"""N-grams: those of their definition, the same for a text in parts, and quickly found in any text."""

from __future__ import annotations

import itertools
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.text import ngrams
from bothways.text.ngrams import Counts, NgramReader, ngram_places, ngrams_of
from tests.bundles import all_ngrams

TEXTS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("aA bΣ!\n\u3000İß")), max_size=300)


def counted(found: Counts) -> Counter[int]:
    assert (np.diff(found.hashes.astype(np.int64)) > 0).all()
    return Counter(dict(zip(found.hashes.tolist(), found.counts.tolist(), strict=True)))


def hashed(ngrams: list[str]) -> Counter[int]:
    return Counter(zlib.crc32(ngram.encode()) for ngram in ngrams)


@pytest.mark.parametrize(
    ("text", "words", "characters"),
    [
        ("", [], []),
        (" \n\t", [], []),
        ("Go", ["go"], [" g", "go", "o ", " go", "go ", " go "]),
        ("a B", ["a", "b", "a b"], [" a", "a ", " a ", " b", "b ", " b "]),
        ("a!", ["a", "!", "a !"], [" a", "a!", "! ", " a!", "a! ", " a! "]),
        (("a", "b"), ["a", "b"], [" a", "a ", " a ", " b", "b ", " b "]),
    ],
    ids=["empty", "white space", "a word", "a pair", "punctuation", "two fields"],
)
def test_ngrams_are_single_words_pairs_and_two_to_five_characters_within_words(
    text: str | tuple[str, ...], words: list[str], characters: list[str]
) -> None:
    found = ngrams_of(text)
    assert counted(found.words) == hashed(words)
    assert counted(found.characters) == hashed(characters)


@given(TEXTS)
def test_ngrams_of_any_text_are_those_of_their_definition(text: str) -> None:
    found, expected = ngrams_of(text), all_ngrams(text)
    assert counted(found.words) == hashed(expected["words"])
    assert counted(found.characters) == hashed(expected["characters"])


@given(TEXTS, st.lists(st.integers(0, 300)))
def test_a_text_in_parts_has_the_ngrams_of_the_whole_text(text: str, cuts: list[int]) -> None:
    ends = sorted({*cuts, 0, len(text)})
    reader = NgramReader()
    for start, end in itertools.pairwise(ends):
        reader.append(text[start:end])
    reader.end_field()
    found, whole = reader.ngrams(), ngrams_of(text)
    assert counted(found.words) == counted(whole.words)
    assert counted(found.characters) == counted(whole.characters)


@given(TEXTS, st.integers(0, 20))
def test_counts_that_are_merged_now_and_then_are_the_same(text: str, most: int) -> None:
    expected = ngrams_of(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ngrams, "_MOST_WAITING", most)
        found = ngrams_of(text)
    assert counted(found.words) == counted(expected.words)
    assert counted(found.characters) == counted(expected.characters)


@pytest.mark.parametrize("unit", ["a", "é", ",", "\u0301", "你", " "])
def test_a_long_text_without_words_has_as_many_ngrams_as_characters_at_most_five_times(unit: str) -> None:
    found = ngrams_of(unit * 100_000)
    assert found.words.counts.sum() <= 200_000
    assert found.characters.counts.sum() <= 500_000


@given(TEXTS)
def test_the_places_of_ngrams_have_the_ngrams_of_the_text(text: str) -> None:
    found, places = ngrams_of(text), ngram_places(text)
    assert counted(found.words) == Counter([*places.words.tolist(), *places.pairs.tolist()])
    assert counted(found.characters) == Counter(places.characters.tolist())
    assert len(places.pairs) == max(0, len(places.words) - 1)


@given(TEXTS)
def test_a_place_has_the_characters_of_its_ngram(text: str) -> None:
    places = ngram_places(text)
    for hashed_word, (start, end) in zip(places.words.tolist(), places.word_spans.tolist(), strict=True):
        part = text[start:end].lower()
        # A word can begin or end within a character that has several when it is lowered.
        assert any(
            zlib.crc32(part[first:last].encode()) == hashed_word
            for first in range(len(part))
            for last in range(first + 1, len(part) + 1)
        )
    assert (places.character_spans[:, 0] < places.character_spans[:, 1]).all()


def test_places_count_the_characters_of_the_text_and_not_of_the_lowered_one() -> None:
    places = ngram_places("\u0130\u0130 go")  # each of the first two has two characters when lowered
    go = zlib.crc32(b"go")
    assert places.word_spans[places.words.tolist().index(go)].tolist() == [3, 5]
    assert places.character_spans[places.characters.tolist().index(go)].tolist() == [3, 5]
