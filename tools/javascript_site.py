"""Serve the demo page of ``javascript/`` from a folder with models: for its tests, its benchmark and its picture."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JAVASCRIPT = Path(__file__).parents[1] / "javascript"


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Add the page to a folder with models, serve it, and yield its URL."""
    for name in ("index.html", "bothways.js", "node_modules"):
        (folder / name).symlink_to(JAVASCRIPT / name)
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
