"""Start and stop of a real process: addresses as operators name them, and signals at any moment."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import python_environment
from tests.console import run_bothways
from tests.serve.conftest import HOST, RunningServer, free_port, running
from tests.serve.test_abuse import eventually

pytestmark = pytest.mark.enable_socket
STALLED = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
SLOW_DISK = """
import os, time

_open = os.open


def slow(path, *arguments, **more):
    if str(path).endswith("parity.jsonl") and os.path.exists("slow"):
        os.rename("slow", "stalled")
        time.sleep(600)
    return _open(path, *arguments, **more)


os.open = slow
"""


def test_it_listens_on_a_name_and_on_the_port_of_the_platform(bundle_path: Path, tmp_path: Path) -> None:
    """F4, F9: a host name, ``PORT`` as on Cloud Run, and the variable of a Kubernetes Service named bothways."""
    port = free_port()
    variables = {"PORT": str(port), "BOTHWAYS_PORT": "tcp://10.0.0.1:80"}
    arguments = (f"m={bundle_path}", "--host", "localhost", "--threads", 1)
    with running(*arguments, folder=tmp_path, port=port, passes_port=False, variables=variables) as server:
        assert server.classify(["a film"]).status == 200
        assert "variable BOTHWAYS_PORT is tcp://10.0.0.1:80, which Kubernetes sets" in server.log_text
        assert f"http://127.0.0.1:{port}" in server.log_text


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.host)


def processes_of(parent: int) -> list[str]:
    """Return the processes that a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{parent}\n" in status.read_text():
                found.append(status.parent.name)
    return found


def test_it_serves_on_a_unix_domain_socket_and_removes_it(bundle_path: Path, tmp_path: Path) -> None:
    """F4."""
    with running(f"m={bundle_path}", "--uds", "b.sock", folder=tmp_path, wait=False, cwd=tmp_path) as server:
        eventually(lambda: "serving m version 1" in server.log_text)
        assert "at unix:b.sock" in server.log_text
        assert processes_of(server.process.pid) == []  # it is one process
        connection = _UnixConnection(str(tmp_path / "b.sock"))
        with contextlib.closing(connection):
            connection.request("POST", "/v1/classify", b'{"texts": ["a film"]}')
            assert connection.getresponse().status == 200
        assert server.stop(signal.SIGINT) == 0
    assert not (tmp_path / "b.sock").exists()


def test_an_address_that_can_not_be_listened_on_is_one_line(server: RunningServer, bundle_path: Path) -> None:
    """F4."""
    for arguments, message in (
        (["--port", str(server.port)], f"can't listen on {HOST}:{server.port}: Address already in use"),
        (["--host", "no-such-host.invalid"], "the host 'no-such-host.invalid' can't be resolved: "),
    ):
        finished = run_bothways("serve", str(bundle_path), *arguments, timeout_s=60)
        assert (finished.returncode, message in finished.stderr) == (1, True), finished.stderr
        assert len(finished.stderr.splitlines()) == 1


def test_sigterm_while_modules_are_imported_ends_it(bundle_path: Path, tmp_path: Path) -> None:
    """F16: with status 0, and without a default action, which the first process of a container would not have."""
    with running(bundle_path, folder=tmp_path, wait=False) as server:
        maps = Path(f"/proc/{server.process.pid}/maps")
        eventually(lambda: "numpy" in maps.read_text())
        server.process.send_signal(signal.SIGHUP)
        assert server.stop() == 0


def test_sigterm_while_loading_ends_it(bundle_path: Path, tmp_path: Path) -> None:
    """F16: even if the disk does not answer."""
    (tmp_path / "slow").touch()
    with running(bundle_path, folder=tmp_path, wait=False, **slow_disk(tmp_path)) as server:
        eventually(lambda: _is_alive(server))
        assert server.request("/health/ready").status == 503
        assert server.classify(["a film"]).status == 503
        assert server.stop() == 0
        assert "Traceback" not in server.log_text


def test_sigterm_during_a_reload_from_a_disk_that_does_not_answer_ends_it(bundle_path: Path, tmp_path: Path) -> None:
    """F16: the previous model answers until then, also the requests that were accepted before SIGTERM."""
    with running(bundle_path, "--drain-s", 10, folder=tmp_path, **slow_disk(tmp_path)) as server:
        (tmp_path / "slow").touch()
        server.process.send_signal(signal.SIGHUP)
        eventually((tmp_path / "stalled").exists)
        assert (server.classify(["a film"]).status, server.request("/health/ready").status) == (200, 200)
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 8
        assert "stopped after draining" in server.log_text


def slow_disk(folder: Path) -> dict[str, Any]:
    """Return options of a server in a folder. Its disk stalls when it contains a file named slow."""
    (folder / "sitecustomize.py").write_text(SLOW_DISK)
    return {"cwd": folder, "variables": {"PYTHONPATH": f"{folder}:{python_environment()['PYTHONPATH']}"}}


def _is_alive(server: RunningServer) -> bool:
    try:
        return server.request("/health/live", timeout_s=5).status == 200
    except OSError:
        return False


def test_sigterm_with_stalled_bodies_ends_at_once(bundle_path: Path, tmp_path: Path) -> None:
    """F11, F16. The bodies get a reply, so that their clients try another replica."""
    limits = ["--drain-s", 30, "--body-timeout-s", 600, "--header-timeout-s", 600]
    with running(bundle_path, *limits, folder=tmp_path) as server:
        connections = [server.connect() for _ in range(3)]
        for connection in connections[1:]:
            connection.sendall(STALLED)
        eventually(lambda: server.metric("bothways_requests_in_progress") == 3)  # and the one that asks
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 20
        assert "info stopped" in server.log_text
        for connection in connections[1:]:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 503 ")
        for connection in connections:
            connection.close()


@pytest.mark.server
def test_what_is_not_answered_within_drain_s_is_refused_and_its_connection_closed(
    bundle_path: Path, tmp_path: Path
) -> None:
    with (
        running(
            f"m={bundle_path}", "--drain-s", 1, "--threads", 1, "--max-queue-tokens", 1_000_000, folder=tmp_path
        ) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        long = pool.submit(server.classify, ["the cat sat on a mat, " * 40_000])  # several seconds
        eventually(lambda: server.metric("bothways_batch_texts") > 0)
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 5
        reply = long.result()
        assert (reply.status, reply.value["kind"]) == (503, "unavailable")
        assert "retry" in reply.value["error"]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(bundle_path: Path, tmp_path: Path, second: signal.Signals) -> None:
    """F16: Ctrl+C twice, or SIGTERM again after a second. On any free port, which the log reports."""
    options = [f"m={bundle_path}", "--linger-s", 600, "--port", 0, "--threads", 1]
    with running(*options, folder=tmp_path, wait=False, passes_port=False) as server:
        address = re.compile(r"serving m .* at http://127\.0\.0\.1:(\d+) ")
        eventually(lambda: bool(address.search(server.log_text)))
        server.port = int(address.findall(server.log_text)[0])
        server.process.send_signal(signal.SIGTERM)
        signaled = time.monotonic()
        eventually(lambda: server.request("/health/ready").status == 503)
        assert server.classify(["a film"]).status == 200  # until linger-s has passed
        if second == signal.SIGTERM:
            time.sleep(max(0, signaled + 1.1 - time.monotonic()))
        assert server.stop(second) == 128 + second


def _requests_in_progress(server: RunningServer) -> float:
    return server.metric("bothways_requests_in_progress")
