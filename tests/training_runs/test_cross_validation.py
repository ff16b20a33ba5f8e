"""Cross-validation: every row is predicted by a model that was not trained on it, and nothing is trained twice."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bothways
from bothways.errors import ConfigError, DataError
from bothways.tasks.registry import new_task
from bothways.tasks.task import LabeledTexts
from bothways.training import cross_validation
from bothways.training.cross_validation import _fold_of, cross_validate
from tests.processes import CommandServer
from tests.training_runs.test_soft_labels import CONFIG
from tests.training_runs.test_training_data import OPTIONS
from tests.training_runs.test_update import OLD

BRIEF: dict[str, Any] = {**OPTIONS, "config": CONFIG}
TABLE = {"text": [*OLD["review"], "film 0 was lovely and lovely"], "label": [*OLD["mood"], "good"]}


def test_each_row_is_predicted_by_a_model_that_did_not_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_on: list[list[str]] = []
    train = bothways.train

    def recorded(table: dict[str, list[Any]], *arguments: object, **options: Any) -> bothways.Classifier:
        trained_on.append(table["text"])
        return train(table, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(cross_validation, "train", recorded)
    found = cross_validate(TABLE, text="text", label="label", folds=3, out=tmp_path / "folds", **BRIEF)
    texts = np.array(TABLE["text"])
    for number, seen in enumerate(trained_on, start=1):
        held = set(texts[found.fold_of == number])
        assert held
        assert not held & set(seen)
        assert held | set(seen) == set(texts)
    assert found.fold_of[0] == found.fold_of[-1], "rows with the same text are in the same fold"
    assert (sum(found.rows), found.labels) == (49, ("bad", "good"))
    assert max(found.rows) - min(found.rows) <= 2
    accuracy = [fold["accuracy"] for fold in found.folds]
    assert found.mean["accuracy"] == pytest.approx(np.mean(accuracy))
    assert found.standard_deviation["accuracy"] == pytest.approx(np.std(accuracy, ddof=1))
    predicted = np.array(found.labels)[found.scores.argmax(axis=1)]
    right = predicted == np.array(TABLE["label"])
    assert right.mean() == pytest.approx(np.average(accuracy, weights=found.rows))
    with found.predictions.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["predicted_label"] for row in rows] == predicted.tolist()
    assert [row["label"] for row in rows] == TABLE["label"]
    assert [float(row["probability_good"]) for row in rows] == found.scores[:, 1].tolist()
    assert not any("film" in value for row in rows for value in row.values())
    assert {path.name for path in (tmp_path / "folds").iterdir()} == {
        "predictions.csv",
        "folds.json",
        *(f"fold-{number}.json" for number in (1, 2, 3)),
    }


def test_an_interrupted_call_continues_with_the_next_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"text": "text", "label": "label", "folds": 2, "out": tmp_path / "folds", **BRIEF}
    train, calls = bothways.train, []

    def interrupted(*arguments: Any, **options: Any) -> bothways.Classifier:
        calls.append(options["out"].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(cross_validation, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(TABLE, **arguments)
    first = cross_validate(TABLE, **arguments)
    assert calls == ["fold-1.bundle", "fold-2.bundle", "fold-2.bundle"]
    again = cross_validate(TABLE, **arguments)
    assert len(calls) == 3
    assert (again.scores == first.scores).all()
    with pytest.raises(ConfigError, match="has folds of other rows or options: remove it, or choose another"):
        cross_validate(TABLE, **{**arguments, "seed": 1})
    with pytest.raises(ConfigError, match="was not made by a cross-validation: move it"):
        cross_validate(TABLE, **{**arguments, "out": tmp_path})


def test_folds_have_the_same_share_of_each_label() -> None:
    labels = ["a"] * 50 + ["b"] * 25 + ["c"] * 10
    rows = LabeledTexts("t", [f"text {number}" for number in range(85)], [(label,) for label in labels])
    fold_of = _fold_of(rows, new_task(), 5, 0)
    counts = [
        [labels[row] for row in np.flatnonzero(fold_of == fold)].count(name) for fold in range(1, 6) for name in "abc"
    ]
    assert counts == [10, 5, 2] * 5
    assert (_fold_of(rows, new_task(), 5, 0) == fold_of).all()
    assert (_fold_of(rows, new_task(), 5, 1) != fold_of).any()


@pytest.mark.slow
def test_other_tasks_have_folds_too(tmp_path: Path) -> None:
    stars = [4.5 if mood == "good" else 1.0 for mood in OLD["mood"]]
    options = {**BRIEF, "folds": 2, "force": True}
    found = cross_validate(OLD["review"], stars, out=tmp_path / "stars", task="regression", **options)
    assert (found.labels, found.scores.shape) == ((), (48, 1))
    assert found.mean["rmse"] > 0
    labels = [[mood, "film"] if mood == "good" else ["film"] for mood in OLD["mood"]]
    found = cross_validate(OLD["review"], labels, out=tmp_path / "labels", task="multi-label", **options)
    assert (found.labels, found.scores.shape) == (("film", "good"), (48, 2))
    assert ",film|good," in found.predictions.read_text().replace("good|film", "film|good")


def test_what_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"text": "text", "label": "label", "out": tmp_path / "folds", **BRIEF}
    with pytest.raises(ConfigError, match="folds is 1, expected a number from 2 to 100"):
        cross_validate(TABLE, folds=1, **arguments)
    few = {"text": ["a", "b", "c"], "label": ["x", "x", "y"]}
    with pytest.raises(DataError, match="the table: too few texts for 5 folds; add rows"):
        cross_validate(few, folds=5, **arguments)
    with pytest.raises(ConfigError, match="unknown option valid; cross_validate takes config, device"):
        cross_validate(TABLE, valid=TABLE, **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_prints_mean_and_standard_deviation(tmp_path: Path, trainer: CommandServer) -> None:
    with (tmp_path / "d.csv").open("w", newline="") as file:
        csv.writer(file).writerows([TABLE, *zip(*TABLE.values(), strict=True)])
    config = tmp_path / "c.toml"
    config.write_text(
        "[encoder]\nembedding_size = 16\nhidden_size = 24\nlayers = 1\nprecision = 'float32'\n"
        "[tokenizer]\nvocabulary_size = 200\n[language_model]\nepochs = 0\n"
        "[classifier]\nepochs = 20\nunfreezing_epochs = 0\nbatch_size = 8\nlearning_rate = 0.02\nhead_dropout = 0.0\n"
        "dropout_multiplier = 0.0\n"
    )
    arguments = ["train", tmp_path / "d.csv", "--text", "text", "--label", "label", "--out", tmp_path / "m.bundle"]
    arguments += ["--folds", 2, "--config", config, "--size", "tiny", "--directions", "forward"]
    done = trainer.run(*arguments)
    assert done.status == 0, done.err
    printed = done.out.decode()
    for part in ("2 folds, 49 rows, each predicted by", "fold 1", "fold 2", "mean", "sd", "m.bundle.folds"):
        assert part in printed
    assert "fold 2 of 2: " in done.err
    assert bothways.verify(tmp_path / "m.bundle").passed
    refused = trainer.run(*arguments, "--valid", tmp_path / "d.csv")
    assert refused.status == 2
    assert "--folds and --valid cannot be combined" in refused.error_line
    refused = trainer.run(*arguments, "--time-budget", "10m")
    assert refused.status == 2
    assert "--folds and --time-budget cannot be combined" in refused.error_line
    refused = trainer.run(*arguments[: arguments.index("--folds")], "--time-budget", "ten")
    assert refused.status == 2
    assert "time_budget is 'ten' (str), expected a duration such as 90s, 10m or 1h30m" in refused.error_line
