"""The real clients of the protocols receive the numbers of ``predict``, and the OpenAPI document is correct."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bothways.runtime.classifier import Classifier
from tests.serve.conftest import HOST, RunningServer, free_port, running

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".clients"
TEXTS = ["what a lovely film", "the DOG ate the cat", "schöne Grüße 👋", ""]

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.server,
    pytest.mark.skipif(not (CLIENTS / "bin").exists(), reason="no .clients: make .clients/.complete makes it"),
]


def test_the_clients_of_all_protocols_get_the_numbers_of_predict(
    bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    port = free_port()
    with running(f"tiny={bundle_path}", "--grpc-port", port, folder=tmp_path) as server:
        found = ask(f"http://{HOST}:{server.port}", port)
    expected = model.predict_proba_by_direction(TEXTS)
    ranked = [
        sorted(([label, p] for label, p in zip(model.labels, row, strict=True)), key=lambda pair: -pair[1])
        for row in expected["ensemble"].tolist()
    ]
    best = [row[0] for row in ranked]
    assert found["huggingface_hub"] == found["huggingface_hub, by name"] == ranked
    assert found["huggingface_hub, top_k"] == [row[:1] for row in ranked]
    assert found["mlflow"] == found["mlflow, params"] == best
    *labels, error = found["tritonclient, stream"]
    assert labels == model.predict(TEXTS).tolist()
    assert error == "expected one input named 'text', found unknown"
    for kind in ("JSON", "binary", "gRPC"):
        assert found[f"tritonclient, {kind}"] == {
            "label": model.predict(TEXTS).tolist(),
            "probabilities": expected["ensemble"].tolist(),
            "forward": expected["forward"].tolist(),
            "backward": expected["backward"].tolist(),
            "classification": [label for label, _ in best],
        }


def ask(url: str, grpc_port: int) -> dict[str, Any]:
    """Return what the clients in their own environment receive."""
    command = [str(CLIENTS / "bin" / "python"), str(ROOT / "clients" / "ask.py"), url, str(grpc_port), "tiny", *TEXTS]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def test_schemathesis_finds_nothing_wrong(server: RunningServer, tmp_path: Path) -> None:
    """Valid and invalid requests generated from the document: no server error, and no undocumented reply."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [str(CLIENTS / "bin" / "schemathesis"), "run", f"http://{HOST}:{server.port}/openapi.json"]
    command += ["--checks", checks, "--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "1"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, cwd=tmp_path)
    assert finished.returncode == 0, finished.stdout[-5000:]
    assert "Traceback" not in server.log_text
