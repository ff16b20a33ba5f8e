"""Hugging Face Inference Endpoints: ``POST /``, as sent by ``huggingface_hub.InferenceClient.text_classification``."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from bothways.errors import RequestInvalid, quoted
from bothways.serve.answers import Answer
from bothways.serve.protocols.protocol import (
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    all_classified,
    parse_body,
    render_plain_error,
    require_labels,
    require_one_text_column,
    sorted_scores,
)
from bothways.serve.service import ServedModel, Service


class Parameters(Schema):
    """How to return the scores."""

    top_k: int | None = None
    """Number of labels to return per text. Defaults to all."""
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    """Must be the function of the model if set: softmax, or sigmoid for a multi-label model."""


class TextClassificationRequest(Schema):
    """One text, or a list of texts."""

    inputs: str | list[Any]
    parameters: Parameters | None = None
    options: dict[str, Any] | None = None
    """Options of the hosted service. Ignored."""


def _parse(received: RawRequest, service: Service) -> Query:
    request = parse_body(received.body, TextClassificationRequest, service.settings)
    parameters = request.parameters or Parameters()
    served = service.model()
    require_labels(served)
    require_one_text_column(served)
    function = served.model.task.activation_name
    if parameters.function_to_apply not in (None, function):
        raise RequestInvalid(
            f"parameters.function_to_apply is {quoted(parameters.function_to_apply)}, but this model "
            f"only supports {function}"
        )
    if parameters.top_k is not None and parameters.top_k < 1:
        raise RequestInvalid(f"parameters.top_k is {parameters.top_k}, expected 1 or more")
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    return Query(texts, served, partial(_render, parameters.top_k))


def _render(top_k: int | None, served: ServedModel, answer: Answer) -> Reply:
    return Reply([sorted_scores(found, served)[:top_k] for found in all_classified(answer)])


PROTOCOL = Protocol(
    predict_routes={"/": "Classify texts (Hugging Face Inference Endpoints)"},
    request=TextClassificationRequest,
    parse=_parse,
    render_error=render_plain_error,
)
