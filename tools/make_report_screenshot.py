"""Take the picture of docs/report.md: a report of a bundle on the demo's held-out messages.

    .venv/bin/python -m tools.make_report_screenshot [BUNDLE [OLD_BUNDLE]]

BUNDLE defaults to that of make demo. Needs Debian's chromium.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import bothways

ROOT = Path(__file__).parents[1]
DEMO = Path("demo")
HEIGHT = 2620


def main() -> None:
    """Write a report and take a picture of its beginning."""
    bundle, *others = [Path(argument).resolve() for argument in sys.argv[1:]] or [
        ROOT / DEMO / "out" / "messages.bundle"
    ]
    os.chdir(ROOT)  # the page names the file of the rows as it is given
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        old = others[0] if others else None
        found = bothways.report(
            bundle, DEMO / "held_out.csv", out=page, against=old, train=DEMO / "messages.csv", with_texts=True
        )
        print(found)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            view = browser.new_page(viewport={"width": 1120, "height": HEIGHT})
            view.goto(page.as_uri())
            view.screenshot(path=ROOT / "docs" / "report.png")
            browser.close()


if __name__ == "__main__":
    main()
