"""Run the server: listen at once, load, reload on SIGHUP or when a bundle changes, drain on SIGTERM.

One process: the batch is one anyway, and its products use all cores.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from bothways.bundle.read import read_manifest
from bothways.errors import BothwaysError, BundleError, ConfigError
from bothways.serve.app import build_app
from bothways.serve.log import end_log, say, start_log
from bothways.serve.metrics import Metrics
from bothways.serve.service import Service
from bothways.serve.settings import Settings

_BACKLOG = 1024
_LARGEST_HEADER_BYTES = 65_536


def serve(bundles: Mapping[str, Path], settings: Settings) -> NoReturn:
    """Serve bundles by name until SIGTERM or SIGINT, and end the process: with 1, after a line, if one can't be served.

    Raises:
        ConfigError: The address can't be listened at.
    """
    _refuse_taken(settings.host, settings.port)
    start_log()
    status = 0
    try:
        asyncio.run(_serve(Service(bundles, settings, Metrics())))
    except BothwaysError as error:
        say(f"error: {' '.join(str(error).splitlines())}")
        status = error.exit_code
    end_log()
    os._exit(status)  # threads of granian may come back to Python while it is being torn down, and abort the process


async def _serve(service: Service) -> None:
    settings = service.settings
    server = Server(
        build_app(service),
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        http1_settings=HTTP1Settings(
            header_read_timeout=round(1000 * settings.header_timeout_s), max_buffer_size=_LARGEST_HEADER_BYTES
        ),
        log_enabled=False,
    )
    loop, ending, reloading = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    listening = asyncio.ensure_future(server.serve())
    try:
        await _until_alive(settings)
        await loop.run_in_executor(None, service.load_all)
        _tell(service)
        reloader = asyncio.ensure_future(_reload(service, reloading))
        await asyncio.wait({listening, asyncio.ensure_future(ending.wait())}, return_when=asyncio.FIRST_COMPLETED)
        reloader.cancel()
    finally:
        service.is_draining = True
        if service.models:
            await asyncio.sleep(settings.linger_s)
        await loop.run_in_executor(None, service.close, settings.drain_s)
        server.stop()  # type: ignore[no-untyped-call]
        await listening
    say("drained, good-bye")


async def _until_alive(settings: Settings) -> None:
    """Wait for the first answer: a server that is told to stop before it runs takes the process with it."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(settings.host, settings.port)
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
        except OSError:
            answer = b""
        if answer:
            return
        await asyncio.sleep(0.01)


def _refuse_taken(host: str, port: int) -> None:
    """Refuse an address that somebody listens at: the server would share it with them, and get some of the requests.

    Raises:
        ConfigError: The address is taken, or none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise ConfigError(f"can't listen at {host}:{port}: {error.strerror}") from None


async def _reload(service: Service, asked: asyncio.Event) -> None:
    """Reload whenever it is asked for, or another bundle lies at a path."""
    loop, watch_s = asyncio.get_running_loop(), service.settings.watch_s
    seen = _identities(service)
    while True:
        try:
            await asyncio.wait_for(asked.wait(), watch_s or None)
        except TimeoutError:
            if _identities(service) == seen:
                continue
        asked.clear()
        seen = _identities(service)
        try:
            await loop.run_in_executor(None, service.load_all)
        except Exception as error:  # noqa: BLE001  (whatever it is, the next reload may succeed)
            say(f"not reloaded, the old models go on: {' '.join(str(error).splitlines())}")
        else:
            _tell(service)


def _identities(service: Service) -> list[bytes]:
    """Return what tells the bundles that lie at the models' paths from others."""
    found = []
    for served in service.models:
        try:
            found.append(read_manifest(served.path)[1])
        except BundleError:
            found.append(b"")
    return found


def _tell(service: Service) -> None:
    for served in service.models:
        where = f"http://{service.settings.host}:{service.settings.port}"
        say(f"serving {served.name} ({served.model.digest[:12]}) at {where}")
