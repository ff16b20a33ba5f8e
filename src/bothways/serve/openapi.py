"""Build the OpenAPI 3.1 document of a server from its protocols, with the schemas that parse its requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bothways.serve.models import ServedModel
from bothways.serve.protocols.protocol import Protocol
from bothways.version import __version__

_REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    "400": "The request is invalid, or not supported by the model",
    "401": "The request has no valid API key",
    "404": "Model not found",
    "406": "None of the accepted formats is supported for the reply",
    "408": "The body was not received in time",
    "413": "The request exceeds a limit",
    "415": "The compression or the content type of the body is not supported",
    "422": "The request is invalid, exceeds a limit, or is not supported by the model",
    "429": "The queue is full. Retry after the seconds in Retry-After",
    "503": "The server is not ready, or is shutting down",
    "504": "The deadline passed",
}
_INFORMATION_ERRORS = ("401", "404", "422", "503")
_UNAUTHORIZED = "401"
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in another header"},
}
"""The two places of an API key (``access.ApiKeys``), of which a request needs one."""


def build_openapi(
    protocols: Sequence[Protocol], served: Sequence[ServedModel], root_path: str = "", *, needs_key: bool = False
) -> dict[str, Any]:
    """Return the OpenAPI document of a server.

    Args:
        protocols: The protocols of the server.
        served: The models that it serves. Path parameters are limited to their names and versions.
        root_path: The URL prefix of the server.
        needs_key: Whether requests other than probes need an API key.
    """
    known = {
        "model": [*dict.fromkeys(model.name for model in served)],
        "version": [*dict.fromkeys(model.version for model in served)],
    }
    schemas = [schema for p in protocols for schema in (p.request, p.reply, p.error) if schema is not None]
    _, definitions = models_json_schema([(schema, "validation") for schema in schemas], ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for protocol in protocols:
        for path, summary in protocol.routes.items():
            operation = _predict_operation(protocol, path, summary, known)
            paths.setdefault(path, {})["post"] = _with_access(operation, needs_key=needs_key)
        for route in protocol.information:
            operation = {
                "summary": route.summary,
                "parameters": _parameters(route.path, known),
                "responses": {"200": _response(route.summary), **_error_responses(_INFORMATION_ERRORS)},
            }
            is_protected = needs_key and not route.is_probe
            paths.setdefault(route.path, {})[route.method.lower()] = _with_access(operation, needs_key=is_protected)
    return {
        "openapi": "3.1.0",
        "info": {"title": "bothways", "version": __version__},
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            **({"securitySchemes": _SECURITY_SCHEMES} if needs_key else {}),
        },
    }


def _with_access(operation: dict[str, Any], *, needs_key: bool) -> dict[str, Any]:
    """Return an operation that needs an API key in one of its places, or else one that never replies with 401."""
    if needs_key:
        return {**operation, "security": [{name: []} for name in _SECURITY_SCHEMES]}
    responses = {status: reply for status, reply in operation["responses"].items() if status != _UNAUTHORIZED}
    return {**operation, "responses": responses}


def _predict_operation(protocol: Protocol, path: str, summary: str, known: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [*_parameters(path, known), *_query_parameters(path, known), *_choice_parameters(protocol)],
        "requestBody": {"required": True, "content": {**_json_content(protocol.request), **_text_content(protocol)}},
        "responses": {
            "200": {
                "description": "A result per text",
                "content": {**_json_content(protocol.reply), **_text_content(protocol)},
            },
            **_error_responses(tuple(_ERRORS), protocol.error),
        },
    }


def _parameters(path: str, known: dict[str, list[str]]) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", path)
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": known[name]}}
        for name in names
    ]


def _query_parameters(path: str, known: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Return the parameters of the query string that name the model, where the path does not."""
    return [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string", "enum": known[name]}}
        for name in ("model", "version")
        if f"{{{name}}}" not in path
    ]


def _choice_parameters(protocol: Protocol) -> list[dict[str, Any]]:
    """Return the parameters of the query string that choose what to return. A value that is an object is JSON."""
    fields = {} if protocol.choices is None else protocol.choices.model_json_schema()["properties"]
    found = []
    for name, field in fields.items():
        schema = next(kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null")
        schema = {key: value for key, value in schema.items() if key not in ("description", "title", "default")}
        place = (
            {"content": {"application/json": {"schema": schema}}} if schema["type"] == "object" else {"schema": schema}
        )
        found.append({"name": name, "in": "query", "required": False, "description": field["description"], **place})
    return found


def _error_responses(statuses: Sequence[str], schema: type[BaseModel] | None = None) -> dict[str, Any]:
    return {status: _response(_ERRORS[status], schema) for status in statuses}


def _response(description: str, schema: type[BaseModel] | None = None) -> dict[str, Any]:
    return {"description": description, "content": _json_content(schema)}


def _text_content(protocol: Protocol) -> dict[str, Any]:
    """Return the formats in addition to JSON, whose bodies are texts."""
    return {name: {"schema": {"type": "string"}} for name in protocol.media}


def _json_content(schema: type[BaseModel] | None) -> dict[str, Any]:
    reference = {} if schema is None else {"$ref": _REFERENCE.format(model=schema.__name__)}
    return {"application/json": {"schema": reference}}
