"""The server as a part of another application, in its process."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import bothways.serve
from bothways.errors import BundleMissing, ConfigError
from bothways.runtime.classifier import Classifier
from tests.bundles import python_environment
from tests.serve.conftest import HOST, free_port

TEXTS = ["what a lovely film", "", "I HATED every minute of it!!!"]
OWN_APP = """
import os, bothways.serve
from starlette.applications import Starlette
from starlette.routing import Mount
app = Starlette(routes=[Mount("/texts", bothways.serve.asgi_app(os.environ["BUNDLE"], threads=1))])
"""

FORKED = """
import os, sys
import bothways.serve
from starlette.testclient import TestClient

app = bothways.serve.asgi_app(sys.argv[1], threads=2)
answer = lambda: TestClient(app).post("/v1/classify", json={"texts": ["what a lovely film"]}).json()
expected = answer()
child = os.fork()
if child == 0:
    sys.exit(0 if answer() == expected else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_workers_that_are_forked_after_loading_answer(bundle_path: Path) -> None:
    """As with ``gunicorn --preload``: a forked process has none of the threads that it was loaded with."""
    command = [sys.executable, "-c", FORKED, str(bundle_path)]
    subprocess.run(command, env=python_environment(), check=True, timeout=60)


def test_a_mounted_application_predicts_like_the_model(bundle_path: Path, model: Classifier) -> None:
    mounted = bothways.serve.asgi_app(f"first={bundle_path}", f"second={bundle_path}", max_texts=3)
    with TestClient(Starlette(routes=[Mount("/texts", mounted)])) as client:
        reply = client.post("/texts/v1/classify", json={"texts": TEXTS, "model": "second"}).json()
        assert reply["model"] == "second"
        found = [result["probabilities"]["ensemble"] for result in reply["results"]]
        assert found == model.predict_proba(TEXTS).tolist()
        assert client.get("/texts/health/ready").status_code == 200
        assert client.post("/texts/v1/classify", json={"texts": TEXTS * 2}).status_code == 413
        names = [served["name"] for served in client.get("/texts/v1/models").json()["models"]]
        assert names == ["first", "second"]


def test_its_own_lifespan_ends_the_service(bundle_path: Path) -> None:
    app = bothways.serve.asgi_app(bundle_path)
    with TestClient(app) as client:
        assert client.post("/v1/classify", json={"texts": TEXTS}).status_code == 200
    assert TestClient(app).post("/v1/classify", json={"texts": TEXTS}).status_code == 503


@pytest.mark.parametrize(
    ("bundles", "settings", "error", "message"),
    [
        ([], {}, ConfigError, "no bundle, expected at least one"),
        (["missing.bundle"], {}, BundleMissing, "bundle not found: missing.bundle"),
        (["a.bundle"], {"port": 80}, ConfigError, "port: settings of the server's own process"),
        (["a.bundle"], {"max_text": 1}, ConfigError, "^max_text: unknown key$"),
        (["a.bundle"], {"max_texts": -1}, ConfigError, "^max_texts: .* found -1$"),
    ],
)
def test_mistakes_are_reported_when_the_application_is_made(
    bundles: list[str], settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bothways.serve.asgi_app(*bundles, **settings)


def test_variables_of_the_environment_do_not_configure_it(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTHWAYS_MAX_TEXTS", "1")
    client = TestClient(bothways.serve.asgi_app(bundle_path))
    assert client.post("/v1/classify", json={"texts": TEXTS}).status_code == 200


def test_the_example_of_the_page_runs(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI is a Starlette, and not among the dependencies."""
    (tmp_path / "reviews.bundle").symlink_to(bundle_path)
    monkeypatch.chdir(tmp_path)
    fastapi: Any = ModuleType("fastapi")
    fastapi.FastAPI = Starlette
    monkeypatch.setitem(sys.modules, "fastapi", fastapi)
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    reply = TestClient(names["app"]).post("/texts/v1/classify", json={"texts": TEXTS}).json()
    found = [result["probabilities"]["ensemble"] for result in reply["results"]]
    assert found == bothways.load(bundle_path, precision="int8").predict_proba(TEXTS).tolist()


def test_a_client_can_shorten_the_time_of_a_request_but_not_extend_it(bundle_path: Path) -> None:
    long = {"texts": ["the cat sat on a mat, " * 9_000]}
    for setting_s, header in ((0.05, "60"), (60, "0.05")):
        client = TestClient(
            bothways.serve.asgi_app(bundle_path, request_timeout_s=setting_s, max_queue_tokens=1_000_000)
        )
        reply = client.post("/v1/classify", json=long, headers={"X-Request-Timeout": header})
        assert (reply.status_code, reply.json()["kind"]) == (504, "deadline")


def test_any_origin_may_be_allowed(bundle_path: Path) -> None:
    client = TestClient(bothways.serve.asgi_app(bundle_path, cors_origin=("*",)))
    headers = client.get("/v1/models", headers={"Origin": "https://any.example", "Cookie": "a=b"}).headers
    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers


def test_requests_are_logged_if_it_is_requested(
    bundle_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    TestClient(bothways.serve.asgi_app(bundle_path)).get("/v1/models")
    assert capsys.readouterr().err == ""
    for name, value in {"handlers": [], "propagate": True, "level": logging.NOTSET}.items():  # restored afterwards
        monkeypatch.setattr(logging.getLogger("bothways.serve"), name, value)
    for _ in range(2):  # each line once, however many applications there are
        client = TestClient(bothways.serve.asgi_app(bundle_path, log="json"))
    client.get("/v1/models", headers={"X-Request-ID": "order-17"})
    client.get("/health/ready")
    (line,) = capsys.readouterr().err.splitlines()
    assert [json.loads(line)[key] for key in ("message", "request_id")] == ["GET /v1/models 200", "order-17"]


@pytest.mark.enable_socket
def test_a_server_of_others_serves_it(bundle_path: Path, tmp_path: Path) -> None:
    """granian as a server of its own, with a worker process that it starts itself."""
    (tmp_path / "own_app.py").write_text(OWN_APP)
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "own_app:app"]
    environment = python_environment() | {"BUNDLE": str(bundle_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    page = urllib.request.urlopen(f"http://{HOST}:{port}/texts/health/ready", timeout=5)
                    assert page.status == 200
                    break
                time.sleep(0.05)
            else:
                raise AssertionError("not ready")
        finally:
            process.terminate()
    assert os.WIFEXITED(process.returncode)
