"""Properties of the tokens of every text."""

from __future__ import annotations

import string
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bothways.text.cleaning import SPECIAL_TOKENS, clean, mark_chunk, split_chunks
from bothways.text.reading import TokenizedText
from bothways.text.subword_tokenizer import CONTROL_TOKENS, FIRST_PIECE_ID, SubwordTokenizer
from bothways.text.tokenizer import PADDING_ID, START_ID, UNKNOWN_ID
from bothways.text.tokenizer_document import parse_tokenizer

CONTROL_WORDS = [*CONTROL_TOKENS, "▁", " unknown", "unknown", "<unk>", "<pad>", "</s>", "&#x2581;", "&#9601;xxpad"]
FRAGMENTS = st.text() | st.sampled_from(
    [*CONTROL_WORDS, "The", "CAT", "soooo", "no no no no", "100000", "e\u0301", "👩‍👩‍👧", "\u202eשלום", "&amp;", "<br>"]
)
TEXTS = st.lists(FRAGMENTS, max_size=8).map(" ".join) | st.lists(FRAGMENTS, max_size=4).map("".join)
MARKER_IDS = [CONTROL_TOKENS.index(marker) for marker in SPECIAL_TOKENS]


def as_lists(text: TokenizedText) -> tuple[list[int], list[int], list[int]]:
    return text.ids.tolist(), text.group_starts.tolist(), text.special_token_counts.tolist()


def is_piece(text: TokenizedText) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return whether each token is a piece of a word and not a special token."""
    place = np.arange(len(text))
    group = np.searchsorted(text.group_starts, place, side="right") - 1
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = (
        place - text.group_starts[group] >= text.special_token_counts[group]
    )
    return found


@given(TEXTS)
@example("")
@example("\0\ufffe\uffff\ufeff")
def test_any_text_has_consistent_groups_of_known_ids(tiny_tokenizer: SubwordTokenizer, typed: str) -> None:
    text = tiny_tokenizer.tokenize(typed)
    assert text.ids.min() >= 0
    assert text.ids.max() < len(tiny_tokenizer)
    assert text.group_starts[0] == 0
    assert len(text.group_starts) == len(text.special_token_counts)
    sizes = np.diff(text.group_starts, append=len(text))
    assert (sizes >= 1).all()
    assert (text.special_token_counts[1:] < sizes[1:]).all()  # every word has a piece
    assert (text.ids[0], sizes[0], text.special_token_counts[0]) == (START_ID, 1, 1)


@given(TEXTS)
def test_control_ids_stand_only_where_special_tokens_do(tiny_tokenizer: SubwordTokenizer, typed: str) -> None:
    text = tiny_tokenizer.tokenize(typed)
    pieces = text.ids[is_piece(text)]
    assert ((pieces >= FIRST_PIECE_ID) | (pieces == UNKNOWN_ID)).all()
    assert np.isin(text.ids[~is_piece(text)], MARKER_IDS).all()
    assert PADDING_ID not in text.ids
    assert START_ID not in text.ids[1:]


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title, str.swapcase])
@pytest.mark.parametrize("word", CONTROL_TOKENS)
def test_a_typed_control_token_is_only_letters(
    tiny_tokenizer: SubwordTokenizer, word: str, change: Callable[[str], str]
) -> None:
    text = tiny_tokenizer.tokenize(change(word))
    pieces = tiny_tokenizer.tokens(text.ids[is_piece(text)].tolist())
    assert "".join(pieces) == f"▁{word}"
    assert set(tiny_tokenizer.tokens(text.ids[~is_piece(text)].tolist())) <= {"xxbos", "xxup", "xxmaj"}


@pytest.mark.parametrize(
    ("typed", "pieces"),
    [("▁", "▁_"), ("&#9601;", "▁_"), ("▁cat", "▁_cat"), (" unknown", "▁unknown"), ("<unk>", "▁<unk>")],
)
def test_signs_of_the_subword_model_cannot_be_typed(tiny_tokenizer: SubwordTokenizer, typed: str, pieces: str) -> None:
    assert "".join(tiny_tokenizer.tokens(tiny_tokenizer.tokenize(typed).ids.tolist()[1:])) == pieces


@given(st.text(alphabet=string.printable.replace("&", "")))
def test_pieces_of_known_characters_spell_the_words(tiny_tokenizer: SubwordTokenizer, typed: str) -> None:
    text = tiny_tokenizer.tokenize(typed)
    words = [mark_chunk(chunk)[1] for chunk, _ in split_chunks(clean(typed, "bothways-1"))]
    assert UNKNOWN_ID not in text.ids
    spelled = "".join(tiny_tokenizer.tokens(text.ids[is_piece(text)].tolist()))
    assert spelled == "".join(f"▁{word}" for word in words)


@given(st.lists(TEXTS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_text_has_the_same_tokens_cold_warm_and_in_any_order(
    tiny_tokenizer: SubwordTokenizer, texts: list[str], random: Random
) -> None:
    document = tiny_tokenizer.to_bytes()
    cold = [as_lists(parse_tokenizer(document).tokenize(text)) for text in texts]
    order = list(range(len(texts)))
    random.shuffle(order)
    shared = parse_tokenizer(document)
    shuffled = {position: as_lists(shared.tokenize(texts[position])) for position in order}
    warm = [as_lists(shared.tokenize(text)) for text in texts]
    assert [shuffled[position] for position in range(len(texts))] == cold
    assert warm == cold


@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.floats(-20, 0)), max_size=10), st.lists(TEXTS))
def test_a_tokenizer_that_was_stored_gives_the_same_tokens(pieces: list[tuple[str, float]], texts: list[str]) -> None:
    distinct = {"".join(piece.split()): score for piece, score in pieces}
    ours = SubwordTokenizer.from_pieces([("▁", -1.0), *((p, s) for p, s in distinct.items() if p not in ("", "▁"))])
    document = ours.to_bytes()
    stored = parse_tokenizer(document)
    assert stored.to_bytes() == document
    assert len(stored) == len(ours)
    for text in texts:
        assert as_lists(stored.tokenize(text)) == as_lists(ours.tokenize(text))


def test_a_stored_trained_tokenizer_is_the_same(tiny_tokenizer: SubwordTokenizer) -> None:
    assert parse_tokenizer(tiny_tokenizer.to_bytes()).to_bytes() == tiny_tokenizer.to_bytes()
