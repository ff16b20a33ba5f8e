"""A real gunicorn that loads a model before it forks its workers (F2)."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from bothways.runtime.classifier import Classifier
from tests.bundles import python_environment
from tests.serve.conftest import HOST, free_port
from tests.serve.test_clients import CLIENTS

PACKAGES = next(CLIENTS.glob("lib/python*/site-packages"), CLIENTS)
pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.server,
    pytest.mark.skipif(not (PACKAGES / "gunicorn").exists(), reason="no gunicorn: make .clients/.complete"),
]

GUNICORN = "import sys; sys.path.append(sys.argv.pop(1)); from gunicorn.app.wsgiapp import run; run()"
APP = """
import json, os, urllib.parse
import bothways

model = bothways.load(os.environ["BUNDLE"], threads=int(os.environ["THREADS"]), precision=os.environ["PRECISION"])
model.predict(["a film"])

def app(environ, start_response):
    text = urllib.parse.unquote(environ["QUERY_STRING"])
    start_response("200 OK", [("content-type", "application/json")])
    return [json.dumps(model.predict_proba([text])[0].tolist()).encode()]
"""


@pytest.mark.parametrize(("threads", "precision"), [(1, "float32"), (2, "float32"), (4, "float32"), (2, "int8")])
def test_workers_that_end_after_some_requests_lose_none(
    bundle_path: Path, model: Classifier, tmp_path: Path, threads: int, precision: str
) -> None:
    (tmp_path / "own_app.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-c", GUNICORN, str(PACKAGES), "--preload", "--max-requests", "20", "--workers", "2"]
    command += ["--bind", f"{HOST}:{port}", "own_app:app"]
    variables = {"BUNDLE": str(bundle_path), "THREADS": str(threads), "PRECISION": precision}
    log = tmp_path / "gunicorn.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, cwd=tmp_path, env=python_environment() | variables, stderr=stderr) as process,
    ):
        try:
            _wait_until_ready(port)
            texts = [f"what a lovely film {number}" for number in range(200)]
            found = [_ask(port, text) for text in texts]
            if precision == "float32":
                assert found == model.predict_proba(texts).tolist()
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            assert time.monotonic() - started < 20  # gunicorn kills workers that do not end after 30 s
        finally:
            process.kill()
    text = log.read_text()
    assert text.count("Booting worker") >= 10
    assert "WORKER TIMEOUT" not in text
    assert "was sent SIG" not in text.replace("was sent SIGTERM", "")


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            _ask(port, "a film")
            return
        time.sleep(0.05)
    raise AssertionError("not ready")


def _ask(port: int, text: str) -> object:
    with urllib.request.urlopen(f"http://{HOST}:{port}/?{urllib.parse.quote(text)}", timeout=60) as reply:
        return json.load(reply)
