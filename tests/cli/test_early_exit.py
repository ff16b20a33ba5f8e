"""Early exit on the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import bothways
from tests.cli.conftest import Workplace
from tests.processes import CommandServer


def test_early_exit_is_calibrated_and_used(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    fast, out = tmp_path / "fast.bundle", tmp_path / "out.csv"
    finished = cli.run("early-exit", place.bundle, place.data, "--out", fast, "--loss", 5)
    assert (finished.status, finished.err) == (0, "")
    shown = finished.out.decode()
    assert "first, on 60 rows" in shown
    assert shown.count("<- chosen") == 1
    assert f"Next: bothways predict {fast} FILE --early-exit --out FILE" in shown
    assert " first, both directions up to confidence " in cli.run("info", fast).out.decode()

    finished = cli.run("predict", fast, place.data, "--early-exit", "--out", out)
    assert finished.status == 0, finished.err
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = list(bothways.load(fast, early_exit=True).stream([row["review"] for row in rows]))
    assert [row["predicted_read"] for row in rows] == [prediction.read for prediction in expected]
    assert [row["predicted_label"] for row in rows] == [prediction.label for prediction in expected]
    assert [float(row["predicted_probability"]) for row in rows] == [p.probability for p in expected]


def test_too_few_rows_and_bundles_without_early_exit_are_refused(
    cli: CommandServer, place: Workplace, tmp_path: Path
) -> None:
    finished = cli.run("early-exit", place.bundle, place.data, "--out", tmp_path / "fast")
    assert finished.status == 1
    assert (
        "60 rows, too few to measure a loss of 0.1 percentage points. At least 1000 are needed" in finished.error_line
    )
    finished = cli.run("predict", place.bundle, place.data, "--early-exit", "--out", tmp_path / "out.csv")
    assert finished.status == 2
    assert "has no early exit; calibrate it on labeled rows with bothways early-exit" in finished.error_line
    assert not list(tmp_path.iterdir())
