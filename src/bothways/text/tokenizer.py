"""Say what every tokenizer gives, whatever its tokens are: subword pieces or words.

A tokenizer turns a checked string into a ``TokenizedText``, as written, and is kept as one JSON document. It does not
know in which order a model reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from bothways.text.reading import TokenizedText

UNKNOWN_ID = 0
PADDING_ID = 1
START_ID = 2
"""The first ids of every tokenizer."""


class Tokenizer(Protocol):
    """Tokenizes texts the same way on every machine and at any time; safe to share between threads."""

    def __len__(self) -> int:
        """How many ids there are: every id is below this."""

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the token that each id stands for."""

    def tokenize(self, text: str) -> TokenizedText:
        """Return a text's tokens as written.

        Guarantee 3: an ensemble calls this once a text, whatever the number of its members.

        Args:
            text: A checked text (``checking.check_text``); may be empty.
        """

    def settled(self, text: str) -> int | None:
        """Return how much of a text can be tokenized by itself already, whatever comes behind the text.

        The tokens of a text's first so many characters, followed by those of the rest, are the text's.

        Returns:
            A number of characters, maybe 0; None if these rules look across the whole of a text.
        """

    def compose(self, ids: Sequence[int]) -> str:
        """Return a text that is written with these tokens; what can't be typed is left out."""

    def adapted(self, texts: Iterable[str]) -> Tokenizer:
        """Return the tokenizer of one that is fine-tuned on these texts: with their words, where tokens are words."""

    def to_bytes(self) -> bytes:
        """Return the JSON document that ``parse_tokenizer`` reads; the same bytes for the same tokenizer."""
