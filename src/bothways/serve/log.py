"""Say on standard error what happens, and never let a log that can't be written be a reason not to answer."""

from __future__ import annotations

import contextlib
import sys
import time

from bothways import strict_json


def say(line: str) -> None:
    """Write a line about the server."""
    _write(f"bothways: {line}")


def log_request(kind: str, method: str, route: str, status: int, seconds: float) -> None:
    """Write a line about a request: its route, never what it holds nor the path that the client wrote."""
    if kind == "none":
        return
    told = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if kind == "json":
        _write(strict_json.dump({"time": stamp, **told}))
    else:
        _write(f"{stamp} {method} {route} {status} {told['ms']} ms")


def _write(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a full disk, or nobody there
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
