"""Text Embeddings Inference of Hugging Face: POST /predict, GET /info.

Its errors are ``{"error", "error_type"}``; its statuses are those that it really sends (422 for too many texts).
"""

from __future__ import annotations

from typing import Any, Literal

from bothways.errors import (
    DeadlinePassed,
    Overloaded,
    RequestInvalid,
    RequestTooLarge,
    ServingError,
    Unavailable,
)
from bothways.serve.protocols.protocol import (
    Protocol,
    Query,
    Received,
    Reply,
    Schema,
    ServedModels,
    all_classified,
    parsed,
    scores,
)
from bothways.serve.service import TOKENIZING_THREADS, Answer, ServedModel
from bothways.serve.settings import Settings
from bothways.version import __version__

_STATUS: dict[type[ServingError], tuple[int, str]] = {
    Overloaded: (429, "Overloaded"),
    Unavailable: (503, "Unhealthy"),
    DeadlinePassed: (504, "Backend"),
    RequestTooLarge: (422, "Validation"),
    RequestInvalid: (422, "Validation"),
}


class PredictRequest(Schema):
    """One text, or a list of lists of one text each."""

    inputs: str | list[Any]
    """A string; or `[["a"], ["b"]]`. A plain list of two strings is a pair, as in TEI, and refused."""
    truncate: bool | None = None
    """Nothing is ever cut off."""
    truncation_direction: Literal["Left", "Right", "left", "right"] = "Right"
    """Nothing is ever cut off."""
    raw_scores: bool = False
    """Must be false: scores are probabilities."""


def _parse(received: Received, _: ServedModels) -> Query:
    request = parsed(received.body, PredictRequest)
    if request.raw_scores:
        raise RequestInvalid("raw_scores: scores before the softmax are not kept, ask for probabilities")
    if isinstance(request.inputs, str):
        return Query([request.inputs], None, options=True)
    if not request.inputs:
        raise EmptyInputs("`inputs` cannot be empty")
    texts = []
    for number, item in enumerate(request.inputs):
        if not isinstance(item, list):
            raise RequestInvalid(
                f"inputs.{number} is no list: a plain list is a pair of texts, which these models don't take; several "
                'texts are [["a"], ["b"]]'
            )
        if len(item) != 1:
            raise RequestInvalid(f"inputs.{number} has {len(item)} texts, expected 1: these models don't take pairs")
        texts.append(item[0])
    return Query(texts, None, options=False)


class EmptyInputs(RequestInvalid):
    """No text at all."""


def _render(query: Query, served: ServedModel, answer: Answer) -> Reply:
    rows = [scores(found, served) for found in all_classified(answer)]
    milliseconds = {
        "x-tokenization-time": answer.tokenize_s,
        "x-queue-time": answer.wait_s,
        "x-inference-time": answer.read_s,
        "x-total-time": answer.tokenize_s + answer.wait_s + answer.read_s,
    }
    characters = sum(len(text) for text in query.texts if isinstance(text, str))
    return Reply(
        rows[0] if query.options else rows,
        {
            "x-compute-type": "cpu",
            "x-compute-characters": str(characters),
            "x-compute-tokens": str(answer.tokens),
            **{name: str(round(1000 * seconds)) for name, seconds in milliseconds.items()},
        },
    )


def _fault(error: ServingError) -> tuple[int, object]:
    if isinstance(error, EmptyInputs):
        return 400, {"error": str(error), "error_type": "Empty"}
    status, kind = next((_STATUS[base] for base in type(error).__mro__ if base in _STATUS), (error.status, "Backend"))
    return status, {"error": str(error), "error_type": kind}


def info(served: ServedModel, settings: Settings) -> dict[str, object]:
    """Return what GET /info tells."""
    labels = served.model.labels
    return {
        "model_id": served.name,
        "model_sha": served.model.digest,
        "model_dtype": served.model.precision,
        "model_type": {
            "classifier": {
                "id2label": {str(number): label for number, label in enumerate(labels)},
                "label2id": {label: number for number, label in enumerate(labels)},
            }
        },
        "max_concurrent_requests": settings.max_queue_tokens,
        "max_input_length": settings.max_queue_tokens,
        "max_batch_tokens": settings.max_queue_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_texts,
        "auto_truncate": False,
        "tokenization_workers": TOKENIZING_THREADS,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


PROTOCOL = Protocol(_parse, _render, _fault)
