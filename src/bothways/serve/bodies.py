"""Read the body of a request within limits of size and time. HTTP servers only limit the header."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from bothways.errors import RequestSlow, RequestTooLarge
from bothways.serve.decompression import compression_of, decompressed
from bothways.serve.settings import Settings


async def read_body(request: Request, settings: Settings) -> bytes:
    """Read the body of a request.

    Raises:
        RequestTooLarge: The body, its announced length or its decompressed size exceeds ``max_body_bytes``.
        RequestSlow: The body was not received within ``body_timeout_s``.
        BodyUnsupported: The compression is not supported.
        RequestInvalid: The compressed body is damaged or incomplete.
        ClientDisconnect: The client disconnected before the end of the body.
    """
    compression = compression_of(request.headers.get("content-encoding"))
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
    if compression is None:
        return bytes(body)
    found = bytearray()
    for part in decompressed(body, compression):
        found += part
        if len(found) > limit:
            raise too_large
        await asyncio.sleep(0)  # other requests take turns
    return bytes(found)
