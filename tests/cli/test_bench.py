"""Measuring as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Workplace, cells
from tests.processes import CommandServer


def test_a_table_tells_what_was_measured(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("bench", place.bundle, place.data, "--texts", 20)
    assert (finished.status, finished.err) == (0, "")
    assert f"{place.bundle}: 20 texts of " in finished.out.decode()
    found = cells(finished.out)
    assert float(found["texts a second"][0].replace(",", "")) > 0
    assert found["loading"][0].endswith(" s")
    assert [cell[-1] for cell in found["share of the machine's float32 limit"]] == ["%", "%"]
    assert "Advice: " in finished.out.decode()


def test_json_holds_the_same_and_texts_are_made_up_where_none_are_given(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("bench", place.bundle, "--texts", 10, "--json")
    assert (finished.status, finished.err) == (0, "")
    (line,) = finished.out.decode().splitlines()
    found = json.loads(line)
    assert found["bundle"] == str(place.bundle)
    assert found["texts"] == 10
    assert found["tokens"] > 100
    assert [speed["precision"] for speed in found["speeds"]] == ["float32", "int8"]


def test_a_table_without_a_row_is_told(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("id,review\n")
    finished = cli.run("bench", place.bundle, tmp_path / "empty.csv")
    assert finished.status == 2
    assert "there is no text to measure with" in finished.error_line


def test_a_column_that_is_not_there_is_told(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("bench", place.bundle, place.data, "--text", "nope")
    assert finished.status == 1
    assert "has no column 'nope'" in finished.error_line
