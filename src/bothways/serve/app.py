"""The HTTP application: routes, and what happens to every request on its way in and out."""

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
from bothways.errors import Overloaded, RequestInvalid, RequestTooLarge, ServingError
from bothways.serve import metrics as of_metrics
from bothways.serve.batching import ModelLeft
from bothways.serve.bodies import read_body
from bothways.serve.log import log_request, say
from bothways.serve.openapi import openapi
from bothways.serve.protocols import hugging_face, mlflow, open_inference, own, text_embeddings_inference
from bothways.serve.protocols.protocol import Protocol, Query, Received, plain_fault
from bothways.serve.service import Answer, ServedModel, Service
from bothways.version import __version__

_CLIENT_LEFT = 499
"""Nobody reads it; the word of nginx for the log."""
_TIMEOUT_HEADER = "x-request-timeout"
_PAGE = resources.files("bothways.serve").joinpath("page.html").read_text(encoding="utf-8")
Handler = Callable[[Request], Awaitable[Response]]
_T = TypeVar("_T")


def _hash_of(tag: str) -> str:
    """Return what allows the page's own part of a kind, and no other."""
    part = _PAGE.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"


_PAGE_POLICY = (
    f"default-src 'none'; connect-src 'self'; img-src data:; script-src {_hash_of('script')}; "
    f"style-src {_hash_of('style')}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def build_app(service: Service) -> Starlette:
    """Return the application of a service."""

    def described(request: Request) -> object:
        return open_inference.model_metadata(_asked(service, request))

    asking = {
        "/v1/classify": own.PROTOCOL,
        "/predict": text_embeddings_inference.PROTOCOL,
        "/": hugging_face.PROTOCOL,
        "/invocations": mlflow.PROTOCOL,
        "/v2/models/{model}/infer": open_inference.PROTOCOL,
        "/v2/models/{model}/versions/{version}/infer": open_inference.PROTOCOL,
    }
    telling: dict[str, Callable[[Request], object]] = {
        "/v1/models": lambda _: {"models": [_told(served) for served in service.models]},
        "/info": lambda _: text_embeddings_inference.info(service.model(), service.settings),
        "/version": lambda _: __version__,
        "/openapi.json": lambda _: openapi(service.models),
        "/v2": lambda _: open_inference.server_metadata(),
        "/v2/models/{model}": described,
        "/v2/models/{model}/versions/{version}": described,
    }
    probing: dict[str, Handler] = {
        "/health/live": _live,
        "/v2/health/live": _live,
        "/health/ready": partial(_ready, service),
        "/v2/health/ready": partial(_ready, service),
        "/v2/models/{model}/ready": partial(_model_ready, service),
        "/v2/models/{model}/versions/{version}/ready": partial(_model_ready, service),
        "/health": partial(_ready, service),
        "/ping": partial(_ready, service),
        "/metrics": partial(_metrics, service),
    }
    routes = [_route(path, "POST", partial(_ask, service, protocol), service) for path, protocol in asking.items()]
    routes += [_route(path, "GET", partial(_tell, tell), service) for path, tell in telling.items()]
    routes.append(_route("/", "GET", _page, service))
    routes += [_route(path, "GET", probe, service, is_logged=False) for path, probe in probing.items()]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # to a client that posts, another path is an error, not a way
    return app


def _route(path: str, method: str, handler: Handler, service: Service, *, is_logged: bool = True) -> Route:
    """Return a route whose requests are counted, timed and logged; whatever goes wrong in it becomes a reply."""

    async def watched(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await handler(request)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_LEFT)
        except Exception:  # noqa: BLE001  (a fault of ours; the next request is none the worse)
            say(f"internal error at {path}\n{traceback.format_exc()}")
            response = _json({"error": "internal error", "kind": "internal"}, 500)
        seconds = time.perf_counter() - started
        service.metrics.requests.labels(path, str(response.status_code)).inc()
        if is_logged:  # probes ask every few seconds
            service.metrics.latency.labels("request").observe(seconds)
            log_request(service.settings.log, method, path, response.status_code, seconds)
        return response

    return Route(path, watched, methods=[method])


async def _ask(service: Service, protocol: Protocol, request: Request) -> Response:
    """Answer a request for predictions."""
    settings = service.settings
    deadline_s = time.monotonic() + settings.request_timeout_s
    try:
        deadline_s = min(deadline_s, time.monotonic() + _timeout_s(request))
        with service.metrics.stage("body"):
            body = await read_body(request, settings)
        headers, path = dict(request.headers), {name: str(value) for name, value in request.path_params.items()}
        query = protocol.parse(Received(body, headers, path), service)
        if len(query.texts) > settings.max_texts:
            raise RequestTooLarge(
                f"the request has {len(query.texts)} texts, allowed are {settings.max_texts} (max-texts)"
            )
        served, answer = await _unless_client_leaves(_answered(service, query, deadline_s), request.receive)
        reply = protocol.render(query, served, answer)
    except ServingError as error:
        service.metrics.rejections.labels(error.kind).inc()
        retry = {"retry-after": str(error.retry_after_s)} if isinstance(error, Overloaded) else {}
        status, told = protocol.fault(error)
        return _json(told, status, retry)
    if isinstance(reply.body, bytes):
        return Response(reply.body, headers=dict(reply.headers))
    return _json(reply.body, headers=reply.headers)


async def _answered(service: Service, query: Query, deadline_s: float) -> tuple[ServedModel, Answer]:
    """Return the answer and whose it is: if a model leaves just now, that of the one that has taken its place."""
    while True:
        served = service.model(query.model)
        try:
            return served, await service.classify(served, query.texts, deadline_s)
        except ModelLeft:
            continue


async def _tell(tell: Callable[[Request], object], request: Request) -> Response:
    """Answer a question about the server."""
    try:
        return _json(tell(request))
    except ServingError as error:
        return _refused(error)


def _refused(error: ServingError) -> Response:
    status, told = plain_fault(error)
    return _json(told, status)


def _asked(service: Service, request: Request) -> ServedModel:
    served = service.model(request.path_params["model"])
    open_inference.require_version(served, request.path_params.get("version"))
    return served


async def _unless_client_leaves(answering: Awaitable[_T], receive: Receive) -> _T:
    """Return what comes of it; if the client leaves before, drop it.

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
    """Return how long the client will wait, in seconds."""
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


async def _page(_: Request) -> Response:
    return Response(_PAGE, media_type="text/html", headers={"content-security-policy": _PAGE_POLICY})


async def _live(_: Request) -> Response:
    """Say that the process runs; depends on nothing else, or a busy server would be restarted."""
    return _json({"live": True})


async def _ready(service: Service, _: Request) -> Response:
    told = {"ready": service.is_ready, "problem": service.problem, "draining": service.is_draining}
    return _json({**told, "live": True}, 200 if service.is_ready else 503)


async def _model_ready(service: Service, request: Request) -> Response:
    try:
        served = _asked(service, request)
    except ServingError as error:
        return _refused(error)
    return _json({"name": served.name, "ready": service.is_ready}, 200 if service.is_ready else 503)


async def _metrics(service: Service, _: Request) -> Response:
    return Response(service.metrics.page(), media_type=of_metrics.CONTENT_TYPE)


def _told(served: ServedModel) -> dict[str, object]:
    model = served.model
    return {
        "name": served.name,
        "digest": model.digest,
        "labels": list(model.labels),
        "directions": model.directions,
        "precision": model.precision,
        "early_exit": model.early_exit is not None,
        "loaded_at_s": served.loaded_at_s,
        "parity_record": {"texts": served.verification.texts, "differences": served.verification.differences},
    }


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = strict_json.dump(value).encode("utf-8")
    return Response(body, status, headers=dict(headers or {}), media_type="application/json")
