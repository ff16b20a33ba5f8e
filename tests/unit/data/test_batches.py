from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from bothways.data.batches import count_batches, pad, plan_batches, shuffled_batches
from bothways.text.reading import Ids
from bothways.text.tokenizer import PADDING_ID

lengths_of_texts = st.lists(st.integers(1, 60), min_size=1, max_size=40)
token_lists = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=12), min_size=1, max_size=12)


def ids_of(*texts: list[int]) -> list[Ids]:
    return [np.array(text, dtype=np.int32) for text in texts]


def texts_of_lengths(lengths: list[int]) -> list[Ids]:
    return ids_of(*([row] * length for row, length in enumerate(lengths)))


def test_padding_stands_behind_each_text() -> None:
    batch = pad(ids_of([7], [4, 5, 6], [8, 9]), np.array([1, 2]))
    assert batch.rows.tolist() == [1, 2]
    assert batch.ids.tolist() == [[4, 5, 6], [8, 9, PADDING_ID]]
    assert batch.lengths.tolist() == [3, 2]
    assert batch.ids.dtype == batch.lengths.dtype == np.int64


# Which texts go together.


@given(lengths_of_texts, st.integers(2, 8), st.integers(1, 200))
@example(lengths=[1], texts=2, tokens=1)
@example(lengths=[1] * 32 + [60], texts=32, tokens=64)
def test_every_text_is_in_exactly_one_batch(lengths: list[int], texts: int, tokens: int) -> None:
    batches = plan_batches(np.array(lengths), texts, tokens)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))


@given(st.lists(st.integers(1, 60), min_size=2, max_size=40), st.integers(2, 8), st.integers(1, 200))
@example(lengths=[1, 1, 60], texts=2, tokens=2)
@example(lengths=[1] * 32 + [60], texts=32, tokens=64)
def test_no_text_is_ever_trained_on_alone(lengths: list[int], texts: int, tokens: int) -> None:
    assert min(map(len, plan_batches(np.array(lengths), texts, tokens))) >= 2


@given(lengths_of_texts, st.integers(2, 8), st.integers(1, 200))
@example(lengths=[1, 1, 60], texts=2, tokens=2)
@example(lengths=[1] * 32 + [60], texts=32, tokens=64)
def test_no_batch_is_over_its_budget_unless_two_texts_are(lengths: list[int], texts: int, tokens: int) -> None:
    batches = plan_batches(np.array(lengths), texts, tokens)
    for number, batch in enumerate(batches, start=1):
        executed = len(batch) * max(lengths[row] for row in batch)
        is_odd_rest = number == len(batches) and len(batch) == 3
        assert len(batch) <= texts or is_odd_rest
        assert executed <= tokens or len(batch) <= 2 or is_odd_rest


@given(lengths_of_texts, st.integers(2, 8), st.integers(1, 200))
def test_texts_of_similar_length_go_together(lengths: list[int], texts: int, tokens: int) -> None:
    batches = plan_batches(np.array(lengths), texts, tokens)
    for shorter, longer in pairwise(batches):
        assert max(lengths[row] for row in shorter) <= min(lengths[row] for row in longer)


def test_one_very_long_text_does_not_make_a_full_batch_as_long() -> None:
    batches = plan_batches(np.array([10] * 32 + [10_000]), 32, 8192)
    assert [len(batch) for batch in batches] == [31, 2]


def test_batches_by_hand() -> None:
    # By length: rows 1, 5, 2 fill a batch; 3 and 0 make 10 tokens; 4 is too long for them, but is not left alone.
    batches = plan_batches(np.array([5, 1, 2, 2, 9, 1]), texts=3, tokens=12)
    assert [batch.tolist() for batch in batches] == [[1, 5, 2], [3, 0, 4]]


@given(lengths_of_texts, st.integers(2, 8), st.integers(0, 5))
def test_an_epoch_shows_every_text_once_as_it_is(lengths: list[int], batch_size: int, seed: int) -> None:
    texts = texts_of_lengths(lengths)
    seen: list[int] = []
    for rows in shuffled_batches(texts, batch_size, 100, np.random.default_rng(seed)):
        batch = pad(texts, rows)
        seen += batch.rows.tolist()
        for line, row in enumerate(batch.rows):
            assert batch.ids[line, : batch.lengths[line]].tolist() == texts[row].tolist()
            assert (batch.ids[line, batch.lengths[line] :] == PADDING_ID).all()
    assert sorted(seen) == list(range(len(lengths)))


def test_the_next_epoch_has_another_order_and_company_and_the_same_seed_the_same() -> None:
    texts = texts_of_lengths([1 + row % 20 for row in range(100)])

    def two_epochs(seed: int) -> list[list[list[int]]]:
        rng = np.random.default_rng(seed)
        return [[rows.tolist() for rows in shuffled_batches(texts, 8, 1000, rng)] for _ in range(2)]

    first, second = two_epochs(1)
    assert first != second
    assert set(map(frozenset, first)) != set(map(frozenset, second))
    assert two_epochs(1) == [first, second]
    assert two_epochs(2) != [first, second]


def test_batches_are_counted_before_they_are_made() -> None:
    texts = texts_of_lengths([10] * 64)
    assert count_batches(texts, 8, 10_000) == 8
    assert len(shuffled_batches(texts, 8, 10_000, np.random.default_rng(0))) == 8
