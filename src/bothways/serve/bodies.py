"""Read a request's body, of bounded size and in bounded time. Servers have limits for headers only."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from bothways.errors import BodyUnsupported, RequestSlow, RequestTooLarge
from bothways.serve.settings import Settings


async def read_body(request: Request, settings: Settings) -> bytes:
    """Return a request's body.

    Raises:
        RequestTooLarge: It has, or says that it has, more bytes than allowed.
        RequestSlow: It did not come in time.
        BodyUnsupported: It is compressed.
        ClientDisconnect: The client left before its end.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise BodyUnsupported(f"the body is encoded ({encoding[:40]!r}): send it as it is")
    limit = settings.max_body_bytes
    too_large = RequestTooLarge(f"the body has more than {limit} bytes (max-body-bytes): send fewer texts at a time")
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
        raise RequestSlow(f"the body did not come within {settings.body_timeout_s:g} s (body-timeout-s)") from None
    return bytes(body)
