"""Classify a body of JSON lines of any length while it arrives, in constant memory.

Lines in → one line each out, in their order, while further lines arrive. A few groups of lines are in progress at a
time. If the queue is full, or the client does not read the replies, the server reads no further lines until there is
room. So the body may be larger than ``max-body-bytes``, which limits a line instead. A line that can't be classified
gets an error of its own.
"""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bothways import strict_json
from bothways.errors import Overloaded, RequestInvalid, RequestTooLarge, ServingError, TextError, Unavailable
from bothways.serve.answers import Classified
from bothways.serve.batching import ModelUnloaded
from bothways.serve.bodies import HeldBody
from bothways.serve.decompression import Decompressor, compression_of
from bothways.serve.log import log_error
from bothways.serve.models import ServedModel
from bothways.serve.protocols.protocol import Chosen, LineFormat
from bothways.serve.service import Service

_GROUP_LINES = 32
_GROUP_BYTES = 100_000
"""A group ends with the line that reaches this size."""
_GROUPS_WAITING = 2
"""Groups whose answers wait until those of earlier lines are sent. One more is being read, and one being sent."""
_RETRY_S = 0.1
_POLL_S = 0.2
"""While no lines arrive, how often to look whether the server is shutting down."""
_MOST_VALUES = 1000
"""Most JSON values in a line. A text has one value per text column."""


class StreamEnded(Exception):  # noqa: N818  (the name states what happened)
    """No further line can be answered. The message is the last line of the reply."""


@dataclass(frozen=True)
class _Line:
    """A line of the body: its number from 1, and its content. None if it is longer than allowed."""

    number: int
    content: bytes | None


class LinesResponse(Response):
    """The response to a body of JSON lines."""

    def __init__(
        self,
        service: Service,
        chosen: Chosen,
        lines: LineFormat,
        choices: Mapping[str, object],
        request: Request,
        media_type: str,
        timeout_s: float,
    ) -> None:
        """Create the response.

        Args:
            service: The service.
            chosen: The model that answers.
            lines: How lines are read and written.
            choices: The choices of the query string.
            request: The request, whose body has not been read.
            media_type: The name of JSON lines in the reply.
            timeout_s: The number of seconds to classify a group of lines.

        Raises:
            BodyUnsupported: The compression is not supported.
        """
        compression = compression_of(request.headers.get("content-encoding"))
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self._classifier = _LineClassifier(service, chosen, lines, choices, timeout_s)
        self._body = request.stream() if compression is None else _decompressed(request.stream(), compression)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a line per line that is received, until the end of the body or until the client disconnects."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        with suppress(ClientDisconnect, OSError):
            async with aclosing(self._classifier.replies(self._body)) as replies:
                async for lines in replies:
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _LineClassifier:
    """Classifies lines with one model."""

    def __init__(
        self, service: Service, chosen: Chosen, lines: LineFormat, choices: Mapping[str, object], timeout_s: float
    ) -> None:
        self._service, self._served, self._version, self._timeout_s = service, chosen.served, chosen.version, timeout_s
        self._text_of = lines.text
        self._renderer: Callable[[ServedModel], Callable[[Classified], object]] = partial(lines.renderer, choices)

    async def replies(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Yield the replies to groups of lines, in their order."""
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_GROUPS_WAITING)
        reading = asyncio.create_task(self._read(body, answers))
        try:
            while (answer := await answers.get()) is not None:
                yield await answer
        except StreamEnded as error:
            yield _line_of({"error": str(error)})
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001  (the status has been sent already)
            log_error("internal error in a stream of lines", error)
            yield _line_of({"error": "internal error"})
        finally:
            reading.cancel()
            while not answers.empty():
                if (waiting := answers.get_nowait()) is not None:
                    waiting.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, body: AsyncIterator[bytes], answers: asyncio.Queue[asyncio.Task[bytes] | None]) -> None:
        """Read groups of lines, and start to classify each when there is room for its answer."""
        try:
            with self._service.bodies.hold() as held:
                async for group in _groups(body, self._service, held):
                    await answers.put(asyncio.create_task(self._reply(group)))
        except Exception as error:  # noqa: BLE001  (raised where the answers are awaited)
            await answers.put(asyncio.create_task(_failed(error)))
        await answers.put(None)

    async def _reply(self, group: Sequence[_Line]) -> bytes:
        """Return the lines of the reply to a group.

        Raises:
            StreamEnded: The server is shutting down.
        """
        replies: list[object] = [None] * len(group)
        texts: dict[int, object] = {}
        for position, line in enumerate(group):
            try:
                texts[position] = self._text(line)
            except (ValueError, ServingError) as error:
                replies[position] = {"error": str(error)}
        found = await self._rendered(list(texts.values()))
        for place, (position, item) in enumerate(zip(texts, found, strict=True)):
            replies[position] = item
            if isinstance(item, TextError | ServingError):
                message = str(item).replace(f"text {place}", f"line {group[position].number}", 1)
                replies[position] = {"error": message}
        return b"".join(map(_line_of, replies))

    def _text(self, line: _Line) -> object:
        """Return the text in a line.

        Raises:
            ValueError: The line has none.
        """
        if line.content is None:
            limit = self._service.settings.max_body_bytes
            raise ValueError(f"line {line.number} is longer than {limit} bytes (max-body-bytes)")
        if not line.content.strip():
            raise ValueError(f"line {line.number} is empty, expected a JSON value")
        try:
            value = strict_json.parse(line.content, most_values=_MOST_VALUES)
        except ValueError as error:
            raise ValueError(f"line {line.number} is not strict JSON: {error}") from None
        return self._text_of(value, self._served.model.text_columns)

    async def _rendered(self, texts: Sequence[object]) -> list[object]:
        """Return a prediction as a JSON value, or an error, per text. Wait while the queue is full.

        Raises:
            StreamEnded: The server is shutting down.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            served = self._served  # another group may replace it by that of a reload
            try:
                items = (await self._service.classify(served, texts, deadline_s)).items
                render = self._renderer(served)
                return [render(item) if isinstance(item, Classified) else item for item in items]
            except ModelUnloaded:
                self._served = self._model()
            except Overloaded as error:
                if time.monotonic() + _RETRY_S > deadline_s:
                    return [error] * len(texts)
                await asyncio.sleep(_RETRY_S)
            except RequestTooLarge as error:
                if len(texts) == 1:
                    return [error]
                return [item for text in texts for item in await self._rendered([text])]
            except Unavailable as error:
                raise StreamEnded(str(error)) from None
            except ServingError as error:
                return [error] * len(texts)

    def _model(self) -> ServedModel:
        try:
            return self._service.model(self._served.name, self._version)
        except ServingError as error:
            raise StreamEnded(str(error)) from None


async def _decompressed(body: AsyncIterator[bytes], compression: str) -> AsyncIterator[bytes]:
    """Decompress a body part by part.

    Raises:
        StreamEnded: The body is damaged or incomplete.
    """
    decompressor = Decompressor(compression)
    try:
        async for part in body:
            for piece in decompressor.decompress(part):
                yield piece
        decompressor.end()
    except RequestInvalid as error:
        raise StreamEnded(str(error)) from None


async def _failed(error: Exception) -> bytes:
    raise error


async def _groups(body: AsyncIterator[bytes], service: Service, held: HeldBody) -> AsyncIterator[list[_Line]]:
    """Yield the lines of a body in groups. The lines of a group have arrived together, so that no line waits.

    Raises:
        StreamEnded: The client sends nothing, the server is shutting down, or there is no memory for a long line.
        ClientDisconnect: The client has disconnected.
    """
    longest = service.settings.max_body_bytes
    group: list[_Line] = []
    size = number = 0
    pending, is_too_long = bytearray(), False
    while (part := await _next_part(body, service)) is not None:
        if number == 0 and not pending:
            part = part.removeprefix(codecs.BOM_UTF8)
        pieces = part.split(b"\n")
        for piece in pieces[:-1]:
            pending += piece
            number, is_too_long = number + 1, is_too_long or len(pending) > longest
            group.append(_Line(number, None if is_too_long else bytes(pending)))
            size += len(pending)
            pending, is_too_long = bytearray(), False
            if len(group) == _GROUP_LINES or size >= _GROUP_BYTES:
                yield group
                group, size = [], 0
        pending += pieces[-1]
        if len(pending) > longest:
            pending, is_too_long = bytearray(b"."), True
        try:
            held.resize(len(pending))
        except Overloaded as error:
            raise StreamEnded(str(error)) from None
        if group:
            yield group
            group, size = [], 0
    if pending:
        yield [_Line(number + 1, None if is_too_long else bytes(pending))]


async def _next_part(body: AsyncIterator[bytes], service: Service) -> bytes | None:
    """Return the next part of a body, or None at its end."""
    waiting = asyncio.ensure_future(anext(body, None))
    timeout_s = service.settings.body_timeout_s
    deadline_s = time.monotonic() + timeout_s
    try:
        while not (await asyncio.wait({waiting}, timeout=_POLL_S))[0]:
            if service.is_draining:
                raise StreamEnded("the server is shutting down: send further lines to another replica")
            if time.monotonic() > deadline_s:
                raise StreamEnded(f"nothing was received for {timeout_s:g} s (body-timeout-s)")
        return waiting.result()
    finally:
        waiting.cancel()


def _line_of(value: object) -> bytes:
    return f"{strict_json.dump(value)}\n".encode()
