"""The HTTP application: its routes, generated from the protocols."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import resources

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bothways.errors import ServingError
from bothways.serve.metrics import CONTENT_TYPE
from bothways.serve.observation import observation_of
from bothways.serve.observed import Observed
from bothways.serve.openapi import build_openapi
from bothways.serve.predict import predict
from bothways.serve.protocols import hugging_face, kserve, mlflow, open_inference, own, text_embeddings_inference
from bothways.serve.protocols.protocol import Information, Protocol
from bothways.serve.responses import error_response, json_response, path_parameters, response_of
from bothways.serve.routing import reply_no_route, reply_wrong_method
from bothways.serve.service import Service

PROTOCOLS = (
    own.PROTOCOL,
    text_embeddings_inference.PROTOCOL,
    hugging_face.PROTOCOL,
    mlflow.PROTOCOL,
    kserve.PROTOCOL,
    open_inference.PROTOCOL,
)
Handler = Callable[[Request], Awaitable[Response]]
_PAGE = resources.files("bothways.serve").joinpath("page.html").read_text(encoding="utf-8")


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
        _route("/", "GET", _page),
        _route("/openapi.json", "GET", partial(_openapi, service)),
        _route("/metrics", "GET", partial(_metrics, service), is_probe=True),
    ]
    for protocol in PROTOCOLS:
        predict_by = partial(predict, service, protocol)
        routes += [_route(path, "POST", predict_by) for path in protocol.routes]
        for info in protocol.information:
            inform = partial(_inform, service, protocol, info)
            routes.append(_route(info.path, info.method, inform, is_probe=info.is_probe))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Observed, service=service)],
        exception_handlers={404: partial(_no_route, routes), 405: partial(_wrong_method, routes)},
    )
    app.router.redirect_slashes = False  # a client that sent a POST to a wrong path needs an error, not a redirect
    return app


def _route(path: str, method: str, handler: Handler, *, is_probe: bool = False) -> Route:
    """Return a route that its requests are counted and logged by."""

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


async def _page(_: Request) -> Response:
    return Response(_PAGE, media_type="text/html", headers={"content-security-policy": _PAGE_POLICY})


async def _openapi(service: Service, _: Request) -> Response:
    return json_response(build_openapi(PROTOCOLS, service.models))


async def _metrics(service: Service, _: Request) -> Response:
    return Response(service.metrics.render(), media_type=CONTENT_TYPE)
