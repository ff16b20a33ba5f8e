"""What a classifier is trained towards: one class a text, or any number of labels a text.

In: logits and what is true. Out: a loss, probabilities, measures. Letters: B or N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bothways.tasks.metrics import SMALLEST_PROBABILITY, calibration_error, log_loss

Probabilities = NDArray[np.float64]
Targets = NDArray[Any]


class Objective(Protocol):
    """Compares logits with targets."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, nats, for logits, (B, C)."""

    def probabilities(self, logits: Tensor) -> Probabilities:
        """Return the probability of each class, (B, C)."""

    def metrics(self, probabilities: Probabilities, targets: Targets) -> dict[str, float]:
        """Return loss (nats a text) and accuracy (0..1) of probabilities, (N, C)."""

    def calibration_error(self, probabilities: Probabilities, targets: Targets) -> float:
        """Return the expected calibration error, 0..1, of probabilities, (N, C)."""


@dataclass(frozen=True, eq=False)
class SingleLabel:
    """One class a text: softmax and cross-entropy; targets are class numbers, (N,) int64.

    Attributes:
        weights: Of each class in the loss, (C,), or None.
        smoothing: Share of each target that is spread evenly over all classes (label smoothing), 0..1.
    """

    weights: Tensor | None = None
    smoothing: float = 0.0

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, weighted by class."""
        weights = self.weights.to(logits.device) if self.weights is not None else None
        return functional.cross_entropy(logits, targets, weight=weights, label_smoothing=self.smoothing)

    def probabilities(self, logits: Tensor) -> Probabilities:
        """Return the softmax."""
        found: Probabilities = functional.softmax(logits.double(), dim=1).cpu().numpy()
        return found

    def metrics(self, probabilities: Probabilities, targets: Targets) -> dict[str, float]:
        """Return the loss without weights or smoothing, and the share of texts whose most probable class is theirs."""
        accuracy = float((probabilities.argmax(axis=1) == targets).mean())
        return {"loss": log_loss(probabilities, targets), "accuracy": accuracy}

    def calibration_error(self, probabilities: Probabilities, targets: Targets) -> float:
        """Return that of the most probable class."""
        return calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == targets)


@dataclass(frozen=True, eq=False)
class MultiLabel:
    """Any number of labels a text: a sigmoid for each; targets are 0 or 1, (N, C) float32.

    Attributes:
        weights: Of each label's presence in the loss, (C,), or None.
    """

    weights: Tensor | None = None

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the binary cross-entropy, summed over labels and averaged over texts."""
        weights = self.weights.to(logits.device) if self.weights is not None else None
        total = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="sum")
        return total / len(logits)

    def probabilities(self, logits: Tensor) -> Probabilities:
        """Return the sigmoid of each logit."""
        found: Probabilities = torch.sigmoid(logits.double()).cpu().numpy()
        return found

    def metrics(self, probabilities: Probabilities, targets: Targets) -> dict[str, float]:
        """Return the loss without weights, and the share of right decisions at one half."""
        right = np.where(targets > 0.5, probabilities, 1 - probabilities)
        loss = -np.log(np.maximum(right, SMALLEST_PROBABILITY)).sum(axis=1).mean()
        return {"loss": float(loss), "accuracy": float(((probabilities >= 0.5) == (targets > 0.5)).mean())}

    def calibration_error(self, probabilities: Probabilities, targets: Targets) -> float:
        """Return that of all decisions."""
        return calibration_error(probabilities, targets > 0.5)
