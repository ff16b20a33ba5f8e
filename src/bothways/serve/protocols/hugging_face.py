"""Hugging Face Inference Endpoints: ``POST /``, as sent by ``huggingface_hub.InferenceClient.text_classification``.

Parameters that do not change the answer are ignored, such as ``padding``. Those that would change it are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from bothways.errors import RequestInvalid, quoted
from bothways.runtime.classifier import Classifier
from bothways.serve.answers import Answer
from bothways.serve.models import ServedModel
from bothways.serve.protocols.choices import Choices
from bothways.serve.protocols.protocol import (
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    all_classified,
    parse_body,
    refuse_unsupported,
    render_plain_error,
    served_by,
)
from bothways.serve.protocols.scores import labels_with_scores
from bothways.serve.service import Service

_FUNCTIONS = {"softmax": "softmax", "sigmoid": "sigmoid", "identity": "none"}
_PAIR = ("text", "text_pair")
_NO_TRUNCATION = (False, "do_not_truncate", "false")
_BELONGS = "belongs into parameters"
_MISPLACED = dict.fromkeys(("top_k", "function_to_apply", "threshold", "thresholds", "return_all_scores"), _BELONGS)


class Parameters(Choices):
    """How to return the scores."""

    top_k: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Number of labels to return per text. Defaults to all."""
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    """Must be the function of the model if set: softmax, sigmoid for a multi-label model, none for regression."""
    return_all_scores: bool | None = None
    """The older form of `top_k`: false returns the most probable label only."""
    max_length: Annotated[int, Field(ge=1)] | None = None
    """Number of tokens to truncate texts to. Texts are never truncated, so a request with a longer text is rejected."""
    truncation: bool | str | None = None
    """Ignored without `max_length`: models read texts of any length."""
    padding: Any = None
    """Ignored: it does not change a prediction."""
    batch_size: Any = None
    """Ignored: batching does not change a prediction."""
    num_workers: Any = None
    """Ignored."""
    pad_to_multiple_of: Any = None
    """Ignored."""
    return_tensors: Any = None
    """Ignored."""
    return_token_type_ids: Any = None
    """Ignored."""
    return_attention_mask: Any = None
    """Ignored."""
    verbose: Any = None
    """Ignored."""


class TextClassificationRequest(Schema):
    """One text, or a list of texts. Other keys are ignored."""

    model_config = ConfigDict(extra="allow")

    inputs: str | list[Any] | dict[str, Any]
    """A string. For a model with several text columns an object with a string per column, or for two columns with
    `text` and `text_pair`. Or a list of these."""
    parameters: Parameters | None = None
    model: str | None = None
    """Name of the model. Defaults to that of the path, or to the first one that is served."""
    options: dict[str, Any] | None = None
    """Options of the hosted service. Ignored."""


def _parse(received: RawRequest, service: Service) -> Query:
    request = parse_body(received.body, TextClassificationRequest, service.settings)
    refuse_unsupported(request.model_extra, _MISPLACED)
    parameters = request.parameters or Parameters()
    chosen = served_by(service, received.path, {"model": request.model})
    _check(parameters, chosen.served.model)
    items = request.inputs if isinstance(request.inputs, list) else [request.inputs]
    columns = chosen.served.model.text_columns
    return Query([_text(item, columns) for item in items], chosen.served, partial(_render, parameters), chosen.version)


def _check(parameters: Parameters, model: Classifier) -> None:
    function = _FUNCTIONS[model.task.activation_name]
    if parameters.function_to_apply not in (None, function):
        raise RequestInvalid(
            f"parameters.function_to_apply is {quoted(parameters.function_to_apply)}, but this model "
            f"only supports {function}"
        )
    parameters.task_of(model)


def _text(item: object, columns: Sequence[str]) -> object:
    """Return the text in one item. ``text`` and ``text_pair`` are the usual names of one or two columns."""
    if not isinstance(item, dict) or not item or any(key not in _PAIR for key in item) or set(columns) <= item.keys():
        return item
    texts = [item[key] for key in _PAIR if item.get(key) is not None]
    return texts[0] if len(texts) == 1 else texts


def _render(parameters: Parameters, served: ServedModel, answer: Answer) -> Reply:
    task = parameters.task_of(served.model)  # again: a reload can have replaced the model
    found = all_classified(answer)
    longest = parameters.max_length
    if longest is not None and parameters.truncation not in _NO_TRUNCATION:
        for number, each in enumerate(found):
            if len(each.text) > longest:
                raise RequestInvalid(
                    f"text {number} has {len(each.text)} tokens, but parameters.max_length is {longest}. "
                    "Texts are never truncated: leave max_length out"
                )
    count = 1 if parameters.return_all_scores is False and parameters.top_k is None else parameters.top_k
    return Reply([labels_with_scores(each, task)[:count] for each in found])


PROTOCOL = Protocol(
    predict_routes={"/": "Classify texts (Hugging Face Inference Endpoints)"},
    request=TextClassificationRequest,
    parse=_parse,
    render_error=render_plain_error,
)
