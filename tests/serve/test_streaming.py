"""Bodies of JSON lines: streamed in and out with constant memory, in order, with an error per line."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bothways.bundle.parity import ENSEMBLE
from bothways.runtime.classifier import Classifier
from bothways.serve.metrics import ServerMetrics
from bothways.serve.service import Service
from bothways.serve.settings import Settings
from bothways.serve.streaming import _groups
from tests.serve.conftest import RunningServer, running
from tests.serve.test_abuse import eventually

pytestmark = pytest.mark.enable_socket
HEAD = "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/jsonlines\r\nTransfer-Encoding: chunked\r\n"
MOST_BYTES = 20_000


@pytest.fixture(scope="module")
def small(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    limits = ["--max-body-bytes", MOST_BYTES, "--body-timeout-s", 2, "--max-queue-tokens", 2_000]
    with running(f"tiny={bundle_path}", *limits, "--threads", 1, folder=tmp_path_factory.mktemp("lines")) as found:
        yield found


def rss_bytes(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Stream:
    """A connection that sends lines and receives the reply's lines, as its caller likes."""

    def __init__(self, server: RunningServer, path: str = "/v1/classify", headers: str = "") -> None:
        self._socket = server.connect()
        self._file = self._socket.makefile("rb")
        self._socket.sendall(f"{HEAD.format(path=path)}{headers}\r\n".encode())
        self._pending = b""
        self.status = 0

    def send(self, data: bytes) -> None:
        self._socket.sendall(chunk(data))

    def end(self) -> None:
        self._socket.sendall(b"0\r\n\r\n")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def lines(self) -> Iterator[Any]:
        """Yield the values of the reply as they arrive."""
        if not self.status:
            self.status = int(self._file.readline().split()[1])
            while self._file.readline().strip():
                pass
        while (size := int(self._file.readline() or b"0", 16)) > 0:
            self._pending += self._file.read(size)
            self._file.readline()
            *whole, self._pending = self._pending.split(b"\n")
            for line in whole:
                yield json.loads(line)


def test_each_line_is_answered_while_the_body_goes_on(small: RunningServer, model: Classifier) -> None:
    """The deadline of a request is one for each group of lines, so the whole may take longer."""
    texts = ["a film", "the DOG ate the cat", ""]
    stream = Stream(small, headers="X-Request-Timeout: 0.6\r\n")
    replies = stream.lines()
    for text, prediction in zip(texts, model.stream(texts), strict=True):
        time.sleep(0.25)
        stream.send(json.dumps(text).encode() + b"\n")
        assert next(replies)["probabilities"][ENSEMBLE] == prediction.probabilities[ENSEMBLE].tolist()
    stream.end()
    assert list(replies) == []
    stream.close()


@pytest.mark.slow
def test_a_body_of_any_size_takes_constant_memory_and_keeps_its_order(small: RunningServer, model: Classifier) -> None:
    """The body has more than 10 times ``max-body-bytes``, and the queue holds a few hundred of its texts."""
    lines = 6_000
    texts = [f"a film with the number {number % 50}, " + "very " * (number % 5) + "good" for number in range(lines)]
    expected = dict(zip(texts, model.predict_proba(texts[:50]).tolist(), strict=False))
    small.classify(["a film"])
    before = rss_bytes(small)
    stream = Stream(small)

    def send() -> None:
        for start in range(0, lines, 500):
            stream.send("".join(f"{json.dumps(text)}\n" for text in texts[start : start + 500]).encode())
        stream.end()

    sending = threading.Thread(target=send)
    sending.start()
    found = list(stream.lines())
    sending.join()
    assert len(found) == lines
    for text, result in zip(texts, found, strict=True):
        assert result["probabilities"][ENSEMBLE] == expected[text]
    assert sum(map(len, texts)) > 10 * MOST_BYTES
    assert rss_bytes(small) - before < 30_000_000
    stream.close()


@pytest.mark.slow
def test_a_client_that_does_not_read_is_not_read_either(small: RunningServer) -> None:
    """Backpressure: the server neither reads the body nor collects replies without end."""
    small.classify(["a film"])
    before = rss_bytes(small)
    stream = Stream(small, "/invocations")
    stream._socket.settimeout(1)
    sent, data = 0, b'"the DOG ate the cat"\n' * 2000
    with contextlib.suppress(TimeoutError):
        while sent < 50_000_000:
            stream.send(data)
            sent += len(data)
    assert sent < 50_000_000
    assert rss_bytes(small) - before < 60_000_000
    stream.close()
    # The lines that have arrived are still read. The scrape is a request as well.
    eventually(lambda: small.metric("bothways_requests_in_progress") == 1, within_s=60)
    assert small.metric("bothways_queue_tokens") == 0
    assert small.classify(["a film"]).status == 200


def test_a_line_has_an_error_of_its_own(small: RunningServer) -> None:
    body = b'\xef\xbb\xbf"a film"\n{"text": "the dog"}\n\n{bad\n7\n"' + b"y" * (MOST_BYTES + 1) + b'"\n"last"'
    stream = Stream(small)
    stream.send(body)
    stream.end()
    found = list(stream.lines())
    errors = [
        "",
        "",
        "line 3 is empty, expected a JSON value",
        "line 4 is not strict JSON",
        "line 5 is int 7, expected a string",
        f"line 6 is longer than {MOST_BYTES} bytes (max-body-bytes)",
        "",
    ]
    assert len(found) == len(errors)
    assert all(result.get("error", "").startswith(error) for result, error in zip(found, errors, strict=True)), found
    assert ["error" in result for result in found] == [bool(error) for error in errors]
    stream.close()
    reply = small.request("/v1/classify?model=other", b'"a"\n', {"content-type": "application/x-ndjson"})
    assert (reply.status, reply.value["kind"]) == (404, "unknown_model")
    headers = {"content-type": "application/x-ndjson", "x-request-timeout": "0.000001"}
    late = small.request("/v1/classify", b'"a"\n', headers)
    assert (late.status, "deadline" in late.value["error"]) == (200, True)
    assert small.request("/v1/classify", b'"a"\n', {**headers, "x-request-timeout": "soon"}).status == 400


def test_lines_that_arrive_together_are_grouped_by_32() -> None:
    service = Service((), Settings(), ServerMetrics())

    async def body() -> AsyncIterator[bytes]:
        yield b'"a"\n' * 100 + b'"last"'

    async def sizes() -> list[int]:
        with service.bodies.hold() as held:
            return [len(group) async for group in _groups(body(), service, held)]

    assert asyncio.run(sizes()) == [32, 32, 32, 4, 1]


def test_a_line_may_have_the_text_columns(fields_server: RunningServer, fields_model: Classifier) -> None:
    pairs = [("A lovely film", "the DOG"), ("", "a body")]
    lines = "".join(json.dumps({"body": body, "title": title, "id": 1}) + "\n" for title, body in pairs).encode()
    for path in ("/v1/classify", "/invocations"):
        reply = fields_server.request(path, lines, {"content-type": "application/x-ndjson"})
        assert reply.headers["x-model-version"] == "1"
        found = [json.loads(line)["label"] for line in reply.body.splitlines()]
        assert found == fields_model.predict(pairs).tolist()


def test_a_silent_client_is_told_and_left(small: RunningServer) -> None:
    stream = Stream(small)
    stream.send(b'"a film"\n"not compl')
    found = list(stream.lines())
    assert found[0]["label"]
    assert found[1:] == [{"error": "nothing was received for 2 s (body-timeout-s)"}]
    stream.close()


@pytest.mark.parametrize("accept", ["application/jsonlines", "application/json"])
def test_sagemaker_sends_lines_of_several_forms(server: RunningServer, model: Classifier, accept: str) -> None:
    texts = ["a film", "the dog", "a cat", "good"]
    body = b'"a film"\n{"text": "the dog"}\n{"inputs": "a cat"}\n["good"]\n'
    headers = {"content-type": "application/jsonlines", "accept": accept}
    reply = server.request("/invocations", body, headers)
    assert reply.headers["content-type"] == accept
    found = (
        reply.value["predictions"]
        if accept == "application/json"
        else [json.loads(line) for line in reply.body.splitlines()]
    )
    assert [each["label"] for each in found] == model.predict(texts).tolist()


def test_shutting_down_ends_a_stream(bundle_path: Path, tmp_path: Path) -> None:
    with running(f"tiny={bundle_path}", "--drain-s", 1, "--threads", 1, folder=tmp_path) as server:
        stream = Stream(server)
        stream.send(b'"a film"\n')
        replies = stream.lines()
        assert next(replies)["label"]
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert list(replies) == [{"error": "the server is shutting down: send further lines to another replica"}]
        stream.close()
        assert server.process.wait(timeout=60) == 0
        assert time.monotonic() - started < 8  # of which the body's timeout alone would take 10


def test_lines_may_be_compressed(small: RunningServer, model: Classifier) -> None:
    """The decompressed lines may be larger than a body: they are never in memory together."""
    texts = ["what a film", "the DOG"] * 1000
    body = gzip.compress(b"".join(json.dumps(text).encode() + b"\n" for text in texts))
    headers = {"content-type": "application/jsonlines", "content-encoding": "gzip"}
    lines = small.request("/v1/classify", body, headers).body.splitlines()
    expected = model.predict_proba(texts[:2]).tolist() * 1000
    assert [json.loads(line)["probabilities"]["ensemble"] for line in lines] == expected
    damaged = small.request("/v1/classify", body[:-3], headers).body.splitlines()
    assert [json.loads(line) for line in damaged[-1:]] == [{"error": "the gzip body is incomplete"}]
