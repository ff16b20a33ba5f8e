"""What happens to every request, on every route and on none: it gets an ID and a trace, and is counted and logged.

An unexpected error becomes a reply. What a client still sends after its reply is read and discarded for a while: many
clients read a reply only after they have sent everything, and would report a broken connection instead of the reply.
"""

from __future__ import annotations

import contextlib
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bothways.errors import ServingError
from bothways.serve.log import Field, log_error, log_request
from bothways.serve.observation import (
    REQUEST_ID_HEADER,
    Observation,
    known_method,
    observe,
    read_request_id,
)
from bothways.serve.responses import json_response
from bothways.serve.service import Service
from bothways.serve.trace_context import HEADER, read_trace_context

_CLIENT_DISCONNECTED = 499
"""The status that nginx logs when a client disconnects. No client receives it."""
_NOTHING_FOLLOWS = (408, _CLIENT_DISCONNECTED)
"""After these statuses, waiting for the rest of the body is useless."""
_MOST_DISCARDED_BYTES = 2**30


class Observed:
    """An ASGI application that observes the requests to another one."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        observation = _begun(scope["method"], headers)
        observe(scope, observation)
        exchange = _Exchange(receive, send, observation)
        with self._service.metrics.in_progress.track_inprogress():
            try:
                await self._answer(scope, exchange)
            finally:
                report(self._service, observation, time.perf_counter() - started)
        if not exchange.has_whole_body and observation.status not in _NOTHING_FOLLOWS and "expect" not in headers:
            with contextlib.suppress(ServingError, ClientDisconnect):
                async with self._service.bodies.arriving():
                    await exchange.discard_body()

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.observation.status = _CLIENT_DISCONNECTED
        except Exception as error:
            log_error("internal error", error, route=exchange.observation.route, **_fields(exchange.observation))
            if exchange.has_begun:
                exchange.observation.status = 500
                raise  # the connection is closed, so that the client does not take a part for the whole
            reply = json_response({"error": "internal error", "kind": "internal"}, 500)
            await reply(scope, exchange.receive, exchange.send)


class _Exchange:
    """The messages of a request and its reply, as they pass."""

    def __init__(self, receive: Receive, send: Send, observation: Observation) -> None:
        self._receive, self._send, self.observation = receive, send, observation
        self.has_whole_body = False
        self.has_begun = False

    async def receive(self) -> Message:
        """Return the next part of the request."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.has_whole_body = True
        return message

    async def send(self, message: Message) -> None:
        """Send the next part of the reply, with the headers of every reply."""
        if message["type"] == "http.response.start":
            self.has_begun = True
            self.observation.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID_HEADER] = self.observation.request_id
            headers[HEADER] = self.observation.trace.traceparent
        await self._send(message)

    async def discard_body(self) -> None:
        """Read the rest of the request."""
        discarded = 0
        while not self.has_whole_body and discarded < _MOST_DISCARDED_BYTES:
            discarded += len((await self.receive()).get("body", b""))


def report(service: Service, observation: Observation, seconds: float) -> None:
    """Count, log and trace a request that was answered in this number of seconds."""
    service.metrics.count_request(observation, seconds)
    if service.telemetry is not None:
        service.telemetry.record(observation, seconds)
    if not observation.is_probe and service.settings.log != "none":
        log_request(observation.method, observation.route, observation.status, seconds, **_fields(observation))


def _begun(method: str, headers: Headers) -> Observation:
    """Return the observation of a request that has just arrived."""
    return Observation(
        known_method(method),
        read_request_id(headers.getlist(REQUEST_ID_HEADER)),
        read_trace_context(headers.getlist(HEADER)),
    )


def _fields(observation: Observation) -> dict[str, Field]:
    """Return the fields of a log line that identify a request, and the model if one was chosen."""
    model: dict[str, Field] = {"model": observation.model, "version": observation.version} if observation.model else {}
    return {**model, "request_id": observation.request_id, "trace_id": observation.trace.trace_id}
