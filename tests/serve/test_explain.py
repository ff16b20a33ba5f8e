"""POST /v1/explain: replies are those of ``model.explain`` (guarantee 8), and what is too much is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import bothways
from bothways.serve import asgi_app

pytestmark = pytest.mark.enable_socket
TEXT = "What a lovely film, I LOVED it!!!"
KINDS = ("single", "linear", "multi", "number", "numbers", "fields")


@pytest.fixture(scope="module")
def paths(
    bundle_path: Path,
    linear_bundle_path: Path,
    multi_label_bundle_path: Path,
    regression_bundle_path: Path,
    targets_bundle_path: Path,
    fields_bundle_path: Path,
) -> dict[str, Path]:
    found = (
        bundle_path,
        linear_bundle_path,
        multi_label_bundle_path,
        regression_bundle_path,
        targets_bundle_path,
        fields_bundle_path,
    )
    return dict(zip(KINDS, found, strict=True))


@pytest.fixture(scope="module")
def client(paths: dict[str, Path]) -> Iterator[TestClient]:
    with TestClient(asgi_app(*(f"{kind}={path}" for kind, path in paths.items()))) as found:
        yield found


def error_of(client: TestClient, body: dict[str, Any]) -> tuple[int, str]:
    reply = client.post("/v1/explain", json=body)
    return reply.status_code, reply.json()["error"]


@pytest.mark.parametrize("kind", KINDS)
def test_replies_are_those_of_python_to_the_last_bit(client: TestClient, paths: dict[str, Path], kind: str) -> None:
    model = bothways.load(paths[kind])
    text: Any = {"title": "A film", "body": TEXT} if kind == "fields" else TEXT
    found = json.loads(client.post("/v1/explain", json={"text": text, "model": kind}).content)
    assert [found.pop("model"), found.pop("version"), found.pop("digest")] == [kind, "1", model.digest]
    assert found == model.explain(text).to_dict()
    label = (model.labels or model.task.output_names)[-1]
    options = {"label": label, "max_readings": 3}
    found = client.post(f"/models/{kind}/v1/explain", json={"text": text, **options}).json()
    assert found["readings"] == 3
    assert found["words"] == model.explain(text, label=label, max_readings=3).to_dict()["words"]


def test_each_reading_counts_as_a_text(client: TestClient) -> None:
    def texts() -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("bothways_texts_total{"))

    before = texts()
    assert client.post("/v1/explain", json={"text": TEXT}).json()["readings"] == 8
    assert texts() == before + 8


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "text"),
        ({"text": None}, 400, "the text: the text is missing (null)"),
        ({"text": ["a"]}, 400, "the text is a list of 1 values"),
        ({"text": "a", "label": "best"}, 400, "the model has no label or target 'best', expected one of 'bad'"),
        ({"text": "a", "max_readings": 1}, 400, "max_readings"),
        ({"text": "a", "labels": ["bad"]}, 400, "labels"),
        ({"text": "a", "model": "other"}, 404, "model not found"),
        ({"text": "x" * 10_001}, 413, "the text has 10001 characters, but at most 10000 can be explained"),
    ],
    ids=["no text", "null", "list", "label", "readings", "key", "model", "long"],
)
def test_mistakes_are_explained(client: TestClient, body: dict[str, Any], status: int, message: str) -> None:
    found, error = error_of(client, body)
    assert found == status, error
    assert error.startswith(message)


def test_the_limits_of_the_server_are_those_of_any_request(bundle_path: Path) -> None:
    text = "the film was fine " * 25
    with TestClient(asgi_app(str(bundle_path), max_texts=10)) as client:
        assert client.post("/v1/explain", json={"text": text}).json()["readings"] == 10
        assert client.post("/v1/explain", json={"text": text, "max_readings": 500}).json()["readings"] == 10
    with TestClient(asgi_app(str(bundle_path), max_body_bytes=40_000)) as client:
        expected = "an explanation of the text reads 45450 characters, but at most 40000 are allowed (max-body-bytes)"
        status, error = error_of(client, {"text": text})
        assert (status, error.partition(":")[0]) == (413, expected)
        assert client.post("/v1/explain", json={"text": text, "max_readings": 20}).status_code == 200
    with TestClient(asgi_app(str(bundle_path), max_queue_tokens=1_000)) as client:
        status, error = error_of(client, {"text": text})
        assert status == 413, error
        assert client.post("/v1/explain", json={"text": text, "max_readings": 4}).status_code == 200
