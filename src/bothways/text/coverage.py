"""Detect texts in a language that a tokenizer was not trained for.

Words of another language are split into single letters or become unknown tokens. The share of such tokens is the
measure of coverage.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bothways.text.tokenizer import UNKNOWN_ID, Tokenizer

MAX_UNCOVERED_SHARE = 0.11
"""For the English tokenizer, English texts of every kind are below this share, other languages above (docs/LOG.md)."""


def uncovered_share(tokenizer: Tokenizer, ids: NDArray[np.integer]) -> float:
    """Return the share of tokens that are unknown or a single letter within a word.

    Args:
        tokenizer: The tokenizer of the ids.
        ids: The tokens, (T,).

    Returns:
        A number from 0 to 1. It is 0 if there are no tokens.
    """
    tokens = tokenizer.tokens(range(len(tokenizer)))
    is_uncovered = np.array([len(token) == 1 and token.isalpha() for token in tokens])
    is_uncovered[UNKNOWN_ID] = True
    return float(is_uncovered[ids].mean()) if len(ids) else 0.0
