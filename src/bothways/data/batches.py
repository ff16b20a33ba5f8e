"""Build padded training batches of texts with similar length for classifiers.

The input are ids in reading order, the output numpy arrays. This module owns padding in training: padding follows every
text, and no result may depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.text.reading import Ids
from bothways.text.tokenizer import PADDING_ID

_Matrix = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TextBatch:
    """Texts of similar length.

    Attributes:
        rows: Indices of the texts, (B,).
        ids: Token ids, padded at the end, (B, T) int64.
        lengths: Number of tokens per text without padding, (B,) int64, each from 1 to T.
    """

    rows: NDArray[np.intp]
    ids: _Matrix
    lengths: NDArray[np.int64]


def pad(texts: Sequence[Ids], rows: NDArray[np.intp]) -> TextBatch:
    """Return a batch of texts.

    Args:
        texts: Ids of all texts in reading order.
        rows: Indices of the texts in the batch, (B,).
    """
    lengths = np.array([len(texts[row]) for row in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max())), PADDING_ID, dtype=np.int64)
    for line, row in enumerate(rows):
        ids[line, : lengths[line]] = texts[row]
    return TextBatch(rows, ids, lengths)


def plan_batches(lengths: NDArray[np.int64], texts: int, tokens: int) -> list[NDArray[np.intp]]:
    """Group texts of similar length into batches.

    Every text is in exactly one batch. Every batch has at least two texts, unless there is only one text. If two texts
    fill a batch and the number of texts is odd, the last batch has three texts.

    Args:
        lengths: Number of tokens per text, (N,).
        texts: Maximum number of texts per batch, ≥ 2.
        tokens: Maximum number of tokens per batch including padding (texts x longest text). A batch of two texts may
            exceed it.

    Returns:
        The indices of the texts in each batch, batches ordered by length.
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
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch normalization can't be trained on a single text
        if len(batches[-2]) > 2:
            batches[-1].append(batches[-2].pop())
        else:
            batches[-2].extend(batches.pop())
    return [np.array(batch, dtype=np.intp) for batch in batches]


def shuffled_batches(
    texts: Sequence[Ids], batch_size: int, max_batch_tokens: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Group texts of similar length into batches in random order. Every text is in exactly one batch.

    Args:
        texts: Ids in reading order.
        batch_size: Maximum number of texts per batch.
        max_batch_tokens: Maximum number of tokens per batch including padding.
        rng: Random generator that decides the composition and the order of the batches.

    Returns:
        The indices of the texts in each batch.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    blurred = lengths * rng.uniform(0.9, 1.1, len(lengths))  # so that texts get different neighbors in each epoch
    batches = plan_batches(np.maximum(1, blurred.astype(np.int64)), batch_size, max_batch_tokens)
    return [batches[number] for number in rng.permutation(len(batches))]


def count_batches(texts: Sequence[Ids], batch_size: int, max_batch_tokens: int) -> int:
    """Return the approximate number of batches of ``shuffled_batches``, for progress bars and schedules."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    return len(plan_batches(lengths, batch_size, max_batch_tokens))
