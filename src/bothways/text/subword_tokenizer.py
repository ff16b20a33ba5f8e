"""Tokenize texts into subword pieces and special tokens, and store the tokenizer as one JSON document.

The input is a validated string, the output a ``TokenizedText`` in written order. The pieces of words come from a
Unigram model of Hugging Face ``tokenizers``. Special tokens have one id each and never pass through that model.

With byte fallback, a character without a piece becomes one token per byte of its UTF-8 encoding, as in sentencepiece.
Byte tokens never pass through the Unigram model either, so a typed ``<0x41>`` is ordinary text.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field, FiniteFloat, field_validator, model_validator
from tokenizers import Tokenizer as UnigramTokenizer
from tokenizers import models

from bothways import strict_json
from bothways.errors import TextError, quoted
from bothways.schema import Document, Items
from bothways.text.cleaning import (
    CLEANING_RULES,
    SPECIAL_TOKENS,
    WORD_START,
    clean,
    mark_chunk,
    split_chunks,
    stable_length,
    without_repetitions,
    word_repeat_tokens,
)
from bothways.text.fields import FIELD, Text, fields_of
from bothways.text.reading import TokenizedText
from bothways.text.tokenizer import START_ID, UNKNOWN_ID

UNKNOWN = "xxunk"
PADDING = "xxpad"
CONTROL_TOKENS = (UNKNOWN, PADDING, *SPECIAL_TOKENS)
"""The unknown, padding and special tokens, in the order of their ids, below all pieces. Users can't type them."""

FIRST_PIECE_ID = len(CONTROL_TOKENS)

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""The tokens of the 256 bytes, with the names that they have in sentencepiece. No piece has such a name."""

_UNTYPEABLE = " unknown"
"""The Unigram model needs its unknown piece in its vocabulary. As this one contains a space, no word contains it."""

_MAX_CACHED_CHUNKS = 100_000
_MAX_CACHED_CHUNK_LENGTH = 40
_MAX_RECENT_CHUNKS = 32

MAX_PIECE_LENGTH = 1000
"""Maximum number of characters per piece. Words are much shorter. Very long pieces crash the library's trie builder."""


class SubwordTokenizerDocument(Document):
    """The content of ``tokenizer.json``: data only, without patterns that could run for a long time.

    Attributes:
        cleaning: The name of the cleaning rules.
        control_tokens: The tokens below all pieces, in the order of their ids.
        subwords: The model of the pieces.
        byte_fallback: The encoding of characters without a piece. None if they become the unknown token, and then
            absent from the document. The 256 byte tokens follow the pieces, in the order of the bytes.
        field_token: The token between the fields of a text. Its id is the last one of the vocabulary, so that a
            tokenizer keeps the ids of all other tokens when it gets one. None for texts of one column, and then absent
            from the document.
        pieces: Each piece with its log-probability.
    """

    cleaning: str
    control_tokens: Items[str]
    subwords: Literal["unigram"]
    byte_fallback: Literal["utf-8"] | None = None
    field_token: Literal["xxfld"] | None = None
    pieces: Annotated[Items[tuple[str, FiniteFloat]], Field(min_length=1, max_length=1_000_000)]

    @field_validator("pieces", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        """Convert lists, which JSON has instead of tuples, to pairs."""
        return [tuple(pair) if isinstance(pair, list) else pair for pair in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _agree(self) -> SubwordTokenizerDocument:
        if self.cleaning not in CLEANING_RULES:
            raise ValueError(
                f"unknown cleaning rules {quoted(self.cleaning, 40)}, expected one of {sorted(CLEANING_RULES)}"
            )
        if tuple(self.control_tokens) != CONTROL_TOKENS:
            raise ValueError(f"the control tokens are not those of {self.cleaning}, in their order")
        texts = [piece for piece, _ in self.pieces]
        if len(set(texts)) != len(texts):
            raise ValueError("a piece occurs twice")
        for piece in texts:
            if len(piece) > MAX_PIECE_LENGTH:
                raise ValueError(f"a piece has {len(piece)} characters, expected at most {MAX_PIECE_LENGTH}")
            if not piece or piece != "".join(piece.split()) or not _is_encodable(piece):
                raise ValueError(f"the piece {quoted(piece)} can't occur in a word")
        if self.byte_fallback is not None and (names := set(texts).intersection(BYTE_TOKENS)):
            raise ValueError(f"the piece {quoted(min(names))} has the name of a byte token")
        return self


class SubwordTokenizer:
    """A tokenizer with the subword pieces of a Unigram model and special tokens.

    ``train_tokenizer`` creates it from pieces, ``parse_tokenizer`` from ``tokenizer.json``. It is safe to share between
    threads.
    """

    unknown_id: Final = UNKNOWN_ID

    def __init__(self, document: SubwordTokenizerDocument) -> None:
        self._document = document
        vocabulary = [(_UNTYPEABLE, 0.0), *document.pieces]
        self._subwords = UnigramTokenizer(models.Unigram(vocabulary, unk_id=0))
        self._tokens = [*CONTROL_TOKENS, *(piece for piece, _ in document.pieces)]
        first_byte_id = len(self._tokens)
        if document.byte_fallback is not None:
            self._tokens.extend(BYTE_TOKENS)
        self.byte_ids: Final = range(first_byte_id, len(self._tokens))
        self._id_of_byte = list(self.byte_ids)
        if document.field_token is not None:
            self._tokens.append(document.field_token)
        self._cache: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._recent: dict[str, tuple[int, tuple[int, ...]]] = {}  # longer chunks, of texts that arrive in parts

    @classmethod
    def from_pieces(
        cls, pieces: list[tuple[str, float]], cleaning: str = "bothways-1", *, byte_fallback: bool = False
    ) -> SubwordTokenizer:
        """Create a tokenizer from pieces.

        Args:
            pieces: Each piece with its log-probability.
            cleaning: The name of the cleaning rules.
            byte_fallback: Whether characters without a piece become their UTF-8 bytes instead of the unknown token.
        """
        document = SubwordTokenizerDocument(
            cleaning=cleaning,
            control_tokens=list(CONTROL_TOKENS),
            subwords="unigram",
            byte_fallback="utf-8" if byte_fallback else None,
            pieces=pieces,
        )
        return cls(document)

    def to_bytes(self) -> bytes:
        """Return the JSON document that ``parse_tokenizer`` reads. Equal tokenizers produce equal bytes."""
        fields = self._document.model_dump(exclude_none=True)
        lines = [f"  [{strict_json.dump(piece)}, {score!r}]" for piece, score in self._document.pieces]
        head = ",\n".join(f" {strict_json.dump(k)}: {strict_json.dump(v)}" for k, v in fields.items() if k != "pieces")
        return ("{\n" + head + ',\n "pieces": [\n' + ",\n".join(lines) + "\n ]\n}\n").encode()

    def __len__(self) -> int:
        """Return the size of the vocabulary. All ids are smaller than this."""
        return len(self._tokens)

    @property
    def has_field_token(self) -> bool:
        """Whether texts may have several fields."""
        return self._document.field_token is not None

    def with_field_token(self) -> SubwordTokenizer:
        """Return a tokenizer for texts with several fields: this one, with the field token as its last id."""
        if self.has_field_token:
            return self
        return SubwordTokenizer(self._document.model_copy(update={"field_token": FIELD}))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the token of each id."""
        return [self._tokens[i] for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Return a text made of these pieces and bytes, without control tokens.

        Bytes that are no UTF-8 in this order become ``\N{REPLACEMENT CHARACTER}``.
        """
        data = bytearray()
        for i in ids:
            if i in self.byte_ids:
                data.append(i - self.byte_ids.start)
            elif FIRST_PIECE_ID <= i < self.byte_ids.start:
                data += self._tokens[i].encode()
        return data.decode(errors="replace").replace(WORD_START, " ").strip()

    def adapted(self, texts: Iterable[Text]) -> SubwordTokenizer:
        """Return this tokenizer: its pieces can represent the words of any text."""
        return self

    def tokenize(self, text: Text) -> TokenizedText:
        """Return the tokens of a text in written order: the start token, then each word's special tokens and pieces.

        Fields are tokenized separately. The field token between two fields is a group of its own, so that it stays
        between them in both directions.

        Guarantee 3: an ensemble calls this once per text, regardless of the number of its members.

        Args:
            text: A text validated by ``text.validation``. May be empty.

        Raises:
            TextError: The text has several fields, but the tokenizer has no field token.
        """
        ids, group_starts, special_token_counts = array("i", [START_ID]), array("i", [0]), array("i", [1])
        fields = fields_of(text)
        if len(fields) > 1 and not self.has_field_token:
            raise TextError(f"a text has {len(fields)} fields, but this tokenizer has no field token to join them with")
        for number, field in enumerate(fields):
            if number:
                group_starts.append(len(ids))
                special_token_counts.append(1)
                ids.append(len(self) - 1)
            for chunk, count in split_chunks(clean(field, self._document.cleaning)):
                special_token_count, word_ids = self._cache.get(chunk) or self._tokenize_chunk(chunk)
                group_starts.append(len(ids))
                if count > 1:
                    repeat_ids = [CONTROL_TOKENS.index(token) for token in word_repeat_tokens(count)]
                    special_token_count += len(repeat_ids)
                    ids.extend(repeat_ids)
                special_token_counts.append(special_token_count)
                ids.extend(word_ids)
        return TokenizedText(
            *(np.frombuffer(column, dtype=np.int32) for column in (ids, group_starts, special_token_counts))
        )

    def stable_length(self, text: str) -> int:
        """Return the length of a prefix whose tokens do not depend on what follows the text."""
        return stable_length(text, self._document.cleaning)

    def without_repetitions(self, text: str) -> str:
        """Return a shorter text with the same tokens, whatever follows."""
        return without_repetitions(text, self._document.cleaning)

    def _tokenize_chunk(self, chunk: str) -> tuple[int, tuple[int, ...]]:
        """Return the number of special tokens of a chunk, and the ids of its special tokens and pieces."""
        if (recent := self._recent.get(chunk)) is not None:
            return recent
        special_tokens, word = mark_chunk(chunk)
        special_ids = tuple(CONTROL_TOKENS.index(token) for token in special_tokens)
        piece_ids = self._piece_ids(WORD_START + word)
        is_short = len(chunk) <= _MAX_CACHED_CHUNK_LENGTH
        cache, most = (self._cache, _MAX_CACHED_CHUNKS) if is_short else (self._recent, _MAX_RECENT_CHUNKS)
        if len(cache) >= most:
            cache.clear()
        cache[chunk] = found = len(special_ids), special_ids + piece_ids
        return found

    def _piece_ids(self, word: str) -> tuple[int, ...]:
        """Return the ids of the pieces of a marked word. Characters without a piece are bytes, or unknown in a row."""
        encoding = self._subwords.encode(word, add_special_tokens=False)
        pieces = encoding.ids
        if not self.byte_ids or 0 not in pieces:
            return tuple(FIRST_PIECE_ID - 1 + piece if piece else UNKNOWN_ID for piece in pieces)
        ids: list[int] = []
        for piece, (start, end) in zip(pieces, encoding.offsets, strict=True):
            if piece:
                ids.append(FIRST_PIECE_ID - 1 + piece)
            else:
                ids.extend(self._id_of_byte[byte] for byte in word[start:end].encode())
        return tuple(ids)


def _is_encodable(piece: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in piece)
