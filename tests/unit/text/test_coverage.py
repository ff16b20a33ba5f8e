"""B4 and B5: which texts a tokenizer knows, and which it cannot read."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.coverage.__main__ import HERE, sections

from bothways.bundle.packs import pack_path
from bothways.text.coverage import LEAST_KNOWN_SHARE, Unreadable, coverage, unreadable
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer import Tokenizer
from bothways.text.tokenizer_document import parse_tokenizer
from tests.words import WORDS, make_word_tokenizer

LANGUAGES = sections(HERE / "languages.txt")
ENGLISH = sections(HERE / "english.txt")
MISSPELLED = "typos"
"""English with an error in every second word, too little for a pack that knows words."""


@pytest.fixture(scope="module")
def english() -> SubwordTokenizer:
    path = pack_path("en-small") / "tokenizer.json"
    found = parse_tokenizer(path.read_bytes(), str(path))
    assert isinstance(found, SubwordTokenizer)
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_b4_other_languages_are_not_covered_by_far(english: Tokenizer, language: str) -> None:
    found = coverage(english, LANGUAGES[language])
    assert found.known < LEAST_KNOWN_SHARE / 2
    assert found.is_doubtful


def test_b4_there_are_more_than_36_other_languages() -> None:
    assert len(LANGUAGES) > 60
    assert sum(map(len, LANGUAGES.values())) > 400


@pytest.mark.parametrize("kind", ENGLISH)
def test_b4_english_of_every_kind_is_covered(english: Tokenizer, kind: str) -> None:
    found = coverage(english, ENGLISH[kind])
    assert found.is_sufficient == (kind != MISSPELLED)
    if kind in ("reviews", "questions", "tweets", "headlines", "capitals"):
        assert found.known > 2 * LEAST_KNOWN_SHARE


def test_b4_the_demo_is_covered_by_far(english: Tokenizer) -> None:
    texts = (Path(__file__).parents[3] / "demo" / "messages.csv").read_text(encoding="utf-8").splitlines()
    assert coverage(english, texts).known > 2 * LEAST_KNOWN_SHARE


def test_b4_texts_of_two_languages_are_decided_by_their_share(english: Tokenizer) -> None:
    english_texts, german = ENGLISH["questions"] + ENGLISH["reviews"], LANGUAGES["German"]
    assert coverage(english, english_texts * 8 + german).is_sufficient
    assert not coverage(english, english_texts + german * 8).is_sufficient


def test_b4_texts_without_words_are_decided_by_their_tokens(english: Tokenizer) -> None:
    assert coverage(english, ["12345", "99.90 149.00"]).is_sufficient
    assert not coverage(english, ["😂😂😂", "👍🏽"]).is_sufficient
    assert coverage(english, ["", " "]).is_sufficient
    assert coverage(english, []).is_sufficient


def test_b4_only_a_sample_of_many_long_texts_is_read(english: Tokenizer) -> None:
    texts = ["the people of the city " * 20_000] * 5_000
    assert coverage(english, texts).known == 1


def test_b4_packs_of_words_and_of_other_languages_are_not_suspected() -> None:
    words = make_word_tokenizer("fastai-v2", WORDS)
    assert not coverage(words, ["the cat sat on the mat", "a good dog"]).is_doubtful
    assert coverage(words, ["eine Katze schläft unter dem Tisch"]).is_doubtful
    letters = [(letter, -5.0) for letter in "▁包裹晚到了两天盒子全都压坏我在哪里可以找上个月的账单"]
    chinese = SubwordTokenizer.from_pieces(letters)
    assert not coverage(chinese, ["包裹晚到了两天", "我在哪里可以找到上个月的账单"]).is_doubtful
    assert coverage(chinese, ["Where is my parcel?"]).is_doubtful


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Unreadable.EMPTY),
        (" \n\t", Unreadable.EMPTY),
        ("\0\ufeff", Unreadable.EMPTY),
        ("12345", Unreadable.WORDLESS),
        ("+44 20 7946 0958", Unreadable.WORDLESS),
        ("?!... 5 €", Unreadable.WORDLESS),
        ("١٢٣", Unreadable.WORDLESS),
        ("Привет, как дела?", Unreadable.UNKNOWN),
        ("味道一般", Unreadable.UNKNOWN),
        ("😂😂😂", Unreadable.UNKNOWN),
        ("нет, it is fine", None),
        ("ok", None),
        ("a", None),
        ("xqzt brrfl", None),
        ("order 66!", None),
    ],
)
def test_b5_a_text_that_cannot_be_read_is_noticed(
    english: SubwordTokenizer, text: str, expected: Unreadable | None
) -> None:
    assert unreadable(text, english.tokenize(text), english) is expected
    fields = english.with_field_token()
    assert unreadable((text, ""), fields.tokenize((text, "")), fields) is expected
    assert unreadable(("", text), fields.tokenize(("", text)), fields) is expected
