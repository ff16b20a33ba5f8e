"""The loss of each task.

In: logits and targets. Out: a loss, and scores of logits. The only module of training that asks which task it trains.
Letters: B texts, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from bothways.tasks.metrics import Scores
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.task import Targets, Task


class Objective(Protocol):
    """Compares logits with targets."""

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            logits: (B, C).
            targets: Those of the batch.
            weights: The weight of each text, (B,), with mean 1 over all training texts; None for equal weights. A text
                of weight 2 adds as much as two equal texts, whatever the other texts of its batch are.
        """

    def scores(self, logits: Tensor) -> Scores:
        """Return the scores for logits, both (B, C), computed in float64."""


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """Softmax and cross-entropy, for single-label.

    Attributes:
        class_weights: Weight of each class in the loss, (C,), or None.
        smoothing: Share of each target that is spread evenly over all classes (label smoothing), 0..1.
    """

    class_weights: Tensor | None = None
    smoothing: float = 0.0

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy in nats, weighted by class.

        Targets are class numbers, (B,) int64, or probabilities, (B, C) float32.
        """
        by_class = self.class_weights.to(logits.device) if self.class_weights is not None else None
        if weights is None and (targets.ndim == 1 or by_class is None):
            return functional.cross_entropy(logits, targets, weight=by_class, label_smoothing=self.smoothing)
        each = functional.cross_entropy(
            logits, targets, weight=by_class, label_smoothing=self.smoothing, reduction="none"
        )
        total: Tensor | int = len(logits)
        if by_class is not None:
            total = by_class[targets].sum() if targets.ndim == 1 else (targets @ by_class).sum()
        return (each if weights is None else each * weights).sum() / total

    def scores(self, logits: Tensor) -> Scores:
        """Return the softmax."""
        found: Scores = functional.softmax(logits.double(), dim=1).cpu().numpy()
        return found


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy:
    """A sigmoid and binary cross-entropy per label, for multi-label.

    Attributes:
        class_weights: Weight of each label's presence in the loss, (C,), or None.
    """

    class_weights: Tensor | None = None

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the binary cross-entropy in nats, summed over labels; targets are 0..1, (B, C) float32."""
        by_label = self.class_weights.to(logits.device) if self.class_weights is not None else None
        total = functional.binary_cross_entropy_with_logits(
            logits,
            targets,
            weight=weights[:, None] if weights is not None else None,
            pos_weight=by_label,
            reduction="sum",
        )
        return total / len(logits)

    def scores(self, logits: Tensor) -> Scores:
        """Return the sigmoid of each logit."""
        found: Scores = torch.sigmoid(logits.double()).cpu().numpy()
        return found


@dataclass(frozen=True, eq=False)
class MeanSquaredError:
    """Mean squared error of standardized values, for regression.

    Attributes:
        task: Standardizes targets, and returns values to the target's unit.
    """

    task: Regression

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean squared error; targets are in their unit, (B, C) float64."""
        centers, scales = (torch.from_numpy(row).to(targets.device) for row in (self.task.centers, self.task.scales))
        standardized = ((targets - centers) / scales).to(logits.dtype)
        if weights is None:
            return functional.mse_loss(logits, standardized)
        return ((logits - standardized) ** 2 * weights[:, None]).mean()

    def scores(self, logits: Tensor) -> Scores:
        """Return the values in the target's unit."""
        return self.task.activation(logits.double().cpu().numpy())


def untrained_loss(objective: Objective, targets: Targets, outputs: int) -> float:
    """Return the mean loss of a model whose outputs are all zero, on about 10,000 of the targets at most."""
    some = torch.from_numpy(targets[:: 1 + len(targets) // 10_000])
    return objective.loss(torch.zeros(len(some), outputs), some).item()


def objective_of(task: Task, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Objective:
    """Return what classifiers of a task are trained to minimize.

    Args:
        task: Fitted to the training rows.
        class_weights: Weight of each label in the loss, or None.
        smoothing: Label smoothing of single-label, 0..1.
    """
    weights = torch.tensor(class_weights) if class_weights is not None else None
    if isinstance(task, Regression):
        return MeanSquaredError(task)
    if isinstance(task, MultiLabel):
        return BinaryCrossEntropy(weights)
    return CrossEntropy(weights, smoothing)
