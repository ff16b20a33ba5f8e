"""The HTTP application: its routes, generated from the protocols, and what happens to every request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import resources
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive

from bothways import strict_json
from bothways.errors import Overloaded, RequestInvalid, ServingError, quoted
from bothways.serve.answers import Answer
from bothways.serve.batching import ModelUnloaded
from bothways.serve.bodies import read_body
from bothways.serve.log import log_message, log_request
from bothways.serve.metrics import CONTENT_TYPE
from bothways.serve.openapi import build_openapi
from bothways.serve.protocols import hugging_face, mlflow, open_inference, own, text_embeddings_inference
from bothways.serve.protocols.protocol import (
    Information,
    Protocol,
    Query,
    RawRequest,
    Reply,
    refuse_many_texts,
)
from bothways.serve.service import ServedModel, Service

PROTOCOLS = (
    own.PROTOCOL,
    text_embeddings_inference.PROTOCOL,
    hugging_face.PROTOCOL,
    mlflow.PROTOCOL,
    open_inference.PROTOCOL,
)
_CLIENT_DISCONNECTED = 499
"""The status that nginx logs when a client disconnects. No client receives it."""
_TIMEOUT_HEADER = "x-request-timeout"
_PAGE = resources.files("bothways.serve").joinpath("page.html").read_text(encoding="utf-8")
Handler = Callable[[Request], Awaitable[Response]]
_T = TypeVar("_T")


def _hash_of(tag: str) -> str:
    """Return the source expression that allows only the page's own script or style."""
    part = _PAGE.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"


_PAGE_POLICY = (
    f"default-src 'none'; connect-src 'self'; img-src data:; script-src {_hash_of('script')}; "
    f"style-src {_hash_of('style')}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def build_app(service: Service) -> Starlette:
    """Return the application that serves a service with every protocol."""
    routes = [
        _route("/", "GET", _page, service),
        _route("/openapi.json", "GET", partial(_openapi, service), service),
        _route("/metrics", "GET", partial(_metrics, service), service, is_logged=False),
    ]
    for protocol in PROTOCOLS:
        predict = partial(_predict, service, protocol)
        routes += [_route(path, "POST", predict, service) for path in protocol.predict_routes]
        for info in protocol.information:
            inform = partial(_inform, service, protocol, info)
            routes.append(_route(info.path, "GET", inform, service, is_logged=not info.is_probe))
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # a client that sent a POST to a wrong path needs an error, not a redirect
    return app


def _route(path: str, method: str, handler: Handler, service: Service, *, is_logged: bool = True) -> Route:
    """Return a route that counts, times and logs its requests, and replies with 500 to an unexpected error."""

    async def observed(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await handler(request)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_DISCONNECTED)
        except Exception:  # noqa: BLE001  (a bug must not affect the next request)
            log_message(f"internal error at {path}\n{traceback.format_exc()}")
            response = _json({"error": "internal error", "kind": "internal"}, 500)
        seconds = time.perf_counter() - started
        service.metrics.requests.labels(path, str(response.status_code)).inc()
        if is_logged:  # probes arrive every few seconds
            service.metrics.latency.labels("request").observe(seconds)
            log_request(service.settings.log, method, path, response.status_code, seconds)
        return response

    return Route(path, observed, methods=[method])


async def _predict(service: Service, protocol: Protocol, request: Request) -> Response:
    """Reply to a request for predictions."""
    settings = service.settings
    deadline_s = time.monotonic() + settings.request_timeout_s
    try:
        deadline_s = min(deadline_s, time.monotonic() + _timeout_s(request))
        with service.metrics.stage("body"):
            body = await read_body(request, settings)
        query = protocol.parse(RawRequest(body, dict(request.headers), _path_of(request)), service)
        refuse_many_texts(len(query.texts), settings)
        served, answer = await _unless_client_leaves(_classify(service, query, deadline_s), request.receive)
        return _response(query.render(served, answer))
    except ServingError as error:
        service.metrics.rejections.labels(error.kind).inc()
        return _error_response(protocol, error)


async def _classify(service: Service, query: Query, deadline_s: float) -> tuple[ServedModel, Answer]:
    """Return the answer, and the model that computed it: the new one if a reload replaces the model at this moment."""
    while True:
        served = service.model(query.model)
        try:
            return served, await service.classify(served, query.texts, deadline_s)
        except ModelUnloaded:
            continue


async def _inform(service: Service, protocol: Protocol, info: Information, request: Request) -> Response:
    """Reply to a request for a description of the server or of a model."""
    try:
        return _response(info.reply(service, _path_of(request)))
    except ServingError as error:
        return _error_response(protocol, error)


async def _unless_client_leaves(answering: Awaitable[_T], receive: Receive) -> _T:
    """Await a result, but cancel the work if the client disconnects first.

    Raises:
        ClientDisconnect: The client has disconnected.
    """
    work = asyncio.ensure_future(answering)
    leaving = asyncio.ensure_future(_client_left(receive))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        for task in (work, leaving):
            task.cancel()
        await asyncio.gather(work, leaving, return_exceptions=True)


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _path_of(request: Request) -> dict[str, str]:
    return {name: str(value) for name, value in request.path_params.items()}


def _timeout_s(request: Request) -> float:
    """Return how long the client is willing to wait, in seconds."""
    value = request.headers.get(_TIMEOUT_HEADER)
    if value is None:
        return float("inf")
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise RequestInvalid(f"{_TIMEOUT_HEADER} is {quoted(value, 40)}, expected a number of seconds greater than 0")
    return seconds


async def _page(_: Request) -> Response:
    return Response(_PAGE, media_type="text/html", headers={"content-security-policy": _PAGE_POLICY})


async def _openapi(service: Service, _: Request) -> Response:
    return _json(build_openapi(PROTOCOLS, service.models))


async def _metrics(service: Service, _: Request) -> Response:
    return Response(service.metrics.render(), media_type=CONTENT_TYPE)


def _response(reply: Reply) -> Response:
    if isinstance(reply.body, bytes):
        return Response(reply.body, reply.status, headers=dict(reply.headers))
    return _json(reply.body, reply.status, reply.headers)


def _error_response(protocol: Protocol, error: ServingError) -> Response:
    status, body = protocol.render_error(error)
    return _json(body, status, {"retry-after": str(error.retry_after_s)} if isinstance(error, Overloaded) else {})


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = strict_json.dump(value).encode("utf-8")
    return Response(body, status, headers=dict(headers or {}), media_type="application/json")
