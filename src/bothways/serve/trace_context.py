"""The W3C trace context of a request: which distributed trace it belongs to (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = "traceparent"
_FORM = re.compile(r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})")
_VERSION = "00"
_INVALID_VERSION = "ff"
_SAMPLED = 0x01


@dataclass(frozen=True)
class TraceContext:
    """The place of a request in a trace.

    Attributes:
        trace_id: The trace, as 32 hexadecimal digits. Taken from the client if it sent a valid one.
        span_id: This server's part of the trace, as 16 hexadecimal digits.
        parent_id: The client's part of the trace. Empty if this server began the trace.
        is_sampled: Whether the client records the trace.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    is_sampled: bool = False

    @property
    def traceparent(self) -> str:
        """The header that passes the trace on."""
        return f"{_VERSION}-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"


def read_trace_context(headers: Sequence[str]) -> TraceContext:
    """Return the trace context of a request: the client's trace, or a new one if the client sent no valid header.

    Args:
        headers: The values of all ``traceparent`` headers of the request.
    """
    span_id = random_id(8)
    found = _FORM.match(headers[0]) if len(headers) == 1 else None
    if found is None or not _is_valid(found):
        return TraceContext(random_id(16), span_id)
    return TraceContext(found["trace"], span_id, found["span"], bool(int(found["flags"], 16) & _SAMPLED))


def _is_valid(found: re.Match[str]) -> bool:
    """Whether a header is valid. Only later versions of the format may add fields."""
    rest = found.string[found.end() :]
    is_of_its_version = not rest if found["version"] == _VERSION else not rest or rest.startswith("-")
    return (
        found["version"] != _INVALID_VERSION
        and is_of_its_version
        and int(found["trace"], 16) * int(found["span"], 16) > 0
    )


def random_id(size: int) -> str:
    """Return a random ID of ``size`` bytes in hexadecimal digits, not all of them zero. It is no secret.

    The system's source of randomness would take 20 µs, in which the interpreter's lock changes hands.
    """
    while not (found := random.getrandbits(8 * size)):
        pass
    return f"{found:0{2 * size}x}"
