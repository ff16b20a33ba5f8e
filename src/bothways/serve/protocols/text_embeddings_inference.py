"""Text Embeddings Inference (TEI) by Hugging Face: ``POST /predict``, ``GET /info``, ``/version`` and ``/health``.

Errors are ``{"error", "error_type"}`` with the statuses that TEI really sends (422 for too many texts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from bothways.errors import (
    DeadlinePassed,
    Overloaded,
    RequestInvalid,
    RequestTooLarge,
    ServingError,
    Unavailable,
)
from bothways.runtime.slots import BATCH_SLOTS
from bothways.serve.answers import Answer
from bothways.serve.protocols.protocol import (
    Information,
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    all_classified,
    parse_body,
    readiness,
    require_labels,
    require_one_text_column,
    sorted_scores,
)
from bothways.serve.service import TOKENIZING_THREADS, ServedModel, Service
from bothways.version import __version__

_STATUS: dict[type[ServingError], tuple[int, str]] = {
    Overloaded: (429, "Overloaded"),
    Unavailable: (503, "Unhealthy"),
    DeadlinePassed: (504, "Backend"),
    RequestTooLarge: (422, "Validation"),
    RequestInvalid: (422, "Validation"),
}


class PredictRequest(Schema):
    """One text, or a list of lists with one text each."""

    inputs: str | list[Any]
    """A string, or `[["a"], ["b"]]`. TEI reads a plain list of two strings as a pair, which is rejected here."""
    truncate: bool | None = None
    """Ignored: texts are never truncated."""
    truncation_direction: Literal["Left", "Right", "left", "right"] = "Right"
    """Ignored: texts are never truncated."""
    raw_scores: bool = False
    """Must be false: scores are probabilities."""


class EmptyInputs(RequestInvalid):
    """The request contains no texts."""


def _parse(received: RawRequest, service: Service) -> Query:
    request = parse_body(received.body, PredictRequest, service.settings)
    served = service.model()
    require_labels(served)
    require_one_text_column(served)
    if request.raw_scores:
        raise RequestInvalid("raw_scores is not supported: scores are always probabilities")
    if isinstance(request.inputs, str):
        return _query(served, [request.inputs], is_single=True)
    if not request.inputs:
        raise EmptyInputs("`inputs` cannot be empty")
    texts = []
    for number, item in enumerate(request.inputs):
        if not isinstance(item, list):
            raise RequestInvalid(
                f"inputs.{number} is not a list. A plain list is a pair of texts, which these models do not support. "
                'Send several texts as [["a"], ["b"]]'
            )
        if len(item) != 1:
            raise RequestInvalid(
                f"inputs.{number} has {len(item)} texts, expected 1: these models do not support pairs"
            )
        texts.append(item[0])
    return _query(served, texts, is_single=False)


def _query(served: ServedModel, texts: Sequence[object], *, is_single: bool) -> Query:
    characters = sum(len(text) for text in texts if isinstance(text, str))
    return Query(texts, served, partial(_render, characters, is_single))


def _render(characters: int, is_single: bool, served: ServedModel, answer: Answer) -> Reply:
    rows = [sorted_scores(found, served) for found in all_classified(answer)]
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


def _info(service: Service, _: Mapping[str, str]) -> Reply:
    served, settings = service.model(), service.settings
    require_labels(served)
    require_one_text_column(served)
    labels = served.model.task.labels
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
        Information("/version", "Return the version of bothways", _version),
        Information("/health", "Report whether the server accepts requests", readiness, is_probe=True),
    ),
)
