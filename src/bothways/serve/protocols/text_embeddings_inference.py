"""Text Embeddings Inference (TEI) by Hugging Face: ``POST /predict``, ``GET /info``, ``/version`` and ``/health``.

Errors are ``{"error", "error_type"}`` with the statuses that TEI really sends (422 for too many texts). Keys that TEI
ignores are ignored too, unless they ask for another answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import ConfigDict

from bothways.errors import (
    DeadlinePassed,
    ModelUnknown,
    Overloaded,
    RequestInvalid,
    RequestTooLarge,
    ServingError,
    Unavailable,
)
from bothways.runtime.slots import BATCH_SLOTS
from bothways.serve.answers import Answer
from bothways.serve.models import ServedModel
from bothways.serve.protocols.protocol import (
    MODEL_PREFIX,
    Information,
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    all_classified,
    parse_body,
    readiness,
    refuse_unsupported,
    served_by,
)
from bothways.serve.protocols.scores import labels_with_scores
from bothways.serve.service import TOKENIZING_THREADS, Service
from bothways.text.fields import columns_text
from bothways.version import __version__

_STATUS: dict[type[ServingError], tuple[int, str]] = {
    Overloaded: (429, "Overloaded"),
    Unavailable: (503, "Unhealthy"),
    DeadlinePassed: (504, "Backend"),
    RequestTooLarge: (422, "Validation"),
    ModelUnknown: (404, "Validation"),
    RequestInvalid: (422, "Validation"),
}


_ASKS_FOR_MORE = dict.fromkeys(
    ("top_k", "threshold", "thresholds", "function_to_apply"),
    "is not supported by this protocol: use POST / with parameters, or POST /v1/classify",
)


class PredictRequest(Schema):
    """One text, or a list of lists with one text each. Other keys, such as `normalize`, are ignored."""

    model_config = ConfigDict(extra="allow")

    inputs: str | list[Any]
    """A string, `["a"]`, or `[["a"], ["b"]]`. `["a", "b"]` is a pair, for a model with two text columns. For more text
    columns, lists have one string per column."""
    truncate: bool | None = None
    """Ignored: texts are never truncated."""
    truncation_direction: Literal["Left", "Right", "left", "right"] = "Right"
    """Ignored: texts are never truncated."""
    raw_scores: bool = False
    """Must be false: scores are probabilities, or the values of a regression."""
    model: str | None = None
    """Name of the model. Defaults to that of the path, or to the first one that is served."""


class EmptyInputs(RequestInvalid):
    """The request contains no texts."""


def _parse(received: RawRequest, service: Service) -> Query:
    request = parse_body(received.body, PredictRequest, service.settings)
    refuse_unsupported(request.model_extra, _ASKS_FOR_MORE)
    chosen = served_by(service, received.path, {"model": request.model})
    model = chosen.served.model
    if request.raw_scores and model.labels:
        raise RequestInvalid("raw_scores is not supported: scores are always probabilities")
    inputs, columns = request.inputs, model.text_columns
    if inputs == []:
        raise EmptyInputs("`inputs` cannot be empty")
    is_single = isinstance(inputs, str) or not isinstance(inputs[0], list)
    if isinstance(inputs, str):
        texts: list[object] = [inputs]
    elif is_single:
        texts = [_text(inputs, "inputs", columns)]
    else:
        texts = [_text(item, f"inputs.{number}", columns) for number, item in enumerate(inputs)]
    characters = sum(len(part) for text in texts for part in _parts(text) if isinstance(part, str))
    return Query(texts, chosen.served, partial(_render, characters, is_single), chosen.version)


def _text(item: object, place: str, columns: Sequence[str]) -> object:
    """Return the text in a list with one string per text column.

    Raises:
        RequestInvalid: The item is not such a list.
    """
    if not isinstance(item, list):
        raise RequestInvalid(f'{place} is not a list. Send several texts as [["a"], ["b"]]')
    width = max(1, len(columns))
    if len(item) == width:
        return item[0] if width == 1 else item
    if width > 1:
        raise RequestInvalid(f"{place} has {len(item)} texts, expected {width}: {columns_text(columns)}")
    if len(item) == 2:
        raise RequestInvalid(
            f'{place} is a pair of texts, but the model reads one text column. Send several texts as [["a"], ["b"]]'
        )
    raise RequestInvalid(f'{place} has {len(item)} texts, expected 1. Send several texts as [["a"], ["b"]]')


def _parts(text: object) -> Sequence[object]:
    return text if isinstance(text, list) else [text]


def _render(characters: int, is_single: bool, served: ServedModel, answer: Answer) -> Reply:
    rows = [labels_with_scores(found, served.model.task) for found in all_classified(answer)]
    seconds = {
        "x-tokenization-time": answer.tokenize_s,
        "x-queue-time": answer.wait_s,
        "x-inference-time": answer.read_s,
        "x-total-time": answer.tokenize_s + answer.wait_s + answer.read_s,
    }
    headers = {
        "x-compute-type": "cpu",
        "x-compute-characters": str(characters),
        "x-compute-tokens": str(answer.tokens),
        **{name: str(round(1000 * value)) for name, value in seconds.items()},
    }
    return Reply(rows[0] if is_single else rows, headers)


def _render_error(error: ServingError) -> tuple[int, object]:
    if isinstance(error, EmptyInputs):
        return 400, {"error": str(error), "error_type": "Empty"}
    status, kind = next((_STATUS[base] for base in type(error).__mro__ if base in _STATUS), (error.status, "Backend"))
    return status, {"error": str(error), "error_type": kind}


def _info(service: Service, path: Mapping[str, str]) -> Reply:
    served, settings = served_by(service, path).served, service.settings
    labels = served.model.task.output_names
    return Reply(
        {
            "model_id": served.name,
            "model_sha": served.model.digest,
            "model_dtype": served.model.precision,
            "model_type": {
                "classifier": {
                    "id2label": {str(number): label for number, label in enumerate(labels)},
                    "label2id": {label: number for number, label in enumerate(labels)},
                }
            },
            "max_concurrent_requests": None,  # the queue is limited in tokens, whatever the number of requests
            "max_input_length": settings.max_queue_tokens,  # longer texts are rejected
            "max_batch_tokens": None,  # a batch holds texts of any length
            "max_batch_requests": BATCH_SLOTS,  # TEI counts each text of a request
            "max_client_batch_size": settings.max_texts,
            "auto_truncate": False,
            "tokenization_workers": TOKENIZING_THREADS,
            "version": __version__,
            "sha": None,
            "docker_label": None,
        }
    )


def _version(_: Service, __: Mapping[str, str]) -> Reply:
    return Reply(__version__)


PROTOCOL = Protocol(
    predict_routes={"/predict": "Classify texts (Text Embeddings Inference)"},
    request=PredictRequest,
    parse=_parse,
    render_error=_render_error,
    information=(
        Information("/info", "Describe the default model (Text Embeddings Inference)", _info),
        Information(f"{MODEL_PREFIX}/info", "Describe a model (Text Embeddings Inference)", _info),
        Information("/version", "Return the version of bothways", _version),
        Information("/health", "Report whether the server accepts requests", readiness, is_probe=True),
    ),
)
