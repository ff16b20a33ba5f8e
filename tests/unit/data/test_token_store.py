from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.data import token_store
from bothways.data.token_store import Matrix, Stream, TokenFiles, TokenStore
from bothways.text.reading import Ids

token_lists = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=12), min_size=1, max_size=12)


def ids_of(*texts: list[int]) -> list[Ids]:
    return [np.array(text, dtype=np.int32) for text in texts]


def a_stream(texts: list[list[int]], rows: int, sequence_length: int, order: list[int] | None = None) -> Stream:
    chosen = np.array(range(len(texts)) if order is None else order, dtype=np.int64)
    return Stream(TokenStore.of(ids_of(*texts)), chosen, rows, sequence_length)


def windows_of(stream: Stream, rows: slice = slice(None)) -> list[tuple[Matrix, Matrix]]:
    return [stream.window(number, rows) for number in range(stream.windows)]


def row_tokens(stream: Stream) -> Matrix:
    """Return all tokens of all rows, read window by window."""
    windows = windows_of(stream)
    return np.concatenate([windows[0][0][:, :1], *(targets for _, targets in windows)], axis=1)


# Streams for language models.


def test_a_stream_by_hand() -> None:
    stream = a_stream([[1, 2, 3], [4, 5], [6, 7, 8, 9]], rows=2, sequence_length=2)
    windows = [(i.tolist(), t.tolist()) for i, t in windows_of(stream)]
    assert windows == [([[1, 2], [5, 6]], [[2, 3], [6, 7]]), ([[3], [7]], [[4], [8]])]


def test_texts_come_in_the_order_that_is_asked_for_and_others_not_at_all() -> None:
    stream = a_stream([[1, 2, 3], [4, 5], [6, 7, 8, 9]], rows=1, sequence_length=10, order=[2, 0])
    assert row_tokens(stream).tolist() == [[6, 7, 8, 9, 1, 2, 3]]


@given(token_lists, st.integers(1, 8), st.integers(1, 6))
def test_rows_hold_the_texts_one_after_the_other_and_each_token_but_a_rows_first_is_to_be_predicted(
    texts: list[list[int]], rows: int, sequence_length: int
) -> None:
    stream = a_stream(texts, rows, sequence_length)
    tokens = [token for text in texts for token in text]
    assert len(tokens) - stream.rows * stream.tokens_per_row < stream.rows <= rows  # less than one column is left out
    if stream.tokens_per_row == 1:
        assert stream.windows == 0
        return
    assert row_tokens(stream).flatten().tolist() == tokens[: stream.rows * stream.tokens_per_row]
    windows = windows_of(stream)
    inputs = np.concatenate([inputs for inputs, _ in windows], axis=1)
    assert np.array_equal(inputs, row_tokens(stream)[:, :-1])
    assert all(inputs.shape == targets.shape for inputs, targets in windows)
    assert all(inputs.shape[1] == sequence_length for inputs, _ in windows[:-1])
    assert 1 <= windows[-1][0].shape[1] <= sequence_length


@given(token_lists, st.integers(1, 8), st.data())
def test_several_processes_share_the_rows_of_a_window(texts: list[list[int]], rows: int, data: st.DataObject) -> None:
    stream = a_stream(texts, rows, 3)
    cut = data.draw(st.integers(0, stream.rows))
    for number in range(stream.windows):
        for whole, first, second in zip(
            stream.window(number),
            stream.window(number, slice(0, cut)),
            stream.window(number, slice(cut, stream.rows)),
            strict=True,
        ):
            assert np.array_equal(whole, np.concatenate([first, second]))


@given(token_lists, st.integers(0, 5))
def test_another_order_keeps_texts_whole(texts: list[list[int]], seed: int) -> None:
    numbered = [[row] * (len(text) + 1) for row, text in enumerate(texts)]
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    tokens = row_tokens(a_stream(numbered, 1, 5, order))[0].tolist()
    runs = [tokens[0], *(after for before, after in pairwise(tokens) if after != before)]
    assert runs == order
    assert sorted(tokens) == [row for text in numbered for row in text]


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_few_tokens_give_fewer_rows(rows: int) -> None:
    stream = a_stream([[1, 2, 3, 4, 5]], rows, 2)
    assert (stream.rows, stream.tokens_per_row) == ((1, 5) if rows == 1 else (2, 2))


# Files.


@pytest.mark.parametrize(("vocabulary", "size_bytes"), [(2**16, 2), (2**16 + 1, 4)])
def test_files_give_back_each_text_in_each_order(tmp_path: Path, vocabulary: int, size_bytes: int) -> None:
    texts = ids_of([1, vocabulary - 1, 3], [4], [5, 6])
    files = TokenFiles(tmp_path)
    with files.writing(["forward", "backward"], vocabulary) as add:
        for ids in texts:
            add([ids, ids[::-1]])
    assert (tmp_path / "forward.ids").stat().st_size == 6 * size_bytes
    forward, backward = files.open("forward"), files.open("backward")
    assert forward.lengths.tolist() == [3, 1, 2]
    for number, ids in enumerate(texts):
        assert forward[number].tolist() == ids.tolist()
        assert backward[number].tolist() == ids[::-1].tolist()


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=5), st.integers(1, 7))
def test_tokens_are_counted_over_all_texts(texts: list[list[int]], at_once: int) -> None:
    store = TokenStore.of(ids_of(*texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_store, "_COUNTED_AT_ONCE", at_once)
        assert store.counts(10).tolist() == [sum(text.count(token) for text in texts) for token in range(10)]


def test_a_file_is_mapped_and_not_read(tmp_path: Path) -> None:
    files = TokenFiles(tmp_path)
    with files.writing(["forward"], 10) as add:
        add(ids_of([1, 2]))
    assert isinstance(files.open("forward").ids, np.memmap)
