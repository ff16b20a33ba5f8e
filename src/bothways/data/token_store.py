"""Store the ids of many texts in memory or in a memory-mapped file, and cut them into windows.

A store has ids in one reading order. It returns single texts, or windows of a stream for language models. Nothing loops
over tokens in Python, and a memory-mapped store needs no memory of its own.
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
"""Indices of texts in a store."""

_MIN_ROW_TOKENS = 2
_COUNTED_AT_ONCE = 1_000_000
"""Tokens, which are converted to 8 bytes each."""
_SMALL_VOCABULARY = 2**16
"""Maximum vocabulary size whose ids fit into two bytes."""


class TokenStore:
    """The concatenated ids of texts.

    Attributes:
        ids: Ids of all texts, (tokens,), of any integer type.
        starts: Position of the first token of each text, and the end of the last text, (N + 1,) int64.
    """

    def __init__(self, ids: NDArray[np.integer], starts: Numbers) -> None:
        self.ids = ids
        self.starts = starts

    @classmethod
    def of(cls, texts: Sequence[Ids]) -> TokenStore:
        """Create a store in memory."""
        starts = np.cumsum([0, *(len(text) for text in texts)], dtype=np.int64)
        return cls(np.concatenate([*texts, np.empty(0, dtype=np.int32)]), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Ids:
        """Return the ids of one text, (T,) int32."""
        return self.ids[self.starts[number] : self.starts[number + 1]].astype(np.int32)

    @property
    def lengths(self) -> Numbers:
        """Number of tokens per text, (N,)."""
        return np.diff(self.starts)

    def counts(self, vocabulary_size: int) -> NDArray[np.int64]:
        """Return how often each token occurs, (vocabulary_size,)."""
        found = np.zeros(vocabulary_size, dtype=np.int64)
        for start in range(0, len(self.ids), _COUNTED_AT_ONCE):
            found += np.bincount(self.ids[start : start + _COUNTED_AT_ONCE], minlength=vocabulary_size)
        return found


class Stream:
    """Concatenated texts, cut into rows of equal length that a language model reads in parallel with carried state.

    The last few tokens that don't fill all rows are dropped. A window depends on its number only, so that training can
    resume at any window (guarantee 7).

    Attributes:
        rows: Number of rows. It is smaller than requested if there are too few tokens.
        tokens_per_row: Number of tokens per row.

    Args:
        texts: The store.
        order: Indices of the texts, in the order of the stream.
        rows: Requested number of rows.
        sequence_length: Number of tokens per window.
    """

    def __init__(self, texts: TokenStore, order: Numbers, rows: int, sequence_length: int) -> None:
        lengths = texts.lengths[order]
        self._ids = texts.ids
        self._ends = np.cumsum(lengths)
        self._shift = texts.starts[order] - (self._ends - lengths)  # from stream to store positions
        tokens = int(self._ends[-1]) if len(order) else 0
        self._sequence_length = sequence_length
        self.rows = max(1, min(rows, tokens // _MIN_ROW_TOKENS))
        self.tokens_per_row = tokens // self.rows

    @property
    def windows(self) -> int:
        """Number of windows. The last one may be shorter."""
        return math.ceil(max(0, self.tokens_per_row - 1) / self._sequence_length)

    def window(self, number: int, rows: slice = slice(None)) -> tuple[Matrix, Matrix]:
        """Return the inputs and targets (the next tokens) of a window, each (rows, ≤ sequence_length) int64.

        Args:
            number: The window, from 0 to ``windows`` - 1.
            rows: The rows to return. Defaults to all rows.
        """
        start = number * self._sequence_length
        stop = min(start + self._sequence_length, self.tokens_per_row - 1)
        row_starts = np.arange(self.rows)[rows] * self.tokens_per_row
        places = row_starts[:, None] + np.arange(start, stop + 1)
        text = np.searchsorted(self._ends, places, side="right")
        values = self._ids[places + self._shift[text]].astype(np.int64)
        return values[:, :-1], values[:, 1:]


class TokenFiles:
    """Token stores on disk, one per reading order. They are written text by text and read as memory-mapped files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def writing(self, orders: Sequence[str], vocabulary_size: int) -> Iterator[Callable[[Sequence[Ids]], None]]:
        """Yield a function that adds a text, given its ids in each reading order.

        Files of an interrupted run are overwritten.

        Args:
            orders: The name of each reading order.
            vocabulary_size: All ids are smaller than this.

        Raises:
            DataError: The disk is full or not writable.
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
                raise writing_failed(self._folder, error, is_output=False) from None

    def open(self, order: str) -> TokenStore:
        """Open the store of one reading order as a memory-mapped file."""
        starts = np.load(self._folder / "starts.npy", allow_pickle=False)
        path = self._folder / f"{order}.ids"
        tokens = int(starts[-1])
        kind = np.uint16 if path.stat().st_size == 2 * tokens else np.uint32
        return TokenStore(np.memmap(path, dtype=kind, mode="r", shape=(tokens,)), starts)
