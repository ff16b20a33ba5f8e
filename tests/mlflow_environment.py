"""Run Python in the environment of MLflow and Spark, which ``make build/mlflow/.complete`` creates."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import bothways

BIN = Path(__file__).parents[1] / "build" / "mlflow" / "bin"


def environment() -> dict[str, str]:
    """Return an environment in which MLflow finds bothways and its own programs, and sends nothing anywhere."""
    return {
        **os.environ,
        "PYTHONPATH": str(Path(bothways.__file__).parents[1]),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYSPARK_PYTHON": str(BIN / "python"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }


def run_in_mlflow(code: str, folder: Path, *arguments: object, expected_status: int = 0) -> str:
    """Run code, and return its last line of output, or all of standard error if another status than 0 is expected."""
    command = [str(BIN / "python"), "-c", code, *map(str, arguments)]
    finished = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert finished.returncode == expected_status, finished.stderr
    return finished.stderr if expected_status else finished.stdout.splitlines()[-1]
