"""int8 as its users meet it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import bothways
from tests.cli.conftest import Workplace, cells
from tests.processes import CommandServer


def test_verify_tells_how_near_it_is_and_what_it_costs(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("verify", place.bundle, place.data, "--precision", "int8")
    assert (finished.status, finished.err) == (0, "")
    out = finished.out.decode()
    expected = bothways.verify(place.bundle, precision="int8")
    found = cells(finished.out)
    assert found.keys() == expected.differences.keys()
    assert all(0 < float(row[0]) <= float(row[1]) == 0.1 for row in found.values())
    assert f"Of the {expected.texts} texts {expected.changed_labels} get other labels." in out
    assert re.search(r"Of 60 rows of .*: \d+\.\d\d% right in float32, \d+\.\d\d% right in int8; \d+ get other", out)
    assert "Passed: the same tokens, and near the trainer's numbers." in out


def test_predictions_are_those_of_python(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    finished = cli.run("predict", place.bundle, place.data, "--precision", "int8", "--out", tmp_path / "o.csv")
    assert finished.status == 0, finished.err
    with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = bothways.load(place.bundle, precision="int8").stream([row["review"] for row in rows])
    assert [float(row["predicted_probability"]) for row in rows] == [p.probability for p in expected]


def test_what_makes_no_sense_is_told(cli: CommandServer, place: Workplace, pack_path: Path) -> None:
    finished = cli.run("verify", place.bundle, place.data)
    assert finished.status == 2
    assert "add --precision int8, or use bothways evaluate" in finished.error_line
    finished = cli.run("verify", pack_path, "--precision", "int8")
    assert finished.status == 2
    assert "a language-model can't be verified in int8" in finished.error_line
