"""The files of deploy/: the steps of the Dockerfile, run in a clean folder, make a server that needs nothing else."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bothways.runtime.classifier import Classifier
from bothways.serve.settings import Settings
from tests.serve.conftest import RunningServer, free_port, wait_until_ready
from tests.serve.test_clients import CLIENTS
from tests.serve.test_operations import rows

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
LARGEST_MB = 300
NOBODY = 10_001

pytestmark = [pytest.mark.enable_socket, pytest.mark.server]


def instruction(name: str) -> str:
    """Return the last instruction with a name, with its continued lines joined."""
    found: list[str] = re.findall(rf"^{name} ((?:.*\\\n)*.*)$", DOCKERFILE, flags=re.MULTILINE)
    return found[-1].replace("\\\n", " ")


@pytest.mark.skipif(not (CLIENTS / "bin" / "hadolint").exists(), reason="no hadolint: make .clients/.complete")
def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    command = [str(CLIENTS / "bin" / "hadolint"), str(ROOT / "deploy" / "Dockerfile")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that anyone may read, like an image."""
    folder = Path(tempfile.mkdtemp(prefix="bothways-deploy-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def environment(place: Path) -> Path:
    """The environment that ``RUN sh /build/install.sh /opt/bothways /build`` makes, in another folder."""
    assert "RUN sh /build/install.sh /opt/bothways /build " in DOCKERFILE
    build = place / "build"
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(build), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.copy(ROOT / "constraints.txt", build)
    subprocess.run(["sh", str(ROOT / "deploy" / "install.sh"), str(place / "opt"), str(build)], check=True)
    return place / "opt"


def test_it_is_small_and_has_no_torch(environment: Path) -> None:
    sizes = {path: path.lstat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink()}
    megabytes = sum(sizes.values()) / 1e6
    print(f"\ninstalled: {megabytes:.0f} MB")
    assert megabytes < LARGEST_MB
    names = {path.name.split("-")[0].lower() for path in environment.rglob("*.dist-info")}
    assert {"onnxruntime", "granian"} <= names
    assert not names & {"torch", "spacy", "fastai", "scikit_learn", "pandas", "pyarrow", "pip"}


def _is_open_to_all() -> bool:
    """Whether we may change the user, and any user can run this Python, which may be in a private home directory."""
    folders = Path(sys.executable).resolve().parents
    return os.geteuid() == 0 and all(folder.stat().st_mode & 0o001 for folder in folders)


def test_it_serves_as_nobody_and_writes_nothing(
    environment: Path, place: Path, bundle_path: Path, model: Classifier
) -> None:
    shutil.copytree(bundle_path, place / "model")
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    before = {path: path.lstat().st_mtime_ns for path in place.rglob("*")}
    entrypoint, command = (json.loads(instruction(name)) for name in ("ENTRYPOINT", "CMD"))
    moved = [
        word.replace("/opt/bothways", str(environment)).replace("=/model", f"={place}/model")
        for word in entrypoint + command
    ]
    variables = dict(part.split("=", 1) for part in shlex.split(instruction("ENV")))
    port = free_port()
    as_nobody: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if _is_open_to_all() else {}
    log = Path(tempfile.mkstemp()[1])
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            moved, env={**variables, "BOTHWAYS_PORT": str(port)}, cwd="/", stderr=stderr, **as_nobody
        )
    server = RunningServer(process, port, log)
    try:
        wait_until_ready(server)
        reply = server.classify(["what a film", "the DOG"])
        assert np.array_equal(rows(reply.value), model.predict_proba(["what a film", "the DOG"]))
        health = instruction("HEALTHCHECK").partition("CMD")[2]
        check = [
            word.replace("/opt/bothways", str(environment)).replace("8080", str(port)) for word in json.loads(health)
        ]
        assert subprocess.run(check, check=False).returncode == 0
        assert server.stop() == 0
        assert subprocess.run(check, check=False, stderr=subprocess.DEVNULL).returncode != 0
    finally:
        process.kill()
        process.wait()
    assert {path: path.lstat().st_mtime_ns for path in place.rglob("*")} == before
    assert f"at http://0.0.0.0:{port}" in server.log_text


def test_the_probes_of_the_kubernetes_manifest_exist(server: RunningServer) -> None:
    manifest = (ROOT / "deploy" / "kubernetes.yaml").read_text()
    paths = re.findall(r"(\w+Probe):.*\n\s+httpGet: \{path: (\S+), port: http\}", manifest)
    assert [name for name, _ in paths] == ["startupProbe", "livenessProbe", "readinessProbe"]
    assert all(server.request(path).status == 200 for _, path in paths)
    for name in re.findall(r"\{name: BOTHWAYS_(\w+), value", manifest):
        assert name.lower() in Settings.model_fields
