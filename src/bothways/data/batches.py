"""Turn token ids into training batches for classifiers: padded texts of similar length.

In: ids in reading order. Out: numpy arrays. Owns padding in training: it stands behind every text, and no result may
depend on it. Does not know directions: ids come as a model reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Return the chosen texts as one batch."""
    lengths = np.array([len(texts[row]) for row in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max())), PADDING_ID, dtype=np.int64)
    for line, row in enumerate(rows):
        ids[line, : lengths[line]] = texts[row]
    return TextBatch(rows, ids, lengths)


def plan_batches(lengths: NDArray[np.int64], texts: int, tokens: int) -> list[NDArray[np.intp]]:
    """Return rows grouped by length: every row once, at least two a batch wherever there are two.

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
    texts: Sequence[Ids], batch_size: int, max_batch_tokens: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Return the rows of batches of texts of similar length: every text once, in another order and company each time.

    Args:
        texts: Ids in reading order.
        batch_size: Most texts in a batch.
        max_batch_tokens: Most executed tokens in a batch.
        rng: Decides order and company.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    blurred = lengths * rng.uniform(0.9, 1.1, len(lengths))  # so that neighbours change
    batches = plan_batches(np.maximum(1, blurred.astype(np.int64)), batch_size, max_batch_tokens)
    return [batches[number] for number in rng.permutation(len(batches))]


def count_batches(texts: Sequence[Ids], batch_size: int, max_batch_tokens: int) -> int:
    """Return about how many batches ``shuffled_batches`` will yield, for progress and schedules."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    return len(plan_batches(lengths, batch_size, max_batch_tokens))
