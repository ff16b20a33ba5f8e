"""Hostile and broken clients: each is rejected or tolerated, and the next request is answered."""

from __future__ import annotations

import contextlib
import gzip
import json
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
import zstandard

from tests.serve.conftest import RunningServer, open_files, running

pytestmark = pytest.mark.enable_socket

HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
LONG = "the cat sat on a mat, " * 10_000
"""The tiny model needs about a second to read it."""


@pytest.fixture(autouse=True)
def answers_afterwards(server: RunningServer) -> Iterator[None]:
    yield
    assert server.classify(["still there?"]).status == 200
    eventually(lambda: server.metric("bothways_queue_tokens") == 0)


def eventually(holds: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.05)


def received(connection: socket.socket, within_s: float = 10) -> bytes:
    """Return what comes until the server closes."""
    connection.settimeout(within_s)
    found = b""
    try:
        while part := connection.recv(65_536):
            found += part
            if found.endswith(b"}"):
                break
    except ConnectionResetError:
        pass
    return found


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1]) if reply else 0


def test_a_header_that_does_not_end_is_not_waited_for(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: local")
        started = time.monotonic()
        assert status_of(received(connection)) in (0, 408)
        assert time.monotonic() - started < 5


def test_a_body_that_does_not_come_is_not_waited_for(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"texts": [')
        reply = received(connection)
    assert status_of(reply) == 408
    assert b"the body was not received within 1 s (body-timeout-s)" in reply


def test_a_body_that_drips_is_not_waited_for_either(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        started = time.monotonic()
        try:
            while time.monotonic() - started < 4:
                connection.sendall(b" ")
                time.sleep(0.1)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert status_of(received(connection)) in (0, 408)


def test_chunks_without_end_are_cut_off(server: RunningServer) -> None:
    """They are discarded after the reply, but not for longer than a body may take."""
    with server.connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        started, chunk = time.monotonic(), b"10000\r\n" + b" " * 65_536 + b"\r\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() - started < 20:
                connection.sendall(chunk)
        assert status_of(received(connection)) in (0, 413)
    assert time.monotonic() - started < 20


def test_an_upload_that_is_too_large_gets_its_413_and_not_a_broken_connection(server: RunningServer) -> None:
    """Clients such as http.client read the reply only after they have sent the whole body."""
    reply = server.request("/v1/classify", bytes(12_000_000))
    assert (reply.status, reply.value["kind"]) == (413, "too_large")
    assert server.request("/v1/nothing", bytes(12_000_000)).status == 404


def test_many_tiny_chunks_are_one_body(server: RunningServer) -> None:
    body = json.dumps({"texts": ["what a film " * 200]}).encode()
    with server.connect() as connection:
        chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert status_of(received(connection)) == 200


@pytest.mark.server
def test_f11_large_bodies_have_a_budget_of_memory_and_stalled_ones_do_not_delay_a_shutdown(
    bundle_path: Path, tmp_path: Path
) -> None:
    """400 clients send almost all of 2 MB each, and then nothing. There is memory for 16 of these bodies."""
    limits = ["--max-total-body-bytes", 32_000_000, "--body-timeout-s", 60, "--drain-s", 30, "--threads", 1]
    head = HEAD + b"Content-Length: 2000000\r\nConnection: close\r\n\r\n"
    with running(bundle_path, *limits, folder=tmp_path) as server, ExitStack() as stack:
        before_kib = resident_kib(server)
        connections = [stack.enter_context(server.connect()) for _ in range(400)]

        def flood() -> None:
            for connection in connections:
                with suppress(OSError):  # refused, and read for a while only
                    connection.sendall(head + b" " * 1_900_000)

        flooding = Thread(target=flood)
        flooding.start()
        refused = received(connections[-1], 60)
        assert status_of(refused) == 429
        assert b"of 32000000 bytes (max-total-body-bytes)" in refused
        assert b"\r\nretry-after: 1\r\n" in refused.lower()
        flooding.join()
        eventually(lambda: server.metric("bothways_rejections_total", '{reason="overloaded"}') >= 350)
        assert 1024 * (resident_kib(server) - before_kib) < 200_000_000
        for connection in connections[100:]:
            connection.close()
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        replies = [status_of(received(connection)) for connection in connections[:100]]
        assert Counter(replies).keys() <= {429, 503, 0}
        assert replies.count(503) >= 10
        assert server.process.wait(timeout=60) == 0
        assert time.monotonic() - started < 15


def resident_kib(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_a_body_announced_as_huge_is_rejected_immediately(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 10000000000\r\n\r\n")
        reply = received(connection)
    assert status_of(reply) == 413
    assert b"larger than 4000000 bytes (max-body-bytes)" in reply


gzipped = partial(gzip.compress, mtime=0)  # the same bytes, and so the same name of a test, in every process
BODY = json.dumps({"texts": ["what a film", "the DOG"]}).encode()
BOMB = b" " * 50_000_000


def zstd(content: bytes) -> bytes:
    return bytes(zstandard.ZstdCompressor().compress(content))


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzipped(BODY)),
        ("X-GZIP", gzipped(BODY[:9]) + gzipped(BODY[9:])),
        ("zstd", zstd(BODY)),
        ("zstd", zstd(BODY[:9]) + zstd(BODY[9:])),
        ("identity", BODY),
        ("", BODY),
    ],
)
def test_a_compressed_body_is_answered_like_any_other(server: RunningServer, encoding: str, body: bytes) -> None:
    reply = server.request("/v1/classify", body, {"content-encoding": encoding})
    assert reply.value == server.request("/v1/classify", BODY).value


@pytest.mark.parametrize(
    ("encoding", "body", "status", "error"),
    [
        ("gzip", gzipped(BOMB), 413, "the body is larger than 4000000 bytes (max-body-bytes)"),
        ("zstd", zstd(BOMB), 413, "the body is larger than 4000000 bytes (max-body-bytes)"),
        ("gzip", gzipped(b"") * 100_000, 400, "the gzip body has more than 1000 members"),
        ("zstd", zstd(b"") * 100_000, 400, "the zstd body has more than 1000 members"),
        ("gzip", gzipped(BODY)[:-1], 400, "the gzip body is incomplete"),
        ("zstd", zstd(BODY)[:-1], 400, "the zstd body is incomplete"),
        ("gzip", b"", 400, "the gzip body is incomplete"),
        ("gzip", BODY, 400, "the body is not valid gzip, as its content-encoding states"),
        ("zstd", gzipped(BODY), 400, "the body is not valid zstd"),
        ("gzip", gzipped(BODY) + b"more", 400, "the body is not valid gzip"),
        ("gzip, gzip", gzipped(gzipped(BODY)), 415, "content-encoding 'gzip, gzip' is not supported"),
        ("br", BODY, 415, "content-encoding 'br' is not supported: send gzip, zstd or no compression"),
    ],
)
def test_a_compressed_body_keeps_the_limits(
    server: RunningServer, encoding: str, body: bytes, status: int, error: str
) -> None:
    before = memory_bytes(server)
    reply = server.request("/v1/classify", body, {"content-encoding": encoding})
    assert (reply.status, error in reply.value["error"]) == (status, True), reply.value
    assert memory_bytes(server) - before < 20_000_000


def memory_bytes(server: RunningServer) -> float:
    return server.metric("process_resident_memory_bytes")


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"a" * 200_000 + b"\r\n",
        b"".join(b"X-%d: a\r\n" % number for number in range(10_000)),
    ],
    ids=["200 KB", "10,000 headers"],
)
def test_a_huge_header_is_rejected(server: RunningServer, head: bytes) -> None:
    with server.connect() as connection:
        try:
            connection.sendall(HEAD + head + b"Content-Length: 2\r\n\r\n{}")
        except (BrokenPipeError, ConnectionResetError):
            return
        assert status_of(received(connection)) in (0, 400, 431)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 65_000 + b"\r\n\r\n", 200),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 99 + b"\r\n", 200),
        (b"GET /" + b"a" * 65_533 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n", 431),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 100 + b"\r\n", 431),
        (b"GET /" + b"a" * 65_534 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"NONSENSE\r\n\r\n", 400),
    ],
    ids=range(7),
)
def test_errors_of_the_http_library_are_empty(server: RunningServer, request_head: bytes, status: int) -> None:
    with server.connect() as connection, suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(request_head)
        head, _, body = received(connection).partition(b"\r\n\r\n")
        assert status_of(head) == status
        is_own = status in (200, 404)
        assert (b"x-request-id" in head, bool(body)) == (is_own, is_own)


def test_contradictory_lengths_are_rejected(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}  ")
        assert status_of(received(connection)) in (0, 400)


def test_what_follows_a_body_is_not_treated_as_another_request(server: RunningServer) -> None:
    """Length and chunks together: if two servers disagree on which is valid, requests can be smuggled."""
    with server.connect() as connection:
        connection.sendall(
            HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n"
        )
        assert received(connection, 3).count(b"HTTP/1.1 200") == 0


def test_ten_thousand_texts_are_too_many(server: RunningServer) -> None:
    reply = server.classify(["a"] * 10_000)
    assert (reply.status, reply.value["error"]) == (
        413,
        "the request has 10000 texts, but at most 500 are allowed (max-texts)",
    )


def test_more_tokens_than_the_queue_ever_holds_are_too_many(server: RunningServer) -> None:
    reply = server.classify([LONG] * 8)
    assert reply.status == 413
    assert "the limit is 400000 (max-queue-tokens)" in reply.value["error"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/classify%00", "/..%2f..%2fetc/passwd", "/v1/classify/", "/" + "a" * 9000]
)
def test_other_paths_are_not_there(server: RunningServer, path: str) -> None:
    assert server.request(path, {"texts": []}).status in (400, 404, 414)


def test_work_stops_when_the_client_has_disconnected(server: RunningServer) -> None:
    read_before = server.metric("bothways_texts_total")
    with server.connect() as connection:
        body = json.dumps({"texts": [LONG] * 2}).encode()
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: server.metric("bothways_batch_texts") > 0)
    eventually(lambda: server.metric("bothways_queue_tokens") == 0, within_s=3)
    assert server.metric("bothways_texts_total") == read_before


def test_work_stops_at_the_deadline_of_the_client(server: RunningServer) -> None:
    started = time.monotonic()
    reply = server.request("/v1/classify", {"texts": [LONG] * 2}, {"x-request-timeout": "0.3"})
    assert (reply.status, reply.value["kind"]) == (504, "deadline")
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf", ""])
def test_an_invalid_deadline_is_rejected(server: RunningServer, value: str) -> None:
    reply = server.request("/v1/classify", {"texts": ["a"]}, {"x-request-timeout": value})
    assert (reply.status, "x-request-timeout is" in reply.value["error"]) == (400, True)


def test_idle_connections_delay_no_request(server: RunningServer) -> None:
    before = open_files(server)
    may_open, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # the server may open as many
    idle = [server.connect() for _ in range(min(5000, may_open // 2))]
    try:
        assert server.classify(["a film"]).status == 200
    finally:
        for connection in idle:
            connection.close()
    eventually(lambda: open_files(server) < before + 50)


def test_it_recovers_after_running_out_of_file_descriptors(bundle_path: Path, tmp_path: Path) -> None:
    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    with running(bundle_path, "--header-timeout-s", 2, folder=tmp_path, preexec_fn=few_files) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            eventually(lambda: open_files(server) > 60)
            eventually(lambda: open_files(server) < 50)  # idle connections make room
        assert server.classify(["a film"]).status == 200
        assert server.stop() == 0
