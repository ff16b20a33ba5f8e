"""Measure the CPU time of the server per small request, to compare two versions of the source in turn.

Run: .venv/bin/python -m benchmarks.serve.per_request BUNDLE [TEXTS] [--source OLD/src] [--clients 8] [--requests 3000]
[-- OPTIONS OF bothways serve]. TEXTS has one text per line. Each client has a connection and waits for each reply.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.models import ROOT

_HOST = "127.0.0.1"
_RUNS = 3
_START_S = 60


def main() -> None:
    """Start the server, send requests, and print the time and the rate of each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("texts", type=Path, nargs="?")
    parser.add_argument("--source", type=Path, default=ROOT / "src")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=3000)
    arguments, options = parser.parse_known_args()
    texts = ["what a film"] if arguments.texts is None else arguments.texts.read_text(encoding="utf-8").splitlines()
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "bothways", "serve", str(arguments.bundle), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(arguments.source.resolve())}
    command += [name for name in options if name != "--"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            requests = [_request(text) for text in texts]
            _wait(port, requests)
            for _ in range(_RUNS):
                milliseconds, rate = _run(server.pid, port, requests, arguments.clients, arguments.requests)
                print(f"{milliseconds:.3f} ms of CPU time per request, {rate:.0f} requests/s", flush=True)
        finally:
            server.terminate()


def _request(text: str) -> bytes:
    body = json.dumps({"texts": [text]}).encode()
    return b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _ask(port: int, requests: Sequence[bytes], count: int) -> None:
    with socket.create_connection((_HOST, port)) as connection, connection.makefile("rb") as replies:
        for number in range(count):
            connection.sendall(requests[number % len(requests)])
            if not (status := replies.readline()).startswith(b"HTTP/1.1 200"):
                raise ConnectionError(status.decode(errors="replace"))
            length = 0
            while (line := replies.readline().lower()) != b"\r\n":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            replies.read(length)


def _wait(port: int, requests: Sequence[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            _ask(port, requests, 1)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _run(pid: int, port: int, requests: Sequence[bytes], clients: int, count: int) -> tuple[float, float]:
    """Return the milliseconds of CPU time per request, and the requests per second."""
    each = count // clients
    threads = [threading.Thread(target=_ask, args=(port, requests, each)) for _ in range(clients)]
    started, before = time.monotonic(), _cpu_s(pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1000 * (_cpu_s(pid) - before) / (each * clients), each * clients / (time.monotonic() - started)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
