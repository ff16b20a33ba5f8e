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
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bothways.text.word_patterns import (
    Affixes,
    Pattern,
    analyzed,
    infix_finder,
    searched_length,
    sign_search,
    whole_match,
    word_affixes,
)

LONGEST_CHUNK = 1_000
"""Characters without a change between white space and others; what is longer is cut."""

LONGEST_EXCEPTION = 256
"""Characters."""

MOST_EXCEPTIONS = 200_000


ALLOWED_FLAGS = int(re.UNICODE | re.IGNORECASE | re.VERBOSE | re.MULTILINE | re.DOTALL)

_CHUNKS_REMEMBERED = 100_000
_LONGEST_REMEMBERED = 40

_CHUNK = re.compile(r"\S+|(?:(?<!\S)|(?! ))\s+")
"""A run of white space or of others; the space that follows a word directly belongs to neither."""

Trie = dict[str, "Trie"]
"""Sequences of tokens, token by token; the key "" says that a sequence ends here."""

_END = ""


Span = tuple[int, int]
"""The length of a run of tokens with a minus sign, and the place of its first: in the order in which spans count."""


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
        self._token_match = whole_match(tables.token_match)
        self._url_match = whole_match(tables.url_match)
        prefixes, suffixes, infixes = map(analyzed, (tables.prefix, tables.suffix, tables.infix))
        self._infixes = infix_finder(tables.infix, infixes)
        self._for_space = Affixes(searched_length(tables.prefix), searched_length(tables.suffix))
        self._for_words = word_affixes(prefixes, suffixes) or self._for_space
        self._could_be_cut = sign_search(prefixes, suffixes, infixes)
        self._sequences = self._find_sequences()
        self._later_tokens = frozenset(_later_tokens(self._sequences))
        self._entries: dict[str, _Entry] = {}
        self._finals: dict[str, tuple[str, ...]] = {}  # only of chunks that can't carry on what came before

    def split(self, text: str) -> list[str]:
        """Return the tokens' texts, in order; without single spaces between them, and with all other white space."""
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
        """Return the tokens of a text in which a match may cross the border of two chunks."""
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
        """Return a chunk's tokens by affixes and infixes."""
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
        """Return the tokens of what is left of a chunk without its affixes."""
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
        """Return the sequences of tokens that exceptions are cut into where no exception is known."""
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
        """Return where the sequences stand."""
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
        """Return the tokens that would carry on a sequence that reaches the end of these."""
        for start in range(max(0, len(tokens) - LONGEST_EXCEPTION), len(tokens)):
            node = self._sequences
            for token in tokens[start:]:
                if token not in node:
                    break
                node = node[token]
            else:
                yield from (following for following in node if following != _END)

    def _replaced(self, tokens: Sequence[str], separated: Sequence[bool], spans: list[Span]) -> list[str]:
        """Return the tokens with the tokens of exceptions put in where those stand.

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
    """Return every token of a trie that is not a sequence's first."""
    for following in node.values():
        yield from (token for token in following if token != _END)
        yield from _later_tokens(following)
