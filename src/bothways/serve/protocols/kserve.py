"""The first protocol of KServe, also that of TensorFlow Serving: ``POST /v1/models/NAME:predict``.

``{"instances": [...]}`` is answered with ``{"predictions": [...]}``, in the form of ``/invocations``. The second one is
the Open Inference Protocol.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import ConfigDict

from bothways.serve.answers import Answer
from bothways.serve.models import ServedModel
from bothways.serve.protocols.choices import Choices
from bothways.serve.protocols.media_types import JSON, MediaType
from bothways.serve.protocols.mlflow import texts_in
from bothways.serve.protocols.predictions import predictions_reply
from bothways.serve.protocols.protocol import (
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    all_classified,
    parse_body,
    render_plain_error,
    served_by,
)
from bothways.serve.service import Service


class KServeRequest(Schema):
    """Texts to classify. Other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    instances: list[Any]
    """Strings, or objects or lists with a string per text column."""
    parameters: Choices | None = None
    """What to return."""


def _parse(received: RawRequest, service: Service) -> Query:
    request = parse_body(received.body, KServeRequest, service.settings)
    chosen = served_by(service, received.path)
    choices = request.parameters or Choices()
    choices.task_of(chosen.served.model)
    texts = texts_in("instances", request.instances, chosen.served.model.text_columns)
    return Query(texts, chosen.served, partial(_render, choices), chosen.version)


def _render(choices: Choices, served: ServedModel, answer: Answer) -> Reply:
    task = choices.task_of(served.model)  # again: a reload can have replaced the model
    return predictions_reply(all_classified(answer), served.model, task, choices, MediaType(JSON, {}))


PROTOCOL = Protocol(
    predict_routes={"/v1/models/{model}:predict": "Predict a label or a number per text (KServe)"},
    request=KServeRequest,
    parse=_parse,
    render_error=render_plain_error,
)
