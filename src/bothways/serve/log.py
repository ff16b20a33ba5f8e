"""Say on standard error what happens. A log that can't be written, or that nobody reads, is no reason not to answer.

Lines wait for a thread of their own: writing to a pipe whose reader stands still doesn't return.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time

from bothways import strict_json

_MOST_WAITING_LINES = 10_000
"""A request's line beyond these is lost; the counters on /metrics have it."""
_waiting: queue.Queue[str] = queue.Queue(_MOST_WAITING_LINES)


def start_log() -> None:
    """Begin to write what waits, once a process."""
    threading.Thread(target=_write_on, name="bothways-log", daemon=True).start()


def end_log(timeout_s: float = 1) -> None:
    """Wait until everything is written, if that is soon."""
    deadline = time.monotonic() + timeout_s
    while _waiting.unfinished_tasks and time.monotonic() < deadline:
        time.sleep(0.005)


def say(line: str) -> None:
    """Write a line about the server."""
    _put(f"bothways: {line}")


def log_request(kind: str, method: str, route: str, status: int, seconds: float) -> None:
    """Write a line about a request: its route, never what it holds nor the path that the client wrote."""
    if kind == "none":
        return
    told = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if kind == "json":
        _put(strict_json.dump({"time": stamp, **told}))
    else:
        _put(f"{stamp} {method} {route} {status} {told['ms']} ms")


def _put(line: str) -> None:
    with contextlib.suppress(queue.Full):
        _waiting.put_nowait(line)


def _write_on() -> None:
    while True:
        line = _waiting.get()
        with contextlib.suppress(OSError, ValueError):  # a full disk, or nobody there
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        _waiting.task_done()
