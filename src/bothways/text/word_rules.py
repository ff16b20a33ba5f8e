r"""Split a text into words by tables of rules: spaCy's word tokenizer as data, without spaCy.

The input is a text and ``WordTables`` (exceptions and regular expressions, which a bundle stores). The output are the
texts of the tokens that spaCy 3.8 produces, including white-space tokens.

**Algorithm.** A text is split into chunks: runs of white space and runs of other characters. A single space after a
word is only a separator. Prefixes and suffixes are removed from each chunk, one of each per step, until the rest is an
exception, matches ``token_match``, or has no more affixes. Infixes split the rest. A last pass searches for exceptions
in the tokens of the whole text. Exceptions that the affix rules split are found as the sequence of their tokens. Such a
sequence is also found where it spans a space, or where it only prevents a shorter one from being found.

**Fast path.** Only the last pass looks beyond a chunk, and it rarely changes anything. The tokens of each chunk are
therefore cached, together with the tokens that would continue a match into the next chunk. If no chunk of a text begins
with such a token, the tokens of the text are those of its chunks. Any other text takes the exact path.

**Deviation.** Chunks longer than ``LONGEST_CHUNK`` are cut into pieces of that length first, because spaCy's pattern
for URLs and its loop over affixes take quadratic time (docs/decisions/009).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Annotated, NamedTuple, TypeVar

from pydantic import Field, model_validator

from bothways.errors import quoted, shown
from bothways.schema import Document, Entries, Items
from bothways.text.pattern_limits import PatternCost, check_cost, start_match
from bothways.text.word_patterns import (
    Affixes,
    Pattern,
    analyzed,
    infix_finder,
    possible_match_search,
    searched_length,
    start_matcher,
    word_affixes,
)

LONGEST_CHUNK = 1_000
"""Maximum number of characters per chunk. Longer chunks are cut."""

LONGEST_EXCEPTION = 256
"""Maximum number of characters per exception."""

MOST_EXCEPTIONS = 200_000
"""Maximum number of exceptions."""

LONGEST_AFFIX_RULES = 100_000
"""Maximum number of characters of the patterns of prefixes, suffixes and infixes together. Their alternatives are
analyzed one by one. The longest known ones (Swedish) have 50,000."""

WIDEST_AFFIX_CLASSES = 2_000_000
"""Maximum number of code points of the character classes of all patterns but ``token_match``. The widest known ones
have 1.2 million."""

ALLOWED_FLAGS = int(re.UNICODE | re.IGNORECASE)

_Read = TypeVar("_Read")

_MAX_CACHED_CHUNKS = 100_000
_MAX_CACHED_CHUNK_LENGTH = 40

_CHUNK = re.compile(r"\S+|(?:(?<!\S)|(?! ))\s+")
"""A run of white space or of other characters. The single space that follows a word belongs to neither."""

Trie = dict[str, "Trie"]
"""Sequences of tokens as nested dictionaries. The key "" marks the end of a sequence."""

_END = ""

Span = tuple[int, int]
"""The negative length of a run of tokens, and the position of its first token. Spans sort by their precedence."""


class WordTables(Document):
    """The complete rules of a word tokenizer.

    Patterns that could run for a long time are refused (``pattern_limits``).
    """

    exceptions: Annotated[Entries[Items[str]], Field(max_length=MOST_EXCEPTIONS)]
    """Chunks, each with the texts of its tokens. The concatenated tokens equal the chunk."""
    prefix: Pattern | None
    suffix: Pattern | None
    infix: Pattern | None
    token_match: Pattern | None
    url_match: Pattern | None
    faster_heuristics: bool = True
    """Whether the last pass searches only for exceptions that the other rules or a space could split."""

    @model_validator(mode="after")
    def _agree(self) -> WordTables:
        for chunk, tokens in self.exceptions.items():
            if not 0 < len(chunk) <= LONGEST_EXCEPTION:
                raise ValueError(f"an exception has {len(chunk)} characters, expected 1 to {LONGEST_EXCEPTION}")
            if not all(tokens) or "".join(tokens) != chunk:
                raise ValueError(f"the tokens {shown(tokens)} of the exception {quoted(chunk)} do not add up to it")
        affixes = sum(len(rule.pattern) for rule in (self.prefix, self.suffix, self.infix) if rule is not None)
        if affixes > LONGEST_AFFIX_RULES:
            raise ValueError(
                f"the patterns of affixes have {affixes} characters, expected at most {LONGEST_AFFIX_RULES}"
            )
        names = ("prefix", "suffix", "infix", "url_match", "token_match")
        rules = {name: rule for name in names if (rule := getattr(self, name)) is not None}
        widths = {name: _checked_width(name, rule) for name, rule in rules.items()}
        width = sum(width for name, width in widths.items() if name != "token_match")
        if width > WIDEST_AFFIX_CLASSES:
            raise ValueError(
                f"the character classes of the patterns have {width} characters, expected at most "
                f"{WIDEST_AFFIX_CLASSES}"
            )
        for name, rule in rules.items():
            if name in {"url_match", "token_match"}:
                _refuse_invalid(name, partial(start_match, rule.pattern, rule.flags))
            else:
                _refuse_invalid(name, rule.compiled)
        return self


def _checked_width(name: str, rule: Pattern) -> int:
    """Return the number of code points of a pattern's character classes, or raise if it could take long."""
    if rule.flags & ~ALLOWED_FLAGS:
        raise ValueError(f"the {name} pattern has the flags {rule.flags}, expected a subset of {ALLOWED_FLAGS}")
    try:
        return _refuse_invalid(name, lambda: check_cost(rule.pattern, rule.flags))
    except PatternCost as error:
        raise ValueError(f"the {name} pattern can't be used safely: {error}") from None


def _refuse_invalid(name: str, read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the {name} pattern is not a valid regular expression: {shown(str(error))}") from error


class _Entry(NamedTuple):
    """The tokens of a chunk."""

    cut: tuple[str, ...]
    """Tokens before the last pass: split by affixes and infixes, or as an exception."""
    final: tuple[str, ...]
    """Tokens after the last pass, if no match crosses the boundaries of the chunk."""
    continuations: frozenset[str]
    """Tokens that would continue a match beyond the end of the chunk if the next chunk began with one of them."""


class WordSplitter:
    """Splits texts into words by tables, as spaCy does.

    It is safe to share between threads. Cached entries are a pure function of the chunk, so an entry that is lost or
    computed twice only costs time.

    Args:
        tables: The rules.
    """

    def __init__(self, tables: WordTables) -> None:
        self.tables = tables
        self._exceptions = {chunk: tuple(tokens) for chunk, tokens in tables.exceptions.items()}
        self._longest_exception = max(map(len, self._exceptions), default=0)
        self._token_match = start_matcher(tables.token_match)
        self._url_match = start_matcher(tables.url_match)
        prefixes, suffixes, infixes = map(analyzed, (tables.prefix, tables.suffix, tables.infix))
        self._infixes = infix_finder(tables.infix, infixes)
        self._for_space = Affixes(searched_length(tables.prefix), searched_length(tables.suffix))
        self._for_words = word_affixes(prefixes, suffixes) or self._for_space
        self._could_be_cut = possible_match_search(prefixes, suffixes, infixes)
        self._sequences = self._find_sequences()
        self._later_tokens = frozenset(_later_tokens(self._sequences))
        self._entries: dict[str, _Entry] = {}
        self._finals: dict[str, tuple[str, ...]] = {}  # only chunks that can't continue a match of an earlier chunk

    def split(self, text: str) -> list[str]:
        """Return the texts of the tokens in order. Single spaces between words are not tokens, other white space is."""
        chunks = _chunks(text)
        finals: list[tuple[str, ...] | None] = list(map(self._finals.get, chunks))
        if not all(finals):
            later_tokens = self._later_tokens
            for place, final in enumerate(finals):
                if final is None:
                    entry = self._entry(chunks[place])
                    if entry.cut[0] in later_tokens and place:
                        before = self._entry(chunks[place - 1])
                        if entry.cut[0] in before.continuations:
                            return self._split_exactly(text)
                    finals[place] = entry.final
        return list(chain.from_iterable(finals))  # type: ignore[arg-type]

    def can_return(self, word: str) -> bool:
        """Return whether a word could be a token: tokens are not empty."""
        return bool(word)

    def _entry(self, chunk: str) -> _Entry:
        entry = self._entries.get(chunk)
        if entry is None:
            entry = self._make_entry(chunk)
            if len(chunk) <= _MAX_CACHED_CHUNK_LENGTH:
                if len(self._entries) >= _MAX_CACHED_CHUNKS:
                    self._finals.clear()
                    self._entries.clear()
                self._entries[chunk] = entry
                if entry.cut[0] not in self._later_tokens:
                    self._finals[chunk] = entry.final
        return entry

    def _make_entry(self, chunk: str) -> _Entry:
        cut = self._exceptions.get(chunk)
        if cut is None:
            cut = tuple(self._cut(chunk, knows_exceptions=True)) if self._could_be_cut(chunk) else (chunk,)
        if self._sequences.keys().isdisjoint(cut):
            return _Entry(cut, cut, frozenset())
        spans = self._matches(cut)
        final = tuple(self._replaced(cut, [False] * len(cut), spans)) if spans else cut
        return _Entry(cut, final, frozenset(self._continuations(cut)))

    def _split_exactly(self, text: str) -> list[str]:
        """Return the tokens of a text in which a match may cross the boundary between two chunks."""
        tokens: list[str] = []
        separated: list[bool] = []  # whether a space that belongs to no token follows each token
        for match in _CHUNK.finditer(text):
            for piece in _pieces(match.group()):
                cut = self._entry(piece).cut
                tokens += cut
                separated += [False] * len(cut)
            separated[-1] = text[match.end() : match.end() + 1] == " "
        return self._replaced(tokens, separated, self._matches(tokens))

    # One chunk ---------------------------------------------------------------------------------------------------

    def _cut(self, chunk: str, *, knows_exceptions: bool) -> list[str]:
        """Split a chunk by affixes and infixes."""
        affixes = self._for_space if chunk.isspace() else self._for_words
        prefix_length, suffix_length = affixes.prefix_length, affixes.suffix_length
        token_match, longest = self._token_match, self._longest_exception if knows_exceptions else 0
        exceptions = self._exceptions
        before: list[str] = []
        behind: list[str] = []
        start, stop, last_length = 0, len(chunk), 0
        while start < stop and stop - start != last_length:
            if token_match is not None and token_match(chunk, start, stop):
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
        """Split what remains of a chunk without its affixes."""
        if knows_exceptions and middle in self._exceptions:
            return self._exceptions[middle]
        if any(match is not None and match(middle, 0, len(middle)) for match in (self._token_match, self._url_match)):
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
        """Return the token sequences that exceptions are split into by affixes and infixes alone."""
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
        """Return the spans of all exceptions' token sequences."""
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

    def _continuations(self, tokens: Sequence[str]) -> Iterator[str]:
        """Yield the tokens that would continue a sequence that reaches the end of these tokens."""
        for start in range(max(0, len(tokens) - LONGEST_EXCEPTION), len(tokens)):
            node = self._sequences
            for token in tokens[start:]:
                if token not in node:
                    break
                node = node[token]
            else:
                yield from (following for following in node if following != _END)

    def _replaced(self, tokens: Sequence[str], separated: Sequence[bool], spans: list[Span]) -> list[str]:
        """Return the tokens with each span replaced by the tokens of its exception.

        Longer spans take precedence, then earlier ones. A span is skipped if its first or last token is inside a span
        with precedence, even if that span was skipped itself.
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
    if " ".join(chunks) != text:  # there is white space other than single spaces between words
        chunks = _CHUNK.findall(text)
    if len(text) > LONGEST_CHUNK and max(map(len, chunks)) > LONGEST_CHUNK:
        chunks = [piece for chunk in chunks for piece in _pieces(chunk)]
    return chunks


def _pieces(chunk: str) -> Iterable[str]:
    if len(chunk) <= LONGEST_CHUNK:
        return (chunk,)
    return (chunk[start : start + LONGEST_CHUNK] for start in range(0, len(chunk), LONGEST_CHUNK))


def _later_tokens(node: Trie) -> Iterator[str]:
    """Yield every token of a trie that is not the first of a sequence."""
    for following in node.values():
        yield from (token for token in following if token != _END)
        yield from _later_tokens(following)
