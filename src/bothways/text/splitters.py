"""Define what splits a cleaned text into tokens, and the simplest splitter: at a separator, as fastai's BaseTokenizer.

The input is a text cleaned by ``text.fastai_cleaning``. The output are strings, which the word tokenizer looks up in
its vocabulary.
"""

from __future__ import annotations

from typing import Literal, Protocol

WordsBy = Literal["spacy", "sentencepiece", "split"]
"""What splits a cleaned text: spaCy's rules for words, SentencePiece, or a separator, as fastai's BaseTokenizer."""


class Splitter(Protocol):
    """Splits texts into tokens. Deterministic, and safe to share between threads."""

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text in order."""

    def can_return(self, word: str) -> bool:
        """Return whether the splitter could return this token for some text. If in doubt, it could."""


class SeparatorSplitter:
    """Splits at every occurrence of a separator, like ``str.split``.

    Args:
        separator: The separator. Empty for runs of white space.
    """

    def __init__(self, separator: str) -> None:
        self._separator = separator or None

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text in order. They may be empty if the separator is not."""
        return text.split(self._separator)

    def can_return(self, word: str) -> bool:
        """Return whether the word is without the separator."""
        return self.split(word) == [word]
