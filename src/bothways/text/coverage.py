"""Notice texts in a language that a tokenizer was not made for.

In: a tokenizer and ids. Out: a share. Words of another language fall apart into single letters, or are unknown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bothways.text.tokenizer import UNKNOWN_ID, Tokenizer

MAX_UNCOVERED_SHARE = 0.11
"""English texts of every kind stay below it, those of other languages lie above (docs/LOG.md)."""


def uncovered_share(tokenizer: Tokenizer, ids: NDArray[np.integer]) -> float:
    """Return the share of tokens that are unknown or a single letter within a word, 0..1; 0 of no tokens."""
    tokens = tokenizer.tokens(range(len(tokenizer)))
    is_uncovered = np.array([len(token) == 1 and token.isalpha() for token in tokens])
    is_uncovered[UNKNOWN_ID] = True
    return float(is_uncovered[ids].mean()) if len(ids) else 0.0
