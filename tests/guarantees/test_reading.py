"""Guarantee 5: reading in a direction is a permutation that keeps each word and its special tokens together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import DirectionError
from bothways.text.reading import (
    Direction,
    SpecialTokenPlacement,
    TokenizedText,
    read,
    reading_positions,
    require_direction,
)
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer import START_ID

ORDERS = [(direction, placement) for direction in Direction for placement in SpecialTokenPlacement]


def grouped(groups: list[tuple[list[int], list[int]]]) -> TokenizedText:
    """Return a text of groups, each with special tokens and pieces."""
    sizes = [len(special_tokens) + len(pieces) for special_tokens, pieces in groups]
    return TokenizedText(
        ids=np.array([token for special_tokens, pieces in groups for token in special_tokens + pieces], dtype=np.int32),
        group_starts=np.array([sum(sizes[:i]) for i in range(len(sizes))], dtype=np.int32),
        special_token_counts=np.array([len(special_tokens) for special_tokens, _ in groups], dtype=np.int32),
    )


def groups_of(text: TokenizedText) -> list[tuple[list[int], list[int]]]:
    """Return the groups of a text, computed in the simplest way."""
    bounds = [*text.group_starts.tolist(), len(text)]
    tokens = text.ids.tolist()
    return [
        (tokens[start : start + special_tokens], tokens[start + special_tokens : end])
        for start, end, special_tokens in zip(bounds[:-1], bounds[1:], text.special_token_counts.tolist(), strict=True)
    ]


SPECIAL_TOKENS = st.lists(st.integers(0, 12), max_size=3)
PIECES = st.lists(st.integers(13, 99), min_size=1, max_size=4)
NO_PIECES: list[int] = []
LEADING = st.tuples(st.lists(st.integers(0, 12), min_size=1, max_size=2), st.just(NO_PIECES))
GROUPED_TEXTS = st.builds(
    lambda leading, words: grouped([leading, *words]), LEADING, st.lists(st.tuples(SPECIAL_TOKENS, PIECES), max_size=8)
)
TYPED_TEXTS = st.lists(st.text() | st.sampled_from(["The", "CAT", "soooo", "no no no", "漢字", "lovely!"])).map(
    " ".join
)


def check_law_5(text: TokenizedText) -> None:
    for direction, placement in ORDERS:
        positions = reading_positions(text, direction, placement)
        assert sorted(positions.tolist()) == list(range(len(text)))
        ids = read(text, direction, placement)
        assert ids.dtype == np.int32
        assert ids[np.argsort(positions)].tolist() == text.ids.tolist()

        group_at = np.searchsorted(text.group_starts, positions, side="right")
        assert np.count_nonzero(np.diff(group_at)) == len(text.group_starts) - 1  # no group is entered twice


def check_reading_order(text: TokenizedText) -> None:
    start, *words = groups_of(text)
    expected = start[0] + [
        token for special_tokens, pieces in reversed(words) for token in special_tokens + pieces[::-1]
    ]
    assert read(text, Direction.BACKWARD, SpecialTokenPlacement.READING_ORDER).tolist() == expected


@given(GROUPED_TEXTS)
def test_any_grouped_text_is_permuted_with_its_groups_together(text: TokenizedText) -> None:
    check_law_5(text)


@given(GROUPED_TEXTS)
def test_reading_order_puts_the_start_first_and_special_tokens_before_their_word(text: TokenizedText) -> None:
    check_reading_order(text)


@given(TYPED_TEXTS)
def test_any_typed_text_keeps_law_5(tiny_tokenizer: SubwordTokenizer, typed: str) -> None:
    text = tiny_tokenizer.tokenize(typed)
    check_law_5(text)
    check_reading_order(text)
    assert read(text, Direction.BACKWARD, SpecialTokenPlacement.READING_ORDER)[0] == START_ID
    assert read(text, Direction.BACKWARD, SpecialTokenPlacement.AS_WRITTEN)[-1] == START_ID


@given(GROUPED_TEXTS)
def test_as_written_twice_is_the_text_again(text: TokenizedText) -> None:
    positions = reading_positions(text, Direction.BACKWARD, SpecialTokenPlacement.AS_WRITTEN)
    assert positions[positions].tolist() == list(range(len(text)))
    assert text.ids[positions].tolist() == text.ids.tolist()[::-1]


@given(GROUPED_TEXTS)
def test_forward_is_as_written_wherever_special_tokens_go(text: TokenizedText) -> None:
    for placement in SpecialTokenPlacement:
        assert read(text, Direction.FORWARD, placement).tolist() == text.ids.tolist()


def test_a_text_read_in_all_orders_by_hand() -> None:
    text = grouped([([2], []), ([3, 5], [20, 21]), ([], [22])])  # start, "Soooo", "cat"
    assert read(text, Direction.FORWARD, SpecialTokenPlacement.READING_ORDER).tolist() == [2, 3, 5, 20, 21, 22]
    assert read(text, Direction.BACKWARD, SpecialTokenPlacement.AS_WRITTEN).tolist() == [22, 21, 20, 5, 3, 2]
    assert read(text, Direction.BACKWARD, SpecialTokenPlacement.READING_ORDER).tolist() == [2, 22, 3, 5, 21, 20]


def test_a_pack_that_reads_the_asked_way_is_taken() -> None:
    require_direction(Direction.BACKWARD, [Direction.FORWARD, Direction.BACKWARD], "pack")


def test_a_pack_that_reads_the_other_way_is_refused_with_both_directions() -> None:
    with pytest.raises(DirectionError, match=r"^english\.pack reads forward, but direction backward was requested"):
        require_direction(Direction.BACKWARD, [Direction.FORWARD], "english.pack")
