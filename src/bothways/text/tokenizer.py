"""Define the interface of all tokenizers: those with subword pieces and those with words.

A tokenizer turns a validated string into a ``TokenizedText`` in written order and is stored as one JSON document.
``text.reading`` puts tokens into reading order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from bothways.text.fields import Text
from bothways.text.reading import TokenizedText

UNKNOWN_ID = 0
PADDING_ID = 1
START_ID = 2
"""The first three ids are the same in every tokenizer, except in one that has the ids of a SentencePiece model."""


class Tokenizer(Protocol):
    """A tokenizer. It is deterministic on every machine and safe to share between threads."""

    def __len__(self) -> int:
        """Return the size of the vocabulary. All ids are smaller than this."""

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the token of each id."""

    @property
    def unknown_id(self) -> int:
        """The id of unknown characters or words."""

    @property
    def byte_ids(self) -> range:
        """The ids of the tokens for the bytes of characters without a piece. Empty without byte fallback."""

    @property
    def has_field_token(self) -> bool:
        """Whether texts may have several fields."""

    def with_field_token(self) -> Tokenizer:
        """Return a tokenizer for texts with several fields. All tokens of this one keep their ids."""

    def tokenize(self, text: Text) -> TokenizedText:
        """Return the tokens of a text in written order. The field token separates its fields.

        Guarantee 3: an ensemble calls this once per text, regardless of the number of its members.

        Args:
            text: A text validated by ``text.validation``. May be empty.

        Raises:
            TextError: The text has several fields, but the tokenizer has no field token.
        """

    def stable_length(self, text: str) -> int | None:
        """Return the length of a prefix whose tokens do not depend on what follows a text of one field.

        The tokens of the prefix and the tokens of the rest, concatenated, are the tokens of the whole text. This holds
        for any continuation of the text, so the prefix of a stream can be tokenized before the stream ends.

        Returns:
            A number of characters, possibly 0, or None if the rules of this tokenizer always need the whole text.
        """

    def without_repetitions(self, text: str) -> str:
        """Return a text with the same tokens, whatever follows it, but without repetitions that change no token."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return a text made of these tokens, without special tokens."""

    def adapted(self, texts: Iterable[Text]) -> Tokenizer:
        """Return the tokenizer to use for fine-tuning on these texts.

        A word tokenizer builds a new vocabulary from the texts. A subword tokenizer stays the same.
        """

    def to_bytes(self) -> bytes:
        """Return the JSON document that ``parse_tokenizer`` reads. Equal tokenizers produce equal bytes."""
