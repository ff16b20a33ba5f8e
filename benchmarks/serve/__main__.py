"""Compare the throughput and latency of ``bothways serve`` with fastai behind FastAPI, with the same model and texts.

Run: BOTHWAYS_DATA=... make bench-serve, or .venv/bin/python -m benchmarks.serve run [--size base] [--requests 200] ...;
.venv/bin/python -m benchmarks.serve report writes the tables into docs/serving.md. The last line of a run is JSON.

fastai creates the models with random weights, as for benchmarks/speed, and bothways imports them. Each client has a
connection of its own, sends one text, waits for the reply, and sends the next (a closed loop). One server runs at a
time, and the clients share its cores. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.accuracy.outcomes import load_average, machine
from benchmarks.serve.report import write_report
from benchmarks.speed.command import Parser, run_command
from benchmarks.speed.models import ROOT, choose_texts, import_models
from numpy.typing import NDArray

import bothways
from bothways.runtime.cores import available_cores

PAGE = ROOT / "docs" / "serving.md"
HOST = "127.0.0.1"
CLIENTS = (1, 8, 32)
START_S = 120
_TEXTS_TO_WARM_UP = 5
_LARGEST_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Server:
    """How to start a server, and how to send it texts.

    Attributes:
        name: The name in the tables.
        command: Returns the command that starts the server on a port.
        path: The path of the route that classifies texts.
        body: Returns the JSON body of a request for a text.
        probabilities: Returns the probabilities in a reply.
    """

    name: str
    command: Callable[[int], list[str]]
    path: str
    body: Callable[[str], object]
    probabilities: Callable[[Any], list[float]]


def main() -> None:
    """Run the command line."""
    run_command("serve", (__doc__ or "").splitlines()[0], PAGE, add_options, measure, write_report)


def add_options(run: Parser) -> None:
    """Add the option of this benchmark."""
    run.add_argument("--requests", type=int, default=200, help="requests per set and number of clients; 200 by default")


def measure(arguments: argparse.Namespace) -> None:
    """Measure all servers with one size of model, and write the result to a file."""
    load = load_average()
    texts = choose_texts(arguments.requests)
    bundle = import_models(texts, arguments.size, arguments.work, arguments.oracle)
    model = bothways.load(bundle)
    expected = {name: model.predict_proba(some) for name, some in texts["sets"].items()}
    del model

    python = str((arguments.oracle / "bin" / "python").absolute())
    result: dict[str, Any] = {"size": arguments.size, "machine": {**machine(), "load_before": load}, "servers": {}}
    for server in servers(bundle, python):
        with running(server) as (port, memory_mib):
            exact = server.name != "bothways, int8"
            result["servers"][server.name] = {
                name: {
                    str(clients): measured(server, port, some, clients, expected[name] if exact else None)
                    for clients in CLIENTS
                }
                for name, some in texts["sets"].items()
            } | {"memory_mib": memory_mib()}
    versions = "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in ('fastai', 'fastapi', 'torch')))"
    theirs = subprocess.run([python, "-c", versions], check=True, capture_output=True, text=True).stdout.split()
    ours = {package: metadata.version(package) for package in ("bothways", "granian", "onnxruntime")}
    result["versions"] = {**ours, **dict(zip(theirs[::2], theirs[1::2], strict=True))}
    result["command"] = f"python -m benchmarks.serve run --size {arguments.size} --requests {arguments.requests}"
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"{arguments.size}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def servers(bundle: Path, python: str) -> list[Server]:
    """Return the servers to compare."""

    def ours(name: str, *options: str) -> Server:
        def command(port: int) -> list[str]:
            return [
                sys.executable,
                "-m",
                "bothways",
                "serve",
                str(bundle),
                "--port",
                str(port),
                "--log",
                "none",
                *options,
            ]

        return Server(
            name,
            command,
            "/v1/classify",
            lambda text: {"texts": [text]},
            lambda reply: reply["results"][0]["probabilities"]["ensemble"],
        )

    script, threads = str(ROOT / "oracle" / "serve.py"), str(available_cores())
    theirs = Server(
        "fastai behind FastAPI",
        lambda port: [python, script, str(bundle.parent), str(port), threads],
        "/predict",
        lambda text: {"text": text},
        lambda reply: reply["probabilities"],
    )
    return [theirs, ours("bothways"), ours("bothways, int8", "--precision", "int8")]


@contextlib.contextmanager
def running(server: Server) -> Iterator[tuple[int, Callable[[], int]]]:
    """Start a server, and yield its port and a function that returns its resident memory in MiB once it replies."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(server.command(port), env=environment)
    try:
        deadline = time.monotonic() + START_S
        while not _is_up(server, port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{server.name} does not reply")
            time.sleep(0.2)
        yield port, lambda: resident_mib(process.pid)
    finally:
        process.terminate()
        process.wait()


def _is_up(server: Server, port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(_connection(port)) as connection:
        return send(connection, server, "up?")[0] == 200
    return False


def _connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(HOST, port, timeout=600)


def resident_mib(process: int) -> int:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return round(int(status.split("VmRSS:")[1].split()[0]) / 1024)


def send(connection: http.client.HTTPConnection, server: Server, text: str) -> tuple[int, bytes]:
    """Send one text, and return the status and the body of the reply."""
    headers = {"content-type": "application/json"}
    connection.request("POST", server.path, json.dumps(server.body(text)).encode(), headers)
    response = connection.getresponse()
    return response.status, response.read()


def measured(
    server: Server, port: int, texts: Sequence[str], clients: int, expected: NDArray[np.float64] | None
) -> dict[str, float]:
    """Send all texts, check every reply, and return the throughput and latencies.

    Raises:
        ValueError: A request failed, or its probabilities are not the expected ones.
    """
    numbers, lock = iter(range(len(texts))), threading.Lock()
    seconds, problems = [0.0] * len(texts), list[str]()
    largest = [0.0]

    def send_on() -> None:
        with contextlib.closing(_connection(port)) as connection:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None or problems:
                    return
                started = time.perf_counter()
                status, reply = send(connection, server, texts[number])
                seconds[number] = time.perf_counter() - started
                if status != 200:
                    problems.append(f"text {number}: {status} {reply[:200]!r}")
                elif expected is not None:
                    found = np.array(server.probabilities(json.loads(reply)))
                    largest[0] = max(largest[0], float(np.abs(found - expected[number]).max()))

    with contextlib.closing(_connection(port)) as connection:
        for text in texts[:_TEXTS_TO_WARM_UP]:
            send(connection, server, text)
    started = time.perf_counter()
    threads = [threading.Thread(target=send_on) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if problems:
        raise ValueError(f"{server.name}: {problems[0]}")
    if largest[0] > _LARGEST_DIFFERENCE:
        raise ValueError(f"{server.name} differs by {largest[0]:g} from the model's probabilities")
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    summary = {
        "texts_per_s": round(len(texts) / took, 2),
        "p50_ms": round(1000 * float(p50), 1),
        "p99_ms": round(1000 * float(p99), 1),
        "largest_difference": largest[0],
    }
    print(f"{server.name}, {clients} clients: {summary}", flush=True)
    return summary


if __name__ == "__main__":
    main()
