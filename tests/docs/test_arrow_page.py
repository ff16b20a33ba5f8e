"""The examples of docs/arrow.md run. Those of the engines' pages run with the engines (``make test-engines``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.docs.test_pages import ROOT, blocks

TEXTS = ["a lovely film", "dull", ""]


def test_the_examples_run(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reviews.bundle").symlink_to(bundle_path)
    parquet.write_table(pa.table({"review": TEXTS}), "reviews.parquet")
    of_files, of_engines = blocks(ROOT / "docs" / "arrow.md", "python")
    exec(of_files, {})
    assert capsys.readouterr().out
    names: dict[str, Any] = {"batch": pa.RecordBatch.from_pydict({"review": TEXTS})}
    exec(of_engines, names)
    assert names["scored"].schema == names["schema"]
    assert names["scored"]["review"].to_pylist() == TEXTS
