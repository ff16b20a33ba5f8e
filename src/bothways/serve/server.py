"""Run the server: listen, load the bundles, reload on SIGHUP or when a bundle changes, drain on SIGTERM.

One process is enough: all requests share one running batch, whose matrix products use all cores. Every wait ends by a
failure, a signal or a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from bothways.errors import AddressUnusable, BothwaysError, BundleMissing, ConfigError, DependencyMissing, HubError
from bothways.serve.app import build_app
from bothways.serve.bundles import ModelVersion, read_bundles
from bothways.serve.connections import Connections
from bothways.serve.http_server import HttpServer, until_alive
from bothways.serve.listening import close_socket, open_sockets, url_of
from bothways.serve.log import end_log, log_error, log_message, start_log
from bothways.serve.metrics import ServerMetrics
from bothways.serve.service import Service
from bothways.serve.settings import kubernetes_variables, read_settings
from bothways.serve.signals import signal_handlers
from bothways.serve.telemetry import start_telemetry
from bothways.serve.tls import Certificate, read_certificate

if TYPE_CHECKING:
    from bothways.serve.grpc_server import GrpcServer

_START_S = 30.0
"""Seconds to resolve the host, and seconds until the HTTP server replies for the first time."""
_FLUSH_S = 0.5
"""Seconds of the drain time that are kept for sending the last replies."""
_SAME_SIGNAL_S = 1.0
"""A second SIGTERM within this time is the same one: supervisors signal a process and its group."""
_SEND_S = 3.0
"""Seconds to send the last traces and metrics to a collector."""
_BUG = 70
_T = TypeVar("_T")


def serve(bundles: Sequence[str], options: Mapping[str, object], config: Path | None = None) -> NoReturn:
    """Serve bundles until SIGTERM or SIGINT, then exit the process.

    The exit status is 0, or 1 with a line in the log if a bundle can't be served or an address can't be listened on.

    Args:
        bundles: The bundles to serve, as ``bundles.parse_bundles`` reads them. The first model is the default.
        options: Settings by name, as ``settings.read_settings`` reads them.
        config: A TOML file with settings. It names the bundles if ``bundles`` is empty, and is read again on a reload.

    Raises:
        ConfigError: A bundle or a setting is missing or invalid.
    """
    settings = read_settings(options, config)
    found = read_bundles(bundles, config)
    start_log(settings.log)
    for name, value in kubernetes_variables().items():
        log_message(
            f"variable {name} is {value}, which Kubernetes sets for a Service of this name: it is ignored. "
            "Set enableServiceLinks: false in the pod to avoid this line",
            logging.WARNING,
        )
    try:
        service = Service(found, settings, ServerMetrics())
        process = _Process(service, found if bundles else None, config)
    except ConfigError as error:
        log_error(str(error), error)
        status = error.exit_code
    else:
        service.telemetry = start_telemetry(lambda: service.models)
        status = asyncio.new_event_loop().run_until_complete(process.run())
        if service.telemetry is not None:
            service.telemetry.close(_SEND_S)
    end_log()
    # granian's threads may return to Python during its finalization, which would abort the process. Nor is there a
    # reason to wait for a model that is still being loaded.
    os._exit(status)


class _Ended(Exception):  # noqa: N818  (no error)
    """A signal ended the process."""


class _Process:
    """The life of the server's process."""

    def __init__(self, service: Service, bundles: Sequence[ModelVersion] | None, config: Path | None) -> None:
        """Prepare to serve. The bundles stay as they are, or are read from the file at each reload if they are None."""
        self._service, self._bundles, self._config = service, bundles, config
        self._settings = service.settings
        self._certificate = read_certificate(service.settings)
        self._sockets: list[socket.socket] = []
        self._servers: dict[HttpServer, asyncio.Future[None]] = {}
        self._grpc: GrpcServer | None = None
        self._connections: Connections | None = None
        self._ended_at_s: float | None = None
        # One thread: the C library keeps memory per thread, and the next model fits where the last one was.
        self._loading = ThreadPoolExecutor(1, "bothways-load")

    async def run(self) -> int:
        """Serve until a signal ends it, and return the exit status."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._reload_requested = asyncio.Event()
        handlers: dict[int, Callable[[], object]] = {signal.SIGHUP: self._reload_requested.set}
        handlers |= {number: partial(self._end, number) for number in (signal.SIGTERM, signal.SIGINT)}
        with signal_handlers(handlers):
            return await self._run()

    async def _run(self) -> int:
        status = 0
        try:
            await self._serve()
        except _Ended:
            pass
        except BothwaysError as error:
            log_error(str(error), error)
            status = error.exit_code
        except Exception as error:  # noqa: BLE001  (the outermost frame of the process)
            log_error("internal error: this is a bug in bothways, please report it", error)
            status = _BUG
        await self._drain()
        return status

    def _end(self, number: int) -> None:
        """Begin to drain. A second signal ends the process at once."""
        now = time.monotonic()
        if self._ended_at_s is None:
            self._ended_at_s = now
            self._ended.set_result(None)
            log_message(f"{signal.Signals(number).name}: draining")
        elif number == signal.SIGINT or now - self._ended_at_s > _SAME_SIGNAL_S:
            log_message("stopped at once by a second signal", logging.WARNING)
            end_log(_FLUSH_S)
            os._exit(128 + number)

    async def _serve(self) -> NoReturn:
        settings, service = self._settings, self._service
        resolving = self._loop.run_in_executor(None, open_sockets, settings)
        try:
            self._sockets = await self._unless_ended(resolving, _START_S)
        except TimeoutError:
            raise AddressUnusable(f"the host {settings.host} was not resolved within {_START_S:g} s") from None
        ports = frozenset(opened.getsockname()[1] for opened in self._sockets if opened.family != socket.AF_UNIX)
        connections = Connections(build_app(service), ports, settings.header_timeout_s, settings.keep_alive_s)
        self._connections, self._guarding = connections, asyncio.ensure_future(connections.guard())
        for server in self._start_servers(connections, self._certificate):
            try:
                await self._unless_ended(until_alive(server.opened, self._certificate), _START_S)
            except TimeoutError:
                raise AddressUnusable(f"{url_of(server.opened)} did not reply within {_START_S:g} s") from None
        if settings.grpc_port is not None:
            self._grpc = _grpc_server(service, self._sockets, self._certificate)
            await self._grpc.start()
            log_message(f"gRPC at {' and '.join(self._grpc.addresses)}")
        await self._unless_ended(self._loop.run_in_executor(self._loading, service.load_all))
        self._log_start()
        while True:
            await self._unless_ended(self._reload_once())

    def _start_servers(self, connections: Connections, certificate: Certificate | None) -> list[HttpServer]:
        """Start an HTTP server on each socket, and return them."""
        found = [HttpServer(connections, opened, self._settings, certificate) for opened in self._sockets]
        for server in found:
            self._servers[server] = asyncio.ensure_future(server.serve())
            self._servers[server].add_done_callback(partial(self._server_ended, server))
        return found

    def _server_ended(self, server: HttpServer, task: asyncio.Future[None]) -> None:
        del self._servers[server]
        if not task.cancelled():
            task.exception()  # or asyncio would print it
        if not server.may_end and not self._failed.done():
            self._failed.set_result(None)

    def _log_start(self) -> None:
        scheme = "http" if self._certificate is None else "https"
        where = " and ".join(url_of(opened, scheme) for opened in self._sockets)
        for served in self._service.models:
            log_message(
                f"serving {served.name} version {served.version} ({served.model.digest[:12]}) at {where}",
                model=served.name,
                version=served.version,
                digest=served.model.digest,
            )

    async def _unless_ended(self, work: Awaitable[_T], limit_s: float | None = None) -> _T:
        """Await a result.

        Raises:
            _Ended: A signal ended the process.
            TimeoutError: The time limit passed.
            BothwaysError: The HTTP server stopped by itself.
        """
        task = asyncio.ensure_future(work)
        events: list[asyncio.Future[Any]] = [task, self._ended, self._failed]
        await asyncio.wait(events, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        if self._ended.done():
            raise _Ended
        if self._failed.done():
            raise BothwaysError("the HTTP server stopped unexpectedly")
        raise TimeoutError

    async def _reload_once(self) -> None:
        """Reload when it is requested, or look for changes after a while."""
        watch_s = self._settings.watch_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reload_requested.wait(), watch_s or None)
        is_requested = self._reload_requested.is_set()
        self._reload_requested.clear()
        found = await self._loop.run_in_executor(self._loading, self._read_again, is_requested)
        if found is None:
            return
        certificate, bundles = found
        if certificate != self._certificate:
            await self._renew(certificate)
        reload = partial(self._service.reload, bundles, only_changed=not is_requested)
        await self._loop.run_in_executor(self._loading, reload)

    def _read_again(self, is_requested: bool) -> tuple[Certificate | None, Sequence[ModelVersion]] | None:
        """Return the certificate and the bundles as they are now named, or None if that can't be read."""
        service = self._service
        try:
            service.keys.read()
            certificate = read_certificate(self._settings)
            bundles = self._bundles or read_bundles([], self._config)
        except (ConfigError, BundleMissing, HubError) as error:
            if is_requested or service.config_problem != str(error):
                log_error(f"the configuration can't be read again, nothing is reloaded: {error}", error)
            service.config_problem = str(error)
            return None
        service.config_problem = ""
        return certificate, bundles

    async def _renew(self, certificate: Certificate | None) -> None:
        """Show another certificate in new connections. Open connections stay. If it fails, the previous one stays."""
        assert self._connections is not None
        before = [server for server in self._servers if not server.may_end]
        new = self._start_servers(self._connections, certificate)
        for server in new:
            server.may_end = True
        try:
            for server in new:
                await asyncio.wait_for(until_alive(server.opened, certificate), _START_S)
        except TimeoutError:
            log_message("the renewed certificate can't be used, the previous one still is", logging.ERROR)
            for server in new:
                server.stop()  # type: ignore[no-untyped-call]
            return
        for server in new:
            server.may_end = False
        for server in before:
            server.retire(self._settings.header_timeout_s)
        self._certificate = certificate
        if self._grpc is not None and certificate is not None:
            self._grpc.certificate = certificate
        log_message("the certificate was renewed")

    async def _drain(self) -> None:
        """Answer the accepted requests. Connections that are still open when the time is over are closed."""
        service, settings = self._service, self._settings
        service.is_draining = True
        if service.models and self._ended.done():
            await asyncio.sleep(settings.linger_s)
        deadline_s = time.monotonic() + settings.drain_s
        flush_s = min(_FLUSH_S, settings.drain_s / 4)
        await self._loop.run_in_executor(None, service.close, settings.drain_s - flush_s)
        if self._grpc is not None:
            await self._grpc.stop(flush_s)
        listening = [*self._servers.values()]
        for server in self._servers:
            server.stop()  # type: ignore[no-untyped-call]
        for opened in self._sockets:
            close_socket(opened)  # or clients would connect and wait for a reply
        is_open = False
        if self._connections is not None:
            self._guarding.cancel()
            self._guarding = asyncio.ensure_future(self._connections.end())
        if listening:
            left_s = max(flush_s, deadline_s - time.monotonic())
            _, unfinished = await asyncio.wait(listening, timeout=left_s)
            is_open = bool(unfinished)
        if self._ended.done():
            log_message("stopped: connections were still open after drain-s" if is_open else "stopped after draining")


def _grpc_server(service: Service, sockets: Sequence[socket.socket], certificate: Certificate | None) -> GrpcServer:
    """Return the gRPC server, on the addresses of the HTTP server.

    Raises:
        DependencyMissing: The extra ``grpc`` is not installed.
        AddressUnusable: An address is already in use.
    """
    try:
        from bothways.serve.grpc_server import GrpcServer  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise DependencyMissing(f"gRPC needs {error.name}: pip install 'bothways[serve,grpc]'") from None
    addresses = [opened.getsockname()[0] for opened in sockets if opened.family != socket.AF_UNIX]
    assert service.settings.grpc_port is not None
    return GrpcServer(service, addresses or [service.settings.host], service.settings.grpc_port, certificate)
