"""The HTTP application: its routes, generated from the protocols."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import resources

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bothways.errors import ServingError, Unauthorized
from bothways.serve.metrics import CONTENT_TYPE
from bothways.serve.observation import observation_of
from bothways.serve.observed import Observed
from bothways.serve.openapi import build_openapi
from bothways.serve.predict import predict
from bothways.serve.protocols import (
    explain,
    hugging_face,
    kserve,
    mlflow,
    open_inference,
    own,
    text_embeddings_inference,
)
from bothways.serve.protocols.protocol import Information, Protocol
from bothways.serve.responses import error_response, json_response, path_parameters, response_of
from bothways.serve.routing import UnderRootPath, reply_no_route, reply_wrong_method
from bothways.serve.service import Service

PROTOCOLS = (
    own.PROTOCOL,
    explain.PROTOCOL,
    text_embeddings_inference.PROTOCOL,
    hugging_face.PROTOCOL,
    mlflow.PROTOCOL,
    kserve.PROTOCOL,
    open_inference.PROTOCOL,
)
_REQUEST_HEADERS = (
    "accept",
    "authorization",
    "content-encoding",
    "content-type",
    "inference-header-content-length",
    "traceparent",
    "x-api-key",
    "x-request-id",
    "x-request-timeout",
)
"""Headers that web pages of other origins may send."""
_REPLY_HEADERS = ("retry-after", "traceparent", "x-model", "x-model-version", "x-request-id")
"""Headers that web pages of other origins may read."""
Handler = Callable[[Request], Awaitable[Response]]
_PAGE = resources.files("bothways.serve").joinpath("page.html").read_text(encoding="utf-8")


def _hash_of(tag: str) -> str:
    """Return the source expression that allows only the page's own script or style."""
    part = _PAGE.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"


_PAGE_POLICY = (
    f"default-src 'none'; connect-src 'self'; img-src data:; script-src {_hash_of('script')}; "
    f"style-src {_hash_of('style')}; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)


def build_app(service: Service) -> Starlette:
    """Return the application that serves a service with every protocol."""
    routes = [
        _route("/", "GET", _page),
        _route("/openapi.json", "GET", _with_key(service, own.PROTOCOL, partial(_openapi, service))),
        _route("/metrics", "GET", partial(_metrics, service), is_probe=True),
    ]
    for protocol in PROTOCOLS:
        predict_by = _with_key(service, protocol, partial(predict, service, protocol))
        routes += [_route(path, "POST", predict_by) for path in protocol.routes]
        for info in protocol.information:
            inform: Handler = partial(_inform, service, protocol, info)
            handler = inform if info.is_probe else _with_key(service, protocol, inform)
            routes.append(_route(info.path, info.method, handler, is_probe=info.is_probe))
    app = Starlette(
        routes=routes,
        middleware=_middleware(service, routes),
        exception_handlers={404: partial(_no_route, routes), 405: partial(_wrong_method, routes)},
    )
    app.router.redirect_slashes = False  # a client that sent a POST to a wrong path needs an error, not a redirect
    return app


def _middleware(service: Service, routes: Sequence[Route]) -> list[Middleware]:
    """Return what every request passes, the outermost first."""
    settings = service.settings
    found = [Middleware(Observed, service=service)]
    if settings.cors_origin:
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origin,
                allow_methods=("GET", "POST"),
                allow_headers=_REQUEST_HEADERS,
                expose_headers=_REPLY_HEADERS,
            )
        )
    if settings.root_path:
        found.append(Middleware(UnderRootPath, root_path=settings.root_path, routes=routes))
    return found


def _with_key(service: Service, protocol: Protocol, handler: Handler) -> Handler:
    """Return a handler that only answers clients with an API key, if the server has any."""

    async def handle(request: Request) -> Response:
        try:
            service.keys.require(request.headers)
        except Unauthorized as error:
            service.metrics.rejections.labels(error.kind).inc()
            return error_response(protocol, error)
        return await handler(request)

    return handle


def _route(path: str, method: str, handler: Handler, *, is_probe: bool = False) -> Route:
    """Return a route under whose path its requests are counted and logged."""

    async def handle(request: Request) -> Response:
        observation = observation_of(request)
        observation.route, observation.is_probe = path, is_probe
        return await handler(request)

    return Route(path, handle, methods=[method])


async def _no_route(routes: Sequence[Route], request: Request, _: Exception) -> Response:
    return reply_no_route(routes, request)


async def _wrong_method(routes: Sequence[Route], request: Request, _: Exception) -> Response:
    return reply_wrong_method(routes, request)


async def _inform(service: Service, protocol: Protocol, info: Information, request: Request) -> Response:
    """Reply to a request for a description of the server or of a model."""
    try:
        return response_of(info.reply(service, path_parameters(request)))
    except ServingError as error:
        return error_response(protocol, error)


async def _page(request: Request) -> Response:
    prefix = html.escape(request.scope.get("root_path", ""))
    page = _PAGE.replace("<head>", f'<head>\n<base href="{prefix}/">', 1) if prefix else _PAGE
    return Response(page, media_type="text/html", headers={"content-security-policy": _PAGE_POLICY})


async def _openapi(service: Service, request: Request) -> Response:
    root_path, needs_key = request.scope.get("root_path", ""), service.keys.are_required
    return json_response(build_openapi(PROTOCOLS, service.models, root_path, needs_key=needs_key))


async def _metrics(service: Service, _: Request) -> Response:
    return Response(service.metrics.render(), media_type=CONTENT_TYPE)
