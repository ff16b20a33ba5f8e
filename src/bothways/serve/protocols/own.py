"""Our own protocol: POST /v1/classify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from bothways.errors import ServingError, TextError
from bothways.runtime.classifier import Classifier
from bothways.serve.protocols.protocol import Protocol, Query, Received, Reply, Schema, ServedModels, parsed
from bothways.serve.service import Answer, Classified, ServedModel
from bothways.text.reading import Direction, reading_positions

Name = Literal["forward", "backward", "ensemble"]


class ClassifyRequest(Schema):
    """Texts to classify."""

    texts: list[Any]
    """Strings; anything else gets an error of its own and does not disturb the others."""
    model: str | None = None
    """Which model; the first one that is served if left out."""
    probabilities: Sequence[Name] = ("ensemble",)
    """Whose probabilities to tell."""
    tokens: bool = False
    """Whether to tell which tokens each text became, and in which order each direction reads them."""


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
    tokens: list[str] | None = None
    """As written, where asked for."""
    reading: dict[Direction, list[int]] | None = None
    """The positions of the tokens in the order in which each direction reads them, where asked for."""


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


def _parse(received: Received, _: ServedModels) -> Query:
    request = parsed(received.body, ClassifyRequest)
    return Query(request.texts, request.model, request)


def _render(query: Query, served: ServedModel, answer: Answer) -> Reply:
    results = [
        _fault_of(item) if isinstance(item, TextError) else _result(item, query.options, served.model)
        for item in answer.items
    ]
    model = served.model
    return Reply({"model": served.name, "digest": model.digest, "labels": list(model.labels), "results": results})


def _result(found: Classified, request: ClassifyRequest, model: Classifier) -> dict[str, object]:
    prediction, text = found.prediction, found.text
    probabilities = prediction.probabilities
    told: dict[str, object] = {
        "label": prediction.label,
        "probability": prediction.probability,
        "chosen": list(prediction.chosen),
        "read": prediction.read,
        "probabilities": {
            name: probabilities[name].tolist() for name in request.probabilities if name in probabilities
        },
    }
    if request.tokens:
        told["tokens"] = model.tokenizer.tokens(text.ids.tolist())
        told["reading"] = {
            member.direction: reading_positions(text, member.direction, member.special_tokens).tolist()
            for member in model.manifest.members
        }
    return told


def _fault_of(error: TextError) -> dict[str, object]:
    return {"error": str(error)}


def _fault(error: ServingError) -> tuple[int, object]:
    return error.status, {"error": str(error), "kind": error.kind}


PROTOCOL = Protocol(_parse, _render, _fault)
