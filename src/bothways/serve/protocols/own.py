"""The protocol of bothways: ``POST /v1/classify``, with an error per text that can't be classified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from bothways.errors import ServingError, TextError
from bothways.runtime.classifier import Classifier
from bothways.serve.answers import Answer, Classified
from bothways.serve.protocols.protocol import (
    Information,
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    liveness,
    parse_body,
    readiness,
)
from bothways.serve.service import ServedModel, Service
from bothways.text.reading import Direction, reading_positions

Name = Literal["forward", "backward", "ensemble"]


class ClassifyRequest(Schema):
    """Texts to classify."""

    texts: list[Any]
    """Strings. Any other value gets an error of its own and does not affect the other texts."""
    model: str | None = None
    """Name of the model. Defaults to the first one that is served."""
    probabilities: Sequence[Name] = ("ensemble",)
    """Which probabilities to return."""
    tokens: bool = False
    """Return the tokens of each text, and the order in which each direction reads them."""


class Result(Schema):
    """The prediction for one text."""

    label: str
    """The most probable label."""
    probability: float
    """The ensemble's probability of that label."""
    chosen: list[str]
    """The predicted labels: `label`, or for a multi-label model all labels that reach their thresholds."""
    read: Literal["forward", "backward", "both"]
    """The directions that read the text."""
    probabilities: dict[Name, list[float]]
    """The requested probabilities, in the order of `labels`. A direction that did not read the text is left out."""
    tokens: list[str] | None = None
    """The tokens in the order of the text, if requested."""
    reading: dict[Direction, list[int]] | None = None
    """The positions of the tokens in the order in which each direction reads them, if requested."""


class TextFault(Schema):
    """The error of a text that can't be classified."""

    error: str


class ClassifyReply(Schema):
    """A result per text, in the order of the texts."""

    model: str
    digest: str
    """The digest of the bundle, a SHA-256."""
    labels: list[str]
    results: list[Result | TextFault]


class ErrorReply(Schema):
    """Why a request was rejected."""

    error: str
    kind: str


def _parse(received: RawRequest, _: Service) -> Query:
    request = parse_body(received.body, ClassifyRequest)
    return Query(request.texts, request.model, partial(_render, request))


def _render(request: ClassifyRequest, served: ServedModel, answer: Answer) -> Reply:
    model = served.model
    results = [
        {"error": str(item)} if isinstance(item, TextError) else _result(item, request, model) for item in answer.items
    ]
    return Reply({"model": served.name, "digest": model.digest, "labels": list(model.labels), "results": results})


def _result(found: Classified, request: ClassifyRequest, model: Classifier) -> dict[str, object]:
    prediction, text = found.prediction, found.text
    probabilities = prediction.probabilities
    result: dict[str, object] = {
        "label": prediction.label,
        "probability": prediction.probability,
        "chosen": list(prediction.chosen),
        "read": prediction.read,
        "probabilities": {
            name: probabilities[name].tolist() for name in request.probabilities if name in probabilities
        },
    }
    if request.tokens:
        result["tokens"] = model.tokenizer.tokens(text.ids.tolist())
        result["reading"] = {
            member.direction: reading_positions(text, member.direction, member.special_tokens).tolist()
            for member in model.manifest.members
        }
    return result


def _render_error(error: ServingError) -> tuple[int, object]:
    return error.status, {"error": str(error), "kind": error.kind}


def _models(service: Service, _: Mapping[str, str]) -> Reply:
    return Reply({"models": [_described(served) for served in service.models]})


def _described(served: ServedModel) -> dict[str, object]:
    model = served.model
    return {
        "name": served.name,
        "digest": model.digest,
        "labels": list(model.labels),
        "directions": model.directions,
        "precision": model.precision,
        "early_exit": model.early_exit is not None,
        "loaded_at_s": served.loaded_at_s,
        "parity_record": {"texts": served.verification.texts, "differences": served.verification.differences},
    }


PROTOCOL = Protocol(
    predict_routes={"/v1/classify": "Classify texts, with an error per text that can't be classified"},
    request=ClassifyRequest,
    parse=_parse,
    render_error=_render_error,
    information=(
        Information("/v1/models", "List the models that are served", _models),
        Information("/health/live", "Report whether the process runs", liveness, is_probe=True),
        Information("/health/ready", "Report whether the server accepts requests", readiness, is_probe=True),
    ),
    reply=ClassifyReply,
    error=ErrorReply,
)
