"""Run the server: listen, load the bundles, reload on SIGHUP or when a bundle changes, drain on SIGTERM.

One process is enough: all requests share one running batch, whose matrix products use all cores.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from typing import NoReturn

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from bothways.bundle.read import read_manifest
from bothways.errors import BothwaysError, BundleError, ConfigError
from bothways.serve.app import build_app
from bothways.serve.bundles import ModelVersion
from bothways.serve.connections import MOST_CONNECTIONS, Connections
from bothways.serve.log import end_log, log_error, log_message, start_log
from bothways.serve.metrics import ServerMetrics
from bothways.serve.service import Service
from bothways.serve.settings import Settings
from bothways.serve.tls import read_certificate, trust_anyone

_BACKLOG = 1024
_MAX_HEADER_BYTES = 65_536


def serve(bundles: Sequence[ModelVersion], settings: Settings) -> NoReturn:
    """Serve bundles until SIGTERM or SIGINT, then exit the process.

    The exit status is 0, or 1 with a line in the log if a bundle can't be served.

    Args:
        bundles: The bundles to serve. The model of the first one is the default.
        settings: The settings of the server.

    Raises:
        ConfigError: The address is already in use or not an address of this machine.
    """
    start_log(settings.log)
    status = 0
    try:
        _require_free(settings.host, settings.port)
        asyncio.run(_serve(Service(bundles, settings, ServerMetrics())))
    except BothwaysError as error:
        log_error(str(error), error)
        status = error.exit_code
    end_log()
    os._exit(status)  # granian's threads may return to Python during its finalization, which would abort the process


async def _serve(service: Service) -> None:
    settings = service.settings
    timeouts_s = (settings.header_timeout_s, settings.keep_alive_s)
    connections = Connections(build_app(service), settings.port, *timeouts_s)
    certificate, key = read_certificate(settings) or (None, None)
    server = Server(
        connections,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=MOST_CONNECTIONS,
        http1_settings=HTTP1Settings(
            header_read_timeout=round(1000 * max(timeouts_s)), max_buffer_size=_MAX_HEADER_BYTES
        ),
        log_enabled=False,
        ssl_cert=certificate,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls12,
    )
    loop, ending, reloading = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    listening = asyncio.ensure_future(server.serve())
    guarding = asyncio.ensure_future(connections.guard())
    try:
        await _until_alive(settings)
        await loop.run_in_executor(None, service.load_all)
        _log_models(service)
        reloader = asyncio.ensure_future(_reload(service, reloading))
        await asyncio.wait({listening, asyncio.ensure_future(ending.wait())}, return_when=asyncio.FIRST_COMPLETED)
        reloader.cancel()
    finally:
        service.is_draining = True
        if service.models:
            await asyncio.sleep(settings.linger_s)
        await loop.run_in_executor(None, service.close, settings.drain_s)
        guarding.cancel()
        ending_connections = asyncio.ensure_future(connections.end())
        server.stop()  # type: ignore[no-untyped-call]
        await listening
        ending_connections.cancel()
    log_message("stopped after draining")


async def _until_alive(settings: Settings) -> None:
    """Wait for the server's first reply: stopping granian before it has replied once aborts the process."""
    tls = trust_anyone() if settings.ssl_certfile else None
    while True:
        try:
            reader, writer = await asyncio.open_connection(settings.host, settings.port, ssl=tls)
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
        except OSError:
            answer = b""
        if answer:
            return
        await asyncio.sleep(0.01)


def _require_free(host: str, port: int) -> None:
    """Check that no other process listens on the address: granian would share it, and get only part of the requests.

    Raises:
        ConfigError: The address is already in use, or is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise ConfigError(f"can't listen on {host}:{port}: {error.strerror}") from None


async def _reload(service: Service, requested: asyncio.Event) -> None:
    """Reload whenever it is requested, or when the bundle at one of the paths has changed."""
    loop, watch_s = asyncio.get_running_loop(), service.settings.watch_s
    seen = _digests(service)
    while True:
        try:
            await asyncio.wait_for(requested.wait(), watch_s or None)
        except TimeoutError:
            if _digests(service) == seen:
                continue
        requested.clear()
        seen = _digests(service)
        try:
            await loop.run_in_executor(None, service.load_all)
        except Exception as error:  # noqa: BLE001  (any error: the next reload may succeed)
            service.metrics.reloads.labels("failed").inc()
            log_error(f"reload failed, still serving the previous models: {error}", error)
        else:
            service.metrics.reloads.labels("succeeded").inc()
            _log_models(service)


def _digests(service: Service) -> list[str]:
    """Return the digest of the bundle at each model's path, or ``""`` where no manifest can be read."""
    found = []
    for served in service.models:
        try:
            found.append(read_manifest(served.source.path).digest)
        except BundleError:
            found.append("")
    return found


def _log_models(service: Service) -> None:
    for served in service.models:
        scheme = "https" if service.settings.ssl_certfile else "http"
        where = f"{scheme}://{service.settings.host}:{service.settings.port}"
        log_message(
            f"serving {served.name} version {served.version} ({served.model.digest[:12]}) at {where}",
            model=served.name,
            version=served.version,
            digest=served.model.digest,
        )
