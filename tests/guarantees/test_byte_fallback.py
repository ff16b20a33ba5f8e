"""Byte fallback: no text is unknown, and nothing else changes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import bothways
from bothways.bundle.packs import pack_path
from bothways.bundle.parity import parity_texts
from bothways.runtime.classifier import Classifier, load
from bothways.text.cleaning import clean, mark_chunk, split_chunks
from bothways.text.reading import Direction, SpecialTokenPlacement, TokenizedText, concatenate, read
from bothways.text.subword_tokenizer import BYTE_TOKENS, SubwordTokenizer
from bothways.text.tokenizer_document import parse_tokenizer

FRAGMENTS = st.text() | st.sampled_from(
    [
        "漢字",
        "😀",
        "👩‍👩‍👧",
        "\u202eשלום",
        "e\u0301",
        "The",
        "CAT",
        "soooo",
        "ÄÖ",
        "&#x1F600;",
        "<0xE4>",
        "<0x41>",
        "▁",
        "\0",
    ]
)
TEXTS = st.lists(FRAGMENTS, max_size=8).map(" ".join) | st.lists(FRAGMENTS, max_size=4).map("".join)
LETTERS = st.characters(categories=["Lo", "Ll", "So"], min_codepoint=0x80)
PACKS = [pack_path("en-small"), Path(__file__).parents[2] / "packs" / "en-base"]
SAMPLES = [
    "The cat sat on the mat.",
    "Ünïcode ß — 漢字 😀😀😀",
    "WHAT a loooovely film, no no no!",
    "<0xE4> <0x41> xxunk",
]

GOLDEN_SHA256 = "a9fc342612a22a5bd652cc9cb4a1cf304dd901229b22e4076f58b84d3a23f404"
GOLDEN_IDS = [
    [2, 3, 13, 1768, 3877, 36, 13, 4965, 16],
    [2, 3, 25, 1552, 56, 0, 4556, 25, 0, 1567, 25, 0, 5, 25, 0],
    [2, 4, 346, 20, 6, 1111, 54, 209, 14, 124, 124, 124, 2351],
    [2, 5492, 427, 140, 50, 392, 1132, 5492, 427, 140, 3604, 1132, 601, 140, 430, 99],
]
"""The tokens that ``SAMPLES`` had with the packs of English before there was byte fallback."""


def as_lists(text: TokenizedText) -> tuple[list[int], list[int], list[int]]:
    return text.ids.tolist(), text.group_starts.tolist(), text.special_token_counts.tolist()


@given(TEXTS)
@example("\0\ufffe\uffff\ufeff")
@example("漢" * 1000)
def test_no_text_has_an_unknown_token(byte_tokenizer: SubwordTokenizer, typed: str) -> None:
    text = byte_tokenizer.tokenize(typed)
    assert byte_tokenizer.unknown_id not in text.ids
    assert text.ids.max() < len(byte_tokenizer)


@given(TEXTS)
def test_words_can_be_decoded_from_their_pieces_and_bytes(byte_tokenizer: SubwordTokenizer, typed: str) -> None:
    words = [mark_chunk(chunk)[1] for chunk, _ in split_chunks(clean(typed, "bothways-1"))]
    assert byte_tokenizer.decode(byte_tokenizer.tokenize(typed).ids.tolist()) == " ".join(words)


@given(LETTERS, LETTERS)
def test_two_characters_without_a_piece_have_different_tokens(
    byte_tokenizer: SubwordTokenizer, one: str, other: str
) -> None:
    words = [mark_chunk(clean(character, "bothways-1"))[1] for character in (one, other)]
    ids = [byte_tokenizer.tokenize(character).ids.tolist() for character in (one, other)]
    assert (ids[0] == ids[1]) == (words[0] == words[1])


@given(TEXTS)
def test_bytes_replace_unknown_tokens_and_nothing_else(
    tiny_tokenizer: SubwordTokenizer, byte_tokenizer: SubwordTokenizer, typed: str
) -> None:
    is_byte = {*byte_tokenizer.byte_ids}
    expected, found = tiny_tokenizer.tokenize(typed), byte_tokenizer.tokenize(typed)
    assert found.special_token_counts.tolist() == expected.special_token_counts.tolist()
    merged: list[int] = []
    starts = {*found.group_starts.tolist()}
    for place, token in enumerate(found.ids.tolist()):
        is_next_of_row = token in is_byte and merged[-1:] == [byte_tokenizer.unknown_id] and place not in starts
        if not is_next_of_row:
            merged.append(byte_tokenizer.unknown_id if token in is_byte else token)
    assert merged == expected.ids.tolist()


@given(
    st.lists(st.sampled_from([*BYTE_TOKENS, "▁<0xE4>", "<0x", "x41>", "cat", "&lt;0x41&gt;"]), max_size=6),
    st.booleans(),
)
def test_a_typed_name_of_a_byte_is_ordinary_text(
    byte_tokenizer: SubwordTokenizer, typed: list[str], is_joined: bool
) -> None:
    ids = byte_tokenizer.tokenize(("" if is_joined else " ").join(typed)).ids
    assert not np.isin(ids, byte_tokenizer.byte_ids).any()


@given(st.lists(TEXTS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_text_has_the_same_tokens_cold_warm_and_stored(
    byte_tokenizer: SubwordTokenizer, texts: list[str], rng: random.Random
) -> None:
    document = byte_tokenizer.to_bytes()
    stored = parse_tokenizer(document)
    assert stored.to_bytes() == document
    cold = [as_lists(parse_tokenizer(document).tokenize(text)) for text in texts]
    order = rng.sample(range(len(texts)), k=len(texts))
    shuffled = {number: as_lists(stored.tokenize(texts[number])) for number in order}
    assert [shuffled[number] for number in range(len(texts))] == cold
    assert [as_lists(byte_tokenizer.tokenize(text)) for text in texts] == cold


@given(parts=st.lists(FRAGMENTS | st.sampled_from([" ", "漢" * 300, "字 " * 20]), max_size=8))
def test_a_text_in_parts_has_the_tokens_of_the_whole_text(
    byte_tokenizer: SubwordTokenizer, parts: Sequence[str]
) -> None:
    found, pending = [], ""
    for part in parts:
        pending += part
        count = byte_tokenizer.stable_length(pending)
        if count:
            found.append(byte_tokenizer.tokenize(pending[:count]))
            pending = pending[count:]
        pending = byte_tokenizer.without_repetitions(pending)
    together = concatenate([*found, byte_tokenizer.tokenize(pending)])
    assert as_lists(together) == as_lists(byte_tokenizer.tokenize("".join(parts)))


def test_backward_models_read_the_bytes_of_a_character_from_last_to_first(byte_tokenizer: SubwordTokenizer) -> None:
    text = byte_tokenizer.tokenize("Ää 漢")
    in_order = {
        direction: byte_tokenizer.tokens(read(text, direction, SpecialTokenPlacement.READING_ORDER).tolist())
        for direction in Direction
    }
    assert in_order[Direction.FORWARD] == [
        *("xxbos", "xxmaj", "▁", "<0xC3>", "<0xA4>", "<0xC3>", "<0xA4>"),
        *("▁", "<0xE6>", "<0xBC>", "<0xA2>"),
    ]
    assert in_order[Direction.BACKWARD] == [
        *("xxbos", "<0xA2>", "<0xBC>", "<0xE6>", "▁"),
        *("xxmaj", "<0xA4>", "<0xC3>", "<0xA4>", "<0xC3>", "▁"),
    ]


def test_parity_texts_read_bytes(byte_tokenizer: SubwordTokenizer) -> None:
    texts = parity_texts(byte_tokenizer, 0)
    bytes_read = {token for text in texts for token in byte_tokenizer.tokenize(text).ids.tolist()}
    assert len(bytes_read & {*byte_tokenizer.byte_ids}) > 100
    assert not any("\ufffd" in text for text in texts)


@pytest.fixture(scope="module")
def byte_model(byte_bundle_path: Path) -> Classifier:
    return load(byte_bundle_path)


def test_a_bundle_with_bytes_is_verified_and_exported(byte_bundle_path: Path, tmp_path: Path) -> None:
    assert bothways.verify(byte_bundle_path).passed
    bothways.export_onnx(byte_bundle_path, out=tmp_path / "bytes.onnx")  # replays the parity record


def test_batches_and_parts_change_no_bit(byte_model: Classifier) -> None:
    texts = [*SAMPLES, "漢字" * 200, "", "Ελληνικά και ζώα", "😀 " * 50]
    together = byte_model.predict_proba(texts)
    for text, expected in zip(texts, together, strict=True):
        np.testing.assert_array_equal(byte_model.predict_proba([text])[0], expected)
        reader = byte_model.open()
        for start in range(0, len(text), 7):
            reader.append(text[start : start + 7])
        prediction = reader.close()
        np.testing.assert_array_equal([*prediction.probabilities["ensemble"]], expected)


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
def test_older_tokenizers_keep_their_bytes_and_ids(pack: Path) -> None:
    data = (pack / "tokenizer.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == GOLDEN_SHA256
    tokenizer = parse_tokenizer(data)
    assert tokenizer.to_bytes() == data
    assert len(tokenizer.byte_ids) == 0
    assert [tokenizer.tokenize(text).ids.tolist() for text in SAMPLES] == GOLDEN_IDS
