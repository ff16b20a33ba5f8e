"""Regression on the command line: train, evaluate, predict, verify, info, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from sklearn import metrics

import bothways
from tests.cli.conftest import CONFIG, Workplace, cells, some_rows, titled_cells
from tests.processes import CommandServer

VALUES = {"01": 1.0, "[red]": 3.0, "né": 5.0}


@pytest.fixture(scope="module")
def regression(cli_with_torch: CommandServer, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A regression model trained on a numeric column."""
    folder = tmp_path_factory.mktemp("regression")
    found = Workplace(folder, folder / "m.bundle", folder / "d.csv")
    (folder / "c.toml").write_text(CONFIG)
    with found.data.open("w", newline="", encoding="utf-8") as file:
        rows = [(number, text, VALUES[label]) for number, text, label in some_rows()]
        csv.writer(file).writerows([("id", "review", "stars"), *rows])
    finished = cli_with_torch.run(
        *("train", found.data, "--text", "review", "--label", "stars", "--task", "regression"),
        *("--pretrained", "none", "--out", found.bundle, "--config", folder / "c.toml"),
    )
    assert finished.status == 0, finished.err
    shown = titled_cells(finished.out)
    recorded = bothways.load(found.bundle).manifest.training.validation["ensemble"]
    assert shown["ensemble"]["RMSE"] == f"{recorded['rmse']:.5g}"
    assert shown["ensemble"]["Spearman"] == f"{recorded['spearman']:.4f}"
    return found


def test_metrics_are_in_the_unit_of_the_target(cli: CommandServer, regression: Workplace) -> None:
    finished = cli.run("evaluate", regression.bundle, regression.data)
    assert (finished.status, finished.err) == (0, "")
    found = titled_cells(finished.out)
    with regression.data.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    values = bothways.load(regression.bundle).predict([row["review"] for row in rows])
    true = [float(row["stars"]) for row in rows]
    assert found["ensemble"]["RMSE"] == f"{metrics.root_mean_squared_error(true, values):.5g}"
    assert found["ensemble"]["R²"] == f"{metrics.r2_score(true, values):.4f}"
    assert set(found) == {"forward", "backward", "ensemble", "95 % interval"}  # and no table of classes


def test_one_column_is_added(cli: CommandServer, regression: Workplace, tmp_path: Path) -> None:
    finished = cli.run("predict", regression.bundle, regression.data, "--out", tmp_path / "out.csv")
    assert finished.status == 0, finished.err
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "review", "stars", "predicted_value"]
    expected = bothways.load(regression.bundle).predict([row["review"] for row in rows])
    assert [float(row["predicted_value"]) for row in rows] == expected.tolist()


def test_it_is_verified_in_both_precisions(cli: CommandServer, regression: Workplace) -> None:
    finished = cli.run("verify", regression.bundle)
    assert (finished.status, finished.err) == (0, "")
    assert all(float(row[0]) <= float(row[1]) for row in cells(finished.out).values())
    assert "largest difference of a value (relative to the scale of its target)" in finished.out.decode()
    finished = cli.run("verify", regression.bundle, regression.data, "--precision", "int8")
    assert (finished.status, finished.err) == (0, "")
    assert {"float32", "int8"} <= cells(finished.out).keys()
    assert "other labels" not in finished.out.decode()


def test_info_shows_the_target(cli: CommandServer, regression: Workplace) -> None:
    found = cells(cli.run("info", regression.bundle).out)
    assert found["task"] == ["regression"]
    target = bothways.load(regression.bundle).manifest.target
    assert target is not None
    assert found["target"] == [f"mean {target.center:.6g}, standard deviation {target.scale:.6g} in training"]
    assert not {"labels", "thresholds", "temperature"} & found.keys()


def test_a_model_is_trained_on_one_target(cli_with_torch: CommandServer, regression: Workplace, tmp_path: Path) -> None:
    columns = ("--text", "review", "--label", "stars", "--label", "id", "--task", "regression")
    finished = cli_with_torch.run("train", regression.data, *columns, "--out", tmp_path / "m.bundle")
    assert finished.status == 2
    assert "2 label columns are named ('stars', 'id'), expected one" in finished.error_line
    assert list(tmp_path.iterdir()) == []


def test_what_needs_labels_is_refused(cli: CommandServer, regression: Workplace, tmp_path: Path) -> None:
    for arguments in (
        ("early-exit", regression.bundle, regression.data, "--out", tmp_path / "fast"),
        ("predict", regression.bundle, regression.data, "--early-exit", "--out", tmp_path / "out.csv"),
    ):
        finished = cli.run(*arguments)
        assert finished.status == 2
        assert "a regression model predicts a number" in finished.error_line
    assert list(tmp_path.iterdir()) == []
