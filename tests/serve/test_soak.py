"""200,000 requests, one in a hundred hostile: no reply is wrong or lost, and no resource leaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bothways.bundle.parity import NASTY_TEXTS
from bothways.runtime.classifier import Classifier
from tests.serve.conftest import HOST, RunningServer, open_files, running, threads_of
from tests.serve.test_abuse import eventually, resident_kib

pytestmark = [pytest.mark.enable_socket, pytest.mark.soak]

REQUESTS = 200_000
CLIENTS = 16
WARM_UP = 20_000
"""The number of requests after which memory is measured for the first time."""
LARGEST_GROWTH = 0.05
TEXTS = [*NASTY_TEXTS[:20], *("the cat sat on a mat, " * length for length in (1, 2, 5, 10, 30, 100))]
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
HOSTILE = [
    b"POST /v1/classify HTTP/1.1\r\nHost: loc",
    HEAD + b'Content-Length: 100\r\n\r\n{"texts": [',
    HEAD + b"Content-Length: 10000000000\r\n\r\n",
    HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}  ",
    HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + 1000 * b"1\r\n[\r\n",
    HEAD + b"Content-Length: 20000\r\n\r\n" + b"[" * 20_000,
    HEAD + b'Content-Length: 23\r\n\r\n{"texts": [NaN, "\\ud8"]}',
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET /..%2f..%2fetc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
]
"""What hostile clients send before they disconnect. Some wait for the reply first."""


@dataclass
class Tally:
    """The results of the requests."""

    sent_count: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    hostile: Counter[int] = field(default_factory=Counter)


def requests() -> list[bytes]:
    """Return requests with all texts in several protocols, as bytes."""
    bodies = [
        *(("/v1/classify", {"texts": [text]}) for text in TEXTS),
        *(("/predict", {"inputs": text}) for text in TEXTS[-8:]),
        *(("/", {"inputs": text}) for text in TEXTS[-8:]),
        *(("/invocations", {"inputs": TEXTS[start : start + 3]}) for start in (2, 5, 8)),
        ("/v1/classify", {"texts": TEXTS, "probabilities": ["forward", "backward"]}),
    ]
    found = []
    for path, body in bodies:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        found.append(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return found


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def ask_on(server: RunningServer, asks: list[bytes], expected: list[bytes], tally: Tally, until: int) -> None:
    rng = random.Random(len(asks))
    reader, writer = await asyncio.open_connection(HOST, server.port)
    while tally.sent_count < until:
        tally.sent_count += 1
        if tally.sent_count % 100 == 0:
            await be_hostile(server, HOSTILE[tally.sent_count // 100 % len(HOSTILE)], asks[-1], rng, tally)
            continue
        number = rng.randrange(len(asks))
        try:
            writer.write(asks[number])
            async with asyncio.timeout(60):
                status, body = await answer_of(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            tally.lost.append(repr(error))
            writer.close()
            reader, writer = await asyncio.open_connection(HOST, server.port)
            continue
        if status != 200 or body != expected[number]:
            tally.wrong.append(f"request {number}: {status} {body[:200]!r}")
    writer.close()


async def be_hostile(server: RunningServer, sent: bytes, good: bytes, rng: random.Random, tally: Tally) -> None:
    """Send something bad and disconnect, or a good request and disconnect before the reply."""
    reader, writer = await asyncio.open_connection(HOST, server.port)
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        writer.write(good if rng.random() < 0.3 else sent)
        await writer.drain()
        async with asyncio.timeout(rng.choice([0, 0.01, 0.1])):
            tally.hostile[(await answer_of(reader))[0]] += 1
    writer.close()


def soak(server: RunningServer, asks: list[bytes], expected: list[bytes], tally: Tally, until: int) -> None:
    async def ask_all() -> None:
        await asyncio.gather(*(ask_on(server, asks, expected, tally, until) for _ in range(CLIENTS)))

    asyncio.run(ask_all())


def test_two_hundred_thousand_requests(bundle_path: Path, model: Classifier, tmp_path: Path) -> None:
    options = ["--threads", 1, "--log", "none", "--body-timeout-s", 2, "--header-timeout-s", 2]
    with running(f"m={bundle_path}", *options, folder=tmp_path) as server:
        asks = requests()
        expected = [asyncio.run(_answered_alone(server, ask)) for ask in asks]
        for text, body in zip(TEXTS, expected, strict=False):
            (result,) = json.loads(body)["results"]
            assert result["probabilities"]["ensemble"] == model.predict_proba([text])[0].tolist()
        started, tally = time.monotonic(), Tally()
        soak(server, asks, expected, tally, WARM_UP)
        before_kib, threads = resident_kib(server), threads_of(server)
        soak(server, asks, expected, tally, REQUESTS)
        minutes, grown = (time.monotonic() - started) / 60, resident_kib(server) / before_kib - 1
        print(
            f"\n{tally.sent_count:,} requests in {minutes:.1f} minutes, {tally.sent_count // 100:,} of them hostile,",
            end=" ",
        )
        print(f"who saw {dict(tally.hostile)}; memory grew by {grown:.1%} of {before_kib // 1024} MiB")
        assert (tally.wrong, tally.lost) == ([], [])
        eventually(lambda: server.metric("bothways_queue_tokens") == server.metric("bothways_batch_texts") == 0)
        eventually(lambda: open_files(server) < 60)
        assert threads_of(server) <= threads + 2
        assert grown < LARGEST_GROWTH
        assert server.stop() == 0
        assert "Traceback" not in server.log_text


async def _answered_alone(server: RunningServer, ask: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, server.port)
    writer.write(ask)
    status, body = await answer_of(reader)
    writer.close()
    assert status == 200, body
    return body
