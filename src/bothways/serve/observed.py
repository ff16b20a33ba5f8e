"""Count, time and log every request, and turn unexpected errors into a reply."""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bothways.serve.log import log_message, log_request
from bothways.serve.responses import json_response
from bothways.serve.service import Service

_CLIENT_DISCONNECTED = 499
"""The status that nginx logs when a client disconnects. No client receives it."""
Handler = Callable[[Request], Awaitable[Response]]


def observed_route(path: str, method: str, handler: Handler, service: Service, *, is_logged: bool = True) -> Route:
    """Return a route that counts, times and logs its requests, and replies with 500 to an unexpected error."""

    async def observed(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await handler(request)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_DISCONNECTED)
        except Exception:  # noqa: BLE001  (a bug must not affect the next request)
            log_message(f"internal error at {path}\n{traceback.format_exc()}")
            response = json_response({"error": "internal error", "kind": "internal"}, 500)
        seconds = time.perf_counter() - started
        service.metrics.requests.labels(path, str(response.status_code)).inc()
        if is_logged:  # probes arrive every few seconds
            service.metrics.latency.labels("request").observe(seconds)
            log_request(service.settings.log, method, path, response.status_code, seconds)
        return response

    return Route(path, observed, methods=[method])
