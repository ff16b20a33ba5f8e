"""Take the README's screenshot of the server's page, with the demo's bundle.

Run after make demo: .venv/bin/python -m tools.make_screenshot. Needs Debian's chromium.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "demo" / "out" / "messages.bundle"
PICTURE = ROOT / "docs" / "page.png"
TEXT = "The parcel came on time, but half of it was BROKEN. Can I send it back, and who pays for that?"


def main() -> None:
    """Start a server, classify a text on its page, and save a screenshot."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, "-m", "bothways", "serve", str(BUNDLE), "--port", str(port)])
    try:
        while not _is_ready(url):
            time.sleep(0.2)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 860, "height": 600})
            page.goto(url)
            page.fill("#text", TEXT)
            page.click("text=Classify")
            page.wait_for_selector("#readings ol")
            page.screenshot(path=PICTURE, full_page=True)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def _is_ready(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{url}/health/ready").status == 200)  # noqa: S310  (a local URL)
    except OSError:
        return False


if __name__ == "__main__":
    main()
