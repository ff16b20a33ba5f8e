"""Take a picture of what a command prints in a terminal of 100 columns, for a page of docs/.

    .venv/bin/python -m tools.make_terminal_picture docs/drift.png -- bothways drift BUNDLE this_week.csv

The command runs for real, in a pseudo-terminal. Its progress, on standard error, is left out. Needs Debian's chromium.
"""

from __future__ import annotations

import html
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

COLUMNS = 100
_STYLE = """
body { margin: 0; background: #1c1f26; color: #e4e6eb; font: 15px/1.45 'DejaVu Sans Mono', monospace; }
pre { margin: 0; padding: 18px 22px; width: max-content; }
.prompt { color: #8ab4f8; }
"""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def printed(command: list[str]) -> str:
    """Return what a command writes to a terminal, without colors."""
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=child, stderr=subprocess.DEVNULL, env=environment)
    os.close(child)
    parts = []
    while True:
        try:
            part = os.read(parent, 65_536)
        except OSError:  # the end of a terminal
            break
        if not part:
            break
        parts.append(part)
    if status := process.wait():
        raise SystemExit(f"{shlex.join(command)} ended with exit status {status}")
    return _ESCAPES.sub("", b"".join(parts).decode()).rstrip()


def main() -> None:
    """Run a command and take the picture."""
    picture, command = Path(sys.argv[1]), sys.argv[sys.argv.index("--") + 1 :]
    text = printed([str(Path(sys.executable).with_name(command[0])), *command[1:]])
    shown = shlex.join(command)
    page = f'<style>{_STYLE}</style><pre><span class="prompt">$ {html.escape(shown)}</span>\n{html.escape(text)}</pre>'
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 400, "height": 100}, device_scale_factor=1.5)
        view.set_content(page)
        view.locator("pre").screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()
