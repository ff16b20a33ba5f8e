"""The HTTP application: routes, and what happens to every request on its way in and out."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive

from bothways import strict_json
from bothways.errors import Overloaded, RequestInvalid, RequestTooLarge, ServingError
from bothways.serve import metrics as of_metrics
from bothways.serve.bodies import read_body
from bothways.serve.protocols import own
from bothways.serve.protocols.protocol import Protocol
from bothways.serve.service import Answer, Service

_CLIENT_LEFT = 499
"""Nobody reads it; the word of nginx for the log."""
_TIMEOUT_HEADER = "x-request-timeout"
Handler = Callable[[Request], Awaitable[Response]]


def build_app(service: Service) -> Starlette:
    """Give the application of a service."""
    routes = [
        _route("/v1/classify", "POST", _asking(service, own.PROTOCOL), service),
        _route("/v1/models", "GET", _models(service), service),
        _route("/health/live", "GET", _live, service, is_logged=False),
        _route("/health/ready", "GET", _ready(service), service, is_logged=False),
        _route("/metrics", "GET", _metrics(service), service, is_logged=False),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # to a client that posts, another path is an error, not a way
    return app


def _route(path: str, method: str, handler: Handler, service: Service, *, is_logged: bool = True) -> Route:
    """Give a route whose requests are counted, timed and logged; whatever goes wrong in it becomes a reply."""

    async def watched(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await handler(request)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_LEFT)
        except Exception:  # noqa: BLE001  (a fault of ours; the next request is none the worse)
            sys.stderr.write(f"bothways: internal error at {path}\n{traceback.format_exc()}")
            response = _json({"error": "internal error", "kind": "internal"}, 500)
        seconds = time.perf_counter() - started
        service.metrics.requests.labels(path, str(response.status_code)).inc()
        service.metrics.latency.labels("request").observe(seconds)
        if is_logged:  # probes ask every few seconds
            _log(service.settings.log, method, path, response.status_code, seconds)
        return response

    return Route(path, watched, methods=[method])


def _asking(service: Service, protocol: Protocol) -> Handler:
    """Give what answers a request for predictions."""

    async def ask(request: Request) -> Response:
        deadline_s = time.monotonic() + service.settings.request_timeout_s
        try:
            deadline_s = min(deadline_s, time.monotonic() + _timeout_s(request))
            with service.metrics.stage("body"):
                body = await read_body(request, service.settings)
            query = protocol.parse(body)
            if len(query.texts) > service.settings.max_texts:
                raise RequestTooLarge(
                    f"the request has {len(query.texts)} texts, allowed are {service.settings.max_texts} (max-texts)"
                )
            served = service.model(query.model)
            answer = await _unless_client_leaves(service.classify(served, query.texts, deadline_s), request.receive)
            reply = protocol.render(query, served, answer)
            return _json(reply.body, headers=reply.headers)
        except ServingError as error:
            service.metrics.rejections.labels(error.kind).inc()
            headers = {"retry-after": str(error.retry_after_s)} if isinstance(error, Overloaded) else {}
            return _json(protocol.fault(error), error.status, headers)

    return ask


async def _unless_client_leaves(answering: Awaitable[Answer], receive: Receive) -> Answer:
    """Give what comes of it; if the client leaves before, drop it.

    Raises:
        ClientDisconnect: The client has left.
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


def _timeout_s(request: Request) -> float:
    """Give how long the client will wait, in seconds."""
    value = request.headers.get(_TIMEOUT_HEADER)
    if value is None:
        return float("inf")
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise RequestInvalid(f"{_TIMEOUT_HEADER} is {value[:40]!r}, expected seconds, more than 0")
    return seconds


async def _live(_: Request) -> Response:
    """Say that the process runs; depends on nothing else, or a busy server would be restarted."""
    return _json({"live": True})


def _ready(service: Service) -> Handler:
    async def ready(_: Request) -> Response:
        told = {"ready": service.is_ready, "problem": service.problem, "draining": service.is_draining}
        return _json(told, 200 if service.is_ready else 503)

    return ready


def _models(service: Service) -> Handler:
    async def models(_: Request) -> Response:
        told = [
            {
                "name": served.name,
                "digest": served.model.digest,
                "labels": list(served.model.labels),
                "directions": served.model.directions,
                "precision": served.model.precision,
                "loaded_at_s": served.loaded_at_s,
            }
            for served in service.models
        ]
        return _json({"models": told})

    return models


def _metrics(service: Service) -> Handler:
    async def metrics(_: Request) -> Response:
        return Response(service.metrics.page(), media_type=of_metrics.CONTENT_TYPE)

    return metrics


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = strict_json.dump(value).encode("utf-8")
    return Response(body, status, headers=dict(headers or {}), media_type="application/json")


def _log(kind: str, method: str, path: str, status: int, seconds: float) -> None:
    """Log a request: its route, never what it holds."""
    if kind == "none":
        return
    told = {"method": method, "route": path, "status": status, "ms": round(1000 * seconds, 1)}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if kind == "json":
        line = json.dumps({"time": stamp, **told})
    else:
        line = f"{stamp} {method} {path} {status} {told['ms']} ms"
    sys.stderr.write(line + "\n")
