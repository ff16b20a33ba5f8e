"""Hold the ids of many texts one after another, in memory or in a mapped file, and cut them into windows.

In: ids in reading order. Out: single texts, or windows of a stream for language models. Does not know directions: there
is one store for each reading order. No work is done token by token in Python, and a mapped store needs no memory of its
own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bothways.files import writing_failed
from bothways.text.reading import Ids

Matrix = NDArray[np.int64]
Numbers = NDArray[np.int64]
"""Numbers of texts in a store."""

_SMALLEST_STREAM_TOKENS = 2
_SMALL_VOCABULARY = 2**16
"""Ids up to here fit into two bytes."""


class TokenStore:
    """The ids of texts, one after another.

    Attributes:
        ids: Of all texts, (tokens,), of any type of whole numbers.
        starts: Where each text begins, and where the last one ends, (N + 1,) int64.
    """

    def __init__(self, ids: NDArray[np.integer], starts: Numbers) -> None:
        self.ids = ids
        self.starts = starts

    @classmethod
    def of(cls, texts: Sequence[Ids]) -> TokenStore:
        """Return a store in memory."""
        starts = np.cumsum([0, *(len(text) for text in texts)], dtype=np.int64)
        return cls(np.concatenate([*texts, np.empty(0, dtype=np.int32)]), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Ids:
        """Return one text's ids, (T,) int32."""
        return self.ids[self.starts[number] : self.starts[number + 1]].astype(np.int32)

    @property
    def lengths(self) -> Numbers:
        """Tokens of each text, (N,)."""
        return np.diff(self.starts)


class Stream:
    """Some texts one after another, cut into rows of equal length that are read side by side with carried state.

    The few tokens that don't fill all rows are left out. A window is a function of its number alone, so that a training
    can go on anywhere (guarantee 7).

    Attributes:
        rows: How many rows there are; fewer than wanted of very few tokens.
        tokens_a_row: Their length.
    """

    def __init__(self, texts: TokenStore, order: Numbers, rows: int, sequence_length: int) -> None:
        lengths = texts.lengths[order]
        self._ids = texts.ids
        self._ends = np.cumsum(lengths)
        self._shift = texts.starts[order] - (self._ends - lengths)  # from a place in the stream to one in the store
        tokens = int(self._ends[-1]) if len(order) else 0
        self._sequence_length = sequence_length
        self.rows = max(1, min(rows, tokens // _SMALLEST_STREAM_TOKENS))
        self.tokens_a_row = tokens // self.rows

    @property
    def windows(self) -> int:
        """How many windows there are; the last one may be shorter."""
        return math.ceil(max(0, self.tokens_a_row - 1) / self._sequence_length)

    def window(self, number: int, rows: slice = slice(None)) -> tuple[Matrix, Matrix]:
        """Return a window of some rows and its next tokens, each (rows, ≤ sequence_length) int64."""
        start = number * self._sequence_length
        stop = min(start + self._sequence_length, self.tokens_a_row - 1)
        row_starts = np.arange(self.rows)[rows] * self.tokens_a_row
        places = row_starts[:, None] + np.arange(start, stop + 1)
        text = np.searchsorted(self._ends, places, side="right")
        values = self._ids[places + self._shift[text]].astype(np.int64)
        return values[:, :-1], values[:, 1:]


class TokenFiles:
    """Token stores on disk, one for each reading order, filled text by text and then only read, as mapped files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def writing(self, orders: Sequence[str], vocabulary_size: int) -> Iterator[Callable[[Sequence[Ids]], None]]:
        """Return what adds a text, by its ids in each of the orders; what a stopped run left is overwritten.

        Args:
            orders: A name for each reading order.
            vocabulary_size: Every id is below it.

        Raises:
            DataError: The disk is full or can't be written.
        """
        kind = np.uint16 if vocabulary_size <= _SMALL_VOCABULARY else np.uint32
        lengths = []
        with contextlib.ExitStack() as stack:
            try:
                files = [stack.enter_context((self._folder / f"{order}.ids").open("wb")) for order in orders]

                def add(ids_by_order: Sequence[Ids]) -> None:
                    lengths.append(len(ids_by_order[0]))
                    for file, ids in zip(files, ids_by_order, strict=True):
                        file.write(ids.astype(kind).tobytes())

                yield add
                for file in files:
                    file.flush()
                np.save(self._folder / "starts.npy", np.cumsum([0, *lengths], dtype=np.int64))
            except OSError as error:
                raise writing_failed(self._folder, error) from None

    def open(self, order: str) -> TokenStore:
        """Return the store of one reading order, mapped."""
        starts = np.load(self._folder / "starts.npy", allow_pickle=False)
        path = self._folder / f"{order}.ids"
        tokens = int(starts[-1])
        kind = np.uint16 if path.stat().st_size == 2 * tokens else np.uint32
        return TokenStore(np.memmap(path, dtype=kind, mode="r", shape=(tokens,)), starts)
