from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from bothways.data import tokenization
from bothways.data.tokenization import tokenize_all
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.text.tokenizer import Tokenizer

ORDERS = [
    (Direction.FORWARD, SpecialTokenPlacement.READING_ORDER),
    (Direction.BACKWARD, SpecialTokenPlacement.READING_ORDER),
    (Direction.BACKWARD, SpecialTokenPlacement.AS_WRITTEN),
]
TEXTS = ["A fine Film!", "", "so so so GOOD", "x" * 300, "naïve 日本", "the film was a film"] * 20


@pytest.mark.parametrize("processes", [1, 3])
def test_each_text_comes_in_each_order_whoever_tokenizes_it(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(tokenization, "_FRAME_CHARACTERS", 1000)
    found = list(tokenize_all(tiny_tokenizer, TEXTS, ORDERS, processes))
    assert len(found) == len(TEXTS)
    for text, ids_by_order in zip(TEXTS, found, strict=True):
        tokens = tiny_tokenizer.tokenize(text)
        for order, ids in zip(ORDERS, ids_by_order, strict=True):
            assert np.array_equal(ids, read(tokens, *order))


@pytest.mark.parametrize("processes", [1, 2])
def test_texts_with_fields_are_the_same_in_workers(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(tokenization, "_FRAME_CHARACTERS", 100)
    tokenizer = tiny_tokenizer.with_field_token()
    texts = [*zip(TEXTS, TEXTS[::-1], strict=True)]
    found = list(tokenize_all(tokenizer, texts, ORDERS[:1], processes))
    for text, (ids,) in zip(texts, found, strict=True):
        assert np.array_equal(ids, tokenizer.tokenize(text).ids)


def test_texts_are_taken_as_they_are_needed(tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenization, "_FRAME_CHARACTERS", 100)
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "some words of a text"

    assert len(list(itertools.islice(tokenize_all(tiny_tokenizer, endless(), ORDERS[:1], 2), 30))) == 30
    assert taken < 100
