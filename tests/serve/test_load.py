"""Load beyond what can be read: who is taken is answered in time and with the right bits, the rest is refused at once.

Open loop: requests are sent when they are due, whatever became of those before, as the world does.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
import pytest

from bothways.runtime.classifier import Classifier
from tests.serve.conftest import HOST, RunningServer, running

pytestmark = [pytest.mark.enable_socket, pytest.mark.slow]

CLIENTS = 64
SECONDS = 12
QUEUE_TOKENS = 30_000
TEXTS = [("the cat sat on a mat, " * length).strip() for length in (1, 3, 10, 30, 100)]


@dataclass
class Outcome:
    """What came of requests that were sent at a rate."""

    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    retry_after_s: set[int] = field(default_factory=set)
    wrong: int = 0
    other: list[str] = field(default_factory=list)

    def p99_s(self) -> float:
        return float(np.quantile(self.latencies_s, 0.99))


def resident_kib(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def sent(server: RunningServer, rate: float, expected: list[bytes], seconds: float = SECONDS) -> Outcome:
    """Send requests at a fixed rate, of all texts in turn, and compare each answer with the bytes that it must be."""
    outcome, due, lock = Outcome(), SimpleQueue[tuple[float, int]](), threading.Lock()
    count = int(rate * seconds)
    start = time.perf_counter() + 0.2
    for number in range(count):
        due.put((start + number / rate, number % len(TEXTS)))
    bodies = [json.dumps({"texts": [text]}).encode() for text in TEXTS]

    def client() -> None:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
        while True:
            try:
                when, kind = due.get_nowait()
            except Empty:
                connection.close()
                return
            time.sleep(max(0.0, when - time.perf_counter()))
            try:
                connection.request("POST", "/v1/classify", bodies[kind])
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                with lock:
                    outcome.other.append(repr(error))
                connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
                continue
            with lock:
                if response.status == 200:
                    outcome.latencies_s.append(time.perf_counter() - when)
                    outcome.wrong += body != expected[kind]
                elif response.status == 429:
                    outcome.refused += 1
                    outcome.retry_after_s.add(int(response.headers["retry-after"]))
                else:
                    outcome.other.append(f"{response.status} {body[:200]!r}")

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert len(outcome.latencies_s) + outcome.refused + len(outcome.other) == count
    return outcome


def test_at_twice_the_capacity_what_is_taken_is_answered_in_time_and_the_rest_is_refused(
    bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    options = ["--threads", 1, "--log", "none", "--max-queue-tokens", QUEUE_TOKENS]
    with running(f"m={bundle_path}", *options, folder=tmp_path) as server:
        expected = [server.classify([text]).body for text in TEXTS]
        for body, text in zip(expected, TEXTS, strict=True):
            (result,) = json.loads(body)["results"]
            assert result["probabilities"]["ensemble"] == model.predict_proba([text])[0].tolist()
        # Small requests cost HTTP as well, so the capacity for them is found by sending more and more of them.
        rate = 50.0
        while sent(server, 2 * rate, expected, seconds=2).refused == 0 and rate < 4000:
            rate *= 1.5
        half, full, twice = (sent(server, factor * rate, expected) for factor in (0.5, 1, 2))
        memory_before = resident_kib(server)
        again = sent(server, 2 * rate, expected)
        grown_kib = resident_kib(server) - memory_before
    for outcome in (half, full, twice, again):
        assert (outcome.wrong, outcome.other) == (0, [])
    assert half.refused == 0
    tokens = np.mean([len(model.tokenizer.tokenize(text)) for text in TEXTS])
    capacity_tokens_per_s = len(twice.latencies_s) / SECONDS * tokens
    longest_s = QUEUE_TOKENS / capacity_tokens_per_s + half.p99_s()
    p99_s = ", ".join(f"{outcome.p99_s():.3f}" for outcome in (half, full, twice))
    refused = ", ".join(str(outcome.refused) for outcome in (half, full, twice))
    print(f"\n{rate:.0f} requests/s; at 0.5, 1 and 2 times p99 {p99_s} s, refused {refused};", end=" ")
    print(f"a full queue takes {longest_s:.3f} s; memory grew by {grown_kib} KiB")
    assert twice.refused > 0
    assert twice.retry_after_s
    assert min(twice.retry_after_s) >= 1
    assert max(twice.latencies_s) <= longest_s + 1  # clients and server share the machine's cores
    assert grown_kib < 20_000
