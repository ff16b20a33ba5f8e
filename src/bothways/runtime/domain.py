"""Score how far a text is from those that a model was calibrated on, by its pooled states and by its tokens.

In: the pooled states of all members, and tokens. Out: a number that exceeds 1 for about 2 % of texts like those of the
calibration. It is the larger one of two parts, each divided by its limit:

- the squared Mahalanobis distance of the pooled states (Lee et al., arXiv 1807.03888), whose density is a probabilistic
  principal component analysis: a Gaussian whose covariance is that of the principal components, and the same variance
  in all other directions (Tipping & Bishop 1999);
- the mean loss of the tokens under a unigram language model: their frequencies in the calibration.

Letters: N texts, D pooled states of all members, K components, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.weights import (
    DOMAIN_COMPONENTS,
    DOMAIN_LIMITS,
    DOMAIN_MEAN,
    DOMAIN_SCALE,
    DOMAIN_TOKEN_LOSSES,
    DOMAIN_VARIANCES,
    DomainWeights,
)
from bothways.runtime.slots import Pooled
from bothways.text.reading import Ids

_SMALLEST = 1e-6
"""States that do not vary in the calibration are not divided by zero."""


class DomainModel:
    """The density of pooled states. Runs on one text at a time, so that no rounding depends on a batch."""

    def __init__(self, arrays: DomainWeights) -> None:
        self._mean = arrays[DOMAIN_MEAN].astype(np.float64)
        self._scale = arrays[DOMAIN_SCALE].astype(np.float64)
        self._components = arrays[DOMAIN_COMPONENTS].astype(np.float64)
        self._variances = arrays[DOMAIN_VARIANCES].astype(np.float64)
        self._token_losses = arrays[DOMAIN_TOKEN_LOSSES].astype(np.float64)
        self._distance_limit, self._loss_limit = map(float, arrays[DOMAIN_LIMITS])

    def score(self, pooled: Sequence[Pooled], token_loss: float) -> float:
        """Return the domain score of a text, 0 or more.

        Args:
            pooled: One (3E,) float32 vector per member.
            token_loss: The mean loss of its tokens.
        """
        return max(self.distance(pooled) / self._distance_limit, token_loss / self._loss_limit)

    def token_loss(self, ids: Ids) -> float:
        """Return the mean loss of tokens under their frequencies, in nats.

        Args:
            ids: The tokens of a text, (T,), T at least 1.
        """
        return float(self._token_losses[ids].mean())

    def distance(self, pooled: Sequence[Pooled]) -> float:
        """Return the squared Mahalanobis distance of a text per state, 0 or more.

        Args:
            pooled: One (3E,) float32 vector per member.
        """
        states = (np.concatenate(pooled).astype(np.float64) - self._mean) / self._scale
        along = self._components @ states
        rest = max(0.0, float(states @ states - along @ along))  # the components are orthonormal
        distance = float((along * along / self._variances[:-1]).sum()) + rest / float(self._variances[-1])
        return distance / len(states)


def fit_domain(
    states: NDArray[np.float32], tokens: Sequence[Ids], vocabulary_size: int, components: int
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a domain, as a bundle stores them, with limits of 1.

    Args:
        states: Pooled states of texts, (N, D), N at least 2.
        tokens: The tokens of each text.
        vocabulary_size: Number of tokens, V.
        components: Number of components, K, at most N - 1 and D - 1.
    """
    mean = states.mean(axis=0, dtype=np.float64)
    scale = np.maximum(states.std(axis=0, dtype=np.float64), _SMALLEST)
    standardized = (states - mean) / scale
    count, width = standardized.shape
    if count < width:  # the smaller of the two Gram matrices has the same eigenvalues
        values, vectors = np.linalg.eigh(standardized @ standardized.T / count)  # in rising order
        vectors = standardized.T @ vectors[:, -components:]
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), _SMALLEST)
    else:
        values, vectors = np.linalg.eigh(standardized.T @ standardized / count)
        vectors = vectors[:, -components:]
    variances = values[-components:]
    rest = max(0.0, float(values.sum() - variances.sum())) / (width - components)
    counts = 1 + np.bincount(np.concatenate(tokens), minlength=vocabulary_size)  # one more, also for unseen tokens
    return {
        DOMAIN_TOKEN_LOSSES: -np.log(counts / counts.sum()).astype(np.float16),
        DOMAIN_LIMITS: np.ones(2, dtype=np.float32),
        DOMAIN_MEAN: mean.astype(np.float32),
        DOMAIN_SCALE: scale.astype(np.float32),
        DOMAIN_COMPONENTS: np.ascontiguousarray(vectors.T).astype(np.float16),
        DOMAIN_VARIANCES: np.maximum([*variances, rest], _SMALLEST).astype(np.float32),
    }
