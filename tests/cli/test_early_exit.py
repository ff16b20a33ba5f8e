"""Early exit on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import bothways
from bothways.runtime.classifier import Classifier
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


def test_a_start_with_the_linear_member_is_shown(
    cli: CommandServer, linear_bundle_path: Path, linear_model: Classifier, tmp_path: Path
) -> None:
    fast, data = tmp_path / "fast.bundle", tmp_path / "d.jsonl"
    texts = [f"{'what a lovely film' if number % 3 else 'the cat HATED it'} {number}" for number in range(120)]
    rows = zip(texts, linear_model.predict(texts), strict=True)
    data.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    finished = cli.run("early-exit", linear_bundle_path, data, "--out", fast, "--loss", 5, "--label", "label")
    assert (finished.status, finished.err) == (0, "")
    shown = finished.out.decode()
    model = bothways.load(fast, early_exit=True)
    found = model.early_exit
    assert found is not None
    assert found.linear is not None
    assert f"linear model first, then {found.first}, on 120 rows" in shown
    share = f"{found.linear.read_by_linear:.1%}"
    assert f"Read in no direction: {share}, where the linear model has a confidence above " in shown
    described = " ".join(cli.run("info", fast).out.decode().replace("│", " ").split())
    assert f"linear model alone above confidence {found.linear.threshold:.4g}: {share} of 120 rows, " in described
    one_direction = 1 - found.linear.read_by_linear - found.read_by_both
    assert f"{found.first} alone above {found.threshold:.4g}: {one_direction:.1%}, both: " in described

    out = tmp_path / "out.jsonl"
    assert cli.run("predict", fast, data, "--early-exit", "--out", out).status == 0
    read = [json.loads(line)["predicted_read"] for line in out.read_text().splitlines()]
    assert read == [prediction.read for prediction in model.stream(texts)]
    assert read.count("linear") == round(120 * found.linear.read_by_linear) > 0


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
