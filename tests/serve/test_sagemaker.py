"""The contract of SageMaker's containers: ``IMAGE serve``, the model in ``/opt/ml/model``, and requests of its SDK."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest

from bothways.errors import ConfigError
from bothways.runtime.classifier import Classifier
from bothways.serve.bundles import sagemaker_bundles
from tests.serve.conftest import running

TEXTS = ["what a lovely film", "the DOG, ate", ""]


@pytest.mark.enable_socket
def test_a_container_serves_the_unpacked_model(bundle_path: Path, model: Classifier, tmp_path: Path) -> None:
    """``docker run IMAGE serve`` is ``bothways serve serve``. ``SM_MODEL_DIR`` stands for the root of the container."""
    folder = tmp_path / "opt" / "ml" / "model"
    folder.mkdir(parents=True)
    archive = tmp_path / "model.tar.gz"
    subprocess.run(["tar", "czf", archive, "-C", bundle_path, "."], check=True)  # the command of docs/serving.md
    subprocess.run(["tar", "xzf", archive, "-C", folder], check=True)
    with running("serve", folder=tmp_path, variables={"SM_MODEL_DIR": str(folder)}, cwd=tmp_path) as server:
        assert server.request("/ping").status == 200
        expected = [
            {"label": label, "score": row.max()}
            for label, row in zip(model.predict(TEXTS), model.predict_proba(TEXTS), strict=True)
        ]
        # The serializers of the SDK: JSON, JSON lines and CSV. Their deserializers set Accept.
        lists = server.request(
            "/invocations", TEXTS, {"content-type": "application/json", "accept": "application/json"}
        )
        assert lists.value == {"predictions": expected}
        lines = "\n".join(json.dumps({"text": text}) for text in TEXTS).encode()
        headers = {"content-type": "application/jsonlines", "accept": "application/jsonlines"}
        reply = server.request("/invocations", lines, headers)
        assert [json.loads(line) for line in reply.body.splitlines()] == expected
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([text] for text in TEXTS)
        headers = {"content-type": "text/csv", "accept": "text/csv"}
        reply = server.request("/invocations", table.getvalue().encode(), headers)
        rows = list(csv.reader(io.StringIO(reply.body.decode())))
        assert [(row[0], float(row[1])) for row in rows] == [(each["label"], each["score"]) for each in expected]
        refused = server.request("/invocations", TEXTS, {"accept": "application/x-npy"})
        assert (refused.status, refused.value["error_code"]) == (406, "NOT_ACCEPTABLE")


def test_serve_is_a_folder_of_bundles_a_bundle_or_an_error(tmp_path: Path) -> None:
    environment = {"SM_MODEL_DIR": str(tmp_path)}
    with pytest.raises(ConfigError, match="where SageMaker unpacks model"):
        sagemaker_bundles(["serve"], environment)
    if not Path("/opt/ml/model").exists():
        with pytest.raises(ConfigError, match="no bundle in /opt/ml/model either"):
            sagemaker_bundles(["serve"], {})
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").touch()
    assert sagemaker_bundles(["serve"], environment) == [str(tmp_path / "a"), str(tmp_path / "b")]
    (tmp_path / "bundle.json").touch()
    assert sagemaker_bundles(["serve"], environment) == [f"model={tmp_path}"]
    for values in ([], ["x.bundle"], ["serve", "x.bundle"]):
        assert sagemaker_bundles(values, environment) == values
