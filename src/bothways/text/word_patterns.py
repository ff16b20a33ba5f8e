"""Execute the regular expressions of a word tokenizer without searching every position of a chunk.

spaCy's patterns have hundreds of alternatives for the prefixes and suffixes of a chunk. The functions of this module
return what searching the whole chunk returns, but try an alternative only where it can match. They derive that from the
parsed pattern: the characters that an alternative can begin or end with, and how many characters it looks at. A pattern
that the analysis does not understand is searched in the whole chunk.

The purpose is safety: on hostile texts, searching everything takes about 30 times as long, even if chunks are cut at
250 characters (docs/decisions/009).
"""

from __future__ import annotations

import re
import string
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from bothways.schema import Document
from bothways.text.pattern_limits import start_match

LONGEST_PATTERN = 4_000_000
"""Maximum number of characters per pattern. The longest known pattern (French) has 1.5 million."""
_SHORT_REACH = 64  # alternatives that look at no more characters than this are searched together, in a window
_WINDOW = 32  # number of characters that an unbounded repeat has to fill before the whole chunk is searched
_FREQUENT = string.ascii_letters + string.digits


class Pattern(Document):
    """A regular expression of Python's ``re``."""

    pattern: Annotated[str, Field(max_length=LONGEST_PATTERN)]
    flags: int

    def compiled(self) -> re.Pattern[str]:
        """Return the compiled expression."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # "possible nested set": today's meaning is the intended one
            return re.compile(self.pattern, self.flags)


_Length = Callable[[str, int, int], int]
"""A function of a chunk, a start and a stop that returns the length of the affix between them, or 0 for none."""


class Affixes(NamedTuple):
    """Functions that return the length of the prefix and of the suffix of a part of a chunk, or 0 for none."""

    prefix_length: _Length
    suffix_length: _Length


def searched_length(rule: Pattern | None) -> _Length:
    """Return a function that searches the whole part of a chunk, as spaCy does. It works for any pattern and chunk."""
    if rule is None:
        return lambda _chunk, _start, _stop: 0
    search = rule.compiled().search

    def length(chunk: str, start: int, stop: int) -> int:
        match = search(chunk[start:stop])
        return match.end() - match.start() if match else 0

    return length


def word_affixes(prefixes: Analysis, suffixes: Analysis) -> Affixes | None:
    """Return faster functions for chunks without white space, or None if the patterns are not understood."""
    if prefixes is None or suffixes is None:
        return None
    try:
        return Affixes(_Prefixes(prefixes).length, _Suffixes(suffixes).length)
    except _NotUnderstood:
        return None


def possible_match_search(*rules: Analysis) -> Callable[[str], object]:
    """Return a function that returns None for a string in which none of the rules can match.

    That is the case for most words of most languages.
    """
    clues: dict[str, None] = {}
    try:
        for rule in rules:
            if rule is None:
                return bool
            for alternative in rule:
                clues.update(dict.fromkeys(alternative.clues()))
    except _NotUnderstood:
        return bool
    return re.compile("|".join(clues)).search if clues else lambda _chunk: None


def start_matcher(rule: Pattern | None) -> Callable[[str, int, int], bool] | None:
    """Return a function that reports whether a pattern matches a string between two positions, from the first on.

    None without a pattern.
    """
    if rule is None:
        return None
    match = start_match(rule.pattern, rule.flags)
    try:
        required = _required_of(_parsed(rule.pattern, rule.flags))
    except (_NotUnderstood, RecursionError):
        required = set()

    def matches(chunk: str, start: int, stop: int) -> bool:
        for character in required:
            if chunk.find(character, start, stop) < 0:
                return False
        return match(chunk, start, stop) is not None

    return matches


def infix_finder(rule: Pattern | None, alternatives: Analysis) -> Callable[[str], list[tuple[int, int]]]:
    """Return a function that returns the spans of all matches of a pattern."""
    if rule is None:
        return lambda _middle: []
    find_all = rule.compiled().finditer
    could_have_one = possible_match_search(alternatives)

    def find(middle: str) -> list[tuple[int, int]]:
        return [match.span() for match in find_all(middle)] if could_have_one(middle) else []

    return find


class _Prefixes:
    """Finds the prefix of a chunk among the alternatives that can begin with its first character.

    An alternative without ``^`` may match anywhere in the chunk. As in spaCy, the length of its match is removed from
    the start all the same.
    """

    def __init__(self, alternatives: Sequence[_Alternative]) -> None:
        for alternative in alternatives:
            anchors, looks = (("AT_BEGINNING",), {"ahead"}) if alternative.is_at_start else ((), set())
            if alternative.anchors != anchors or alternative.looks - looks or alternative.may_be_empty:
                raise _NotUnderstood
        # Without its "^" an alternative can be matched at any position of a chunk.
        self._texts = [a.text.removeprefix("^") if a.is_at_start else a.text for a in alternatives]
        self._begins = [re.compile("|".join(a.begins)) for a in alternatives]
        self._by_first: dict[str, re.Pattern[str] | None] = {}
        self._compiled: dict[tuple[str, ...], re.Pattern[str] | None] = {(): None}
        floating = [alternative.text for alternative in alternatives if not alternative.is_at_start]
        self._floating = re.compile("|".join(floating)) if floating else None
        self._without_floating = ""  # the last chunk without a floating match, so no part of it has one

    def length(self, chunk: str, start: int, stop: int) -> int:
        if start == stop:
            return 0
        first = chunk[start]
        try:
            pattern = self._by_first[first]
        except KeyError:
            texts = tuple(t for t, begin in zip(self._texts, self._begins, strict=True) if begin.match(first))
            if texts not in self._compiled:
                self._compiled[texts] = re.compile("|".join(texts))
            pattern = self._by_first[first] = self._compiled[texts]
        match = pattern.match(chunk, start, stop) if pattern is not None else None
        if match is None and self._floating is not None and chunk is not self._without_floating:
            if self._floating.search(chunk):
                match = self._floating.search(chunk, start, stop)
            else:
                self._without_floating = chunk
        return match.end() - match.start() if match else 0


class _Suffixes:
    """Finds the suffix of a chunk among the alternatives that can end with its last character.

    All matches end where the chunk ends, so the match that begins first is the longest, regardless of the order of the
    alternatives. Alternatives that look at few characters are searched together in a window at the end.
    """

    def __init__(self, alternatives: Sequence[_Alternative]) -> None:
        if not all(
            a.is_at_end and {"AT_BEGINNING", "AT_END", "AT_BOUNDARY"}.issuperset(a.anchors) for a in alternatives
        ):
            raise _NotUnderstood
        self._alternatives = alternatives
        self._ends = [re.compile("|".join(alternative.ends)) for alternative in alternatives]
        self._by_last: dict[str, _SuffixesOfCharacter | None] = {}
        self._made: dict[tuple[str, ...], _SuffixesOfCharacter | None] = {(): None}

    def length(self, chunk: str, start: int, stop: int) -> int:
        if start == stop:
            return 0
        last = chunk[stop - 1]
        try:
            suffixes = self._by_last[last]
        except KeyError:
            suffixes = self._by_last[last] = self._make(last)
        if suffixes is None:
            return 0
        longest = 0
        if suffixes.short is not None:
            match = suffixes.short.search(chunk[max(start, stop - suffixes.reach) : stop])
            if match:
                longest = match.end() - match.start()
        for alternative in suffixes.long:
            longest = max(longest, alternative.length(chunk, start, stop))
        return longest

    def _make(self, last: str) -> _SuffixesOfCharacter | None:
        fitting = [a for a, end in zip(self._alternatives, self._ends, strict=True) if end.match(last)]
        texts = tuple(alternative.text for alternative in fitting)
        if texts not in self._made:
            short = [a for a in fitting if a.reach <= _SHORT_REACH and not (a.endless or "AT_BEGINNING" in a.anchors)]
            self._made[texts] = _SuffixesOfCharacter(
                re.compile("|".join(alternative.text for alternative in short)) if short else None,
                max((alternative.reach for alternative in short), default=0),
                [_LongSuffix.of(alternative) for alternative in fitting if alternative not in short],
            )
        return self._made[texts]


class _SuffixesOfCharacter(NamedTuple):
    short: re.Pattern[str] | None
    reach: int
    long: list[_LongSuffix]


class _LongSuffix(NamedTuple):
    """An alternative that looks at many characters, or at an unlimited number of them."""

    search: Callable[[str], re.Match[str] | None]
    reach: int
    endless: re.Pattern[str] | None
    required: tuple[str, ...]
    knows_start: bool

    @staticmethod
    def of(alternative: _Alternative) -> _LongSuffix:
        endless = re.compile("|".join(alternative.endless)) if alternative.endless else None
        search = re.compile(alternative.text).search
        knows_start = "AT_BEGINNING" in alternative.anchors
        return _LongSuffix(search, alternative.reach, endless, alternative.required, knows_start)

    def length(self, chunk: str, start: int, stop: int) -> int:
        if self.knows_start:
            pass
        elif self.endless is None:
            start = max(start, stop - self.reach)
        elif stop - start > 2 * self.reach + _WINDOW:
            # A match that begins before the window covers it. All but ``reach`` of its characters must be repeatable.
            window = chunk[stop - self.reach - _WINDOW : stop]
            if len(window) - len(self.endless.findall(window)) > self.reach:
                start = stop - 2 * self.reach - _WINDOW
        part = chunk[start:stop]
        match = self.search(part) if all(character in part for character in self.required) else None
        return match.end() - match.start() if match else 0


# Analysis of a pattern ------------------------------------------------------------------------------------------------


class _NotUnderstood(Exception):  # noqa: N818  (not an error: the pattern is searched in the whole chunk)
    """The analysis does not understand a pattern."""


@dataclass(frozen=True)
class _Alternative:
    """One of the alternatives that ``|`` separates at the top level of a pattern."""

    text: str
    begins: tuple[str, ...]
    """Single-character patterns for the possible first characters of a match."""
    ends: tuple[str, ...]
    """Single-character patterns for the possible last characters of a match."""
    may_be_empty: bool
    """Whether a match can be empty."""
    behind: tuple[str, ...]
    """Single-character patterns for the character before a match. Empty if there is no restriction."""
    required: tuple[str, ...]
    """Characters that every match contains."""
    endless: tuple[str, ...]
    """Single-character patterns for every character inside an unbounded repeat."""
    reach: int
    """Maximum number of characters looked at, including look-behind and without unbounded repeats."""
    anchors: tuple[str, ...]
    """Names of the anchors, as Python's parser names them."""
    looks: frozenset[str]
    """Directions of lookaround assertions: "back", "ahead" or both."""
    is_at_start: bool
    """Whether the alternative begins with ``^``."""
    is_at_end: bool
    """Whether the alternative ends with ``$``."""

    def clues(self) -> tuple[str, ...]:
        """Return single-character patterns, at least one of which occurs in every string with a match.

        The candidates are the first characters, the characters before a match, and each required character. The
        candidate that matches the fewest letters and digits is returned.
        """
        choices: list[tuple[str, ...]] = [(re.escape(character),) for character in self.required]
        if self.behind:
            choices.append(self.behind)
        if not self.may_be_empty:
            choices.append(self.begins)
        if not choices:
            raise _NotUnderstood
        if len(choices) == 1:
            return choices[0]
        return min(choices, key=lambda choice: len(re.findall("|".join(choice), _FREQUENT)))


_READ_OTHERWISE = re.compile(r"\(\?(?:#|[a-zA-Z]*-?[a-zA-Z]*x)")
"""A comment, or the flag that allows comments. Brackets and bars inside comments have no meaning."""

Analysis = list[_Alternative] | None


def analyzed(rule: Pattern | None) -> Analysis:
    """Return the alternatives of a pattern, or None if the analysis does not understand it."""
    if rule is None:
        return []
    try:
        _parsed(rule.pattern, rule.flags)
        if _READ_OTHERWISE.search(rule.pattern):
            return None
        return [_analyze_alternative(text, rule.flags) for text in _split_at_bars(rule.pattern)]
    except (_NotUnderstood, RecursionError):
        return None


def _split_at_bars(pattern: str) -> list[str]:
    """Split a pattern at the bars outside of groups and character classes."""
    parts, depth, begin, place = [], 0, 0, 0
    while place < len(pattern):
        character = pattern[place]
        if character == "\\":
            place += 1
        elif character == "[":
            place = _end_of_class(pattern, place)
        elif character == "|" and not depth:
            parts.append(pattern[begin:place])
            begin = place + 1
        depth += {"(": 1, ")": -1}.get(character, 0)
        place += 1
    return [*parts, pattern[begin:]]


def _end_of_class(pattern: str, place: int) -> int:
    place += 2 if pattern.startswith("[^", place) else 1
    if pattern.startswith("]", place):  # as the first character of a class it is literal
        place += 1
    while not pattern.startswith("]", place):
        place += 2 if pattern[place] == "\\" else 1
    return place


def _parsed(pattern: str, flags: int) -> Any:
    """Return the parse tree of a pattern from Python's own parser of regular expressions.

    That module is private. If it is missing or returns something new, patterns are searched in the whole chunk. This is
    slower and has the same result.
    """
    if flags & ~int(re.UNICODE):
        raise _NotUnderstood
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            tree = import_module("re._parser").parse(pattern, flags)
        if tree.state.flags & ~int(re.UNICODE):
            raise _NotUnderstood
    except (ImportError, AttributeError, re.error) as error:
        raise _NotUnderstood from error
    return tree


def _analyze_alternative(text: str, flags: int) -> _Alternative:
    tree = _parsed(text, flags)
    begins, may_be_empty = _edge(tree, at_end=False)
    ends, _ = _edge(tree, at_end=True)
    behind = _behind(tree)
    facts = _Facts([], set(), [])
    reach = facts.width(tree)
    parts = list(tree)
    return _Alternative(
        text=text,
        begins=tuple(dict.fromkeys(begins)),
        ends=tuple(dict.fromkeys(ends)),
        may_be_empty=may_be_empty,
        behind=tuple(dict.fromkeys(behind)),
        required=tuple(sorted(_required_of(tree))),
        endless=tuple(dict.fromkeys(facts.endless)),
        reach=reach,
        anchors=tuple(facts.anchors),
        looks=frozenset(facts.looks),
        is_at_start=text.startswith("^") and _is_anchor(parts[:1], "AT_BEGINNING"),
        is_at_end=_is_anchor(parts[-1:], "AT_END"),
    )


def _is_anchor(parts: list[Any], anchor: str) -> bool:
    return any(part.name == "AT" and value.name == anchor for part, value in parts)


def _behind(tree: Any) -> list[str]:
    for part, value in tree:
        if part.name != "ASSERT" or value[0] > 0:
            break
        found, may_be_empty = _edge(value[1], at_end=True)
        if not may_be_empty:
            return found
    return []


def _edge(tree: Any, *, at_end: bool) -> tuple[list[str], bool]:
    """Return patterns for the possible first (or last) characters, and whether a match can be empty."""
    found: list[str] = []
    for part, value in reversed(list(tree)) if at_end else tree:
        possible, may_be_empty = _edge_of(part.name, value, at_end=at_end)
        found += possible
        if not may_be_empty:
            return found, False
    return found, True


def _edge_of(name: str, value: Any, *, at_end: bool) -> tuple[list[str], bool]:
    if name in {"AT", "ASSERT", "ASSERT_NOT"}:
        return [], True
    if name == "BRANCH":
        edges = [_edge(branch, at_end=at_end) for branch in value[1]]
        return [one for found, _ in edges for one in found], any(may_be_empty for _, may_be_empty in edges)
    inner = _inner(name, value)
    if inner is None:
        return [_one_character(name, value)], False
    least, _, tree = inner
    found, may_be_empty = _edge(tree, at_end=at_end)
    return found, may_be_empty or least == 0


def _inner(name: str, value: Any) -> tuple[int, int | None, Any] | None:
    """Return the minimum and maximum count and the content of a group or repeat, or None for other parts."""
    if name == "SUBPATTERN":
        _, added_flags, removed_flags, tree = value
        if added_flags or removed_flags:
            raise _NotUnderstood
        return 1, 1, tree
    if name in {"MAX_REPEAT", "MIN_REPEAT"}:
        least, most, tree = value
        return int(least), None if getattr(most, "name", "") == "MAXREPEAT" else int(most), tree
    return None


_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def _one_character(name: str, value: Any) -> str:
    """Return a pattern for a part that is one character wide."""
    if name == "LITERAL":
        return re.escape(chr(value))
    if name == "NOT_LITERAL":
        return f"[^{re.escape(chr(value))}]"
    if name == "ANY":
        return "(?s:.)"
    if name == "IN":
        return f"[{''.join(_class_member(member.name, content) for member, content in value)}]"
    raise _NotUnderstood


def _class_member(name: str, value: Any) -> str:
    if name == "NEGATE":
        return "^"
    if name == "LITERAL":
        return re.escape(chr(value))
    if name == "RANGE":
        return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
    if name == "CATEGORY" and value.name in _CATEGORIES:
        return _CATEGORIES[value.name]
    raise _NotUnderstood


@dataclass(frozen=True)
class _Facts:
    """Properties of an alternative that are collected while its width is computed."""

    anchors: list[str]
    looks: set[str]
    endless: list[str]

    def width(self, tree: Any) -> int:
        return sum(self._width_of(part.name, value) for part, value in tree)

    def _width_of(self, name: str, value: Any) -> int:
        if name == "AT":
            is_boundary = value.name in {"AT_BOUNDARY", "AT_NON_BOUNDARY"}
            self.anchors.append("AT_BOUNDARY" if is_boundary else value.name)
            return int(is_boundary)  # a boundary looks back at one character
        if name in {"ASSERT", "ASSERT_NOT"}:
            direction, tree = value
            self.looks.add("back" if direction < 0 else "ahead")
            return self.width(tree)
        if name == "BRANCH":
            return max(self.width(branch) for branch in value[1])
        inner = _inner(name, value)
        if inner is None:
            _one_character(name, value)
            return 1
        _, most, tree = inner
        if most is None:
            self.endless.extend(_characters(tree))
            self.width(tree)
            return 0
        return most * self.width(tree)


def _characters(tree: Any) -> Iterator[str]:
    """Yield a pattern for each one-character part, at any depth."""
    for part, value in tree:
        if part.name == "BRANCH":
            for branch in value[1]:
                yield from _characters(branch)
        elif part.name in {"AT", "ASSERT", "ASSERT_NOT"}:
            raise _NotUnderstood
        else:
            inner = _inner(part.name, value)
            if inner is None:
                yield _one_character(part.name, value)
            else:
                yield from _characters(inner[2])


def _required_of(tree: Any) -> set[str]:
    """Return the characters that every match contains."""
    required: set[str] = set()
    for part, value in tree:
        if part.name == "LITERAL":
            required.add(chr(value))
        elif part.name == "BRANCH":
            required |= set.intersection(*(_required_of(branch) for branch in value[1]))
        else:
            inner = _inner(part.name, value)
            if inner is not None and inner[0] > 0:
                required |= _required_of(inner[2])
    return required
