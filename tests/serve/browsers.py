"""Open a page in a real Chromium."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_FLAGS += ["--disable-component-update", "--disable-sync"]
NEEDS_CHROMIUM = [
    pytest.mark.enable_socket,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install Debian's package"),
]


class Site(Protocol):
    """A server with a page."""

    @property
    def url(self) -> str: ...


@contextlib.contextmanager
def started_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(
    browser: Browser, server: Site, path: str = "/", *, statuses: tuple[int, ...] = (), **options: Any
) -> Iterator[Page]:
    """Open the page. It must send no request to another host, and log no error or warning.

    Args:
        browser: The browser.
        server: The server.
        path: The path of the page, with what follows ``#`` in a link.
        statuses: The errors that the server may reply with, 0 if it may be away.
        options: Options of the new page, such as the size of the window.
    """
    found, complaints, requested = browser.new_page(**options), list[str](), list[str]()
    found.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("request", lambda request: requested.append(request.url))
    found.goto(f"{server.url}{path}")
    yield found
    expected = [f"status of {status}" if status else "net::ERR_" for status in statuses]
    assert [line for line in complaints if not any(part in line for part in expected)] == []
    assert all(url.startswith((f"{server.url}/", "data:", "blob:")) for url in requested)
    found.close()
