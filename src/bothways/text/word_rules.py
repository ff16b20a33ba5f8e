r"""Split a text into words by tables of rules: spaCy's word tokenizer as data, carried out by an engine of our own.

In: a text, and ``WordTables`` (exceptions and regular expressions; data that a bundle can hold). Out: the texts of the
tokens that spaCy 3.8 makes of it, white-space tokens included. Does not know of languages, control tokens or ids, and
never imports spaCy.

**The algorithm.** A text falls into chunks: runs of white space and of everything else; one space after a word only
separates. From each chunk prefixes and suffixes are taken off, one of each a step, until the rest is an exception, a
token by ``token_match``, or nothing more comes off; infixes cut the rest. Then exceptions are looked for once more, in
the tokens of the whole text: those that the affix rules cut up are known by the tokens that they were cut into, and
such a sequence is found also where it crosses a space, or where it only keeps a shorter one from being found.

**The fast way.** Only that last pass looks beyond a chunk, and hardly ever does anything come of it. So what a chunk
becomes on its own is remembered, with the tokens that would carry a match on into the next chunk. A text in which no
chunk begins with such a token is the concatenation of its chunks; any other one takes the exact pass.

**The one deviation.** Chunks longer than ``LONGEST_CHUNK`` are cut into pieces of that length first: the expression for
addresses takes time in the square of a chunk's length, and so does spaCy's loop.
"""

from __future__ import annotations

import re
import string
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

LONGEST_CHUNK = 1_000
"""Characters without a change between white space and others; what is longer is cut."""

LONGEST_EXCEPTION = 256
"""Characters."""

MOST_EXCEPTIONS = 200_000

LONGEST_PATTERN = 4_000_000
"""Characters; the longest known one (French) has 1.5 million."""

ALLOWED_FLAGS = int(re.UNICODE | re.IGNORECASE | re.VERBOSE | re.MULTILINE | re.DOTALL)

_CHUNKS_REMEMBERED = 100_000
_LONGEST_REMEMBERED = 40
_SHORT_REACH = 64  # alternatives that look at no more characters than these are searched together, in a window
_WINDOW = 32  # characters that a repeat without end has to fill before the whole chunk is searched

_CHUNK = re.compile(r"\S+|(?:(?<!\S)|(?! ))\s+")
"""A run of white space or of others; the space that follows a word directly belongs to neither."""

Trie = dict[str, "Trie"]
"""Sequences of tokens, token by token; the key "" says that a sequence ends here."""

_END = ""

_FREQUENT = string.ascii_letters + string.digits

Span = tuple[int, int]
"""The length of a run of tokens with a minus sign, and the place of its first: in the order in which spans count."""


class Pattern(BaseModel):
    """A regular expression of Python's ``re``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pattern: Annotated[str, Field(max_length=LONGEST_PATTERN)]
    flags: int

    def compiled(self) -> re.Pattern[str]:
        """Give the expression, ready for use."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # "possible nested set": what it means today is meant
            return re.compile(self.pattern, self.flags)


class WordTables(BaseModel):
    """The rules of a word tokenizer, complete.

    The expressions are carried out as they are; one made to run for ever will. Tables are trusted like the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    exceptions: Annotated[dict[str, list[str]], Field(max_length=MOST_EXCEPTIONS)]
    """A chunk, and the texts of its tokens, which joined give the chunk."""
    prefix: Pattern | None
    suffix: Pattern | None
    infix: Pattern | None
    token_match: Pattern | None
    url_match: Pattern | None
    faster_heuristics: bool = True
    """Look for an exception in the whole text only if the other rules or a space could cut it up."""

    @model_validator(mode="after")
    def _agree(self) -> WordTables:
        for chunk, tokens in self.exceptions.items():
            if not 0 < len(chunk) <= LONGEST_EXCEPTION:
                raise ValueError(f"an exception has {len(chunk)} characters, expected 1 to {LONGEST_EXCEPTION}")
            if not all(tokens) or "".join(tokens) != chunk:
                raise ValueError(f"the tokens {tokens} of the exception {chunk!r} do not make it up")
        for name in ("prefix", "suffix", "infix", "token_match", "url_match"):
            rule: Pattern | None = getattr(self, name)
            if rule is not None:
                _check_pattern(name, rule)
        return self


def _check_pattern(name: str, rule: Pattern) -> None:
    if rule.flags & ~ALLOWED_FLAGS:
        raise ValueError(f"the flags {rule.flags} of the {name} pattern are not all of {ALLOWED_FLAGS}")
    try:
        rule.compiled()
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise ValueError(f"the {name} pattern is no regular expression: {error}") from error


class _Entry(NamedTuple):
    """What a chunk becomes."""

    cut: tuple[str, ...]
    """By affixes, infixes and as an exception itself."""
    final: tuple[str, ...]
    """After the last pass, if no match crosses the chunk's borders."""
    carries_on: frozenset[str]
    """The tokens of which one, next, would carry a match on over the chunk's end."""


class WordSplitter:
    """Splits texts by tables, as spaCy does.

    May be used by many threads: what is remembered is a pure function of the chunk, and a lost or doubled entry costs
    time only.

    Args:
        tables: The rules.
    """

    def __init__(self, tables: WordTables) -> None:
        self.tables = tables
        self._exceptions = {chunk: tuple(tokens) for chunk, tokens in tables.exceptions.items()}
        self._longest_exception = max(map(len, self._exceptions), default=0)
        self._token_match = _whole_match(tables.token_match)
        self._url_match = _whole_match(tables.url_match)
        prefixes, suffixes, infixes = map(_analysed, (tables.prefix, tables.suffix, tables.infix))
        self._infixes = _infix_finder(tables.infix, infixes)
        self._for_space = _Affixes(_searched_length(tables.prefix), _searched_length(tables.suffix))
        self._for_words = _word_affixes(prefixes, suffixes) or self._for_space
        self._could_be_cut = _sign_search(prefixes, suffixes, infixes)
        self._sequences = self._find_sequences()
        self._later_tokens = frozenset(_later_tokens(self._sequences))
        self._entries: dict[str, _Entry] = {}
        self._finals: dict[str, tuple[str, ...]] = {}  # only of chunks that can't carry on what came before

    def split(self, text: str) -> list[str]:
        """Give the tokens' texts, in order; without single spaces between them, and with all other white space."""
        chunks = _chunks(text)
        finals: list[tuple[str, ...] | None] = list(map(self._finals.get, chunks))
        if not all(finals):
            later_tokens = self._later_tokens
            for place, final in enumerate(finals):
                if final is None:
                    entry = self._entry(chunks[place])
                    if entry.cut[0] in later_tokens and place:
                        before = self._entry(chunks[place - 1])
                        if entry.cut[0] in before.carries_on:
                            return self._split_exactly(text)
                    finals[place] = entry.final
        return list(chain.from_iterable(finals))  # type: ignore[arg-type]

    def _entry(self, chunk: str) -> _Entry:
        entry = self._entries.get(chunk)
        if entry is None:
            entry = self._made_entry(chunk)
            if len(chunk) <= _LONGEST_REMEMBERED:
                if len(self._entries) >= _CHUNKS_REMEMBERED:
                    self._finals.clear()
                    self._entries.clear()
                self._entries[chunk] = entry
                if entry.cut[0] not in self._later_tokens:
                    self._finals[chunk] = entry.final
        return entry

    def _made_entry(self, chunk: str) -> _Entry:
        cut = self._exceptions.get(chunk)
        if cut is None:
            cut = tuple(self._cut(chunk, knows_exceptions=True)) if self._could_be_cut(chunk) else (chunk,)
        if self._sequences.keys().isdisjoint(cut):
            return _Entry(cut, cut, frozenset())
        spans = self._matches(cut)
        final = tuple(self._replaced(cut, [False] * len(cut), spans)) if spans else cut
        return _Entry(cut, final, frozenset(self._carrying_on(cut)))

    def _split_exactly(self, text: str) -> list[str]:
        """Give the tokens of a text in which a match may cross the border of two chunks."""
        tokens: list[str] = []
        separated: list[bool] = []  # whether a space follows that belongs to no token
        for match in _CHUNK.finditer(text):
            for piece in _pieces(match.group()):
                cut = self._entry(piece).cut
                tokens += cut
                separated += [False] * len(cut)
            separated[-1] = text[match.end() : match.end() + 1] == " "
        return self._replaced(tokens, separated, self._matches(tokens))

    # One chunk ---------------------------------------------------------------------------------------------------

    def _cut(self, chunk: str, *, knows_exceptions: bool) -> list[str]:
        """Give a chunk's tokens by affixes and infixes."""
        affixes = self._for_space if chunk.isspace() else self._for_words
        prefix_length, suffix_length = affixes.prefix_length, affixes.suffix_length
        token_match, longest = self._token_match, self._longest_exception if knows_exceptions else 0
        exceptions = self._exceptions
        before: list[str] = []
        behind: list[str] = []
        start, stop, last_length = 0, len(chunk), 0
        while start < stop and stop - start != last_length:
            if token_match is not None and token_match(chunk[start:stop]):
                break
            if stop - start <= longest and chunk[start:stop] in exceptions:
                break
            last_length = stop - start
            inner_start = start + prefix_length(chunk, start, stop)
            if start < inner_start < stop and stop - inner_start <= longest and chunk[inner_start:stop] in exceptions:
                before.append(chunk[start:inner_start])
                start = inner_start
                break
            inner_stop = stop - suffix_length(chunk, inner_start, stop)
            if start < inner_stop < stop and inner_stop - start <= longest and chunk[start:inner_stop] in exceptions:
                behind.append(chunk[inner_stop:stop])
                stop = inner_stop
                break
            if inner_start > start:
                before.append(chunk[start:inner_start])
                start = inner_start
            if inner_stop < stop:
                behind.append(chunk[inner_stop:stop])
                stop = inner_stop
        if start < stop:
            before += self._cut_inside(chunk[start:stop], knows_exceptions=knows_exceptions)
        behind.reverse()
        return before + behind

    def _cut_inside(self, middle: str, *, knows_exceptions: bool) -> Sequence[str]:
        """Give the tokens of what is left of a chunk without its affixes."""
        if knows_exceptions and middle in self._exceptions:
            return self._exceptions[middle]
        if (self._token_match is not None and self._token_match(middle)) or (
            self._url_match is not None and self._url_match(middle)
        ):
            return (middle,)
        tokens: list[str] = []
        start = 0
        for infix_start, infix_stop in self._infixes(middle):
            if infix_start == 0:
                continue
            if infix_start != start:
                tokens.append(middle[start:infix_start])
            if infix_start != infix_stop:
                tokens.append(middle[infix_start:infix_stop])
            start = infix_stop
        if start < len(middle):
            tokens.append(middle[start:])
        return tokens

    # The last pass -----------------------------------------------------------------------------------------------

    def _find_sequences(self) -> Trie:
        """Give the sequences of tokens that exceptions are cut into where no exception is known."""
        root: Trie = {}
        for exception in self._exceptions:
            if self.tables.faster_heuristics and not self._can_be_cut(exception):
                continue
            node = root
            for chunk in _CHUNK.findall(exception):
                for token in self._cut(chunk, knows_exceptions=False):
                    node = node.setdefault(token, {})
            node[_END] = {}
        return root

    def _can_be_cut(self, exception: str) -> bool:
        if " " in exception:
            return True
        has_space = any(map(str.isspace, exception))
        affixes = self._for_space if has_space else self._for_words
        return (
            affixes.prefix_length(exception, 0, len(exception)) > 0
            or affixes.suffix_length(exception, 0, len(exception)) > 0
            or bool(self._infixes(exception))
        )

    def _matches(self, tokens: Sequence[str]) -> list[Span]:
        """Give where the sequences stand."""
        root, count = self._sequences, len(tokens)
        found: list[Span] = []
        for start in range(count):
            node = root.get(tokens[start])
            stop = start + 1
            while node is not None:
                if _END in node:
                    found.append((start - stop, start))
                if stop == count:
                    break
                node = node.get(tokens[stop])
                stop += 1
        return found

    def _carrying_on(self, tokens: Sequence[str]) -> Iterator[str]:
        """Give the tokens that would carry on a sequence that reaches the end of these."""
        for start in range(max(0, len(tokens) - LONGEST_EXCEPTION), len(tokens)):
            node = self._sequences
            for token in tokens[start:]:
                if token not in node:
                    break
                node = node[token]
            else:
                yield from (following for following in node if following != _END)

    def _replaced(self, tokens: Sequence[str], separated: Sequence[bool], spans: list[Span]) -> list[str]:
        """Give the tokens with the tokens of exceptions put in where those stand.

        The longest come first, of equal ones the earliest. A span is left alone if its first or last token lies in an
        earlier one, whether that one was itself left alone or not.
        """
        seen: set[int] = set()
        kept: list[tuple[int, int]] = []
        for minus_length, start in sorted(spans):
            stop = start - minus_length
            if start not in seen and stop - 1 not in seen:
                kept.append((start, stop))
            seen.update(range(start, stop))
        result: list[str] = []
        done = 0
        for start, stop in sorted(kept):
            text = tokens[start]
            for place in range(start + 1, stop):
                text += f" {tokens[place]}" if separated[place - 1] else tokens[place]
            result += tokens[done:start]
            result += self._exceptions.get(text) or tokens[start:stop]
            done = stop
        result += tokens[done:]
        return result


def _chunks(text: str) -> list[str]:
    chunks = text.split()
    if " ".join(chunks) != text:  # other white space than single spaces between words
        chunks = _CHUNK.findall(text)
    if len(text) > LONGEST_CHUNK and max(map(len, chunks)) > LONGEST_CHUNK:
        chunks = [piece for chunk in chunks for piece in _pieces(chunk)]
    return chunks


def _pieces(chunk: str) -> Iterable[str]:
    if len(chunk) <= LONGEST_CHUNK:
        return (chunk,)
    return (chunk[start : start + LONGEST_CHUNK] for start in range(0, len(chunk), LONGEST_CHUNK))


def _later_tokens(node: Trie) -> Iterator[str]:
    """Give every token of a trie that is not a sequence's first."""
    for following in node.values():
        yield from (token for token in following if token != _END)
        yield from _later_tokens(following)


# Expressions, tried at as few places as can be proven enough ---------------------------------------------------------

_Length = Callable[[str, int, int], int]
"""The length of the affix that a chunk has between two places; 0 for none."""


class _Affixes(NamedTuple):
    prefix_length: _Length
    suffix_length: _Length


def _searched_length(rule: Pattern | None) -> _Length:
    """Give a function that searches all it is given: what spaCy does, for any expression and any chunk."""
    if rule is None:
        return lambda _chunk, _start, _stop: 0
    search = rule.compiled().search

    def length(chunk: str, start: int, stop: int) -> int:
        match = search(chunk[start:stop])
        return match.end() - match.start() if match else 0

    return length


def _word_affixes(prefixes: _Analysis, suffixes: _Analysis) -> _Affixes | None:
    """Give faster functions for chunks that hold no white space, or None if nothing can be proven."""
    if prefixes is None or suffixes is None:
        return None
    try:
        return _Affixes(_Prefixes(prefixes).length, _Suffixes(suffixes).length)
    except _NotUnderstood:
        return None


def _sign_search(*rules: _Analysis) -> Callable[[str], object]:
    """Give a function that finds nothing in a string in which none of the rules can match.

    That is most words of most languages.
    """
    signs: dict[str, None] = {}
    try:
        for rule in rules:
            if rule is None:
                return bool
            for alternative in rule:
                signs.update(dict.fromkeys(alternative.signs()))
    except _NotUnderstood:
        return bool
    return re.compile("|".join(signs)).search if signs else lambda _chunk: None


def _whole_match(rule: Pattern | None) -> Callable[[str], bool] | None:
    """Give a function that says whether an expression matches at a string's start."""
    if rule is None:
        return None
    match = rule.compiled().match
    try:
        required = _required_of(_parsed(rule.pattern, rule.flags))
    except (_NotUnderstood, RecursionError):
        required = set()
    if not required:
        return lambda chunk: match(chunk) is not None
    if len(required) == 1:
        only = next(iter(required))
        return lambda chunk: only in chunk and match(chunk) is not None
    return lambda chunk: all(character in chunk for character in required) and match(chunk) is not None


def _infix_finder(rule: Pattern | None, alternatives: _Analysis) -> Callable[[str], list[tuple[int, int]]]:
    """Give a function that finds all places of an expression."""
    if rule is None:
        return lambda _middle: []
    find_all = rule.compiled().finditer
    could_have_one = _sign_search(alternatives)

    def find(middle: str) -> list[tuple[int, int]]:
        return [match.span() for match in find_all(middle)] if could_have_one(middle) else []

    return find


class _Prefixes:
    """Finds a chunk's prefix among the alternatives that can begin with its first character.

    An alternative that is not tied to the start may stand anywhere; its length counts at the start all the same.
    """

    def __init__(self, alternatives: Sequence[_Alternative]) -> None:
        for alternative in alternatives:
            anchors, looks = (("AT_BEGINNING",), {"ahead"}) if alternative.is_at_start else ((), set())
            if alternative.anchors != anchors or alternative.looks - looks or alternative.may_be_empty:
                raise _NotUnderstood
        # Without its "^" an alternative can be matched at any place of a chunk.
        self._texts = [a.text.removeprefix("^") if a.is_at_start else a.text for a in alternatives]
        self._begins = [re.compile("|".join(a.begins)) for a in alternatives]
        self._by_first: dict[str, re.Pattern[str] | None] = {}
        self._compiled: dict[tuple[str, ...], re.Pattern[str] | None] = {(): None}
        floating = [alternative.text for alternative in alternatives if not alternative.is_at_start]
        self._floating = re.compile("|".join(floating)) if floating else None
        self._without_floating = ""  # the last chunk that none stood in: none stands in a part of it

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
    """Finds a chunk's suffix among the alternatives that can end with its last character.

    All end where the chunk ends, so the one that begins first is the longest, whatever their order. Those that look at
    few characters are searched together in a window at the end.
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
    """One alternative that looks at many characters, or at any number of them."""

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
            # A match that begins before the window fills it, all but ``reach`` characters with those it can repeat.
            window = chunk[stop - self.reach - _WINDOW : stop]
            if len(window) - len(self.endless.findall(window)) > self.reach:
                start = stop - 2 * self.reach - _WINDOW
        part = chunk[start:stop]
        match = self.search(part) if all(character in part for character in self.required) else None
        return match.end() - match.start() if match else 0


# What can be said about an expression from its parts -----------------------------------------------------------------


class _NotUnderstood(Exception):  # noqa: N818  (no error: the expression is searched in full)
    """Nothing can be proven about an expression."""


@dataclass(frozen=True)
class _Alternative:
    """One of the expressions between the bars of an expression."""

    text: str
    begins: tuple[str, ...]
    """Expressions of one character each: what the first character can be."""
    ends: tuple[str, ...]
    """The same for the last one."""
    may_be_empty: bool
    behind: tuple[str, ...]
    """The same for the character before a match; nothing if it can be any or none."""
    required: tuple[str, ...]
    """Characters that every match contains."""
    endless: tuple[str, ...]
    """The same for every character within a repeat without end."""
    reach: int
    """How many characters are looked at, apart from repeats without end, those looked back at included."""
    anchors: tuple[str, ...]
    looks: frozenset[str]
    """Whether it looks "back" or "ahead"."""
    is_at_start: bool
    is_at_end: bool

    def signs(self) -> tuple[str, ...]:
        """Give expressions of characters of which a string with a match contains at least one.

        They are those that it begins with, those that stand before it, or one that it can't do without: whichever fewer
        words contain.
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
"""A comment, or the flag that allows comments: brackets and bars in them mean nothing."""

_Analysis = list[_Alternative] | None


def _analysed(rule: Pattern | None) -> _Analysis:
    """Give the alternatives of an expression, or None if something in it has no place in this analysis."""
    if rule is None:
        return []
    try:
        _parsed(rule.pattern, rule.flags)
        if _READ_OTHERWISE.search(rule.pattern):
            return None
        return [_analysed_alternative(text, rule.flags) for text in _split_at_bars(rule.pattern)]
    except (_NotUnderstood, RecursionError):
        return None


def _split_at_bars(pattern: str) -> list[str]:
    """Give the parts between the bars that stand in no group and no class."""
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
    if pattern.startswith("]", place):  # as the first character it stands for itself
        place += 1
    while not pattern.startswith("]", place):
        place += 2 if pattern[place] == "\\" else 1
    return place


def _parsed(pattern: str, flags: int) -> Any:
    """Give the tree that Python's own compiler makes of an expression.

    The module is private to Python. Where it is gone or gives something new, expressions are searched in full: slower,
    with the same result.
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


def _analysed_alternative(text: str, flags: int) -> _Alternative:
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
    """Give expressions of what the first (or last) character can be, and whether there may be none."""
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
    """Give what a group or repeat holds, with how often it stands at least and at most; None for other parts."""
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
    """Give an expression for a part that is one character wide."""
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
    """What is gathered on the way while widths are added up."""

    anchors: list[str]
    looks: set[str]
    endless: list[str]

    def width(self, tree: Any) -> int:
        return sum(self._width_of(part.name, value) for part, value in tree)

    def _width_of(self, name: str, value: Any) -> int:
        if name == "AT":
            is_boundary = value.name in {"AT_BOUNDARY", "AT_NON_BOUNDARY"}
            self.anchors.append("AT_BOUNDARY" if is_boundary else value.name)
            return int(is_boundary)  # it looks back at one character
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
    """Give an expression for each one-character part, however deep."""
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
    """Give characters that every match contains."""
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
