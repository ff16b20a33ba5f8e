"""Reply to requests for predictions: read, parse, classify and render, until the deadline or the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from bothways.errors import RequestInvalid, ServingError, quoted
from bothways.serve.answers import Answer
from bothways.serve.batching import ModelUnloaded
from bothways.serve.bodies import HeldBody
from bothways.serve.models import ServedModel
from bothways.serve.observation import observation_of
from bothways.serve.protocols.choices import choices_in_query
from bothways.serve.protocols.media_types import lines_accepted
from bothways.serve.protocols.protocol import Protocol, Query, RawRequest, refuse_many_texts, served_by
from bothways.serve.responses import error_response, path_parameters, response_of
from bothways.serve.service import Service
from bothways.serve.streaming import LinesResponse

_TIMEOUT_HEADER = "x-request-timeout"
_T = TypeVar("_T")


async def predict(service: Service, protocol: Protocol, request: Request) -> Response:
    """Reply to a request for predictions.

    Raises:
        ClientDisconnect: The client disconnected before the reply.
    """
    try:
        timeout_s = min(service.settings.request_timeout_s, _timeout_s(request))
        if protocol.lines is not None and (media := lines_accepted(request.headers)):
            chosen = served_by(service, path_parameters(request))
            observation_of(request).choose(chosen.served.name, chosen.served.version)
            lines, choices = protocol.lines, _choices(protocol, request)
            lines.renderer(choices, chosen.served)  # invalid choices are refused before the reply begins
            response = LinesResponse(service, chosen, lines, choices, request, media, timeout_s)
            return _named(response, chosen.served)
        deadline_s = time.monotonic() + timeout_s
        with service.bodies.hold() as held:
            query = await _read_query(service, protocol, request, held)
            observation = observation_of(request)
            observation.choose(query.served.name, query.served.version)
            served, answer = await _unless_client_leaves(classify(service, query, deadline_s), request.receive)
            observation.choose(served.name, served.version)
            observation.record(answer)
            return _named(response_of(query.render(served, answer)), served)
    except ServingError as error:
        service.metrics.rejections.labels(error.kind).inc()
        return error_response(protocol, error)


async def _read_query(service: Service, protocol: Protocol, request: Request, held: HeldBody) -> Query:
    """Read and parse a request. The body is forgotten, only its texts are kept."""
    with service.metrics.stage("body"):
        body = await held.read(request)
    choices = _choices(protocol, request)
    query = protocol.parse(RawRequest(body, dict(request.headers), path_parameters(request), choices), service)
    refuse_many_texts(len(query.texts), service.settings)
    return query


def _choices(protocol: Protocol, request: Request) -> dict[str, object]:
    return choices_in_query(request.query_params.multi_items(), protocol.choices)


def _named(response: Response, served: ServedModel) -> Response:
    """Return a response that names the model that computed it."""
    response.headers["x-model"] = quote(served.name)
    response.headers["x-model-version"] = quote(served.version)
    return response


async def classify(service: Service, query: Query, deadline_s: float) -> tuple[ServedModel, Answer]:
    """Return the answer, and the model that computed it: the new one if a reload replaces the model at this moment."""
    served = query.served
    while True:
        try:
            return served, await service.classify(served, query.texts, deadline_s)
        except ModelUnloaded:
            served = service.model(served.name, query.version)


async def _unless_client_leaves(answering: Awaitable[_T], receive: Receive) -> _T:
    """Await a result, but cancel the work if the client disconnects first.

    Raises:
        ClientDisconnect: The client has disconnected.
    """
    work = asyncio.current_task()
    assert work is not None
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        work.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        return await answering
    except asyncio.CancelledError:
        if not has_left:
            raise
        work.uncancel()
        raise ClientDisconnect from None
    finally:
        watching.cancel()


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
