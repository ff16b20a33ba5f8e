"""The command ``bothways bench``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Workplace, cells
from tests.processes import CommandServer


def test_bench_prints_a_table(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("bench", place.bundle, place.data, "--texts", 20)
    assert (finished.status, finished.err) == (0, "")
    assert f"{place.bundle}: 20 texts of " in finished.out.decode()
    found = cells(finished.out)
    assert float(found["texts/s"][0].replace(",", "")) > 0
    assert found["load time"][0].endswith(" s")
    assert [cell[-1] for cell in found["share of the float32 limit"]] == ["%", "%"]
    assert "Advice: " in finished.out.decode()


@pytest.mark.slow
def test_json_and_synthetic_texts(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("bench", place.bundle, "--texts", 10, "--json")
    assert (finished.status, finished.err) == (0, "")
    (line,) = finished.out.decode().splitlines()
    found = json.loads(line)
    assert found["bundle"] == str(place.bundle)
    assert found["texts"] == 10
    assert found["tokens"] > 100
    assert [speed["precision"] for speed in found["speeds"]] == ["float32", "int8"]


def test_an_empty_table_is_an_error(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("id,review\n")
    finished = cli.run("bench", place.bundle, tmp_path / "empty.csv")
    assert finished.status == 2
    assert "no texts to measure with" in finished.error_line


def test_an_unknown_column_is_an_error(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("bench", place.bundle, place.data, "--text", "nope")
    assert finished.status == 1
    assert "has no column 'nope'" in finished.error_line
