"""Find the words of a text, as a person would point at them: strings between white space.

In: a text. Out: character offsets. Scripts without spaces between words are split into characters.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from bothways.errors import ConfigError
from bothways.text.fields import Text, fields_of

_WITHOUT_SPACES = (
    "\u0e00-\u0fff"  # Thai, Lao, Tibetan
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar, Khmer
    "\u3000-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003ffff"
)
"""Han characters, kana and their punctuation are in the last row. Korean has spaces."""
_WORD = re.compile(rf"[^\s{_WITHOUT_SPACES}]+|(?!\s)[{_WITHOUT_SPACES}]")


@dataclass(frozen=True)
class Span:
    """A word of a text, or several that are next to each other.

    Attributes:
        field: Number of the field.
        start: Offset of its first character in the field.
        end: Offset behind its last character.
        after: Offset of the next word of the field, or the length of the field.
    """

    field: int
    start: int
    end: int
    after: int


def word_spans(text: Text, most: int) -> list[Span]:
    """Return the words of a text in order. Of a long text, each span has several words, always the same number.

    Args:
        text: The text.
        most: Largest number of spans.

    Raises:
        ConfigError: More fields than ``most`` have words.
    """
    fields = [_words(field) for field in fields_of(text)]
    if most < (least := sum(map(bool, fields))):
        raise ConfigError(f"the text has words in {least} columns, expected max_readings of at least {least + 1}")
    size = max(1, -(-sum(map(len, fields)) // most))
    while sum(-(-len(words) // size) for words in fields) > most:
        size += 1
    spans = []
    for number, (words, field) in enumerate(zip(fields, fields_of(text), strict=True)):
        groups = [words[start : start + size] for start in range(0, len(words), size)]
        nexts = [*(group[0][0] for group in groups[1:]), len(field)]
        spans += [Span(number, group[0][0], group[-1][1], after) for group, after in zip(groups, nexts, strict=False)]
    return spans


def without(text: Text, span: Span) -> Text:
    """Return a text without a span, and without the white space behind it."""
    fields = list(fields_of(text))
    fields[span.field] = fields[span.field][: span.start] + fields[span.field][span.after :]
    return fields[0] if isinstance(text, str) else tuple(fields)


def _words(field: str) -> list[tuple[int, int]]:
    """Return start and end of each word. A combining character belongs to the character before it."""
    found: list[tuple[int, int]] = []
    for match in _WORD.finditer(field):
        start, end = match.span()
        if found and found[-1][1] == start and unicodedata.category(field[start]).startswith("M"):
            start = found.pop()[0]
        found.append((start, end))
    return found
