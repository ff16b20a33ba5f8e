"""Turn replies and errors of a protocol into HTTP responses."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from bothways import strict_json
from bothways.errors import Overloaded, RequestInvalid, ServingError, Unauthorized, quoted
from bothways.serve.protocols.protocol import Protocol, Reply


def response_of(reply: Reply) -> Response:
    """Return the response with a reply."""
    if isinstance(reply.body, bytes):
        return Response(reply.body, reply.status, headers=dict(reply.headers))
    return json_response(reply.body, reply.status, reply.headers)


def error_response(protocol: Protocol, error: ServingError) -> Response:
    """Return the response with an error, as a protocol describes errors."""
    status, body = protocol.render_error(error)
    headers = {}
    if isinstance(error, Overloaded):
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    return json_response(body, status, headers)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON value, which must not contain NaN or infinity."""
    body = strict_json.dump(value).encode("utf-8")
    return Response(body, status, headers=dict(headers or {}), media_type="application/json")


def path_parameters(request: Request) -> dict[str, str]:
    """Return the values of a route's path parameters, and ``model`` and ``version`` of the query string.

    Raises:
        RequestInvalid: The path and the query string name different models or versions, or the latter names several.
    """
    found = {name: str(value) for name, value in request.path_params.items()}
    for name in ("model", "version"):
        for value in request.query_params.getlist(name):
            if found.setdefault(name, value) != value:
                raise RequestInvalid(
                    f"the URL names the {name} {quoted(found[name], 100)} and {quoted(value, 100)}: name one"
                )
    return found
