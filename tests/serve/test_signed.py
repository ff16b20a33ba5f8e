"""C3: a server with a key answers with signed bundles only."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

import bothways
from tests.bundles import edit_manifest
from tests.keys import key_pair
from tests.serve.conftest import running
from tests.serve.test_abuse import eventually

pytestmark = pytest.mark.enable_socket


def test_c3_only_signed_bundles_are_served(bundle_path: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    path = Path(shutil.copytree(bundle_path, tmp_path / "live.bundle"))
    with running(path, "--key", public, folder=tmp_path, wait=False) as server:
        assert server.process.wait(timeout=60) == 1
        assert "live.bundle is not signed, expected a signature of" in server.log_text
        assert "Traceback" not in server.log_text
    bothways.sign(path, key=private)
    with running(path, folder=tmp_path, variables={"BOTHWAYS_KEY": str(public)}) as server:
        digest = server.request("/v1/models").value["models"][0]["digest"]
        edit_manifest(path, lambda fields: fields["training"].update(about="changed after it was signed"))
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "does not match its signature" in server.request("/health/ready").value["problem"])
        assert server.request("/v1/models").value["models"][0]["digest"] == digest  # the signed one still answers
        assert server.classify(["a text"]).status == 200
