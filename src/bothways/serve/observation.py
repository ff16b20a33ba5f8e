"""What the server knows about a request while it is answered: for its log line, metrics, trace and response headers."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

from bothways.serve.answers import Answer
from bothways.serve.trace_context import TraceContext, random_id

OTHER = "other"
"""The route of requests to unknown paths, in the log and in metrics. Paths are written by clients."""
REQUEST_ID_HEADER = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~+/=:@-]{0,127}")
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_KEY = "bothways"


@dataclass(eq=False)
class Observation:
    """A request that is being answered.

    Attributes:
        method: The HTTP method, or ``other`` if it is not a standard one.
        request_id: The ID of the request, from the client or new.
        trace: The place of the request in a distributed trace.
        route: The route, such as ``/v2/models/{model}/infer``. Never a path that a client wrote.
        is_probe: Whether load balancers and orchestrators poll the route.
        model: The name of the model that was chosen. Empty if none was.
        version: The version of that model.
        answer: The answer, if texts were classified.
        answered_ns: When the answer was complete, in nanoseconds since 1970.
        status: The status of the reply.
        started_ns: When the request arrived, in nanoseconds since 1970.
    """

    method: str
    request_id: str
    trace: TraceContext
    route: str = OTHER
    is_probe: bool = False
    model: str = ""
    version: str = ""
    answer: Answer | None = field(default=None, repr=False)
    answered_ns: int = 0
    status: int = 500
    started_ns: int = field(default_factory=time.time_ns)

    def choose(self, model: str, version: str) -> None:
        """Record the model that answers the request."""
        self.model, self.version = model, version

    def record(self, answer: Answer) -> None:
        """Record the answer at the time when it is complete."""
        self.answer, self.answered_ns = answer, time.time_ns()


def observe(scope: Scope, observation: Observation) -> None:
    """Attach an observation to a request."""
    scope[_KEY] = observation


def observation_of(request: HTTPConnection) -> Observation:
    """Return the observation of a request."""
    found: Observation = request.scope[_KEY]
    return found


def known_method(method: str) -> str:
    """Return a method as a label. HTTP allows clients to invent methods."""
    return method if method in _METHODS else OTHER


def read_request_id(headers: Sequence[str]) -> str:
    """Return the client's ID of a request, or a new one if it sent none or one that does not belong in a log.

    Args:
        headers: The values of all ``X-Request-ID`` headers of the request.
    """
    if len(headers) == 1 and _REQUEST_ID.fullmatch(headers[0]):
        return headers[0]
    return random_id(16)
