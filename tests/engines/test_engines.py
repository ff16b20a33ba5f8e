"""Spark, Ray, Daft and Dask give each row the numbers of ``predict_proba``, also if a worker is killed.

The real engines run in an environment of their own (``make test-engines``), with two workers on this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

import bothways
from bothways.runtime.classifier import Classifier

pytestmark = pytest.mark.engines
ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "engines" / "bin" / "python"
JOB = str(Path(__file__).with_name("job.py"))
NEEDS_JAVA = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17 or newer")
ENGINES = [pytest.param("spark", marks=NEEDS_JAVA), "ray", "daft", "dask"]
TEXTS = [f"{['a lovely film', 'it was dull', 'so so', '', '🙂 нет'][n % 5]} number {n % 37}" for n in range(400)]
TEXTS[7:9] = ["", "HATED it " * 100]
ERROR = "column 'text': the text is missing (null); remove the row, or write an empty text"


def run_python(*arguments: str, folder: Path, fails_with: str | None = None) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "PYSPARK_PYTHON": str(PYTHON)}
    finished = subprocess.run(
        [str(PYTHON), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    if fails_with is not None:
        assert finished.returncode != 0  # 1, or a signal: Daft's threads may abort the process while it exits
        assert fails_with in finished.stderr
        return
    assert finished.returncode == 0, finished.stdout + finished.stderr


def write_source(path: Path) -> None:
    """Write rows of one and of two text columns, one of which has no text."""
    columns: dict[str, Any] = {
        "id": range(len(TEXTS) + 1),
        "text": [*TEXTS, None],
        "title": [*(text[:9] for text in TEXTS), None],
    }
    parquet.write_table(pa.table(columns), path)


def rows_of(path: Path, model: Classifier) -> list[dict[str, Any]]:
    """Return scored rows in the order of the source, without the row that has no text, which is checked."""
    *rows, missing = sorted(parquet.read_table(path).to_pylist(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(len(TEXTS))), "no row is lost, and none is there twice"
    assert {missing[column] for column in model.task.columns()} == {None}
    assert missing["predicted_error"].endswith(ERROR.removeprefix("column 'text'"))
    return rows


def check(path: Path, model: Classifier, texts: list[Any]) -> None:
    scores = model.scores_by_direction(texts)["ensemble"]
    for row, vector in zip(rows_of(path, model), scores, strict=True):
        assert [row[column] for column in model.task.columns()] == model.task.cells(vector)
        assert row["predicted_error"] is None


@pytest.mark.parametrize("engine", ENGINES)
def test_every_row_has_the_same_bits_as_without_the_engine(
    engine: str,
    bundle_path: Path,
    multi_label_bundle_path: Path,
    targets_bundle_path: Path,
    fields_bundle_path: Path,
    linear_bundle_path: Path,
    tmp_path: Path,
) -> None:
    """Several bundles in one session: labels and probabilities, several labels, values, two text columns."""
    write_source(tmp_path / "d.parquet")
    of_one_text = [bundle_path, multi_label_bundle_path, targets_bundle_path, linear_bundle_path]
    bundles = {f"{number}.parquet": path for number, path in enumerate([*of_one_text, fields_bundle_path])}
    models = {name: bothways.load(path) for name, path in bundles.items()}
    scorings = [
        {"bundle": str(bundles[name]), "out": str(tmp_path / name), "options": {"text": "text"}} for name in bundles
    ]
    scorings[-1]["options"] = {"text": ["title", "text"]}
    job = {"source": str(tmp_path / "d.parquet"), "scorings": scorings}
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    run_python(JOB, engine, "job.json", folder=tmp_path)
    *names, of_two_texts = models
    for name in names:
        check(tmp_path / name, models[name], TEXTS)
    check(tmp_path / of_two_texts, models[of_two_texts], [(text[:9], text) for text in TEXTS])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_loses_and_doubles_nothing(
    engine: str, bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    write_source(tmp_path / "d.parquet")
    scoring = {"bundle": str(bundle_path), "out": str(tmp_path / "out.parquet"), "options": {}}
    job = {"source": str(tmp_path / "d.parquet"), "scorings": [scoring], "marker": str(tmp_path / "killed")}
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    if engine == "daft":  # whose own runner starts no other worker: the query fails, and can be repeated
        run_python(JOB, engine, "job.json", folder=tmp_path, fails_with="UDF process closed the connection")
        assert not (tmp_path / "out.parquet").exists()
    run_python(JOB, engine, "job.json", folder=tmp_path)
    assert (tmp_path / "killed").exists(), "a worker was killed"
    check(tmp_path / "out.parquet", model, TEXTS)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_example_of_the_page_runs(engine: str, bundle_path: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / f"{engine}.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "reviews.bundle").symlink_to(bundle_path)
    parquet.write_table(pa.table({"review": TEXTS}), tmp_path / "reviews.parquet")
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    run_python("example.py", folder=tmp_path)
    found = parquet.read_table(tmp_path / "scored.parquet")
    assert sorted(found["review"].to_pylist()) == sorted(TEXTS)
    assert found["predicted_label"].null_count == 0
