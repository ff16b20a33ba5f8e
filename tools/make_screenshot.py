"""Take the pictures of the server's page and of the page of docs/javascript.md, for the README and docs.

Run after make demo and make javascript/node_modules/.complete: .venv/bin/python -m tools.make_screenshot. Needs
Debian's chromium.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright
from tools.javascript_site import served

import bothways

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "demo" / "out" / "messages.bundle"
ROWS = ROOT / "demo" / "held_out.csv"
RISK = 0.2
TEXT = "The parcel came on time, but half of it was BROKEN. Can I send it back, and who pays for that?"
UNCERTAIN = "Put the wrong flat. It's flat 8. Your mail says it goes out tomorrow, so I hope there's still time."


def main() -> None:
    """Classify a text and a file on the page of a server, also with a model that abstains, and save screenshots."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        with _opened(browser, BUNDLE) as page:
            _classify_text(page)
            page.screenshot(path=ROOT / "docs" / "page.png", full_page=True)
            _explain_text(page)
            page.locator("#explained-words").screenshot(path=ROOT / "docs" / "page-explain.png")
            _classify_rows(page)
            page.locator("#batch").screenshot(path=ROOT / "docs" / "page-rows.png")
        careful = Path(folder) / "messages.bundle"
        bothways.fit_abstention(BUNDLE, ROWS, RISK, out=careful)
        with _opened(browser, careful) as page:
            _classify_text(page, UNCERTAIN)
            page.locator("#result > .card").first.screenshot(path=ROOT / "docs" / "page-abstain.png")
        _take_javascript_page(browser, careful)
        browser.close()


@contextlib.contextmanager
def _opened(browser: Browser, bundle: Path) -> Iterator[Page]:
    """Start a server of a bundle, and open its page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, "-m", "bothways", "serve", str(bundle), "--port", str(port)])
    try:
        while not _is_ready(url):
            time.sleep(0.2)
        page = browser.new_page(viewport={"width": 860, "height": 600})
        page.goto(url)
        yield page
        page.close()
    finally:
        server.terminate()
        server.wait()


def _classify_text(page: Page, text: str = TEXT) -> None:
    page.fill("#text", text)
    page.click("#classify")
    page.wait_for_selector("#readings ol")


def _explain_text(page: Page) -> None:
    page.click("#explain")
    page.wait_for_selector("#explanation h3")


def _classify_rows(page: Page) -> None:
    page.check("#mode-many")
    page.set_input_files("#file", ROWS)
    page.click("#classify")
    expect(page.locator("#download")).to_be_visible(timeout=120_000)


def _take_javascript_page(browser: Browser, bundle: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url:
        bothways.export_onnx(bundle, out=Path(folder) / "messages.onnx")
        page = browser.new_page(viewport={"width": 860, "height": 600})
        page.goto(f"{url}/?model=messages.onnx")
        page.fill("#text-0", UNCERTAIN)
        page.click("#predict:enabled")
        page.wait_for_selector("#rows tr")
        page.screenshot(path=ROOT / "docs" / "javascript.png", full_page=True)


def _is_ready(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{url}/health/ready").status == 200)  # noqa: S310  (a local URL)
    except OSError:
        return False


if __name__ == "__main__":
    main()
