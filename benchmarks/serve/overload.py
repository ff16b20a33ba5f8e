"""Measure what a server does when it gets more requests than it can answer: goodput, refusals and their latency.

Run: .venv/bin/python -m benchmarks.serve.overload demo/out/messages.bundle reviews.csv [--loads 1 2 5 10] ...

Each request has four texts and a connection of its own. Capacity is what clients get that each send the next request
after a reply, just before (closed loop). Then requests are sent at a multiple of it, when they are due, whatever
happened to earlier ones (open loop). Goodput counts replies with status 200 before the deadline. The clients share the
cores of the server. The texts are the rows of a CSV or Parquet file, column ``text``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HOST, START_S = "127.0.0.1", 60
TEXTS_PER_REQUEST = 4
LONGEST_WAIT_S = 90.0


@dataclass
class Outcome:
    """What happened to the requests of one load.

    Attributes:
        seconds: For how long requests were sent.
        statuses: The number of replies by status. Status 0 is a connection that failed.
        good_s: Seconds from the end of the body to the reply, per request that was answered in time.
        late_s: The same for requests that were answered after their deadline.
        refused_s: The same for requests with status 429.
        problems: Descriptions of failed connections and of replies other than 200, 429 and 504.
    """

    seconds: float
    statuses: dict[int, int] = field(default_factory=dict)
    good_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Requests/s that were answered in time."""
        return len(self.good_s) / self.seconds

    def add(self, status: int, seconds: float, deadline_s: float, reply: bytes) -> None:
        """Count a reply."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            (self.good_s if seconds <= deadline_s else self.late_s).append(seconds)
        elif status == 429:
            self.refused_s.append(seconds)
        elif status != 504:
            self.problems.append(f"{status} {reply[:200]!r}")


async def ask(port: int, body: bytes, deadline_s: float) -> tuple[int, float, bytes]:
    """Send a request on a connection of its own.

    Returns:
        The status, or 0 if the connection failed; seconds from the end of the body to the reply; the body of the reply.
    """
    head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Timeout: {deadline_s}\r\n"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LONGEST_WAIT_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
                sent_s = loop.time()
                answer_head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
                return int(answer_head.split(b" ", 2)[1]), loop.time() - sent_s, answer
            finally:
                writer.close()
    except (OSError, TimeoutError, IndexError) as error:
        return 0, 0.0, repr(error).encode()


def capacity(port: int, bodies: Sequence[bytes], clients: int, seconds: float) -> float:
    """Return the requests/s that a number of clients get that each wait for a reply (closed loop)."""

    async def ask_on(until_s: float, number: int) -> int:
        answered = 0
        while time.monotonic() < until_s:
            status, _, _ = await ask(port, bodies[(number + clients * answered) % len(bodies)], 60)
            answered += status == 200
        return answered

    async def ask_all() -> float:
        started = time.monotonic()
        counts = await asyncio.gather(*(ask_on(started + seconds, number) for number in range(clients)))
        return sum(counts) / (time.monotonic() - started)

    return asyncio.run(ask_all())


def send(port: int, bodies: Sequence[bytes], rate: float, seconds: float, deadline_s: float) -> Outcome:
    """Send requests at random times, ``rate`` per second on average, and wait for all replies (open loop)."""
    outcome = Outcome(seconds)
    rng = np.random.default_rng(0)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))

    async def ask_at(due_s: float, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(due_s - loop.time())
        status, took_s, reply = await ask(port, body, deadline_s)
        outcome.add(status, took_s, deadline_s, reply)

    async def ask_all() -> None:
        start_s = asyncio.get_running_loop().time() + 0.2
        requests = (ask_at(start_s + at, bodies[number % len(bodies)]) for number, at in enumerate(due.tolist()))
        await asyncio.gather(*requests)

    asyncio.run(ask_all())
    return outcome


@contextlib.contextmanager
def running(bundle: str, *options: str) -> Iterator[int]:
    """Run a server and yield its port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "bothways", "serve", bundle, "--port", str(port), "--log", "none", *options]
    process = subprocess.Popen(command)
    try:
        until_s = time.monotonic() + START_S
        body = json.dumps({"texts": ["a"]}).encode()
        while asyncio.run(ask(port, body, 60))[0] != 200:
            if process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError("the server did not start")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def request_bodies(texts: Sequence[str]) -> list[bytes]:
    """Return the bodies of requests with a few texts each."""
    starts = range(0, len(texts) - TEXTS_PER_REQUEST + 1, TEXTS_PER_REQUEST)
    return [json.dumps({"texts": list(texts[start : start + TEXTS_PER_REQUEST])}).encode() for start in starts]


def read_texts(path: str, most: int) -> list[str]:
    """Return the texts of a table."""
    if path.endswith(".parquet"):
        import pyarrow.parquet as pq  # noqa: PLC0415  (an extra)

        texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
    else:
        with Path(path).open(newline="", encoding="utf-8") as file:
            texts = [row["text"] for row in csv.DictReader(file)]
    return [str(texts[place]) for place in np.random.default_rng(0).permutation(len(texts))[:most]]


def row(load: float, deadline_s: float, full: float, outcome: Outcome) -> str:
    """Return a row of the table."""

    def quantiles(seconds: Sequence[float]) -> str:
        return "–" if not seconds else " / ".join(f"{1000 * q:,.0f}" for q in np.quantile(seconds, [0.5, 0.99]))

    count = sum(outcome.statuses.values())
    accepted = count - outcome.statuses.get(429, 0)
    missed = outcome.statuses.get(504, 0) + len(outcome.late_s)
    slowest = f"{1000 * max(outcome.good_s + outcome.late_s, default=0):,.0f}"
    return (
        f"| {load:g} | {deadline_s:g} s | {outcome.goodput:.1f} | {outcome.goodput / full:.2f} "
        f"| {outcome.statuses.get(429, 0) / count:.1%} | {quantiles(outcome.refused_s)} ms "
        f"| {missed / max(1, accepted):.1%} | {quantiles(outcome.good_s)} ms | {slowest} ms |"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("texts", help="CSV or Parquet file with a column text")
    parser.add_argument("--loads", nargs="+", type=float, default=[1, 2, 5, 10], help="multiples of the capacity")
    parser.add_argument("--deadlines", nargs="+", type=float, default=[1, 60], help="deadlines in seconds")
    parser.add_argument("--seconds", type=float, default=10, help="duration of each load; 10 by default")
    parser.add_argument("--clients", nargs="+", type=int, default=[4, 8], help="clients of the closed loop")
    parser.add_argument("--characters", type=int, help="cut texts after this many characters, for busy machines")
    parser.add_argument("--most", type=int, default=400, help="number of texts; 400 by default")
    arguments, options = parser.parse_known_args()
    bodies = request_bodies([text[: arguments.characters] for text in read_texts(arguments.texts, arguments.most)])
    with running(arguments.bundle, *options) as port:
        print(
            "| load | deadline | goodput, 1/s | of capacity | refused | refusals p50 / p99 | missed | good p50 / p99 ",
            end="",
        )
        print("| slowest |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
        for deadline_s in arguments.deadlines:
            for load in arguments.loads:
                full = max(capacity(port, bodies, clients, 4) for clients in arguments.clients)
                outcome = send(port, bodies, load * full, arguments.seconds, deadline_s)
                print(row(load, deadline_s, full, outcome), f"capacity {full:.1f}", outcome.statuses, flush=True)
                for problem in sorted(set(outcome.problems))[:3]:
                    print(re.sub(r"\s+", " ", problem))


if __name__ == "__main__":
    main()
