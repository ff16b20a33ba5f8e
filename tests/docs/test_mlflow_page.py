"""The examples of docs/mlflow.md run, in the environment of MLflow and Spark."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.test_pages import blocks
from tests.mlflow_environment import run_in_mlflow

PAGE = Path(__file__).parents[2] / "docs" / "mlflow.md"


@pytest.mark.mlflow
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17")
def test_the_examples_run(bundle_path: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_path, tmp_path / "reviews.bundle")
    code = "\n".join([*blocks(PAGE, "python"), "spark.stop()", "print(model.metadata.signature.outputs.input_names())"])
    assert "'predicted_label', 'predicted_probability', 'probability_bad'" in run_in_mlflow(code, tmp_path)
