"""Overload: accepted requests are answered in time and bit for bit, and the others are refused immediately.

The load is an open loop: requests are sent when they are due, regardless of earlier ones, as in the real world.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from benchmarks.serve import overload

from bothways.runtime.classifier import Classifier
from bothways.runtime.slots import BATCH_SLOTS
from tests.serve.conftest import HOST, RunningServer, running
from tests.serve.test_abuse import resident_kib

pytestmark = [pytest.mark.enable_socket, pytest.mark.server]

SECONDS = 12
QUEUE_S = 0.5
DEADLINE_S = 1.0
TEXTS = [("the cat sat on a mat, " * length).strip() for length in (380, 390, 400, 410, 420)]
"""Long enough that reading them is most of the work, as with a model of real size. Of similar length, since texts are
read together, and one of twice the length takes twice as long."""


@dataclass
class Outcome:
    """The results of requests that were sent at a fixed rate."""

    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    retry_after_s: set[int] = field(default_factory=set)
    wrong: int = 0
    other: list[str] = field(default_factory=list)
    probes_s: list[float] = field(default_factory=list)
    """Seconds that requests for liveness and metrics took during the load."""

    def p99_s(self) -> float:
        return float(np.quantile(self.latencies_s, 0.99))


def sent(server: RunningServer, rate: float, expected: list[bytes], seconds: float = SECONDS) -> Outcome:
    """Send requests at a fixed rate, of all texts in turn, and compare each reply with the expected bytes."""
    outcome = Outcome()
    count = int(rate * seconds)

    async def ask(due: float, kind: int) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(due - loop.time())
        try:
            async with asyncio.timeout(60):
                status, head, body = await _asked(server.port, TEXTS[kind])
        except (OSError, TimeoutError, ValueError) as error:
            outcome.other.append(repr(error))
            return
        if status == 200:
            outcome.latencies_s.append(loop.time() - due)
            outcome.wrong += body != expected[kind]
        elif status == 429:
            outcome.refused += 1
            outcome.retry_after_s.add(int(head.partition(b"retry-after: ")[2].split(b"\r\n")[0]))
        else:
            outcome.other.append(f"{status} {body[:200]!r}")

    async def probe_on() -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            for path in ("/health/live", "/metrics"):
                status, _, _ = await _got(server.port, f"GET {path} HTTP/1.1\r\n".encode(), b"")
                assert status == 200
            outcome.probes_s.append(loop.time() - started)
            await asyncio.sleep(0.5)

    async def ask_all() -> None:
        start = asyncio.get_running_loop().time() + 0.2
        probing = asyncio.ensure_future(probe_on())
        await asyncio.gather(*(ask(start + number / rate, number % len(TEXTS)) for number in range(count)))
        if probing.done():
            probing.result()  # its error
        probing.cancel()

    asyncio.run(ask_all())
    assert len(outcome.latencies_s) + outcome.refused + len(outcome.other) == count
    return outcome


async def _asked(port: int, text: str) -> tuple[int, bytes, bytes]:
    """Return status, header and body of the answer to a text."""
    return await _got(port, b"POST /v1/classify HTTP/1.1\r\n", json.dumps({"texts": [text]}).encode())


async def _got(port: int, line: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    """Send a request on a connection of its own."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        writer.write(line + b"Host: localhost\r\n" + length + body)
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head.lower(), answer
    finally:
        writer.close()


def capacity(server: RunningServer, seconds: float = 5) -> float:
    """Return the requests/s that are answered when 32 clients each send the next request after a reply."""

    async def ask_on(until: float, number: int) -> int:
        answered = 0
        while asyncio.get_running_loop().time() < until:
            status, _, _ = await _asked(server.port, TEXTS[(number + answered) % len(TEXTS)])
            answered += status == 200
        return answered

    async def ask_all() -> int:
        until = asyncio.get_running_loop().time() + seconds
        return sum(await asyncio.gather(*(ask_on(until, number) for number in range(32))))

    return asyncio.run(ask_all()) / seconds


def overloaded(server: RunningServer, rate: float, expected: list[bytes]) -> tuple[float, Outcome]:
    """Send requests at twice a rate, and return the rate and what became of them.

    A machine may become faster after its capacity was measured. If it answers everything, the rate was too low, and
    twice that rate is tried, up to three times.
    """
    outcome = sent(server, 2 * rate, expected)
    for _ in range(3):
        if outcome.refused:
            break
        rate *= 2
        outcome = sent(server, 2 * rate, expected)
    return rate, outcome


@contextlib.contextmanager
def first_core_reserved() -> Iterator[Callable[[], None]]:
    """Reserve the first core for the server, and yield a function that pins a process to it."""
    all_cores = os.sched_getaffinity(0)
    first, *others = sorted(all_cores)
    os.sched_setaffinity(0, others or all_cores)
    try:
        yield partial(os.sched_setaffinity, 0, {first})
    finally:
        os.sched_setaffinity(0, all_cores)


def test_at_twice_the_capacity_the_slowest_accepted_request_is_answered_within_a_bound(
    bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    """A request waits for ``max-queue-s`` at most, and then as long as its text takes in steps that are full.

    docs/decisions/033-admission-by-deadline.md derives the bound.
    """
    options = ["--threads", 1, "--log", "none", "--max-queue-s", QUEUE_S, "--max-queue-tokens", 10_000_000]
    with (
        first_core_reserved() as pin_to_first_core,
        running(f"m={bundle_path}", *options, folder=tmp_path, preexec_fn=pin_to_first_core) as server,
    ):
        expected = [server.classify([text]).body for text in TEXTS]
        for body, text in zip(expected, TEXTS, strict=True):
            (result,) = json.loads(body)["results"]
            assert result["probabilities"]["ensemble"] == model.predict_proba([text])[0].tolist()
        rate = capacity(server)
        half, full = (sent(server, factor * rate, expected) for factor in (0.5, 1))
        rate, twice = overloaded(server, rate, expected)
        memory_before = resident_kib(server)
        again = sent(server, 2 * rate, expected)
        grown_kib = resident_kib(server) - memory_before
    for outcome in (half, full, twice, again):
        assert (outcome.wrong, outcome.other) == (0, [])
        assert len(outcome.probes_s) >= 3
        assert max(outcome.probes_s) < 5
    assert half.refused <= 0.01 * (half.refused + len(half.latencies_s))
    tokens = [len(model.tokenizer.tokenize(text)) for text in TEXTS]
    tokens_per_s = len(twice.latencies_s) / SECONDS * np.mean(tokens)
    bound_s = QUEUE_S + BATCH_SLOTS * max(tokens) / tokens_per_s
    p99_s = ", ".join(f"{outcome.p99_s():.3f}" for outcome in (half, full, twice))
    refused = ", ".join(str(outcome.refused) for outcome in (half, full, twice))
    slowest = min(max(twice.latencies_s), max(again.latencies_s))  # other work on the machine can disturb one of them
    print(f"\n{rate:.0f} requests/s, {tokens_per_s:,.0f} tokens/s;", end=" ")
    print(f"at 0.5, 1 and 2 times p99 {p99_s} s, refused {refused}, slowest at twice {slowest:.3f} s;", end=" ")
    print(f"the bound is {bound_s:.3f} s; memory grew by {grown_kib} KiB")
    assert twice.refused > 0
    assert twice.retry_after_s
    assert min(twice.retry_after_s) >= 1
    assert slowest <= 1.25 * bound_s + 0.1  # the machine's speed varies, and HTTP is not part of the bound
    assert grown_kib < 20_000


def test_f3_goodput_at_ten_times_the_capacity(bundle_path: Path, tmp_path: Path) -> None:
    """Four texts per request, and a deadline of a second that the server learns from X-Request-Timeout.

    Clients share the machine with the server, and so does whatever else runs, so the best of three rounds counts. The
    others must be far above the 0.08 of a server that accepts everything.
    """
    bodies = overload.request_bodies(TEXTS * 4)
    options = ["--threads", 1, "--log", "none", "--max-queue-tokens", 10_000_000]
    shares, refused_s, missed, accepted = [], list[list[float]](), 0, 0
    with (
        first_core_reserved() as pin_to_first_core,
        running(f"m={bundle_path}", *options, folder=tmp_path, preexec_fn=pin_to_first_core) as server,
    ):
        before = overload.capacity(server.port, bodies, 8, 4)
        for _ in range(3):  # the speed of a machine varies
            outcome = overload.send(server.port, bodies, 10 * before, 6, DEADLINE_S)
            after = overload.capacity(server.port, bodies, 8, 4)
            assert outcome.problems == []
            shares.append(2 * outcome.goodput / (before + after))
            refused_s.append(outcome.refused_s)
            missed += outcome.statuses.get(504, 0) + len(outcome.late_s)
            accepted += sum(outcome.statuses.values()) - outcome.statuses[429]
            before = after
        assert server.metric("bothways_rejections_total", '{reason="deadline"}') >= 100
    goodput = ", ".join(f"{share:.2f}" for share in shares)
    late = [", ".join(f"{np.quantile(of_round, q):.3f}" for of_round in refused_s) for q in (0.5, 0.95, 0.99)]
    print(
        f"\n{before:.0f} requests/s; goodput {goodput} of the capacity; {sum(map(len, refused_s))} refusals,", end=" "
    )
    print(
        f"p50 {late[0]}, p95 {late[1]}, p99 {late[2]} s; {missed} of {accepted} accepted requests missed their deadline"
    )
    assert max(shares) >= 0.8
    assert min(shares) >= 0.5
    assert min(np.quantile(of_round, 0.95) for of_round in refused_s) <= 0.05
    assert missed <= 0.05 * accepted
