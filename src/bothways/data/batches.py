"""Turn token ids into training batches: padded texts for classifiers, endless rows for language models.

In: ids in reading order. Out: numpy arrays. Owns padding in training: it stands behind every text, and no result may
depend on it. Does not know directions: ids come as a model reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.text.reading import Ids
from bothways.text.tokenizer import PADDING_ID

Matrix = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TextBatch:
    """Some texts of similar length.

    Attributes:
        rows: Which of the texts, (B,).
        ids: (B, T) int64, padded behind.
        lengths: Real tokens of each text, (B,) int64, each in 1..T.
    """

    rows: NDArray[np.intp]
    ids: Matrix
    lengths: NDArray[np.int64]


def pad(texts: Sequence[Ids], rows: NDArray[np.intp]) -> TextBatch:
    """Give the chosen texts as one batch."""
    lengths = np.array([len(texts[row]) for row in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max())), PADDING_ID, dtype=np.int64)
    for line, row in enumerate(rows):
        ids[line, : lengths[line]] = texts[row]
    return TextBatch(rows, ids, lengths)


def plan_batches(lengths: NDArray[np.int64], texts: int, tokens: int) -> list[NDArray[np.intp]]:
    """Give rows grouped by length: every row once, at least two a batch wherever there are two.

    Args:
        lengths: Tokens of each text, (N,).
        texts: Most texts in a batch, ≥ 2.
        tokens: Most executed tokens in a batch (texts x longest), except where two texts alone exceed it.

    Of an odd number of texts, where two fill a batch, the last batch has three.
    """
    order = np.argsort(lengths, kind="stable")
    batches: list[list[int]] = []
    for row in order.tolist():
        current = batches[-1] if batches else []
        is_full = len(current) >= texts or (len(current) + 1) * int(lengths[row]) > tokens
        if not current or (is_full and len(current) >= 2):
            batches.append([row])
        else:
            current.append(row)
    if len(batches) > 1 and len(batches[-1]) == 1:  # a batch norm can't be trained on one text
        if len(batches[-2]) > 2:
            batches[-1].append(batches[-2].pop())
        else:
            batches[-2].extend(batches.pop())
    return [np.array(batch, dtype=np.intp) for batch in batches]


def shuffled_batches(
    texts: Sequence[Ids], batch_texts: int, batch_tokens: int, chance: np.random.Generator
) -> Iterator[TextBatch]:
    """Give every text once in batches of similar length, in another order and company each time.

    Args:
        texts: Ids in reading order.
        batch_texts: Most texts in a batch.
        batch_tokens: Most executed tokens in a batch.
        chance: Decides order and company.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    blurred = lengths * chance.uniform(0.9, 1.1, len(lengths))  # so that neighbours change
    batches = plan_batches(np.maximum(1, blurred.astype(np.int64)), batch_texts, batch_tokens)
    for number in chance.permutation(len(batches)):
        yield pad(texts, batches[number])


def count_batches(texts: Sequence[Ids], batch_texts: int, batch_tokens: int) -> int:
    """Give about how many batches ``shuffled_batches`` will yield, for progress and schedules."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    return len(plan_batches(lengths, batch_texts, batch_tokens))


def stream_rows(texts: Sequence[Ids], rows: int, chance: np.random.Generator | None) -> Matrix:
    """Give all texts, one after the other, as rows of equal length for a language model with carried state.

    Args:
        texts: Ids in reading order.
        rows: How many rows are wanted; fewer come of very few tokens.
        chance: Shuffles the texts; None leaves their order.

    Returns:
        (rows, tokens a row) int64; the few tokens that don't fill all rows are left out.
    """
    order = chance.permutation(len(texts)) if chance is not None else np.arange(len(texts))
    stream = np.concatenate([texts[i] for i in order]).astype(np.int64)
    rows = max(1, min(rows, len(stream) // 2))
    width = len(stream) // rows
    return stream[: rows * width].reshape(rows, width)


def stream_windows(stream: Matrix, window_tokens: int) -> Iterator[tuple[Matrix, Matrix]]:
    """Give consecutive windows of a stream with their next tokens, each (rows, ≤ window_tokens)."""
    for start in range(0, stream.shape[1] - 1, window_tokens):
        stop = min(start + window_tokens, stream.shape[1] - 1)
        yield stream[:, start:stop], stream[:, start + 1 : stop + 1]
