"""The example of docs/many-files.md runs, and so does its first command."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bothways.cli.app import app
from tests.docs.test_pages import ROOT, blocks


def test_the_examples_run(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reviews.bundle").symlink_to(bundle_path)
    Path("new").mkdir()
    for name in ("may.csv", "june.csv"):
        Path("new", name).write_text("text\na lovely film\nso dull\n")
    (example,) = blocks(ROOT / "docs" / "many-files.md", "python")
    exec(example, {})
    assert capsys.readouterr().out == "2 0 4\n"
    arguments = ["predict", "reviews.bundle", "new/*.csv", "--out", "scored", "--workers", "2"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0
    assert found.stderr == "4 rows in 2 files written to scored, 2 of them by an earlier call\n"


def test_workers_are_for_several_files(bundle_path: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("text\nso dull\n")
    arguments = ["predict", str(bundle_path), str(source), "--out", str(tmp_path / "b.csv"), "--workers", "2"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 2
    assert "--workers is for several files: pass a pattern such as 'data/*.csv', in quotes" in found.stderr
