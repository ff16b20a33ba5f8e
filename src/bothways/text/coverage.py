"""Judge whether a tokenizer knows the language of texts, and whether a single text can be read at all.

In: a tokenizer and texts. Out: shares, and a verdict. The thresholds are measured by ``benchmarks/coverage``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bothways.text.cleaning import WORD_START, clean
from bothways.text.fields import Text, fields_of
from bothways.text.reading import TokenizedText
from bothways.text.tokenizer import Tokenizer

LEAST_KNOWN_SHARE = 0.25
"""English texts of every kind are above it for the English pack, 62 other languages below (docs/LOG.md)."""
MOST_FRAGMENTS_SHARE = 0.1
"""Packs of other languages may have few whole words, but then few single letters too."""
_MOST_TEXTS = 2_000
_MOST_CHARACTERS = 2_000
_SHORTEST_WORD = 4
"""Shorter words are often the same in several languages."""
_ADDRESS = re.compile(r"(?:https?://|www\.|[@#])\S+")
_WORD = re.compile(r"[^\W\d_]+")
_WORDLESS_CATEGORIES = ("N", "P", "Z", "C", "Sm", "Sc", "Sk")
"""Digits, punctuation, white space, and signs of formulas, currencies and accents."""


@dataclass(frozen=True)
class Coverage:
    """How well a tokenizer knows the words of texts.

    Attributes:
        known: Share of the letters, 0..1, that are in words with a token of their own. Words of one to three ASCII
            letters do not count.
        fragments: Share of the tokens, 0..1, that are unknown, a byte or a single letter.
    """

    known: float
    fragments: float

    @property
    def is_sufficient(self) -> bool:
        """Whether the texts are in a language of the English pack."""
        return self.known >= LEAST_KNOWN_SHARE

    @property
    def is_doubtful(self) -> bool:
        """Whether the texts are probably in no language of the pack, whichever it is."""
        return self.known < LEAST_KNOWN_SHARE and self.fragments > MOST_FRAGMENTS_SHARE


def coverage(tokenizer: Tokenizer, texts: Sequence[Text]) -> Coverage:
    """Return how well a tokenizer knows the words of texts, from a sample of at most 2,000 of them.

    Addresses, mentions and hashtags do not count. Texts without words are judged by their fragments.
    """
    vocabulary = tokenizer.tokens(range(len(tokenizer)))
    whole = {token.removeprefix(WORD_START) for token in vocabulary if token.startswith(WORD_START)} or set(vocabulary)
    is_fragment = np.array([len(token) == 1 and token.upper() != token.lower() for token in vocabulary])
    is_fragment[[tokenizer.unknown_id, *tokenizer.byte_ids]] = True
    known = letters = fragments = tokens = 0
    for text in texts[:: len(texts) // _MOST_TEXTS + 1]:
        part = _ADDRESS.sub(" ", clean(" ".join(fields_of(text))[:_MOST_CHARACTERS], "bothways-1"))
        for word in _WORD.findall(part.lower()):
            if len(word) >= _SHORTEST_WORD or not word.isascii():
                letters += len(word)
                known += len(word) * (word in whole)
        ids = tokenizer.tokenize(part).ids
        tokens += len(ids)
        fragments += int(is_fragment[ids].sum())
    share = fragments / tokens if tokens else 0.0
    return Coverage(known / letters if letters else float(share <= MOST_FRAGMENTS_SHARE), share)


class Unreadable(StrEnum):
    """Why a prediction for a text says nothing about it."""

    EMPTY = "empty"
    WORDLESS = "only digits or punctuation"
    UNKNOWN = "mostly unknown"


def unreadable(text: Text, tokens: TokenizedText, tokenizer: Tokenizer) -> Unreadable | None:
    """Return why a model cannot read a text, or None if it can.

    A text is mostly unknown if more than half of its words contain an unknown token or a byte token.

    Args:
        text: The text.
        tokens: Its tokens.
        tokenizer: What made them.
    """
    return unreadable_tokens(tokens, tokenizer, is_wordless=all(map(is_wordless, fields_of(text))))


def is_wordless(text: str) -> bool:
    """Return whether a text consists of digits, punctuation, white space and signs only."""
    return all(unicodedata.category(character).startswith(_WORDLESS_CATEGORIES) for character in text)


def unreadable_tokens(tokens: TokenizedText, tokenizer: Tokenizer, *, is_wordless: bool) -> Unreadable | None:
    """Return why a model cannot read a text, as ``unreadable`` does.

    Args:
        tokens: The tokens of the text.
        tokenizer: What made them.
        is_wordless: Whether all of its fields are wordless.
    """
    is_word = np.diff(tokens.group_starts, append=len(tokens)) > tokens.special_token_counts
    if not is_word.any():
        return Unreadable.EMPTY
    if is_wordless:
        return Unreadable.WORDLESS
    has_no_piece = np.isin(tokens.ids, [tokenizer.unknown_id, *tokenizer.byte_ids])
    is_unknown = np.logical_or.reduceat(has_no_piece, tokens.group_starts)
    return Unreadable.UNKNOWN if is_unknown[is_word].mean() > 0.5 else None
