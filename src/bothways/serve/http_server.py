"""The HTTP server on a socket that is already open: granian, with what the server needs of it.

A server with a renewed certificate begins on the same socket before the previous one stops accepting connections, so
that no connection is refused or lost in between.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from functools import partial

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.embed import Server
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bothways.serve.connections import MOST_CONNECTIONS
from bothways.serve.listening import BACKLOG
from bothways.serve.settings import Settings
from bothways.serve.tls import Certificate, trust_anyone

_MAX_HEADER_BYTES = 65_536
_PAUSE_S = 0.01


class HttpServer(Server):
    """granian on a socket that is already open. granian itself would share the address with other processes.

    Attributes:
        opened: The socket that it listens on.
        may_end: Whether it is no fault when it ends. Its replies then ask clients to open another connection.
    """

    def __init__(
        self, app: ASGIApp, opened: socket.socket, settings: Settings, certificate: Certificate | None
    ) -> None:
        super().__init__(
            self._answer,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=MOST_CONNECTIONS,
            http1_settings=HTTP1Settings(
                header_read_timeout=round(1000 * max(settings.header_timeout_s, settings.keep_alive_s)),
                max_buffer_size=_MAX_HEADER_BYTES,
            ),
            log_enabled=False,
            ssl_cert=None if certificate is None else certificate.chain,
            ssl_key=None if certificate is None else certificate.key,
            ssl_protocol_min=SSLProtocols.tls12,
        )
        self.opened = opened
        self.may_end = False
        self._app, self._descriptor = app, -1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, partial(_send_and_close, send) if self.may_end else send)

    def _init_shared_socket(self) -> None:
        self._descriptor = os.dup(self.opened.fileno())  # granian closes it
        is_unix = self.opened.family == socket.AF_UNIX
        holder = SocketHolder(self._descriptor, is_unix, BACKLOG)  # type: ignore[call-arg]
        self._shd = holder  # type: ignore[assignment]
        self._sfd, self._ssp = self._descriptor, None  # type: ignore[assignment]

    def retire(self, grace_s: float) -> None:
        """Leave new connections to another server, and stop after some seconds.

        granian drops handshakes in progress when it stops, and idle connections, on which a client may just be sending
        a request. So it first gets another socket in place of its own, to which no client connects.

        Args:
            grace_s: Seconds for handshakes in progress, and for clients to learn from a reply that they need another
                connection.
        """
        self.may_end = True
        if not sys.platform.startswith("linux"):
            self.stop()  # type: ignore[no-untyped-call]
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind("\0" + secrets.token_hex())
            other.setblocking(False)
            other.listen(1)
            os.dup2(other.fileno(), self._descriptor, inheritable=False)
        asyncio.get_running_loop().call_later(grace_s, self.stop)


async def _send_and_close(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
    await send(message)


async def until_alive(opened: socket.socket, certificate: Certificate | None) -> None:
    """Wait for a server's first reply: stopping granian before it has replied once can abort the process.

    Args:
        opened: The socket that it listens on.
        certificate: Its certificate. Replies of a server with another one do not count.
    """
    address = opened.getsockname()
    tls, name = (trust_anyone(), "localhost") if certificate is not None else (None, None)
    while True:
        try:
            if opened.family == socket.AF_UNIX:
                reader, writer = await asyncio.open_unix_connection(address, ssl=tls, server_hostname=name)
            else:
                reader, writer = await asyncio.open_connection(address[0], address[1], ssl=tls)
            shown = None if tls is None else writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
        except OSError:
            answer = b""
        if answer and (certificate is None or shown == certificate.leaf):
            return
        await asyncio.sleep(_PAUSE_S)
