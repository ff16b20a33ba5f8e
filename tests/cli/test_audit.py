"""Audits and texts to label on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import bothways
from tests.cli.conftest import Workplace
from tests.processes import CommandServer

TOPICS = {
    "delivery": ["parcel", "driver", "courier", "doorstep"],
    "billing": ["invoice", "charged", "refund", "payment"],
}


def write_rows(path: Path) -> None:
    """Write 60 rows. Row 11 has a wrong label, row 60 repeats row 2."""
    rows = []
    for number in range(59):
        label = ("delivery", "billing")[number % 2]
        words = TOPICS[label]
        text = f"{words[number % 4]} {words[number // 4 % 4]} [bold] case {'abcdefgh'[number % 8]} number {number}"
        rows.append((text, "billing" if number == 10 else label))
    rows.append((rows[1][0].upper(), rows[1][1]))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def test_an_audit_prints_and_writes_its_findings(cli: CommandServer, tmp_path: Path) -> None:
    data, out, page = tmp_path / "d.csv", tmp_path / "a.csv", tmp_path / "a.html"
    write_rows(data)
    columns = ("--text", "text", "--label", "label")
    finished = cli.run("audit", data, *columns, "--test", data, "--out", out, "--page", page)
    assert (finished.status, finished.err) == (0, "")
    shown = finished.out.decode()
    assert f"60 rows of {data}" in shown
    assert "[bold]" in shown
    assert f"Written: {page}. It contains texts of the data." in shown
    audit = bothways.audit(data, text="text", label="label", test=data)
    with out.open(encoding="utf-8", newline="") as file:
        found = [(row["kind"], int(row["row"])) for row in csv.DictReader(file)]
    assert found == [(each.kind, each.row) for each in audit.findings]
    assert {("label-error", 11), ("duplicate", 60), ("test-leak", 60)} <= {*found}
    assert page.read_bytes().startswith(b"<!doctype html>")

    finished = cli.run("audit", data, *columns, "--json")
    assert json.loads(finished.out) == bothways.audit(data, text="text", label="label").to_dict()


def test_an_audit_that_cannot_be_made_ends_in_one_line(cli: CommandServer, tmp_path: Path) -> None:
    data, out = tmp_path / "d.csv", tmp_path / "a.csv"
    write_rows(data)
    out.write_text("kept")
    for arguments, message in (
        (("--out", out), f"{out} exists: choose another --out"),
        (("--page", tmp_path / "none" / "a.html"), "does not exist: create it first"),
        (("--test", tmp_path / "none.csv"), "file not found"),
        (("--label", "stars"), "has no column 'stars'"),
    ):
        finished = cli.run("audit", data, "--text", "text", "--label", "label", *arguments)
        assert finished.status in (1, 2)
        assert message in finished.err
        assert finished.err.count("\n") == 1
    assert out.read_text() == "kept"


def test_texts_to_label_are_printed_and_written(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    out = tmp_path / "next.csv"
    finished = cli.run("label-next", place.bundle, place.data, "--number", 7, "--out", out)
    assert (finished.status, finished.err) == (0, "")
    assert "7 texts to label" in finished.out.decode()
    expected = bothways.label_next(place.bundle, place.data, number=7)
    with out.open(encoding="utf-8", newline="") as file:
        found = [(int(row["row"]), row["predicted_label"], row["text"]) for row in csv.DictReader(file)]
    assert found == [(each.row, *each.predicted, each.text) for each in expected]
    finished = cli.run("label-next", place.bundle, place.data, "--number", 7, "--json")
    assert json.loads(finished.out) == [each.to_dict() for each in expected]


def test_a_regression_has_no_texts_to_label_next(
    cli: CommandServer, regression_bundle_path: Path, tmp_path: Path
) -> None:
    data = tmp_path / "d.csv"
    write_rows(data)
    finished = cli.run("label-next", regression_bundle_path, data, "--text", "text")
    assert finished.status == 2
    assert "a regression model predicts a number" in finished.err
