"""int8 on the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import bothways
from tests.cli.conftest import Workplace, cells
from tests.processes import CommandServer


def test_verify_reports_differences_and_metrics(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("verify", place.bundle, place.data, "--precision", "int8")
    assert (finished.status, finished.err) == (0, "")
    out = finished.out.decode()
    expected = bothways.verify(place.bundle, precision="int8")
    found = cells(finished.out)
    assert found.keys() == {*expected.differences, "float32", "int8"}
    assert all(0 < float(found[name][0]) <= float(found[name][1]) == 0.1 for name in expected.differences)
    assert f"{expected.changed_labels} of {expected.texts} texts get other labels." in out
    compared = bothways.compare_precision(place.bundle, place.data)
    assert found["int8"] == [
        f"{compared.metrics['int8']['accuracy']:.2%}",
        f"{compared.metrics['int8']['macro_f1']:.4f}",
    ]
    assert f"{compared.changed_labels} of 60 rows get other labels in int8." in out
    assert "Passed: the tokens are those of the trainer, and the numbers are close." in out


def test_predictions_are_those_of_python(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    finished = cli.run("predict", place.bundle, place.data, "--precision", "int8", "--out", tmp_path / "o.csv")
    assert finished.status == 0, finished.err
    with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = bothways.load(place.bundle, precision="int8").stream([row["review"] for row in rows])
    assert [float(row["predicted_probability"]) for row in rows] == [p.probability for p in expected]


def test_invalid_combinations_are_refused(cli: CommandServer, place: Workplace, pack_path: Path) -> None:
    finished = cli.run("verify", place.bundle, place.data)
    assert finished.status == 2
    assert "Add --precision int8, or use bothways evaluate" in finished.error_line
    finished = cli.run("verify", pack_path, "--precision", "int8")
    assert finished.status == 2
    assert "a language-model can't be verified in int8" in finished.error_line
