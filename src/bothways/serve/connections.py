"""Close connections that are idle, or whose request header does not arrive.

granian has one timeout for both: from the end of a reply to the end of the next header. A load balancer keeps idle
connections for a minute, while a header should arrive within seconds. So granian gets the longer time, and a guard
looks at the connections every few seconds: a connection that has sent bytes without a request reaching the application
is sending a header. Linux counts the bytes that a connection has received. Elsewhere the longer time applies to both.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

_BYTES_RECEIVED = struct.Struct("@Q")
_BYTES_RECEIVED_AT = 128
"""The place of ``tcpi_bytes_received`` in Linux's ``struct tcp_info``."""
_OPEN_FILES = Path("/proc/self/fd")
MOST_CONNECTIONS = 100_000
"""granian accepts no more. The limit of open files is usually lower."""
_LOOKS_PER_TIMEOUT = 5
_ENDING_S = 0.3
"""Longer than granian takes to write the end of a reply."""
_SHORTEST_PERIOD_S, _LONGEST_PERIOD_S = 0.1, 2.0


@dataclass
class _Connection:
    """A connection at the last look.

    Attributes:
        received: The number of bytes that had been received.
        answered: The number of requests that had been answered.
        quiet_s: Seconds without a request.
        is_sending: Whether bytes have arrived since the last request.
    """

    received: int
    answered: int
    quiet_s: float = 0.0
    is_sending: bool = False


class Connections:
    """The connections of a server, and the application that their requests reach.

    Connections are identified by the port of the client. Where clients of different addresses share one, a request of
    one of them counts for all. Connections to a Unix domain socket come from a proxy on this machine, which has time
    limits of its own.
    """

    def __init__(self, app: ASGIApp, ports: frozenset[int], header_timeout_s: float, keep_alive_s: float) -> None:
        self._app, self._ports = app, ports
        self._header_timeout_s, self._keep_alive_s = header_timeout_s, keep_alive_s
        self._in_progress: Counter[int] = Counter()
        self._answered: Counter[int] = Counter()
        self._crowded = _raise_open_files() // 2
        self._connections: dict[tuple[int, int], _Connection] = {}  # by file descriptor and port of the client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        client = scope.get("client")
        if not client:
            await self._app(scope, receive, send)
            return
        port = int(client[1])
        self._in_progress[port] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_progress[port] -= 1
            self._answered[port] += 1

    async def guard(self) -> None:
        """Close connections that are idle or too slow, until canceled."""
        if not sys.platform.startswith("linux"):
            return
        loop, timeout_s = asyncio.get_running_loop(), min(self._header_timeout_s, self._keep_alive_s)
        period_s = min(_LONGEST_PERIOD_S, max(_SHORTEST_PERIOD_S, timeout_s / _LOOKS_PER_TIMEOUT))
        last = time.monotonic()
        while True:
            await asyncio.sleep(period_s)
            found = await loop.run_in_executor(None, lambda: dict(_received_bytes(self._ports)))
            now = time.monotonic()
            # A busy event loop learns late of requests that have arrived: time in which it was late does not count.
            self._look(found, min(now - last, 2 * period_s))
            last = now

    async def end(self) -> None:
        """Close every connection that has no request, until canceled. granian would wait for the rest of a header."""
        self._keep_alive_s = self._header_timeout_s = _ENDING_S
        await self.guard()

    def _look(self, found: dict[tuple[int, int], int], passed_s: float) -> None:
        """Compare the connections with the last look.

        Args:
            found: The number of received bytes by file descriptor and port of the client.
            passed_s: Seconds since the last look.
        """
        self._connections = {key: self._connections[key] for key in self._connections.keys() & found.keys()}
        # Where connections become scarce, idle ones have to make room: an attacker can open any number of them.
        is_crowded = len(found) > self._crowded
        keep_alive_s = min(self._header_timeout_s, self._keep_alive_s) if is_crowded else self._keep_alive_s
        open_ports = {port for _, port in found}
        for counter in (self._in_progress, self._answered):
            for port in counter.keys() - open_ports:
                if not self._in_progress[port]:
                    del counter[port]
        for key, received in found.items():
            answered = self._answered[key[1]]
            connection = self._connections.setdefault(key, _Connection(received if answered else 0, answered))
            self._update(connection, key[1], received, passed_s)
            if connection.quiet_s > (self._header_timeout_s if connection.is_sending else keep_alive_s):
                _shut_down(*key)

    def _update(self, connection: _Connection, port: int, received: int, passed_s: float) -> None:
        """Compare a connection with the last look."""
        if self._in_progress[port] or connection.answered != self._answered[port]:
            connection.quiet_s, connection.is_sending = 0.0, False
        else:
            is_new_header = received > connection.received and not connection.is_sending
            connection.quiet_s = 0.0 if is_new_header else connection.quiet_s + passed_s
            connection.is_sending |= is_new_header
        connection.received, connection.answered = received, self._answered[port]


def _received_bytes(ports: frozenset[int]) -> Iterator[tuple[tuple[int, int], int]]:
    """Return the number of bytes that each TCP connection to some ports has received.

    Yields:
        The file descriptor and the port of the client, and the number of bytes.
    """
    for number in _open_files():
        with _borrowed(number) as connection, contextlib.suppress(OSError, struct.error):
            if connection is None or connection.getsockname()[1] not in ports:
                continue
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_AT + _BYTES_RECEIVED.size)
            yield (number, connection.getpeername()[1]), _BYTES_RECEIVED.unpack_from(info, _BYTES_RECEIVED_AT)[0]


def _raise_open_files() -> int:
    """Raise the number of files that the process may open as far as it may, and return it. Every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    most = MOST_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, MOST_CONNECTIONS)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _shut_down(number: int, client_port: int) -> None:
    """End a connection. granian then closes its file."""
    with _borrowed(number) as connection, contextlib.suppress(OSError):
        if connection is not None and connection.getpeername()[1] == client_port:
            connection.shutdown(socket.SHUT_RDWR)


def _open_files() -> Iterable[int]:
    """Return the file descriptors that may be open. If no further file can be opened, the folder can't be read."""
    try:
        return [int(name) for name in os.listdir(_OPEN_FILES)]  # noqa: PTH208  (thousands of names)
    except OSError:
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


@contextlib.contextmanager
def _borrowed(number: int) -> Iterator[socket.socket | None]:
    """Return an open file as a TCP connection, or None if it is none. It stays open, and no further file is opened."""
    try:
        connection = socket.socket(fileno=number)
    except OSError:
        yield None
        return
    try:
        yield connection if connection.family in (socket.AF_INET, socket.AF_INET6) else None
    finally:
        connection.detach()
