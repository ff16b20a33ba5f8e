"""Tell what fastai's ``predict`` makes of a classifier's scores, which depends on the loss that the learner has.

Input: the fact of a loss. Output: the name of an activation. fastai v1 looks up the name of the loss's class or
function in a table, wherever it is defined. fastai v2 calls the loss's ``activation``. Without one, both return raw
scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from bothways.errors import ForeignModelError
from bothways.interop.facts import Fact, class_name
from bothways.interop.known_objects import called, path_of, state_of
from bothways.interop.learner_facts import Requested
from bothways.interop.pickle_reader import GlobalName, Record

Activation = Literal["softmax", "sigmoid", "exp", "none", "unknown"]
"""What is applied to the scores. ``none`` returns them. ``unknown`` is code that can't be read."""

_V1: Final[Mapping[str, Activation]] = {
    "cross_entropy_loss": "softmax",
    "cross_entropy": "softmax",
    "bce_with_logits_loss": "sigmoid",
    "binary_cross_entropy_with_logits": "sigmoid",
    "nll_loss": "exp",
    "kl_div_loss": "exp",
    "kl_div": "exp",
    "poisson_nll_loss": "exp",
    "mix_up_loss": "unknown",
}
"""By the name of a function, or of a class in lower case. All others return raw scores."""
_V2: Final[Mapping[str, Activation]] = {
    "fastai.losses.CrossEntropyLossFlat": "softmax",
    "fastai.losses.FocalLossFlat": "softmax",
    "fastai.losses.LabelSmoothingCrossEntropy": "softmax",
    "fastai.losses.LabelSmoothingCrossEntropyFlat": "softmax",
    "fastai.losses.BCEWithLogitsLossFlat": "sigmoid",
    "fastai.losses.BaseLoss": "none",
    "fastai.losses.FocalLoss": "none",
}
"""By the path of a loss. Those of torch return raw scores."""
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])")
"""Where the name of a class is split into words."""
_TORCH: Final = ("torch.nn.modules.loss.", "torch.nn.functional.")
_OWN_METHODS: Final = ("activation", "decodes", "__class__")
_USUAL: Final = {"softmax": "CrossEntropyLossFlat", "sigmoid": "BCEWithLogitsLossFlat"}
_LAST_AXES: Final = (-1, 1)
"""The axis of the classes, in scores of shape (B, C)."""


@dataclass(frozen=True)
class Loss:
    """What is known of a learner's loss.

    Attributes:
        name: Its path, for messages.
        activation: What ``predict`` applies to the scores.
        reason: Why the activation is unknown, or "".
    """

    name: str
    activation: Activation
    reason: str = ""


def loss_of_v1(fact: Fact) -> Loss:
    """Return what is known of a loss of fastai v1. It looks for ``func`` twice: in flattened losses and partials."""
    value, axis = fact.value, _axis(fact)
    for _ in range(2):
        if isinstance(value, Record) and path_of(value) == "functools.partial":
            value = value.arguments[0] if value.arguments else None
        elif isinstance(value, Record) and "func" in (state := state_of(Fact(value, "", fact.work))):
            value = state["func"]
    key = value.name if isinstance(value, GlobalName) else _CAPITAL.sub("_", class_name(value)).lower()
    if "__name__" in state_of(Fact(value, "", fact.work)):
        return Loss(called(value), "unknown", "it has its own __name__")
    activation = _V1.get(key, "none")
    return _with_axis(Loss(called(value), activation, "it mixes two losses" if activation == "unknown" else ""), axis)


def loss_of_v2(fact: Fact) -> Loss:
    """Return what is known of a loss of fastai v2."""
    value, path = fact.value, path_of(fact.value)
    name, state = called(value), state_of(fact)
    for method in _OWN_METHODS:
        if method in state:
            return Loss(name, "unknown", f"its {method} is {called(state[method])}")
    if isinstance(value, Record) and path in _V2:
        return _with_axis(Loss(name, _V2[path]), _axis(fact))
    if path.startswith(_TORCH) or path == "functools.partial" or isinstance(value, GlobalName):
        return Loss(name, "none")
    if isinstance(value, Record) and path.startswith("cloudpickle.") and path.endswith("function"):
        return Loss(name, "none")
    return Loss(name, "unknown", "its activation can't be read")


def require_activation(loss: Loss, expected: Activation, source: str, requested: Requested) -> list[str]:
    """Check that fastai applies an activation, or that the caller requested it, and return remarks for the user.

    Args:
        loss: The learner's loss.
        expected: ``softmax`` for one label per text, ``sigmoid`` for any number of labels, ``none`` for numbers.
        source: Name of the file in error messages.
        requested: What the caller requests where the file leaves a choice.

    Raises:
        ForeignModelError: ``learn.predict`` applies another activation, and this one was not requested.
    """
    if loss.activation == expected:
        return []
    returned = {
        "softmax": "for which learn.predict returns a softmax",
        "none": "for which learn.predict returns raw scores",
        "sigmoid": "for which learn.predict returns a sigmoid of each score",
        "exp": "for which learn.predict returns the exponential of each score",
    }.get(loss.activation, f"for which learn.predict may return other numbers than expected ({loss.reason})")
    if expected == "none":
        raise ForeignModelError(
            f"{source} predicts numbers, but its loss is {loss.name}, {returned}, expected a loss for numbers, such as "
            "MSELossFlat: it can't be imported"
        )
    if requested.probabilities == expected:
        decides = "" if expected == "softmax" else ", and assigns labels from a probability of 0.5 on"
        return [
            f"{source}: its loss is {loss.name}, {returned}. The bundle returns a {expected}, as requested{decides}."
        ]
    raise ForeignModelError(
        f"{source}: its loss is {loss.name}, {returned}, expected a loss with fastai's {expected}, such as "
        f"{_USUAL[expected]}. To import the model with a {expected}, add --probabilities {expected}"
    )


def _axis(fact: Fact) -> object:
    return state_of(fact).get("axis", -1)


def _with_axis(loss: Loss, axis: object) -> Loss:
    if loss.activation == "softmax" and not (type(axis) is int and axis in _LAST_AXES):
        return Loss(loss.name, "unknown", f"its axis is {axis if type(axis) is int else called(axis)}")
    return loss
