"""Score how far a text is from those that a model was calibrated on, by its pooled states.

In: the pooled states of all members. Out: a number that is about 1 for texts of the calibration and larger for others.
The density is a probabilistic principal component analysis: a Gaussian whose covariance is that of the principal
components, and the same variance in all other directions (Tipping & Bishop 1999). The score is its squared Mahalanobis
distance per state (Lee et al., arXiv 1807.03888).

Letters: N texts, D pooled states of all members, K components.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.weights import (
    DOMAIN_COMPONENTS,
    DOMAIN_MEAN,
    DOMAIN_SCALE,
    DOMAIN_VARIANCES,
    DomainWeights,
)
from bothways.runtime.slots import Pooled

_SMALLEST = 1e-6
"""States that do not vary in the calibration are not divided by zero."""


class DomainModel:
    """The density of pooled states. Runs on one text at a time, so that no rounding depends on a batch."""

    def __init__(self, arrays: DomainWeights) -> None:
        self._mean = arrays[DOMAIN_MEAN].astype(np.float64)
        self._scale = arrays[DOMAIN_SCALE].astype(np.float64)
        self._components = arrays[DOMAIN_COMPONENTS].astype(np.float64)
        self._variances = arrays[DOMAIN_VARIANCES].astype(np.float64)

    def score(self, pooled: Sequence[Pooled]) -> float:
        """Return the squared Mahalanobis distance of a text per state, 0 or more.

        Args:
            pooled: One (3E,) float32 vector per member.
        """
        states = (np.concatenate(pooled).astype(np.float64) - self._mean) / self._scale
        along = self._components @ states
        rest = max(0.0, float(states @ states - along @ along))  # the components are orthonormal
        distance = float((along * along / self._variances[:-1]).sum()) + rest / float(self._variances[-1])
        return distance / len(states)


def fit_domain(states: NDArray[np.float32], components: int) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of the density of pooled states, as a bundle stores them.

    Args:
        states: Pooled states of texts, (N, D), N at least 2.
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
    return {
        DOMAIN_MEAN: mean.astype(np.float32),
        DOMAIN_SCALE: scale.astype(np.float32),
        DOMAIN_COMPONENTS: np.ascontiguousarray(vectors.T).astype(np.float16),
        DOMAIN_VARIANCES: np.maximum([*variances, rest], _SMALLEST).astype(np.float32),
    }
