"""Findings D: a pattern in a bundle that could run or compile for a long time is refused, ordinary ones are not."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.text import pattern_limits
from bothways.text.pattern_limits import PatternCost, check_cost, start_match

HOSTILE = [
    "(a+)+$",
    "(a|a)*$",
    "(a|aa)+$",
    "(a|b|ab)*c$",
    r"(\w+\s?)*$",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    "(x+x+)+y$",
    "a*a*a*b$",
    "[a-z]*[a-z]*[a-z]*$",
    r"(?:\d+|[0-9a-f]+)*z$",
    "(?:[^a]|[^b])*!$",
    "(?:[^a]|[^bc])*!$",
    "(?:[^a]|b)*[^c]*!$",
    "a*a*a*(?=b)",
    r"(?:a|b)*(?:a|[ab])*\b",
    r"(?:\w|[a-c])*(?:[a-b]|\w)*(?:|$)",
    "a*a*(?:b?$|)" + "$",
    "(?i)(?:[a-f]+|[A-F])*x$",
    "(a*)*b",
    "(?:a?){30}a{30}$",
    "a?" * 30 + "a" * 30 + "$",
    "(?:a|ab?)(?:a|ab?)" * 30 + "c",
    "(?:a{1000}){1000}",
    "(?=a*b)a$",
    "(?=(?:a|ab|b|ba){0,30}$)x",
    r"(a+)\1$",
    "(?>a+)b",
    "a++b",
    "(?i:a)b",
    "(?m)^a",
    "a" * 20_000,
    "[a]" * 3_000,
    "[a-\uffff]" * 500,
    "".join(map(chr, range(0x4E00, 0x8000))),
    "\U00100000[a]",
    r"\U00100000[a]",
    r"(?#[)](a*a*a*a*a*a*a*b$)",
    # like spaCy's pattern of web addresses, but with more in the place of the letters
    r"(?u)^(?:(?:[\w\+\-\.]{2,})://)?(?:\S+(?::\S*)?@)?(?:[a-z]+[a-z]+)+$",
]
ORDINARY = [
    r"^\(|^\.\.+|^-(?=[0-9])",
    r"\.\.+$|(?<=[0-9])km$|'s$",
    r"([a-zA-Z]+)\/([a-zA-Z]+)",
    r"(\w+-\w+(-\w+)*)",
    r"^([+\-]?\d+([,.]\d+)*)$",
    r"<a([^>]+)>",
    "a{2,63}b?$",
    r"[\]\[a-]+[^]x]$",
]


@pytest.mark.parametrize("pattern", HOSTILE, ids=lambda text: text[:30])
def test_a_pattern_that_could_take_long_is_refused_at_once(pattern: str) -> None:
    started = time.process_time()
    with pytest.raises(PatternCost):
        check_cost(pattern, int(re.UNICODE))
    assert time.process_time() - started < 1


@pytest.mark.parametrize("pattern", ORDINARY)
def test_an_ordinary_pattern_is_accepted(pattern: str) -> None:
    check_cost(pattern, int(re.UNICODE))


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\w", "aa", "ab"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,3}", "{2,}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(pattern=PATTERNS, unit=st.text("ab", min_size=1, max_size=4), end=st.sampled_from(["", "$", "c", "c$"]))
def test_every_accepted_pattern_is_fast(pattern: str, unit: str, end: str) -> None:
    """Most patterns that are refused would not end on such texts within the lifetime of this test."""
    try:
        check_cost(pattern + end, int(re.UNICODE))
    except PatternCost:
        return
    text = (unit * 1000)[:1000]
    match = re.compile(pattern + end).match
    started = time.process_time()
    for tried in (text, text + "c", "b" + text + "!"):
        match(tried)
    assert time.process_time() - started < 0.5


@settings(max_examples=300, deadline=None)
@given(
    pattern=PATTERNS,
    end=st.sampled_from(["", "$", r"\b[^\Wk]", "[^\0-\uffff]", "[k-s\u1e9e]+", r"(?<=[^b])\n?$"]),
    flags=st.sampled_from([re.UNICODE, re.IGNORECASE]),
    text=st.text(st.one_of(st.sampled_from("abAB\n-k\u212aſsßß"), st.characters()), max_size=6),
)
def test_a_match_with_few_characters_per_class_is_that_of_the_whole_pattern(
    pattern: str, end: str, flags: int, text: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pattern_limits, "_WIDE_CLASSES", 0)
        match: Any = start_match.__wrapped__(pattern + end, int(flags))
    for start in range(len(text) + 1):
        found = match(text, start, len(text))
        expected = re.compile(pattern + end, flags).match(text[start:])
        assert (found and found.span()) == (expected and expected.span())
