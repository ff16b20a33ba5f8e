"""Turn raw text into words and the markers that stand before them: named, versioned sets of pure rules.

In: a checked string. Out: words (lower case, without white space) with their markers. Markers never become part of a
word, so a user who types ``xxmaj`` gets four ordinary letters and more, never the marker. Does not know of ids.

The set ``bothways-1`` does what fastai's rules do well (repeated characters, repeated words, capitals) without
their losses: digits are never collapsed, capitals are seen inside brackets and compounds, entities are decoded once.
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator

from tokenizers.normalizers import NFC

WORD_START = "▁"
"""The sign that subword pieces carry at the start of a word; replaced where a user typed it."""

LONGEST_WORD = 256
"""Characters without white space that are taken as one word; what is longer is cut into several."""

REPEAT_STEPS = (3, 4, 5, 10)
"""A repetition is told in these steps: at least so many times."""

START = "xxbos"
CAPITALISED = "xxmaj"
ALL_CAPITALS = "xxup"
CHARACTER_REPEATED = tuple(f"xxrep-{step}" for step in REPEAT_STEPS)
WORD_REPEATED = tuple(f"xxwrep-{step}" for step in REPEAT_STEPS)
SPECIAL_TOKENS = (START, CAPITALISED, ALL_CAPITALS, *CHARACTER_REPEATED, *WORD_REPEATED)

Rule = Callable[[str], str]
Word = tuple[tuple[str, ...], str]
"""A word's markers, and the word."""

_UNFINISHED_TAG = re.compile(r"<br\s{0,3}\Z", re.IGNORECASE)
_LONGEST_UNFINISHED_TAG = 6
_LINE_BREAK_TAG = re.compile(r"<br\s{0,3}/?>", re.IGNORECASE)
_ENDLESS_ENTITY = re.compile(r"&#[0-9]{100,};?")  # no character; Python refuses to read such long numbers
_REPEATED_CHARACTER = re.compile(r"([^\s\d])\1{2,}")
_compose = NFC()


def decode_html(text: str) -> str:
    """Decode entities once and turn ``<br>`` into a line break."""
    if "<" in text:
        text = _LINE_BREAK_TAG.sub("\n", text)
    if "&" in text:
        text = html.unescape(_ENDLESS_ENTITY.sub("\N{REPLACEMENT CHARACTER}", text))
    return text


def replace_invisible(text: str) -> str:
    """Turn control characters, non-characters and byte order marks into spaces, and a typed ``▁`` into ``_``."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_INVISIBLE)


def compose(text: str) -> str:
    """Write letters with accents in their composed form (NFC), by a routine that is linear for any input."""
    if text.isascii():
        return text
    return str(_compose.normalize_str(text))


class _InvisibleCharacters(dict[int, str | int]):
    """Characters that are replaced, found out on first sight."""

    def __missing__(self, code: int) -> str | int:
        character = chr(code)
        is_noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
        if unicodedata.category(character) == "Cc" or is_noncharacter or code == 0xFEFF:
            replacement: str | int = " "
        elif character == WORD_START:
            replacement = "_"
        else:
            replacement = code
        self[code] = replacement
        return replacement


_INVISIBLE = _InvisibleCharacters()

CLEANING_RULES: dict[str, tuple[Rule, ...]] = {"bothways-1": (decode_html, replace_invisible, compose)}


def clean(text: str, rules: str) -> str:
    """Return the text after every rule of a named set, in order."""
    for rule in CLEANING_RULES[rules]:
        text = rule(text)
    return text


def split_chunks(cleaned: str) -> Iterator[tuple[str, int]]:
    """Return each chunk between white space with the number of times it stands there in a row (at least 1).

    A chunk that is repeated three times or more (whatever its capitals) comes once with its count; chunks longer than
    ``LONGEST_WORD`` are cut.
    """
    waiting: list[str] = []  # the same chunk, up to now
    count = 0
    folded = ""
    for chunk in _cut_chunks(cleaned):
        lower = chunk.lower()
        if waiting and lower == folded:
            count += 1
            if count < 3:
                waiting.append(chunk)
            continue
        yield from _told(waiting, count)
        waiting, count, folded = [chunk], 1, lower
    yield from _told(waiting, count)


def settled_characters(text: str, rules: str) -> int:
    """Return how many characters at the start of a text become the same words whatever comes behind the text.

    They end before a chunk that is complete, and another one than the chunk before it: or they would be repetitions.
    No rule looks across a space or a line break for anything else, but that for ``<br />``.
    """
    words = _words_from_the_end(text)
    for (start, end), before in itertools.pairwise(words):
        if end == len(text):
            continue  # it may go on
        if any(
            _UNFINISHED_TAG.search(text, max(0, at - _LONGEST_UNFINISHED_TAG), at) for at in (before[0], start, end)
        ):
            continue
        last, first = (list(_cut_chunks(clean(text[slice(*span)], rules))) for span in (before, (start, end)))
        if last and first and last[-1].lower() != first[0].lower():
            return start
    return 0


def _words_from_the_end(text: str) -> Iterator[tuple[int, int]]:
    """Return start and end of each stretch without a space or line break, the last one first."""
    found = dict.fromkeys(" \n", len(text))
    end = len(text)
    while end > 0:
        for sign, place in found.items():
            if place >= end:
                found[sign] = text.rfind(sign, 0, end)
        start = max(found.values()) + 1
        if start < end:
            yield start, end
        end = start - 1


def mark_chunk(chunk: str) -> Word:
    """Return the word that a chunk holds in lower case, with the markers for what that loses."""
    special_tokens: list[str] = []
    letters = [character for character in chunk if character.isupper() or character.islower()]
    capitals = sum(character.isupper() for character in letters)
    if len(letters) > 1 and capitals == len(letters):
        special_tokens.append(ALL_CAPITALS)
    elif len(letters) > 1 and letters[0].isupper():
        special_tokens.append(CAPITALISED)
    word = chunk.lower()
    longest = max((len(match.group()) for match in _REPEATED_CHARACTER.finditer(word)), default=0)
    if longest:
        special_tokens.append(_told_as(CHARACTER_REPEATED, longest))
        word = _REPEATED_CHARACTER.sub(r"\1", word)
    return tuple(special_tokens), word


def repetition_marker(count: int) -> tuple[str, ...]:
    """Return the marker for a word that stands ``count`` times in a row: none below three."""
    return (_told_as(WORD_REPEATED, count),) if count >= REPEAT_STEPS[0] else ()


def _cut_chunks(cleaned: str) -> Iterator[str]:
    for match in re.finditer(r"\S+", cleaned):
        chunk = match.group()
        if len(chunk) <= LONGEST_WORD:
            yield chunk
        else:
            yield from (chunk[start : start + LONGEST_WORD] for start in range(0, len(chunk), LONGEST_WORD))


def _told(waiting: list[str], count: int) -> Iterator[tuple[str, int]]:
    if count >= REPEAT_STEPS[0]:
        yield waiting[0], count
    else:
        yield from ((chunk, 1) for chunk in waiting)


def _told_as(special_tokens: tuple[str, ...], count: int) -> str:
    return next(m for m, step in zip(reversed(special_tokens), reversed(REPEAT_STEPS), strict=True) if count >= step)
