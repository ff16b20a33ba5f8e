"""Turn texts into subword pieces, and pieces into ids; keep all that this needs in one JSON document.

In: a checked string. Out: a ``TokenizedText``, as written. The words' pieces come from a Unigram model of Hugging Face
``tokenizers``; markers cost one id each and never pass through it. Does not know in which order a model reads.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator
from tokenizers import Tokenizer as UnigramTokenizer
from tokenizers import models

from bothways import strict_json
from bothways.text.cleaning import (
    CLEANING_RULES,
    SPECIAL_TOKENS,
    WORD_START,
    clean,
    mark_chunk,
    repetition_marker,
    settled_characters,
    split_chunks,
)
from bothways.text.reading import TokenizedText
from bothways.text.tokenizer import START_ID, UNKNOWN_ID

UNKNOWN = "xxunk"
PADDING = "xxpad"
CONTROL_TOKENS = (UNKNOWN, PADDING, *SPECIAL_TOKENS)
"""The ids below the first piece, in order. None of them can be typed."""

FIRST_PIECE_ID = len(CONTROL_TOKENS)

_UNTYPEABLE = " unknown"
"""The Unigram model wants its unknown piece in its vocabulary; with a space in it, no word can contain it."""

_WORDS_REMEMBERED = 100_000
_LONGEST_REMEMBERED = 40

LONGEST_PIECE = 1000
"""Characters; words are cut long before. The library builds a trie that takes the process down with very long ones."""


class SubwordTokenizerDocument(BaseModel):
    """What ``tokenizer.json`` holds: data only, no pattern that could run for long."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    cleaning: str
    control_tokens: list[str]
    subwords: Literal["unigram"]
    pieces: Annotated[list[tuple[str, FiniteFloat]], Field(min_length=1, max_length=1_000_000)]

    @field_validator("pieces", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        """Take JSON's lists for pairs."""
        return [tuple(pair) if isinstance(pair, list) else pair for pair in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _agree(self) -> SubwordTokenizerDocument:
        if self.cleaning not in CLEANING_RULES:
            raise ValueError(f"unknown cleaning rules {self.cleaning[:40]!r}, expected one of {sorted(CLEANING_RULES)}")
        if tuple(self.control_tokens) != CONTROL_TOKENS:
            raise ValueError("the control tokens are not those of these cleaning rules, in their order")
        texts = [piece for piece, _ in self.pieces]
        if len(set(texts)) != len(texts):
            raise ValueError("a piece occurs twice")
        for piece in texts:
            if len(piece) > LONGEST_PIECE:
                raise ValueError(f"a piece has {len(piece)} characters, expected at most {LONGEST_PIECE}")
            if not piece or piece != "".join(piece.split()) or not _is_encodable(piece):
                raise ValueError(f"the piece {piece!r} can't occur in a word")
        return self


class SubwordTokenizer:
    """Tokenizes into the pieces of a Unigram model and markers.

    Made from pieces by training, or from ``tokenizer.json`` by ``parse_tokenizer``. Safe to share between threads.
    """

    def __init__(self, document: SubwordTokenizerDocument) -> None:
        self._document = document
        vocabulary = [(_UNTYPEABLE, 0.0), *document.pieces]
        self._subwords = UnigramTokenizer(models.Unigram(vocabulary, unk_id=0))
        self._remembered: dict[str, tuple[int, tuple[int, ...]]] = {}

    @classmethod
    def from_pieces(cls, pieces: list[tuple[str, float]], cleaning: str = "bothways-1") -> SubwordTokenizer:
        """Return a tokenizer whose subwords are these pieces with their log-probabilities."""
        document = SubwordTokenizerDocument(
            cleaning=cleaning, control_tokens=list(CONTROL_TOKENS), subwords="unigram", pieces=pieces
        )
        return cls(document)

    def to_bytes(self) -> bytes:
        """Return the document that ``parse_tokenizer`` reads; the same bytes for the same tokenizer."""
        fields = self._document.model_dump()
        lines = [f"  [{strict_json.dump(piece)}, {score!r}]" for piece, score in self._document.pieces]
        head = ",\n".join(f" {strict_json.dump(k)}: {strict_json.dump(v)}" for k, v in fields.items() if k != "pieces")
        return ("{\n" + head + ',\n "pieces": [\n' + ",\n".join(lines) + "\n ]\n}\n").encode()

    def __len__(self) -> int:
        """How many ids there are: every id is below this."""
        return FIRST_PIECE_ID + len(self._document.pieces)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the token that each id stands for."""
        pieces = self._document.pieces
        return [CONTROL_TOKENS[i] if i < FIRST_PIECE_ID else pieces[i - FIRST_PIECE_ID][0] for i in ids]

    def compose(self, ids: Sequence[int]) -> str:
        """Return a text that is written with these pieces."""
        pieces = self._document.pieces
        typed = "".join(pieces[i - FIRST_PIECE_ID][0] for i in ids if i >= FIRST_PIECE_ID)
        return typed.replace(WORD_START, " ").strip()

    def adapted(self, texts: Iterable[str]) -> SubwordTokenizer:
        """Return the same tokenizer: its pieces write every word."""
        return self

    def tokenize(self, text: str) -> TokenizedText:
        """Return a text's tokens as written: a start marker, then every word's markers and pieces.

        Guarantee 3: an ensemble calls this once a text, whatever the number of its members.

        Args:
            text: A checked text (``checking.check_text``); may be empty.
        """
        ids, group_starts, special_token_counts = array("i", [START_ID]), array("i", [0]), array("i", [1])
        for chunk, count in split_chunks(clean(text, self._document.cleaning)):
            marker_count, word_ids = self._remembered.get(chunk) or self._tokenize_chunk(chunk)
            repetition = repetition_marker(count)
            group_starts.append(len(ids))
            special_token_counts.append(marker_count + len(repetition))
            ids.extend(CONTROL_TOKENS.index(marker) for marker in repetition)
            ids.extend(word_ids)
        return TokenizedText(
            *(np.frombuffer(column, dtype=np.int32) for column in (ids, group_starts, special_token_counts))
        )

    def settled(self, text: str) -> int:
        """Return how much of a text can be tokenized by itself already, whatever comes behind the text."""
        return settled_characters(text, self._document.cleaning)

    def _tokenize_chunk(self, chunk: str) -> tuple[int, tuple[int, ...]]:
        special_tokens, word = mark_chunk(chunk)
        pieces = self._subwords.encode(WORD_START + word, add_special_tokens=False).ids
        marker_ids = tuple(CONTROL_TOKENS.index(marker) for marker in special_tokens)
        piece_ids = tuple(FIRST_PIECE_ID - 1 + piece if piece else UNKNOWN_ID for piece in pieces)
        if len(chunk) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _WORDS_REMEMBERED:
                self._remembered.clear()
            self._remembered[chunk] = len(marker_ids), marker_ids + piece_ids
        return len(marker_ids), marker_ids + piece_ids


def _is_encodable(piece: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in piece)
