"""Read the bodies of requests within limits of size and time, and of memory for all of them together.

HTTP servers only limit the header.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import Request

from bothways.errors import Overloaded, RequestSlow, RequestTooLarge, Unavailable
from bothways.serve.decompression import Decompressor, compression_of
from bothways.serve.settings import Settings

_RETRY_AFTER_S = 1


class Bodies:
    """The bodies of all requests in progress. Bodies are read in the event loop.

    Attributes:
        bytes: Their total size, as far as they have arrived.
        max_bytes: The maximum of it: ``max_total_body_bytes``, but at least the size of one body.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.max_bytes = max(settings.max_total_body_bytes, settings.max_body_bytes)
        self.bytes = 0
        self._is_closed = False
        self._arriving: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = {}

    @contextmanager
    def hold(self) -> Iterator[HeldBody]:
        """Return the body of a request, which takes memory from when it is read until the end of the context."""
        held = HeldBody(self)
        try:
            yield held
        finally:
            held.resize(0)

    def close(self) -> None:
        """Refuse bodies from now on, also those that are still arriving. To be called from any thread."""
        self._is_closed = True
        for timeout, loop in list(self._arriving.items()):
            loop.call_soon_threadsafe(self._cut_off, timeout, loop)

    def _cut_off(self, timeout: asyncio.Timeout, loop: asyncio.AbstractEventLoop) -> None:
        if timeout in self._arriving:
            timeout.reschedule(loop.time())

    @asynccontextmanager
    async def arriving(self) -> AsyncIterator[None]:
        """Limit the time in which something of a body must arrive. ``close`` ends it sooner.

        Raises:
            RequestSlow: It did not arrive within ``body_timeout_s``.
            Unavailable: The server is shutting down.
        """
        limit_s = self._settings.body_timeout_s
        timeout = asyncio.timeout(limit_s)
        self._arriving[timeout] = asyncio.get_running_loop()
        try:
            self._require_open()
            async with timeout:
                yield
        except TimeoutError:
            self._require_open()
            raise RequestSlow(f"the body was not received within {limit_s:g} s (body-timeout-s)") from None
        finally:
            del self._arriving[timeout]

    def _require_open(self) -> None:
        if self._is_closed:
            raise Unavailable("the server is shutting down: send the request to another replica")

    def _require_room(self, more: int) -> None:
        if more > 0 and self.bytes + more > self.max_bytes:
            raise Overloaded(
                f"the bodies of all requests have {self.bytes} of {self.max_bytes} bytes (max-total-body-bytes), and "
                f"{more} more would be needed",
                _RETRY_AFTER_S,
            )


class HeldBody:
    """The memory for the body of one request, or for the part of it that is kept."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._bytes = bodies, 0

    def resize(self, count: int) -> None:
        """Take memory for this number of bytes, instead of what was taken before.

        Raises:
            Overloaded: The bodies of all requests together are too large.
        """
        self._bodies._require_room(count - self._bytes)
        self._bodies.bytes += count - self._bytes
        self._bytes = count

    async def read(self, request: Request) -> bytes:
        """Read the body of a request, and decompress it if it is compressed.

        Raises:
            RequestTooLarge: The body, its announced length or its decompressed size exceeds ``max_body_bytes``.
            Overloaded: The bodies of all requests together would exceed ``max_total_body_bytes``.
            RequestSlow: The body was not received within ``body_timeout_s``.
            Unavailable: The server is shutting down.
            RequestInvalid: The compressed body is damaged or incomplete.
            BodyUnsupported: The compression is not supported.
            ClientDisconnect: The client disconnected before the end of the body.
        """
        bodies, settings = self._bodies, self._bodies._settings
        compression = compression_of(request.headers.get("content-encoding"))
        length = request.headers.get("content-length", "")
        if length.isdecimal():
            if int(length[:20]) > settings.max_body_bytes:
                raise self._too_large()
            bodies._require_room(int(length[:20]))
        body = bytearray()
        async with bodies.arriving():
            async for part in request.stream():
                self._append(body, part)
        return bytes(body) if compression is None else await self._decompressed(body, compression)

    async def _decompressed(self, body: bytearray, compression: str) -> bytes:
        """Return a body without its compression. Other requests take turns with its parts."""
        found = bytearray()
        decompressor = Decompressor(compression)
        for part in decompressor.decompress(body):
            self._append(found, part, len(body))
            await asyncio.sleep(0)
        decompressor.end()
        return bytes(found)

    def _append(self, body: bytearray, part: bytes, more: int = 0) -> None:
        """Append a part to a body, while ``more`` other bytes are in memory."""
        if len(body) + len(part) > self._bodies._settings.max_body_bytes:
            raise self._too_large()
        self.resize(len(body) + len(part) + more)
        body += part

    def _too_large(self) -> RequestTooLarge:
        limit = self._bodies._settings.max_body_bytes
        return RequestTooLarge(f"the body is larger than {limit} bytes (max-body-bytes): send fewer texts per request")
