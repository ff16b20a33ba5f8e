"""Kinds of learners of fastai 1.0.61: losses and tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import own1
import torch
from making1 import fastai_text
from rows1 import SOFTMAX, row
from table import Learner, either, refused
from torch import nn


def losses() -> Iterator[Learner]:
    """Yield losses of single-label classifiers."""
    weight = torch.tensor([1.0, 2.0, 0.5])
    exact: dict[str, Callable[[], Any]] = {
        "cross-entropy-flat": fastai_text.CrossEntropyFlat,
        "cross-entropy-weight": lambda: fastai_text.CrossEntropyFlat(weight=weight),
        "flattened": lambda: fastai_text.FlattenedLoss(nn.CrossEntropyLoss),
        "flattened-axis-1": lambda: fastai_text.FlattenedLoss(nn.CrossEntropyLoss, axis=1),
        "torch-cross-entropy": nn.CrossEntropyLoss,
        "torch-cross-entropy-weight": lambda: nn.CrossEntropyLoss(weight=weight),
        "functional": lambda: torch.nn.functional.cross_entropy,
    }
    for name, made in exact.items():
        yield from row(
            "losses",
            name,
            "E3",
            "A loss for which fastai 1 applies a softmax.",
            loss_func=made(),
            in_sample=name == "functional",
        )
    raw: dict[str, Callable[[], Any]] = {
        "label-smoothing": fastai_text.LabelSmoothingCrossEntropy,
        "label-smoothing-flat": lambda: own1.flattened(fastai_text.LabelSmoothingCrossEntropy),
        "own-function": lambda: own1.own_loss,
        "own-focal": own1.FocalLoss,
        "own-focal-flat": lambda: own1.flattened(own1.FocalLoss),
    }
    for name, made in raw.items():
        yield from row(
            "losses",
            name,
            "E3",
            "A loss that fastai 1 does not know: predict returns raw scores.",
            SOFTMAX,
            loss_func=made(),
            in_sample=name == "label-smoothing",
        )
    yield from row(
        "losses",
        "own-named-like-torch",
        "E3",
        "An own loss called CrossEntropyLoss.",
        either("__main__|CrossEntropyLoss"),
        loss_func=own1.CrossEntropyLoss(),
    )
    yield from row(
        "losses",
        "partial",
        "E3",
        "A partial of cross_entropy.",
        either("partial|loss"),
        loss_func=partial(torch.nn.functional.cross_entropy, label_smoothing=0.1),
    )
    yield from row(
        "losses",
        "axis-0",
        "E3",
        "axis=0: the softmax goes over the texts.",
        refused("axis"),
        loss_func=fastai_text.CrossEntropyFlat(axis=0),
    )
    yield from row(
        "losses",
        "nll",
        "E3",
        "NLLLoss without a log-softmax: exp of the scores.",
        refused("NLLLoss|loss"),
        loss_func=nn.NLLLoss(),
    )
    yield from row(
        "losses",
        "bce",
        "E3",
        "BCEWithLogitsFlat in a single-label classifier.",
        refused("BCE|loss"),
        loss_func=fastai_text.BCEWithLogitsFlat(),
    )


KINDS = (losses,)
