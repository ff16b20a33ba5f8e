"""The protocol of bothways: ``POST /v1/classify``, with an error per text that can't be classified.

A result has a label and probabilities, or a value and values if the model is a regression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from bothways.bundle.manifest import Abstention
from bothways.bundle.parity import ENSEMBLE
from bothways.errors import ServingError, TextError
from bothways.runtime.classifier import Classifier
from bothways.serve.answers import Answer, Classified
from bothways.serve.models import ServedModel
from bothways.serve.protocols.abstention import abstention_of
from bothways.serve.protocols.choices import Name, OwnChoices, ranked, with_choices
from bothways.serve.protocols.media_types import JSON_LINES
from bothways.serve.protocols.protocol import (
    Information,
    LineFormat,
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    liveness,
    matching,
    parse_json,
    readiness,
    served_by,
)
from bothways.serve.service import Service
from bothways.tasks.task import Task
from bothways.text.reading import Direction, reading_positions

_Found = TypeVar("_Found")


class ClassifyRequest(OwnChoices):
    """Texts to classify."""

    texts: list[Any]
    """Strings, or objects with a string per text column (`text_columns` in `/v1/models`). For a model with several text
    columns also lists with a string per column, in this order. Any other value gets an error of its own and does not
    affect the other texts."""
    model: str | None = None
    """Name of the model, or `NAME@VERSION`. Defaults to that of the path, or to the first one that is served."""
    version: str | None = None
    """Version of the model. Defaults to one of its versions, chosen at random by their weights."""


class _Result(Schema):
    read: Literal["forward", "backward", "both", "linear"]
    """The directions that read the text. `linear` if early exit found the linear member alone sufficient, so that no
    direction read it."""
    abstained: (
        Literal["empty", "only digits or punctuation", "mostly unknown", "out of domain", "low confidence"] | None
    ) = None
    """Why the model abstains, null if it answers. Only if abstention was calibrated. The label is there in any case."""
    label_set: list[str | int | bool] | None = None
    """The conformal label set, most probable label first. Only if abstention was calibrated."""
    tokens: list[str] | None = None
    """The tokens in the order of the text, if requested."""
    reading: dict[Direction, list[int]] | None = None
    """The positions of the tokens in the order in which each direction reads them, if requested."""


class TopLabel(Schema):
    """One of the most probable labels."""

    label: str | int | bool
    probability: float


class LabelResult(_Result):
    """The prediction of a classifier for one text."""

    label: str | int | bool
    """The most probable label: a string, a whole number or a boolean, as in training."""
    probability: float
    """The ensemble's probability of that label."""
    chosen: list[str | int | bool]
    """The predicted labels: `label`, or for a multi-label model all labels that reach their thresholds."""
    probabilities: dict[Name, list[float]]
    """The requested probabilities, in the order of `labels`. A direction that did not read the text is left out."""
    top: list[TopLabel] | None = None
    """The `top_k` most probable labels, if requested, most probable first."""


class ValueResult(_Result):
    """The prediction of a regression model for one text."""

    value: float | dict[str, float]
    """The ensemble's value, in the unit of the training data. For several targets an object with a value by name."""
    values: dict[Name, float | dict[str, float]]
    """The requested values."""


class TextFault(Schema):
    """The error of a text that can't be classified."""

    error: str


class ClassifyReply(Schema):
    """A result per text, in the order of the texts."""

    model: str
    version: str
    digest: str
    """The digest of the bundle, a SHA-256."""
    labels: list[str | int | bool]
    """All labels. Empty for a regression model."""
    results: list[LabelResult | ValueResult | TextFault]


class ErrorReply(Schema):
    """Why a request was rejected."""

    error: str
    kind: str


def _parse(received: RawRequest, service: Service) -> Query:
    body = with_choices(parse_json(received.body, service.settings), received.choices)
    request = matching(body, ClassifyRequest)
    chosen = served_by(service, received.path, {"model": request.model, "version": request.version})
    request.task_of(chosen.served.model)
    return Query(request.texts, chosen.served, partial(_render, request), chosen.version)


def _render(request: ClassifyRequest, served: ServedModel, answer: Answer) -> Reply:
    model = served.model
    task = request.task_of(model)  # again: a reload can have replaced the model
    results = [
        {"error": str(item)} if isinstance(item, TextError) else _result(item, request, model, task)
        for item in answer.items
    ]
    return Reply(
        {
            "model": served.name,
            "version": served.version,
            "digest": model.digest,
            "labels": list(model.labels),
            "results": results,
        }
    )


def _result(found: Classified, request: OwnChoices, model: Classifier, task: Task) -> dict[str, object]:
    prediction, text = found.prediction, found.text
    result: dict[str, object]
    if prediction.value is None:
        scores = prediction.scores[ENSEMBLE]
        result = {
            "label": prediction.label,
            "probability": prediction.probability,
            "chosen": list(task.decide(scores).chosen),
            "read": prediction.read,
            "probabilities": {
                name: row.tolist() for name, row in _wanted(request.probabilities, prediction.probabilities).items()
            },
        }
        if request.top_k is not None:
            best = ranked(scores)[: request.top_k]
            result["top"] = [{"label": model.labels[n], "probability": float(scores[n])} for n in best]
    else:
        result = {
            "value": prediction.value,
            "read": prediction.read,
            "values": _wanted(request.values, prediction.values),
        }
    result |= abstention_of(prediction)
    if request.tokens:
        result["tokens"] = model.tokenizer.tokens(text.ids.tolist())
        result["reading"] = {
            member.direction: reading_positions(text, member.direction, member.special_tokens).tolist()
            for member in model.manifest.members
        }
    return result


def _wanted(names: Sequence[Name] | None, found: Mapping[str, _Found]) -> dict[str, _Found]:
    """Return the requested part of a prediction, except that of a direction that did not read the text."""
    wanted: Sequence[str] = (ENSEMBLE,) if names is None else names
    return {name: found[name] for name in wanted if name in found}


def _text_of_line(value: object, _: Sequence[str]) -> object:
    return value


def _line_renderer(choices: Mapping[str, object], served: ServedModel) -> Callable[[Classified], object]:
    request = matching(choices, OwnChoices, "the URL")
    task = request.task_of(served.model)
    return lambda found: _result(found, request, served.model, task)


def _render_error(error: ServingError) -> tuple[int, object]:
    return error.status, {"error": str(error), "kind": error.kind}


def _models(service: Service, _: Mapping[str, str]) -> Reply:
    limits = {"max_texts": service.settings.max_texts, "max_body_bytes": service.settings.max_body_bytes}
    return Reply({"models": [_described(served) for served in service.models], "limits": limits})


def _model(service: Service, path: Mapping[str, str]) -> Reply:
    """Describe one model. ``ready`` is what clients of KServe look at."""
    served = served_by(service, path).served
    return Reply({**_described(served), "ready": service.is_ready}, status=200 if service.is_ready else 503)


def _described(served: ServedModel) -> dict[str, object]:
    model, record = served.model, served.model.task.record()
    targets = [{"center": target.center, "scale": target.scale} for target in record.targets]
    return {
        "name": served.name,
        "version": served.version,
        "weight": served.source.weight,
        "digest": model.digest,
        "task": record.name,
        "target": targets[0] if len(targets) == 1 else None,
        "targets": [{"name": name, **target} for name, target in zip(model.targets, targets, strict=False)],
        "value_range": record.value_range,
        "labels": list(model.labels),
        "thresholds": None if record.thresholds is None else list(record.thresholds),
        "label_separator": record.separator,
        "text_columns": list(model.text_columns),
        "directions": model.directions,
        "precision": model.precision,
        "early_exit": model.early_exit is not None,
        "abstention": None if model.abstention is None else _abstention(model.abstention),
        "loaded_at_s": served.loaded_at_s,
        "parity_record": {"texts": served.verification.texts, "differences": served.verification.differences},
    }


def _abstention(found: Abstention) -> dict[str, object]:
    alpha = None if found.label_sets is None else found.label_sets.alpha
    return {"risk": found.risk, "threshold": found.threshold, "alpha": alpha}


PROTOCOL = Protocol(
    predict_routes={"/v1/classify": "Predict labels or numbers, with an error per text that can't be classified"},
    request=ClassifyRequest,
    parse=_parse,
    render_error=_render_error,
    information=(
        Information("/v1/models", "List the models that are served", _models),
        Information("/v1/models/{model}", "Describe a model, and report whether it accepts requests (KServe)", _model),
        Information("/health/live", "Report whether the process runs", liveness, is_probe=True),
        Information("/health/ready", "Report whether the server accepts requests", readiness, is_probe=True),
    ),
    reply=ClassifyReply,
    error=ErrorReply,
    lines=LineFormat(_text_of_line, _line_renderer),
    media=JSON_LINES[:1],
    choices=OwnChoices,
)
