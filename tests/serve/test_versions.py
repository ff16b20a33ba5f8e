"""Several versions of a model share its requests by weight, and every reply names the version that answered."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bothways
from tests.serve.conftest import Reply, RunningServer, running
from tests.serve.test_abuse import eventually

pytestmark = pytest.mark.enable_socket
TEXTS = ["what a lovely film", "the DOG ate the cat"]


@pytest.fixture(scope="module")
def versions(
    bundle_path: Path, mixed_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    bundles = [f"m@old={bundle_path}:80", f"m@new={mixed_bundle_path}:20", f"m@next={bundle_path}:0", bundle_path]
    with running(*bundles, "--threads", 1, folder=tmp_path_factory.mktemp("versions")) as server:
        yield server


def test_requests_without_a_version_are_shared_by_the_weights(
    versions: RunningServer, bundle_path: Path, mixed_bundle_path: Path
) -> None:
    expected = {"old": bothways.load(bundle_path), "new": bothways.load(mixed_bundle_path)}
    rows = {version: model.predict_proba(TEXTS) for version, model in expected.items()}
    found: Counter[str] = Counter()
    for _ in range(100):
        reply = versions.classify(TEXTS)
        version = reply.value["version"]
        assert (reply.headers["x-model"], reply.headers["x-model-version"]) == ("m", version)
        assert reply.value["digest"] == expected[version].digest
        answered = [result["probabilities"]["ensemble"] for result in reply.value["results"]]
        assert np.array_equal(answered, rows[version])  # all texts of a request by one version
        found[version] += 1
    assert set(found) == {"old", "new"}
    assert 60 <= found["old"] <= 97  # fails less than once in 100,000 runs


def test_a_version_with_weight_0_answers_only_requests_that_name_it(versions: RunningServer) -> None:
    assert versions.classify(TEXTS, version="next").value["version"] == "next"
    assert versions.classify(TEXTS, model="m", version="new").value["version"] == "new"
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": TEXTS[:1]}]}
    assert versions.request("/v2/models/m/versions/next/infer", body).value["model_version"] == "next"
    assert versions.request("/v2/models/m").value["versions"] == ["old", "new", "next"]


def test_an_unknown_version_is_not_found_and_the_known_ones_are_listed(versions: RunningServer) -> None:
    reply = versions.classify(TEXTS, version="newest")
    assert reply.status == 404
    assert reply.value["error"] == "the model 'm' has no version 'newest'. Available versions: old, new, next"
    assert versions.request("/v2/models/m/versions/newest").status == 404


def test_every_version_is_listed(versions: RunningServer, bundle_path: Path) -> None:
    models = versions.request("/v1/models").value["models"]
    assert [(model["name"], model["version"], model["weight"]) for model in models] == [
        ("m", "old", 80),
        ("m", "new", 20),
        ("m", "next", 0),
        (bundle_path.stem, "1", 1),
    ]


def test_a_canary_is_rolled_out_and_back_by_a_file_without_a_restart(
    bundle_path: Path, mixed_bundle_path: Path, tmp_path: Path
) -> None:
    """By SIGHUP, and by the watch. A file that is not valid changes nothing but the report."""
    config, keys = tmp_path / "serve.toml", tmp_path / "keys"
    keys.write_text("k-1\nk-2\n")

    def name(*bundles: str, more: str = "") -> None:
        written = tmp_path / "serve.new"
        settings = f'threads = 1\nwatch_s = 0.1\napi_key_file = "{keys}"\n{more}'
        written.write_text(f"{settings}\nbundles = {json.dumps(bundles)}\n")
        written.rename(config)

    def models(key: str = "k-1") -> Reply:
        return server.request("/v1/models", headers={"X-API-Key": key})

    def versions() -> list[tuple[str, float]]:
        return [(model["version"], model["weight"]) for model in models().value["models"]]

    name(f"m@v1={bundle_path}")
    with running("--config", config, folder=tmp_path) as server:
        name(f"m@v1={bundle_path}:90", f"m@v2={mixed_bundle_path}:10", more="max_texts = 7")
        eventually(lambda: versions() == [("v1", 90), ("v2", 10)])
        assert models().value["limits"]["max_texts"] == 1000  # other settings need a restart
        assert models("k-2").status == 200
        keys.write_text("k-1\n")
        eventually(lambda: models("k-2").status == 401)
        config.write_text("bundles = [")
        eventually(lambda: "is not valid TOML" in server.request("/health/ready").value["problem"])
        assert server.request("/health/ready").status == 200
        name(f"m@v1={bundle_path}")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: versions() == [("v1", 1)])
        eventually(lambda: server.request("/health/ready").value["problem"] == "")
        body = {"texts": TEXTS, "version": "v2"}
        assert server.request("/v1/classify", body, {"X-API-Key": "k-1"}).status == 404
