"""Clean text and split it into lower-case words with special tokens, by named and versioned sets of rules.

The input is a validated string. The output are words without white space, each with the special tokens that precede
it. A special token is never part of a word: ``xxmaj`` typed by a user becomes ordinary letters, not the special token.

The rule set ``bothways-1`` marks repeated characters, repeated words and capitals as fastai does, but loses less:
digits are never collapsed, capitals inside brackets and compounds are found, and entities are decoded exactly once.
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator

from tokenizers.normalizers import NFC

WORD_START = "▁"
"""The character that marks the start of a word in subword pieces. Replaced in the texts of users."""

MAX_WORD_LENGTH = 256
"""Maximum number of characters per word. Longer runs without white space are cut into several words."""

REPEAT_THRESHOLDS = (3, 4, 5, 10)
"""Repetition counts with a special token of their own. It means "at least this many times"."""

START = "xxbos"
CAPITALIZED = "xxmaj"
ALL_CAPITALS = "xxup"
CHARACTER_REPEATED = tuple(f"xxrep-{count}" for count in REPEAT_THRESHOLDS)
WORD_REPEATED = tuple(f"xxwrep-{count}" for count in REPEAT_THRESHOLDS)
SPECIAL_TOKENS = (START, CAPITALIZED, ALL_CAPITALS, *CHARACTER_REPEATED, *WORD_REPEATED)

Rule = Callable[[str], str]
Word = tuple[tuple[str, ...], str]
"""A word's special tokens, and the word."""

_UNFINISHED_TAG = re.compile(r"<br\s{0,3}\Z", re.IGNORECASE)
_LONGEST_UNFINISHED_TAG = 6
_LINE_BREAK_TAG = re.compile(r"<br\s{0,3}/?>", re.IGNORECASE)
_ENDLESS_ENTITY = re.compile(r"&#[0-9]{100,};?")  # not a character, and Python rejects integers that are too long
_REPEATED_CHARACTER = re.compile(r"([^\s\d])\1{2,}")
_KEPT_REPETITIONS = REPEAT_THRESHOLDS[-1] + 2
_KEPT_SPACES = 4
_LONG_SPACE = re.compile(rf"[ \n]{{{2 * _KEPT_SPACES + 1},}}")
_REPEATED_WORD = re.compile(rf"(?:^|(?<=[ \n]))([^\s&<]{{1,{MAX_WORD_LENGTH}}}[ \n])\1{{{_KEPT_REPETITIONS},}}")
_NOT_INERT = re.compile(r"[\s&<\u1100-\u11ff\U00011000-\U00016fff]")
_compose = NFC()


def decode_html(text: str) -> str:
    """Replace ``<br>`` with a line break and decode HTML entities once."""
    if "<" in text:
        text = _LINE_BREAK_TAG.sub("\n", text)
    if "&" in text:
        text = html.unescape(_ENDLESS_ENTITY.sub("\N{REPLACEMENT CHARACTER}", text))
    return text


def replace_invisible(text: str) -> str:
    """Replace control characters, non-characters and byte order marks with spaces, and ``▁`` with ``_``."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_INVISIBLE)


def compose(text: str) -> str:
    """Normalize to composed characters (NFC), with an implementation that takes linear time for any input."""
    if text.isascii():
        return text
    return str(_compose.normalize_str(text))


class _InvisibleCharacters(dict[int, str | int]):
    """The replacement of each character, computed when it first occurs."""

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
    """Apply the rules of a named set to a text, in order."""
    for rule in CLEANING_RULES[rules]:
        text = rule(text)
    return text


def split_chunks(cleaned: str) -> Iterator[tuple[str, int]]:
    """Yield the chunks between white space, each with the number of its consecutive occurrences.

    A chunk that occurs at least three times in a row, regardless of case, is yielded once with its count. Other chunks
    are yielded one by one with a count of 1. Chunks longer than ``MAX_WORD_LENGTH`` are cut first.
    """
    pending: list[str] = []  # the current run of equal chunks, at most two of them
    count = 0
    folded = ""
    for chunk in _cut_chunks(cleaned):
        lower = chunk.lower()
        if pending and lower == folded:
            count += 1
            if count < 3:
                pending.append(chunk)
            continue
        if count == 1:
            yield pending[0], 1
        else:
            yield from _counted(pending, count)
        pending, count, folded = [chunk], 1, lower
    yield from _counted(pending, count)


def stable_length(text: str, rules: str) -> int:
    """Return the length of the longest prefix known to become the same words regardless of what follows the text.

    The prefix ends before a complete chunk that differs from the chunk before it. Otherwise the two could be part of a
    longer repetition. Apart from repetitions, only the rule for ``<br />`` looks across a space or a line break.
    """
    if len(text) > 3 * MAX_WORD_LENGTH and (length := _stable_length_in_word(text, rules)):
        return length
    words = _words_from_the_end(text)
    for (start, end), before in itertools.pairwise(words):
        if end == len(text):
            continue  # the next part of the text may continue this word
        if any(
            _UNFINISHED_TAG.search(text, max(0, at - _LONGEST_UNFINISHED_TAG), at) for at in (before[0], start, end)
        ):
            continue
        last, first = (list(_cut_chunks(clean(text[slice(*span)], rules))) for span in (before, (start, end)))
        if last and first and last[-1].lower() != first[0].lower():
            return start
    return 0


def _stable_length_in_word(text: str, rules: str) -> int:
    """Return where the last complete chunk of a long last word begins, if it differs from the one before it, or 0."""
    start, count = _chunks_of_last_word(text)
    cut = start + (count - 1) * MAX_WORD_LENGTH
    before, behind = text[cut - MAX_WORD_LENGTH : cut], text[cut : cut + MAX_WORD_LENGTH]
    if count < 2 or before.lower() == behind.lower():
        return 0
    return cut if _is_inert(text[start : cut + 2 * MAX_WORD_LENGTH], rules) else 0


def _chunks_of_last_word(text: str) -> tuple[int, int]:
    """Return the start of the last word, and the number of its complete chunks if it is inert.

    One more chunk follows them, so that nothing that follows the text can be composed with their last character.
    """
    start = max(text.rfind(" "), text.rfind("\n")) + 1
    if _UNFINISHED_TAG.search(text, max(0, start - _LONGEST_UNFINISHED_TAG), start):
        return start, 0
    return start, max(0, (len(text) - start) // MAX_WORD_LENGTH - 1)


def _is_inert(characters: str, rules: str) -> bool:
    """Return whether cleaning keeps these characters of a word, whatever is around them. False in case of doubt."""
    if _NOT_INERT.search(characters) or clean(characters, rules) != characters:
        return False
    return characters.isascii() or not any(unicodedata.category(character)[0] == "M" for character in set(characters))


def without_repetitions(text: str, rules: str) -> str:
    """Return a shorter text with the same words, whatever follows: some repetitions are left out.

    Repetitions beyond ``REPEAT_THRESHOLDS[-1]`` change no special token. They may be of a word, of the chunks of a long
    last word, or of the space between words.
    """
    if len(text) <= 2 * _KEPT_SPACES:
        return text
    text = _LONG_SPACE.sub(lambda match: match.group()[:_KEPT_SPACES] + match.group()[-_KEPT_SPACES:], text)
    repeated = _REPEATED_WORD.search(text)
    if repeated and _is_inert(repeated.group(1)[:-1], rules):
        text = text[: repeated.start()] + repeated.group(1) * _KEPT_REPETITIONS + text[repeated.end() :]
    if len(text) <= _KEPT_REPETITIONS * MAX_WORD_LENGTH:
        return text
    start, count = _chunks_of_last_word(text)
    stop = start + count * MAX_WORD_LENGTH
    begin, chunk = stop, text[stop - MAX_WORD_LENGTH : stop]
    while begin > start and text[begin - MAX_WORD_LENGTH : begin] == chunk:
        begin -= MAX_WORD_LENGTH
    kept = begin + _KEPT_REPETITIONS * MAX_WORD_LENGTH
    is_shorter = kept < stop and _is_inert(text[start : stop + MAX_WORD_LENGTH], rules)
    return text[:kept] + text[stop:] if is_shorter else text


def _words_from_the_end(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each run without a space or line break, from the last to the first."""
    positions = dict.fromkeys(" \n", len(text))
    end = len(text)
    while end > 0:
        for separator, position in positions.items():
            if position >= end:
                positions[separator] = text.rfind(separator, 0, end)
        start = max(positions.values()) + 1
        if start < end:
            yield start, end
        end = start - 1


def mark_chunk(chunk: str) -> Word:
    """Return a chunk as a lower-case word, with the special tokens for its capitals and repeated characters."""
    special_tokens: list[str] = []
    if not chunk.islower():
        letters = [character for character in chunk if character.isupper() or character.islower()]
        capitals = sum(character.isupper() for character in letters)
        if len(letters) > 1 and capitals == len(letters):
            special_tokens.append(ALL_CAPITALS)
        elif len(letters) > 1 and letters[0].isupper():
            special_tokens.append(CAPITALIZED)
    word = chunk.lower()
    longest = max((len(match.group()) for match in _REPEATED_CHARACTER.finditer(word)), default=0)
    if longest:
        special_tokens.append(_repeat_token(CHARACTER_REPEATED, longest))
        word = _REPEATED_CHARACTER.sub(r"\1", word)
    return tuple(special_tokens), word


def word_repeat_tokens(count: int) -> tuple[str, ...]:
    """Return the special token of a word that occurs ``count`` times in a row, or none below three times."""
    return (_repeat_token(WORD_REPEATED, count),) if count >= REPEAT_THRESHOLDS[0] else ()


def _cut_chunks(cleaned: str) -> Iterator[str]:
    for match in re.finditer(r"\S+", cleaned):
        chunk = match.group()
        if len(chunk) <= MAX_WORD_LENGTH:
            yield chunk
        else:
            yield from (chunk[start : start + MAX_WORD_LENGTH] for start in range(0, len(chunk), MAX_WORD_LENGTH))


def _counted(pending: list[str], count: int) -> Iterator[tuple[str, int]]:
    if count >= REPEAT_THRESHOLDS[0]:
        yield pending[0], count
    else:
        yield from ((chunk, 1) for chunk in pending)


def _repeat_token(special_tokens: tuple[str, ...], count: int) -> str:
    largest_first = zip(reversed(special_tokens), reversed(REPEAT_THRESHOLDS), strict=True)
    return next(token for token, threshold in largest_first if count >= threshold)
