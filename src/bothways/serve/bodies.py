"""Read the body of a request within limits of size and time. HTTP servers only limit the header."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from bothways.errors import BodyUnsupported, RequestSlow, RequestTooLarge, quoted
from bothways.serve.settings import Settings


async def read_body(request: Request, settings: Settings) -> bytes:
    """Read the body of a request.

    Raises:
        RequestTooLarge: The body, or its announced length, exceeds ``max_body_bytes``.
        RequestSlow: The body was not received within ``body_timeout_s``.
        BodyUnsupported: The body is compressed.
        ClientDisconnect: The client disconnected before the end of the body.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise BodyUnsupported(f"content-encoding {quoted(encoding, 40)} is not supported: send the body uncompressed")
    limit = settings.max_body_bytes
    too_large = RequestTooLarge(f"the body is larger than {limit} bytes (max-body-bytes): send fewer texts per request")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise RequestSlow(f"the body was not received within {settings.body_timeout_s:g} s (body-timeout-s)") from None
    return bytes(body)
