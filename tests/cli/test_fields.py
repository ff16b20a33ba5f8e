"""The commands with a model that reads two text columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from bothways.runtime.classifier import Classifier
from tests.processes import CommandServer


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "news.csv"
    path.write_text("id,body,title\n1,the DOG ate it,A lovely film\n2,,no body\n")
    return path


def test_predict_reads_the_columns_of_the_training(
    cli: CommandServer, fields_bundle_path: Path, fields_model: Classifier, rows: Path
) -> None:
    finished = cli.run("predict", fields_bundle_path, rows, "--out", "-", "--format", "csv")
    assert (finished.status, finished.err) == (0, "")
    header, *lines = finished.out.decode().splitlines()
    assert header.startswith("id,body,title,predicted_label,predicted_probability,")
    expected = fields_model.predict_proba([("A lovely film", "the DOG ate it"), ("no body", "")])
    assert [[float(cell) for cell in line.split(",")[5:]] for line in lines] == expected.tolist()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["body"], "1 text column is named, but the model reads the text columns 'title' and 'body'"),
        (["body", "title"], "the model reads the text columns 'title' and 'body'. Name them with --text in this order"),
        (["headline", "body"], "has no column 'headline'"),
    ],
)
def test_wrong_columns_are_refused(
    cli: CommandServer, fields_bundle_path: Path, rows: Path, tmp_path: Path, columns: list[str], message: str
) -> None:
    named = [part for column in columns for part in ("--text", column)]
    finished = cli.run("predict", fields_bundle_path, rows, "--out", tmp_path / "scored.csv", *named)
    assert finished.status in (1, 2)
    assert message in finished.error_line
    assert not (tmp_path / "scored.csv").exists()


def test_info_and_verify_show_the_columns(cli: CommandServer, fields_bundle_path: Path) -> None:
    assert "text 'title', 'body'" in cli.run("info", fields_bundle_path).out.decode()
    assert cli.run("verify", fields_bundle_path).status == 0
