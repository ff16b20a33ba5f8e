"""Define a SentencePiece model as data: the pieces with their scores, and how texts are normalized before.

A model is executed by ``text.piece_splitter``. The document has no patterns and no code.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, Literal

from pydantic import Field, FiniteFloat, field_validator, model_validator

from bothways.errors import quoted
from bothways.schema import Document, Items

WORD_START: Final = "▁"
"""The character that SentencePiece writes for a space."""

LONGEST_PIECE: Final = 100
"""Maximum number of characters per piece. SentencePiece's trainer makes at most 16 by default."""

LONGEST_SOURCE: Final = 32
"""Maximum number of characters that are replaced at once. SentencePiece's own rules have at most 4."""

LONGEST_REPLACEMENT: Final = 32
"""Maximum number of characters of a replacement. SentencePiece's own rules have at most 18."""

MOST_PIECES: Final = 1_000_000
_MOST_ROWS_PER_PREFIX: Final = 2
"""One row for replacements by single characters, and one for others."""
_LARGEST_SCORE: Final = 1e9

Row = tuple[
    Annotated[Items[Annotated[str, Field(max_length=LONGEST_SOURCE - 1)]], Field(min_length=1)],
    Annotated[str, Field(min_length=1)],
    str | Items[Annotated[str, Field(max_length=LONGEST_REPLACEMENT)]],
]
"""Replacements of all texts that begin with one of some prefixes and continue with one of some last characters.

The replacement depends on the last character only, so there is one per last character. They are a string if each of
them is a single character. Rows make tables small: those of Unicode's compatibility forms replace 225,000 texts, most
of them parts of Korean syllables.
"""


class PieceModel(Document):
    """A SentencePiece model.

    Attributes:
        algorithm: How a text is segmented into pieces.
        starts_with_space: Whether a space is put before each text.
        joins_spaces: Whether runs of spaces become one space, and those at the ends are removed.
        replacements: Replacements that are applied to a text first, the longest match at each position.
        unknown: Position of the piece for unknown characters.
        control: Positions of pieces that no text contains.
        user_defined: Positions of pieces that are always kept whole.
        unused: Positions of pieces that are not used.
        pieces: Each piece with its score, in the order of their ids.
    """

    algorithm: Literal["unigram", "bpe", "char", "word"]
    starts_with_space: bool
    joins_spaces: bool
    replacements: Annotated[Items[Row], Field(max_length=MOST_PIECES)]
    unknown: Annotated[int, Field(ge=0)]
    control: Items[int]
    user_defined: Items[int]
    unused: Items[int]
    pieces: Annotated[Items[tuple[str, FiniteFloat]], Field(min_length=2, max_length=MOST_PIECES)]

    @field_validator("pieces", "replacements", mode="before")
    @classmethod
    def _tuples(cls, value: object) -> object:
        """Convert lists, which JSON has instead of tuples, to tuples."""
        return [tuple(row) if isinstance(row, list) else row for row in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _agree(self) -> PieceModel:
        for prefixes, lasts, targets in self.replacements:
            if len(targets) != len(lasts):
                raise ValueError(
                    f"{len(targets)} replacements for {len(lasts)} characters after {quoted(prefixes[0])}, expected "
                    "one each"
                )
        occurrences = Counter(prefix for prefixes, _, _ in self.replacements for prefix in prefixes)
        if crowded := [prefix for prefix, count in occurrences.items() if count > _MOST_ROWS_PER_PREFIX]:
            raise ValueError(
                f"the prefix {quoted(crowded[0])} is in {occurrences[crowded[0]]} rows, expected at most 2"
            )
        special = [self.unknown, *self.control, *self.user_defined, *self.unused]
        if len(set(special)) != len(special) or not all(0 <= position < len(self.pieces) for position in special):
            raise ValueError("a special piece does not exist or is of two kinds")
        if len(special) == len(self.pieces):
            raise ValueError("all pieces are special, expected at least one normal one")
        texts = {piece for piece, _ in self.pieces}
        if len(texts) != len(self.pieces):
            raise ValueError("a piece occurs twice")
        if wrong := [len(piece) for piece in texts if not 0 < len(piece) <= LONGEST_PIECE]:
            raise ValueError(f"a piece has {wrong[0]} characters, expected 1 to {LONGEST_PIECE}")
        if not all(abs(score) <= _LARGEST_SCORE for _, score in self.pieces):
            raise ValueError(f"a score is larger than {_LARGEST_SCORE:g}")
        return self

    def ids_of_pieces(self) -> dict[str, int]:
        """Return the id of each piece that a text can contain."""
        special = {self.unknown, *self.control, *self.unused}
        return {piece: position for position, (piece, _) in enumerate(self.pieces) if position not in special}
