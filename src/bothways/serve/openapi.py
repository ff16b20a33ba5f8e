"""Describe the server for programs: OpenAPI 3.1, from the schemas that read its requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bothways.serve.protocols.hugging_face import TextClassificationRequest
from bothways.serve.protocols.mlflow import InvocationRequest
from bothways.serve.protocols.open_inference import InferRequest, version_of
from bothways.serve.protocols.own import ClassifyReply, ClassifyRequest, ErrorReply
from bothways.serve.protocols.text_embeddings_inference import PredictRequest
from bothways.serve.service import ServedModel
from bothways.version import __version__

_REFERENCE = "#/components/schemas/{model}"
_REQUESTS: dict[str, tuple[type[BaseModel], str]] = {
    "/v1/classify": (ClassifyRequest, "Classify texts: bothways' own protocol, with an error for each bad text"),
    "/predict": (PredictRequest, "Classify texts, as Text Embeddings Inference does"),
    "/": (TextClassificationRequest, "Classify texts, as Hugging Face's inference endpoints do"),
    "/invocations": (InvocationRequest, "Classify texts, as MLflow's and SageMaker's servers do"),
    "/v2/models/{model}/infer": (InferRequest, "Classify texts by the Open Inference Protocol"),
    "/v2/models/{model}/versions/{version}/infer": (InferRequest, "The same of a version"),
}
_QUESTIONS = {
    "/v1/models": "Which models are served",
    "/info": "The default model, as Text Embeddings Inference tells it",
    "/version": "The version of bothways",
    "/v2": "The server, as the Open Inference Protocol tells it",
    "/v2/models/{model}": "A model, as the Open Inference Protocol tells it",
    "/v2/models/{model}/versions/{version}": "The same of a version",
    "/v2/models/{model}/ready": "Whether a model may be asked",
    "/v2/models/{model}/versions/{version}/ready": "The same of a version",
    "/health": "Whether the server may be asked",
    "/health/live": "Whether the process runs",
    "/health/ready": "Whether the server may be asked",
    "/v2/health/live": "Whether the process runs",
    "/v2/health/ready": "Whether the server may be asked",
    "/ping": "Whether the server may be asked",
}
_FAULTS = {
    "400": "It can't be meant",
    "404": "There is no such model",
    "408": "The body did not come in time",
    "413": "It is beyond a limit",
    "415": "It is compressed, or of a content type that is not spoken",
    "422": "It can't be meant, or is beyond a limit",
    "429": "The queue is full; Retry-After tells how long",
    "503": "Not ready, or about to end",
    "504": "The deadline passed",
}


def openapi(served: Sequence[ServedModel]) -> dict[str, Any]:
    """Return the document of a server of these models."""
    known = {"model": [model.name for model in served], "version": [version_of(model) for model in served]}
    models: list[type[BaseModel]] = [
        *dict.fromkeys(model for model, _ in _REQUESTS.values()),
        ClassifyReply,
        ErrorReply,
    ]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    paths: dict[str, Any] = {}
    for path, (request, summary) in _REQUESTS.items():
        reply: dict[str, Any] = {"$ref": _REFERENCE.format(model="ClassifyReply")} if path == "/v1/classify" else {}
        paths.setdefault(path, {})["post"] = {
            "summary": summary,
            "parameters": _parameters(path, known),
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=request.__name__)}}},
            },
            "responses": {"200": _response("A result for each text", reply), **_faults()},
        }
    for path, summary in _QUESTIONS.items():
        not_ready = {status: _response(_FAULTS[status], {}) for status in ("404", "503")}
        paths.setdefault(path, {})["get"] = {
            "summary": summary,
            "parameters": _parameters(path, known),
            "responses": {"200": _response(summary, {}), **not_ready},
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "bothways", "version": __version__},
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }


def _parameters(path: str, known: dict[str, list[str]]) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    schemas = [{"type": "string", "enum": known[name]} for name in names]
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in zip(names, schemas, strict=True)
    ]


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _faults() -> dict[str, Any]:
    return {status: _response(description, {}) for status, description in _FAULTS.items()}
