"""Bundles in the real MLflow, also behind its server and in Spark, in an environment that has no torch."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bothways.evaluation.predicted_rows import output_columns
from bothways.runtime.classifier import Classifier
from tests.mlflow_environment import BIN, environment, run_in_mlflow

TEXTS = ["what a lovely film", "", "I HATED every minute of it!!!", "the dog ate the cat " * 9]

pytestmark = pytest.mark.mlflow

_SAVE = """
import json, sys
import bothways.mlflow
import mlflow
import pandas as pd

first, second, *others = sys.argv[1:5]
texts = sys.argv[5:]
bothways.mlflow.save_model(first, "saved")
with mlflow.start_run():
    logged = bothways.mlflow.log_model(second, "fields", registered_model_name="fields")
loaded = mlflow.pyfunc.load_model("saved")
found = loaded.predict(pd.DataFrame({"text": texts, "other": range(len(texts))}))
tasks = {}
for number, path in enumerate(others):
    bothways.mlflow.save_model(path, f"task-{number}")
    model = mlflow.pyfunc.load_model(f"task-{number}")
    types = [[each.name, str(each.type)] for each in model.metadata.signature.outputs]
    tasks[number] = {"outputs": types, "rows": model.predict(pd.DataFrame({"text": texts})).values.tolist()}
fields = mlflow.pyfunc.load_model("models:/fields/1").predict(pd.DataFrame({"body": texts, "title": texts}))
print(json.dumps({
    "columns": list(found.columns),
    "types": [str(found[name].dtype) for name in found.columns],
    "rows": found.values.tolist(),
    "empty": loaded.predict(pd.DataFrame({"text": pd.Series([], dtype=str)})).shape,
    "inputs": loaded.metadata.signature.inputs.input_names(),
    "outputs": loaded.metadata.signature.outputs.input_names(),
    "fields": fields.values.tolist(),
    "fields_inputs": logged.signature.inputs.input_names(),
    "digests": [bothways.mlflow.load_model(uri).digest for uri in ("saved", logged.model_uri)],
    "tasks": list(tasks.values()),
    "torch": "torch" in sys.modules,
}))
"""
_SPARK = """
import json, sys
import mlflow
from pyspark.sql import SparkSession

local = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
spark = SparkSession.builder.master("local[1]").config(map=local).getOrCreate()
predict = mlflow.pyfunc.spark_udf(spark, "saved", env_manager="local")
table = spark.createDataFrame([[text] for text in sys.argv[1:]], "text string")
rows = table.select(predict("text").alias("found")).select("found.*").collect()
print(json.dumps([row.asDict() for row in rows]))
spark.stop()
"""
_LOAD = """
import bothways.mlflow
bothways.mlflow.load_model("changed")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the models."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def found(
    folder: Path,
    bundle_path: Path,
    fields_bundle_path: Path,
    multi_label_bundle_path: Path,
    targets_bundle_path: Path,
) -> dict[str, Any]:
    """What MLflow reports of models that were saved in ``folder``."""
    bundles = [bundle_path, fields_bundle_path, multi_label_bundle_path, targets_bundle_path]
    report: dict[str, Any] = json.loads(run_in_mlflow(_SAVE, folder, *bundles, *TEXTS))
    return report


def test_a_logged_bundle_predicts_the_same_bits(
    found: dict[str, Any], model: Classifier, fields_model: Classifier
) -> None:
    expected = model.predict_proba(TEXTS)
    columns = list(output_columns(model))
    assert found["columns"] == found["outputs"] == columns
    assert found["types"] == ["str", *["float64"] * 4]
    assert [row[0] for row in found["rows"]] == list(model.predict(TEXTS))
    assert np.array_equal([row[2:] for row in found["rows"]], expected)
    assert np.array_equal([row[1] for row in found["rows"]], expected.max(axis=1))
    assert found["empty"] == [0, len(columns)]
    assert (found["inputs"], found["fields_inputs"]) == (["text"], ["title", "body"])
    probabilities = fields_model.predict_proba([(text, text) for text in TEXTS])
    assert np.array_equal([row[2:] for row in found["fields"]], probabilities)
    assert found["digests"] == [model.digest, fields_model.digest]
    assert not found["torch"]


def test_other_tasks_have_their_columns(
    found: dict[str, Any], multi_label_model: Classifier, targets_model: Classifier
) -> None:
    topics, targets = found["tasks"]
    names = list(output_columns(multi_label_model))
    assert topics["outputs"] == [[names[0], "DataType.string"], *([name, "DataType.double"] for name in names[1:])]
    assert [row[0] for row in topics["rows"]] == [";".join(labels) for labels in multi_label_model.predict(TEXTS)]
    assert np.array_equal([row[1:] for row in topics["rows"]], multi_label_model.predict_proba(TEXTS))
    assert targets["outputs"] == [["predicted_price", "DataType.double"], ["predicted_stars", "DataType.double"]]
    assert np.array_equal(targets["rows"], targets_model.predict(TEXTS))


def test_the_model_holds_no_pickle(found: dict[str, Any], folder: Path) -> None:
    names = sorted(str(path.relative_to(folder / "saved")) for path in (folder / "saved").rglob("*") if path.is_file())
    assert [name for name in names if name.endswith((".pkl", ".pickle"))] == []
    assert "artifacts/tiny.bundle/bundle.json" in names
    requirements = (folder / "saved" / "requirements.txt").read_text().splitlines()
    assert [name.partition("==")[0] for name in requirements] == ["bothways", "mlflow"]
    assert found["columns"]


@pytest.mark.usefixtures("found")
def test_another_bundle_in_its_place_is_refused(folder: Path, mixed_bundle_path: Path) -> None:
    shutil.copytree(folder / "saved", folder / "changed")
    shutil.rmtree(folder / "changed" / "artifacts" / "tiny.bundle")
    shutil.copytree(mixed_bundle_path, folder / "changed" / "artifacts" / "tiny.bundle")
    error = run_in_mlflow(_LOAD, folder, expected_status=1)
    assert "BundleBroken: " in error
    assert "is not the bundle that was logged: its digest differs. Log the model again" in error


@pytest.mark.enable_socket
@pytest.mark.usefixtures("found")
def test_mlflow_serves_the_same_bits(folder: Path, model: Classifier) -> None:
    rows = {"dataframe_split": {"columns": ["text"], "data": [[text] for text in TEXTS]}}
    with served(folder / "saved") as url:
        reply = post(url, rows)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(url, {"dataframe_split": {"columns": ["words"], "data": [["a"]]}})
    columns = list(output_columns(model))[2:]
    assert np.array_equal([[row[name] for name in columns] for row in reply["predictions"]], model.predict_proba(TEXTS))


@pytest.mark.usefixtures("found")
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17")
def test_spark_predicts_the_same_bits(folder: Path, model: Classifier) -> None:
    rows = json.loads(run_in_mlflow(_SPARK, folder, *TEXTS))
    assert [row["predicted_label"] for row in rows] == list(model.predict(TEXTS))
    columns = list(output_columns(model))[2:]
    assert np.array_equal([[row[name] for name in columns] for row in rows], model.predict_proba(TEXTS))


@contextlib.contextmanager
def served(path: Path) -> Iterator[str]:
    """Yield the address of MLflow's server for a model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(BIN / "mlflow"), "models", "serve", "--model-uri", path.name, "--env-manager", "local"]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=path.parent,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # its own group, with the processes that it starts
    )
    url = f"http://127.0.0.1:{port}"
    try:
        last = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ping", timeout=5):
                break
            assert server.poll() is None
            assert time.monotonic() < last, "the server did not start"
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def post(url: str, body: object) -> dict[str, Any]:
    """Return the reply of ``/invocations``."""
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/invocations", data, headers), timeout=60) as reply:
        found: dict[str, Any] = json.load(reply)
    return found
