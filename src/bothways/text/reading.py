"""Put the tokens of a text into the order in which a model reads them.

This is the only code that reverses anything. It takes a tokenized text, a direction and a placement of special tokens,
and returns ids in reading order.
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
    """The direction in which a model reads.

    Every language model, encoder, classifier and bundle member has one.
    """

    FORWARD = "forward"
    BACKWARD = "backward"


class SpecialTokenPlacement(StrEnum):
    """The position of special tokens such as ``xxmaj`` when a text is read backward.

    In forward direction, special tokens precede their word. ``AS_WRITTEN`` reverses all tokens, so that special tokens
    follow their word in backward direction, as in fastai. ``READING_ORDER`` keeps special tokens before their word, and
    the start token before the text, in both directions.
    """

    AS_WRITTEN = "as-written"
    READING_ORDER = "reading-order"


@dataclass(frozen=True, eq=False)
class TokenizedText:
    """The tokens of one text in written order: a leading group for the start token, then one group per word.

    A group consists of a word's special tokens followed by its pieces. All arrays are int32.

    Attributes:
        ids: All tokens, (T,), T ≥ 1.
        group_starts: Position of the first token of each group, (G,), strictly increasing from 0.
        special_token_counts: Number of special tokens at the start of each group, (G,). The leading group holds only
            special tokens.
    """

    ids: Ids
    group_starts: Ids
    special_token_counts: Ids

    def __len__(self) -> int:
        return len(self.ids)


def concatenate(parts: Sequence[TokenizedText]) -> TokenizedText:
    """Return the tokens of a text from the tokens of its parts.

    Args:
        parts: One or more parts, each with its own leading group. Only the first leading group is kept.
    """
    ids = [parts[0].ids[:1], *(part.ids[1:] for part in parts)]
    sizes = [len(part) - 1 for part in parts]
    offsets = np.cumsum([0, *sizes[:-1]], dtype=np.int32)
    starts = [parts[0].group_starts[:1], *(p.group_starts[1:] + by for p, by in zip(parts, offsets, strict=True))]
    counts = [parts[0].special_token_counts[:1], *(part.special_token_counts[1:] for part in parts)]
    return TokenizedText(*map(np.concatenate, (ids, starts, counts)))


def reading_positions(text: TokenizedText, direction: Direction, placement: SpecialTokenPlacement) -> NDArray[np.intp]:
    """Return the positions of a text's tokens in reading order, (T,).

    Guarantee 5: the result is a permutation, so its inverse restores the written order. The tokens of a group stay
    together. With ``READING_ORDER`` the special tokens of a group come first.
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
    """Return a text's ids in the order in which a model with this direction reads them, (T,) int32."""
    return text.ids[reading_positions(text, direction, placement)]


def require_direction(requested: Direction, available: list[Direction], name: str) -> None:
    """Raise an error if a pack or model lacks the requested direction.

    Guarantee 1: a language model with the wrong direction is never used.

    Args:
        requested: The direction that is needed.
        available: The directions of the pack or model.
        name: The name of the pack or model in the error message.

    Raises:
        DirectionError: ``requested`` is not available. The message names both directions.
    """
    if requested not in available:
        raise DirectionError(
            f"{name} reads {' and '.join(available)}, but direction {requested} was requested. "
            f"Use a pack with a {requested} member, or train only {' and '.join(available)}"
        )
