"""A real server process on a real socket, with the tiny bundle of the other tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.bundles import python_environment, write_with_abstention
from tests.serve.browsers import started_browser

HOST = "127.0.0.1"
START_S = 60
CALIBRATION = [f"the {word} sat on a mat" for word in ("cat", "DOG", "film", "x", "y z", "lovely", "terrible")]


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)


@dataclass
class RunningServer:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def request(
        self, path: str, body: object = None, headers: dict[str, str] | None = None, timeout_s: float = 60
    ) -> Reply:
        """Send a request on a connection of its own. A body other than bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.request("GET" if data is None else "POST", path, data, headers or {})
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def classify(self, texts: list[Any], **options: Any) -> Reply:
        return self.request("/v1/classify", {"texts": texts, **options})

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout=60)

    def metric(self, name: str, labels: str = "") -> float:
        page = self.request("/metrics").body.decode()
        found = re.search(rf"^{name}{re.escape(labels)}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    @property
    def log_text(self) -> str:
        return self.log.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    *arguments: object,
    folder: Path,
    wait: bool = True,
    port: int | None = None,
    passes_port: bool = True,
    log: Path | None = None,
    variables: Mapping[str, str] | None = None,
    **popen: Any,
) -> Iterator[RunningServer]:
    """Start ``bothways serve`` and wait until it is ready. Kill it at the end if it is still running."""
    port = port or free_port()
    log = log or folder / f"serve-{port}.log"
    command = [sys.executable, "-m", "bothways", "serve", *map(str, arguments)]
    if passes_port:
        command += ["--port", str(port)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=python_environment() | dict(variables or {}), **popen)
    server = RunningServer(process, port, log)
    try:
        if wait:
            wait_until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_until_ready(server: RunningServer, path: str = "/health/ready") -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log_text
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.request(path, timeout_s=5).status == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"not ready after {START_S} s: {server.log_text}")


@pytest.fixture(scope="package")
def server(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests that do not change its state."""
    limits = ["--max-texts", 500, "--max-body-bytes", 4_000_000, "--body-timeout-s", 1, "--header-timeout-s", 1]
    more = ["--max-queue-tokens", 400_000, "--threads", 1]
    with running(f"tiny={bundle_path}", *limits, *more, folder=tmp_path_factory.mktemp("serve")) as found:
        yield found


@pytest.fixture(scope="package")
def regression_server(
    regression_bundle_path: Path,
    bundle_path: Path,
    targets_bundle_path: Path,
    multi_label_bundle_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    """A server of a regression model, which is the default, and of one model of each other task."""
    bundles = [f"ratings={regression_bundle_path}", f"tiny={bundle_path}", f"houses={targets_bundle_path}"]
    bundles.append(f"topics={multi_label_bundle_path}")
    with running(*bundles, "--threads", 1, folder=tmp_path_factory.mktemp("serve")) as found:
        yield found


@pytest.fixture(scope="package")
def fields_server(
    fields_bundle_path: Path, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server of a model with two text columns and one with a single column. The first is the default."""
    bundles = [f"news={fields_bundle_path}", f"tiny={bundle_path}"]
    with running(*bundles, "--threads", 1, folder=tmp_path_factory.mktemp("serve")) as found:
        yield found


@pytest.fixture(scope="package")
def careful_bundle_path(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with an abstention and label sets."""
    return write_with_abstention(bundle_path, tmp_path_factory.mktemp("careful") / "careful.bundle", CALIBRATION)


@pytest.fixture(scope="package")
def careful_topics_bundle_path(multi_label_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The multi-label bundle with an abstention."""
    path = tmp_path_factory.mktemp("careful") / "topics.bundle"
    return write_with_abstention(multi_label_bundle_path, path, CALIBRATION)


@pytest.fixture(scope="package")
def page_server(
    bundle_path: Path,
    mixed_bundle_path: Path,
    multi_label_bundle_path: Path,
    regression_bundle_path: Path,
    targets_bundle_path: Path,
    fields_bundle_path: Path,
    careful_bundle_path: Path,
    careful_topics_bundle_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    """A server of models of every task, one in two versions, two that abstain, with low limits for a request."""
    bundles = [f"tiny@1={bundle_path}:90", f"tiny@2={mixed_bundle_path}:10", f"topics={multi_label_bundle_path}"]
    bundles += [f"ratings={regression_bundle_path}", f"houses={targets_bundle_path}", f"news={fields_bundle_path}"]
    bundles += [f"careful={careful_bundle_path}", f"careful-topics={careful_topics_bundle_path}"]
    limits = ["--max-texts", 100, "--max-body-bytes", 20_000, "--threads", 1]
    with running(*bundles, *limits, folder=tmp_path_factory.mktemp("serve")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as found:
        yield found


def open_files(server: RunningServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def threads_of(server: RunningServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
