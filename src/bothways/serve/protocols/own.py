"""Our own protocol: POST /v1/classify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from bothways.errors import ServingError, TextError
from bothways.runtime.classifier import Prediction
from bothways.serve.protocols.protocol import Protocol, Query, Reply, Schema, parsed
from bothways.serve.service import Answer, ServedModel

Name = Literal["forward", "backward", "ensemble"]


class ClassifyRequest(Schema):
    """Texts to classify."""

    texts: list[Any]
    """Strings; anything else gets an error of its own and does not disturb the others."""
    model: str | None = None
    """Which model; the first one that is served if left out."""
    probabilities: Sequence[Name] = ("ensemble",)
    """Whose probabilities to tell."""


class Result(Schema):
    """What the model says of one text."""

    label: str
    """The most probable label."""
    probability: float
    """The ensemble's probability of it."""
    chosen: list[str]
    """The labels that the text is given: that one, or, of a multi-label model, all at their thresholds."""
    read: Literal["forward", "backward", "both"]
    """Which directions read the text."""
    probabilities: dict[Name, list[float]]
    """By who gave them, in the order of `labels`; a direction that did not read the text is left out."""


class Fault(Schema):
    """Why a text can't be classified."""

    error: str


class ClassifyReply(Schema):
    """A result for each text, in their order."""

    model: str
    digest: str
    """The bundle's identity, a SHA-256."""
    labels: list[str]
    results: list[Result | Fault]


class ErrorReply(Schema):
    """Why a request was refused."""

    error: str
    kind: str


def _parse(body: bytes) -> Query:
    request = parsed(body, ClassifyRequest)
    return Query(request.texts, request.model, request)


def _render(query: Query, served: ServedModel, answer: Answer) -> Reply:
    names: Sequence[Name] = query.options.probabilities
    results = [_fault_of(item) if isinstance(item, TextError) else _result(item, names) for item in answer]
    model = served.model
    return Reply(
        {"model": served.name, "digest": model.digest, "labels": list(model.labels), "results": results}, headers={}
    )


def _result(prediction: Prediction, names: Sequence[Name]) -> dict[str, object]:
    told = {name: prediction.probabilities[name].tolist() for name in names if name in prediction.probabilities}
    return {
        "label": prediction.label,
        "probability": prediction.probability,
        "chosen": list(prediction.chosen),
        "read": prediction.read,
        "probabilities": told,
    }


def _fault_of(error: TextError) -> dict[str, object]:
    return {"error": str(error)}


def _fault(error: ServingError) -> object:
    return {"error": str(error), "kind": error.kind}


PROTOCOL = Protocol("classify", _parse, _render, _fault)
