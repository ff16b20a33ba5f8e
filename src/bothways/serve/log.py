"""Write the server's log to standard error. A log that can't be written never delays or fails a request.

Every line has the same form, as text or as JSON: time, level, message and fields. Lines go through a bounded queue to a
thread of their own, because writing to a pipe without a reader blocks. Messages of Python's warnings, of other
libraries and of threads that fail become lines of the same form. No line contains a text: an exception is logged
without its message unless its type rules out that the message quotes a request.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from logging.handlers import QueueHandler, QueueListener
from types import TracebackType
from typing import TextIO

from bothways import strict_json
from bothways.errors import LONGEST_MESSAGE, BothwaysError, escaped, shown
from bothways.serve.settings import LogFormat

_MAX_WAITING_LINES = 10_000
"""Further lines are dropped. The counters on /metrics still include their requests."""
_MOST_FRAMES = 30
_waiting: queue.Queue[logging.LogRecord] = queue.Queue(_MAX_WAITING_LINES)
_log = logging.getLogger("bothways.serve")
Field = str | int | float
_FIELDS = "bothways_fields"
_IN_MESSAGE = frozenset({"method", "route", "status"})
"""Fields of a request that its message contains. Lines of text do not repeat them."""
_MACHINE_ERRORS = (OSError, MemoryError)
"""Errors whose messages never quote a request."""


class _DroppingHandler(QueueHandler):
    """Drops lines while the queue is full, where its base class would report the error on standard error."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            super().enqueue(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Describe the exception here: the base class would keep only its text, with the message."""
        if hasattr(record, _FIELDS) and not record.exc_info:  # a line of the server: nothing in it can change
            return record
        if record.exc_info and record.exc_info[1]:
            fields = getattr(record, _FIELDS, {}) | described_error(record.exc_info[1])
            setattr(record, _FIELDS, fields)
            record.exc_info = None
        prepared: logging.LogRecord = super().prepare(record)
        return prepared


class _QuietHandler(logging.StreamHandler[TextIO]):
    """Ignores write errors, such as a full disk or a closed pipe: there is no other place to report them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name in logging)
        pass


class _Lines(logging.Formatter):
    """One line per record, with nothing in it that could end the line or change a terminal."""

    def __init__(self, kind: LogFormat) -> None:
        super().__init__()
        self._kind = kind

    def format(self, record: logging.LogRecord) -> str:
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"
        level, message = record.levelname.lower(), shown(record.getMessage(), LONGEST_MESSAGE)
        fields: Mapping[str, Field] = getattr(record, _FIELDS, {})
        if self._kind == "json":
            line = {"time": stamp, "level": level, "message": message, **fields}
            return json.dumps(line)  # in ASCII: some characters end a line or change a terminal
        shown_fields = [f"{name}={_text_value(fields[name])}" for name in fields if name not in _IN_MESSAGE]
        return " ".join([stamp, level, message, *shown_fields])


def _text_value(value: Field) -> str:
    """Return a field's value in quotes if it would otherwise not end at the next space."""
    text = str(value)
    is_plain = text and text.isprintable() and not set(text) & {" ", '"', "="}
    return text if is_plain else escaped(strict_json.dump(text))


def start_log(kind: LogFormat) -> None:
    """Start writing, also what Python and other libraries report. To be called once per process.

    Args:
        kind: The form of the lines. ``none`` leaves out the lines about requests, and is ``text`` for others.
    """
    _log.setLevel(logging.INFO)
    _log.propagate = False
    queued = _DroppingHandler(_waiting)
    _log.addHandler(queued)
    logging.getLogger().addHandler(queued)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda failed: _log_failed("a thread failed", failed.exc_value)
    sys.unraisablehook = lambda failed: _log_failed("an error could not be raised", failed.exc_value)
    writer = _QuietHandler()
    writer.setFormatter(_Lines(kind))
    QueueListener(_waiting, writer).start()


def start_embedded_log(kind: LogFormat) -> None:
    """Start writing, as part of another application. What else is reported in the process is left to it.

    Lines are written immediately: a process that is forked later has no thread that could write them.

    Args:
        kind: The form of the lines. ``none`` writes nothing. The first other one of a process is used for all lines.
    """
    if kind == "none" or _log.handlers:
        return
    _log.setLevel(logging.INFO)
    _log.propagate = False
    writer = _QuietHandler()
    writer.setFormatter(_Lines(kind))
    _log.addHandler(writer)


def end_log(timeout_s: float = 1) -> None:
    """Wait until all lines are written, or until the timeout: ``QueueListener.stop`` would wait for ever."""
    deadline = time.monotonic() + timeout_s
    while _waiting.unfinished_tasks and time.monotonic() < deadline:
        time.sleep(0.005)


def log_message(message: str, level: int = logging.INFO, **fields: Field) -> None:
    """Write a line about the server itself."""
    _log.log(level, "%s", message, extra={_FIELDS: fields})


def log_error(message: str, error: BaseException | None = None, **fields: Field) -> None:
    """Write a line about an error of the server. For a bug, with the place in the code where it was raised."""
    described = {} if error is None or isinstance(error, BothwaysError) else described_error(error)
    log_message(message, logging.ERROR, **fields, **described)


def log_request(method: str, route: str, status: int, seconds: float, **fields: Field) -> None:
    """Write a line about a request: the route, never the path that the client sent nor any of its texts."""
    ms = round(1000 * seconds, 1)
    level = logging.INFO if status < 500 else logging.WARNING
    log_message(f"{method} {route} {status}", level, method=method, route=route, status=status, ms=ms, **fields)


def described_error(error: BaseException) -> dict[str, Field]:
    """Return the fields that describe an exception: its type, its place in the code, and its message if that is safe.

    The message of most exceptions can quote a text that a client sent.
    """
    frames = "".join(traceback.format_tb(error.__traceback__)[-_MOST_FRAMES:])
    is_of_machine = isinstance(error, _MACHINE_ERRORS) or type(error).__module__.startswith("onnxruntime")
    fields: dict[str, Field] = {"error_type": f"{type(error).__module__}.{type(error).__qualname__}"}
    if is_of_machine or isinstance(error, BothwaysError):
        fields["error"] = shown(str(error), LONGEST_MESSAGE)
    return fields | {"traceback": f"Traceback (most recent call last):\n{frames}{fields['error_type']}"}


def _log_failed(message: str, error: BaseException | None) -> None:
    log_error(message, error)


def _log_uncaught(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    _log_failed("an error ended the server", error)
