"""Kinds of learners of fastai 2: losses and tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import own2
import torch
from fastai.text.all import (
    BaseLoss,
    CrossEntropyLossFlat,
    FocalLossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
)
from making2 import in_notebook
from rows2 import SOFTMAX, row
from table import Learner, either, refused
from torch import nn


def losses() -> Iterator[Learner]:
    """Yield losses of single-label classifiers."""
    weight = torch.tensor([1.0, 2.0, 0.5])
    exact: dict[str, Callable[[], Any]] = {
        "cross-entropy-flat": CrossEntropyLossFlat,
        "cross-entropy-weight": lambda: CrossEntropyLossFlat(weight=weight),
        "cross-entropy-smoothing": lambda: CrossEntropyLossFlat(label_smoothing=0.1),
        "cross-entropy-axis-1": lambda: CrossEntropyLossFlat(axis=1),
        "label-smoothing-flat": LabelSmoothingCrossEntropyFlat,
        "label-smoothing": LabelSmoothingCrossEntropy,
        "focal-flat": FocalLossFlat,
        "focal-gamma": lambda: FocalLossFlat(gamma=3.0, weight=weight),
    }
    for name, made in exact.items():
        yield from row(
            "losses", name, "E3", "A loss of fastai with a softmax.", loss_func=made(), in_sample=name == "focal-flat"
        )
    yield from row(
        "losses",
        "cross-entropy-axis-0",
        "E3",
        "axis=0: the softmax goes over the texts.",
        refused("axis"),
        loss_func=CrossEntropyLossFlat(axis=0),
    )
    raw: dict[str, Callable[[], Any]] = {
        "torch-cross-entropy": nn.CrossEntropyLoss,
        "torch-cross-entropy-weight": lambda: nn.CrossEntropyLoss(weight=weight),
        "functional": lambda: torch.nn.functional.cross_entropy,
        "own-function": lambda: own2.own_loss,
        "own-focal": own2.OwnFocalLoss,
        "base-loss": lambda: BaseLoss(nn.CrossEntropyLoss),
        "partial": lambda: partial(torch.nn.functional.cross_entropy, label_smoothing=0.1),
    }
    for name, made in raw.items():
        yield from row(
            "losses",
            name,
            "E3",
            "A loss without fastai's activation: predict returns raw scores.",
            SOFTMAX,
            loss_func=made(),
            in_sample=name == "torch-cross-entropy",
        )
    yield from row(
        "losses",
        "temperature",
        "E3",
        "A subclass with its own activation.",
        refused("TemperatureLoss"),
        loss_func=own2.TemperatureLoss(),
    )
    yield from row(
        "losses",
        "own-decodes",
        "E3",
        "A subclass with its own decodes.",
        refused("SecondLabelLoss"),
        loss_func=own2.SecondLabelLoss(),
    )
    yield from row(
        "losses",
        "quiet-subclass",
        "E3",
        "A subclass that changes only the loss.",
        either("QuietLoss"),
        loss_func=own2.QuietLoss(),
    )
    yield from row(
        "losses",
        "own-with-activation",
        "E3",
        "An own loss with activation and decodes.",
        refused("OwnLossWithActivation"),
        loss_func=own2.OwnLossWithActivation(),
    )

    def own_activation(learn: Any) -> None:
        learn.loss_func.activation = in_notebook(own_sigmoid)

    yield from row(
        "losses",
        "instance-activation",
        "E3",
        "`activation` replaced on the loss's instance.",
        refused("activation"),
        loss_func=CrossEntropyLossFlat(),
        before=own_activation,
    )

    def own_decodes(learn: Any) -> None:
        learn.loss_func.decodes = in_notebook(own_argmin)

    yield from row(
        "losses",
        "instance-decodes",
        "E3",
        "`decodes` replaced on the loss's instance.",
        refused("decodes"),
        loss_func=CrossEntropyLossFlat(),
        before=own_decodes,
    )

    def axis_after(learn: Any) -> None:
        learn.loss_func.axis = 0

    yield from row(
        "losses",
        "axis-after",
        "E3",
        "axis changed on the loss.",
        refused("axis"),
        loss_func=CrossEntropyLossFlat(),
        before=axis_after,
    )


def own_sigmoid(scores: Any) -> Any:
    """Return scores that do not add up to 1."""
    return scores.sigmoid()


def own_argmin(scores: Any) -> Any:
    """Decide for the least likely label."""
    return scores.argmin(dim=-1)


KINDS = (losses,)
