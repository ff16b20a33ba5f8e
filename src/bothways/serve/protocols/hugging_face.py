"""Hugging Face's inference endpoints: POST /, as ``huggingface_hub.InferenceClient.text_classification`` asks."""

from __future__ import annotations

from typing import Any, Literal

from bothways.errors import RequestInvalid
from bothways.serve.protocols.protocol import (
    Protocol,
    Query,
    Received,
    Reply,
    Schema,
    ServedModels,
    all_classified,
    parsed,
    plain_fault,
    scores,
)
from bothways.serve.service import Answer, ServedModel


class Parameters(Schema):
    """How to tell the scores."""

    top_k: int | None = None
    """How many labels of each text; all if left out."""
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    """softmax for a text's one label, sigmoid for any number of them; nothing else can be had."""


class TextClassificationRequest(Schema):
    """A text, or several."""

    inputs: str | list[Any]
    parameters: Parameters | None = None
    options: dict[str, Any] | None = None
    """Of the hosted service; has no meaning here."""


def _parse(received: Received, models: ServedModels) -> Query:
    request = parsed(received.body, TextClassificationRequest)
    parameters = request.parameters or Parameters()
    own = models.model().model.task.activation_name
    if parameters.function_to_apply not in (None, own):
        raise RequestInvalid(f"parameters.function_to_apply: probabilities come of {own} here, no other is kept")
    if parameters.top_k is not None and parameters.top_k < 1:
        raise RequestInvalid(f"parameters.top_k is {parameters.top_k}, expected 1 or more")
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    return Query(texts, None, options=parameters.top_k)


def _render(query: Query, served: ServedModel, answer: Answer) -> Reply:
    return Reply([scores(found, served)[: query.options] for found in all_classified(answer)])


PROTOCOL = Protocol(_parse, _render, plain_fault)
