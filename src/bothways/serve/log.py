"""Write the server's log to standard error. A log that can't be written never delays or fails a request.

Lines go through a bounded queue to a thread of their own, because writing to a pipe without a reader blocks.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from logging.handlers import QueueHandler, QueueListener
from typing import TextIO

from bothways import strict_json

_MAX_WAITING_LINES = 10_000
"""Further lines are dropped. The counters on /metrics still include their requests."""
_waiting: queue.Queue[logging.LogRecord] = queue.Queue(_MAX_WAITING_LINES)
_log = logging.getLogger("bothways.serve")


class _DroppingHandler(QueueHandler):
    """Drops lines while the queue is full, where its base class would report the error on standard error."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            super().enqueue(record)


class _QuietHandler(logging.StreamHandler[TextIO]):
    """Ignores write errors, such as a full disk or a closed pipe: there is no other place to report them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name in logging)
        pass


def start_log() -> None:
    """Start writing. To be called once per process."""
    _log.setLevel(logging.INFO)
    _log.propagate = False
    _log.addHandler(_DroppingHandler(_waiting))
    QueueListener(_waiting, _QuietHandler()).start()


def end_log(timeout_s: float = 1) -> None:
    """Wait until all lines are written, or until the timeout: ``QueueListener.stop`` would wait for ever."""
    deadline = time.monotonic() + timeout_s
    while _waiting.unfinished_tasks and time.monotonic() < deadline:
        time.sleep(0.005)


def log_message(line: str) -> None:
    """Write a line about the server itself."""
    _log.info(f"bothways: {line}")


def log_request(kind: str, method: str, route: str, status: int, seconds: float) -> None:
    """Write a line about a request: the route, never the path that the client sent nor any of its texts."""
    if kind == "none":
        return
    fields = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if kind == "json":
        _log.info(strict_json.dump({"time": stamp, **fields}))
    else:
        _log.info(f"{stamp} {method} {route} {status} {fields['ms']} ms")
