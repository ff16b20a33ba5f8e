"""Words as a person would point at them, and texts without them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import ConfigError
from bothways.text.fields import Text, fields_of
from bothways.text.word_spans import Span, without, word_spans

FIELDS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab  \n\u3000東ก\u0e49")), max_size=60)
TEXTS: st.SearchStrategy[Text] = st.one_of(FIELDS, st.lists(FIELDS, min_size=2, max_size=4).map(tuple))


def words(text: str, most: int = 1000) -> list[str]:
    return [text[span.start : span.end] for span in word_spans(text, most)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\u3000", []),
        (" What a film, \n truly! ", ["What", "a", "film,", "truly!"]),
        ("東京へ。", ["東", "京", "へ", "。"]),
        ("iPhone很好", ["iPhone", "很", "好"]),
        ("\u0e01\u0e49\u0e32", ["\u0e01\u0e49", "\u0e32"]),  # a Thai consonant with its tone, and a vowel
        ("좋은 영화", ["좋은", "영화"]),
    ],
    ids=["empty", "blank", "spaces", "Japanese", "mixed", "Thai", "Korean"],
)
def test_words_are_between_white_space_and_characters_in_scripts_without_it(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_long_text_has_groups_of_the_same_number_of_words() -> None:
    assert words("a b c d e", 2) == ["a b c", "d e"]
    assert words("a b c d e", 4) == ["a b", "c d", "e"]
    spans = word_spans("word " * 10_000, 127)
    assert len(spans) == 127
    assert {len(("word " * 10_000)[span.start : span.end].split()) for span in spans[:-1]} == {79}


def test_a_group_never_spans_two_fields() -> None:
    assert word_spans(("a b c", "", "d"), 2) == [Span(0, 0, 5, 5), Span(2, 0, 1, 1)]


def test_a_text_with_words_in_more_fields_than_spans_is_refused() -> None:
    with pytest.raises(ConfigError, match="words in 3 columns, expected max_readings of at least 4"):
        word_spans(("a", "b", "c"), 2)


@given(TEXTS, st.integers(4, 20))
def test_the_spans_of_any_text_hold_all_that_is_not_white_space(text: Text, most: int) -> None:
    spans = word_spans(text, most)
    assert len(spans) <= most
    for number, field in enumerate(fields_of(text)):
        own = [span for span in spans if span.field == number]
        starts = [span.start for span in own]
        assert [span.after for span in own] == [*starts[1:], len(field)][: len(own)]
        assert not field[: starts[0] if own else None].strip()
        for span in own:
            assert span.start < span.end <= span.after
            assert field[span.start : span.end].strip()
            assert not field[span.end : span.after].strip()


@given(TEXTS, st.integers(4, 20))
def test_a_text_without_a_span_has_all_others(text: Text, most: int) -> None:
    for span in word_spans(text, most):
        found = without(text, span)
        assert type(found) is type(text)
        for number, (before, after) in enumerate(zip(fields_of(text), fields_of(found), strict=True)):
            removed = before[span.start : span.after] if number == span.field else ""
            start = span.start if number == span.field else len(before)
            assert before == after[:start] + removed + after[start:]
