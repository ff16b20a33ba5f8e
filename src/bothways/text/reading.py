"""Decide in which order a model reads the tokens of a text; the only code that reverses anything.

In: a tokenized text, a direction, a placement of markers. Out: ids in the order in which they are read. Does not know
how the tokens were made, nor what a model does with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bothways.errors import DirectionError

Ids = NDArray[np.int32]


class Direction(StrEnum):
    """The way a model reads a text. Carried by every language model, encoder, classifier and bundle member."""

    FORWARD = "forward"
    BACKWARD = "backward"


class SpecialTokenPlacement(StrEnum):
    """Where a marker such as ``xxmaj`` stands when a text is read backward.

    Read forward, markers stand before their word. ``AS_WRITTEN`` reverses plainly, so that they follow it (as fastai
    does); ``READING_ORDER`` keeps them before their word in whichever direction it is read, and the start of the text
    before the text.
    """

    AS_WRITTEN = "as-written"
    READING_ORDER = "reading-order"


@dataclass(frozen=True, eq=False)
class TokenizedText:
    """The tokens of one text as written: a leading group that marks the start, then one group a word.

    A group is the word's markers followed by its pieces. All arrays are int32.

    Attributes:
        ids: All tokens, (T,), T ≥ 1.
        group_starts: Position of each group's first token, (G,), strictly rising from 0.
        special_token_counts: Number of special tokens at the start of each group, (G,). The leading group holds only
            special tokens.
    """

    ids: Ids
    group_starts: Ids
    special_token_counts: Ids

    def __len__(self) -> int:
        return len(self.ids)


def joined(parts: Sequence[TokenizedText]) -> TokenizedText:
    """Return the tokens of a whole text from those of its parts, one or more, each with its own leading group."""
    ids = [parts[0].ids[:1], *(part.ids[1:] for part in parts)]
    sizes = [len(part) - 1 for part in parts]
    moved = np.cumsum([0, *sizes[:-1]], dtype=np.int32)
    starts = [parts[0].group_starts[:1], *(p.group_starts[1:] + by for p, by in zip(parts, moved, strict=True))]
    counts = [parts[0].special_token_counts[:1], *(part.special_token_counts[1:] for part in parts)]
    return TokenizedText(*map(np.concatenate, (ids, starts, counts)))


def reading_positions(text: TokenizedText, direction: Direction, placement: SpecialTokenPlacement) -> NDArray[np.intp]:
    """Return the positions of a text's tokens in the order in which they are read, (T,).

    Guarantee 5: a permutation, so its inverse gives the text back; the tokens of a group stay together, and
    with ``READING_ORDER`` its markers come first.
    """
    written = np.arange(len(text.ids))
    if direction is Direction.FORWARD:
        return written
    if placement is SpecialTokenPlacement.AS_WRITTEN:
        return written[::-1]

    sizes = np.diff(text.group_starts, append=len(text.ids))
    group = np.repeat(np.arange(len(sizes)), sizes)
    place_in_group = written - text.group_starts[group]
    is_piece = place_in_group >= text.special_token_counts[group]
    group_rank = np.where(group == 0, 0, len(sizes) - group)  # the start of the text is read first
    rank_in_group = np.where(is_piece, -place_in_group, place_in_group)
    return np.lexsort((rank_in_group, is_piece, group_rank))


def read(text: TokenizedText, direction: Direction, placement: SpecialTokenPlacement) -> Ids:
    """Return a text's ids in the order in which a model of this direction reads them, (T,) int32."""
    return text.ids[reading_positions(text, direction, placement)]


def require_direction(asked: Direction, available: list[Direction], name: str) -> None:
    """Refuse a pack or model that does not read the way that is asked for.

    Guarantee 1: a language model of the wrong direction is never used.

    Raises:
        DirectionError: ``asked`` is not available; the message names both directions.
    """
    if asked not in available:
        raise DirectionError(
            f"{name} reads {' and '.join(available)}, but a model that reads {asked} was asked for: "
            f"use a pack with a {asked} member, or train only {' and '.join(available)}"
        )
