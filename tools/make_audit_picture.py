"""Take the picture of an audit, for docs/audit.md: of the demo's messages with wrong labels and copies planted.

Run: .venv/bin/python -m tools.make_audit_picture. Needs Debian's chromium.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from benchmarks.label_errors import planted
from playwright.sync_api import sync_playwright

import bothways
from bothways.training.audit_page import audit_html

ROOT = Path(__file__).parents[1]
_SEED, _COPIES, _LEAKS = 3, 4, 2


def _rows(name: str) -> tuple[list[str], list[str]]:
    with (ROOT / "demo" / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def main() -> None:
    """Plant errors, audit, and save a screenshot of the page."""
    (texts, labels), (test, test_labels) = _rows("messages.csv"), _rows("held_out.csv")
    labels, _ = planted(labels, 0.05, _SEED)
    texts += [*texts[:_COPIES], *test[:_LEAKS]]
    labels += [*labels[: _COPIES - 1], labels[_COPIES], *test_labels[:_LEAKS]]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        data, page_path = Path(folder) / "messages.csv", Path(folder) / "audit.html"
        with data.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
        audit = bothways.audit(data, text="text", label="label", test=ROOT / "demo" / "held_out.csv")
        page_path.write_bytes(audit_html(audit).replace(folder.encode() + b"/", b""))
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.goto(page_path.as_uri())
        page.screenshot(path=ROOT / "docs" / "audit.png")
        browser.close()


if __name__ == "__main__":
    main()
