"""Tuning: the best trial is kept, a killed call continues with the same trial, and the defaults are among them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import bothways
from bothways.errors import ConfigError, DataError, TrainingDiverged
from bothways.toml_file import read_toml
from bothways.training import tune as module
from bothways.training.tune import tune
from tests.training_runs.test_soft_labels import CONFIG
from tests.training_runs.test_training_data import OPTIONS
from tests.training_runs.test_update import OLD

BRIEF: dict[str, Any] = {
    **OPTIONS,
    "force": True,
    "text": "review",
    "label": "mood",
    "config": {**CONFIG, "classifier": {"epochs": 4, "unfreezing_epochs": 0, "batch_size": 8, "head_dropout": 0.0}},
}


def test_the_trial_with_the_lowest_loss_is_kept(tmp_path: Path) -> None:
    found = tune(OLD, out=tmp_path / "t", time_budget="1h", most_trials=2, **BRIEF)
    assert [trial.number for trial in found.trials] == [1, 2]
    assert found.trials[0].hyperparameters == {}
    assert found.best.loss == min(trial.loss for trial in found.trials)
    model = bothways.load(found.bundle)
    assert model.manifest.training.validation["ensemble"]["loss"] == found.best.loss
    for trial in found.trials[1:]:
        assert set(trial.hyperparameters) == {
            "classifier.learning_rate",
            "classifier.dropout_multiplier",
            "classifier.label_smoothing",
        }
    written = read_toml(found.config)
    assert written["encoder"] == CONFIG["encoder"]
    used = model.manifest.training.hyperparameters
    for name, value in found.best.hyperparameters.items():
        section, key = name.split(".")
        assert used[section][key] == written[section][key] == value  # type: ignore[index]
    assert {path.name for path in (tmp_path / "t").iterdir()} == {
        "best.bundle",
        "best.toml",
        "trials.jsonl",
        "tune.json",
    }


@pytest.mark.slow
def test_a_killed_call_trains_the_same_trial_and_a_larger_budget_adds_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole search is the same as one that was not interrupted."""
    train, configs = bothways.train, []

    def counted(*arguments: Any, **options: Any) -> bothways.Classifier:
        configs.append((options["out"].name, options["config"]))
        if len(configs) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(module, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        tune(OLD, out=tmp_path / "t", time_budget="1h", most_trials=3, **BRIEF)
    tune(OLD, out=tmp_path / "t", time_budget="1h", most_trials=2, **BRIEF)
    assert configs[1] == configs[2]
    trained = len(configs)
    found = tune(OLD, out=tmp_path / "t", time_budget="1h", most_trials=3, **BRIEF)
    assert len(configs) == trained + 1
    whole = tune(OLD, out=tmp_path / "whole", time_budget="1h", most_trials=3, **BRIEF)
    assert [trial.hyperparameters for trial in found.trials] == [trial.hyperparameters for trial in whole.trials]
    assert [trial.metrics for trial in found.trials] == [trial.metrics for trial in whole.trials]
    again = tune(OLD, out=tmp_path / "t", time_budget="0.000001s", **BRIEF)
    assert len(again.trials) == 3, "the budget is spent"
    with pytest.raises(ConfigError, match="has trials of other options: choose another --out"):
        tune(OLD, out=tmp_path / "t", time_budget="1h", **{**BRIEF, "seed": 3})


@pytest.mark.slow
def test_a_bundle_is_kept_whatever_a_killed_call_had_moved(tmp_path: Path) -> None:
    """The record of a trial comes first, so its bundle may still have to be moved."""
    found = tune(OLD, out=tmp_path / "t", time_budget="1h", most_trials=1, **BRIEF)
    shutil.move(found.bundle, tmp_path / "t" / "trial-1.bundle")
    found.config.unlink()
    again = tune(OLD, out=tmp_path / "t", time_budget="0.000001s", **BRIEF)
    assert bothways.verify(again.bundle).passed
    assert again.config.exists()


@pytest.mark.slow
def test_a_trial_that_fails_is_recorded_and_what_is_stated_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = bothways.train

    def failing(*arguments: Any, **options: Any) -> bothways.Classifier:
        if options["out"].name == "trial-2.bundle":
            raise TrainingDiverged("the loss is not a number")
        return train(*arguments, **options)

    monkeypatch.setattr(module, "train", failing)
    stated = {**BRIEF, "config": {**BRIEF["config"], "language_model": {"epochs": 0, "learning_rate": 0.004}}}
    found = tune(OLD, out=tmp_path / "t", time_budget="1h", most_trials=3, **stated)
    assert (found.trials[1].error, found.trials[1].metrics) == ("the loss is not a number", {})
    assert found.best.number != 2
    assert "language_model.learning_rate" not in found.trials[2].hyperparameters
    lines = [json.loads(line) for line in (tmp_path / "t" / "trials.jsonl").read_text().splitlines()]
    assert [line["error"] for line in lines] == [None, "the loss is not a number", None]


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({}, set()),
        ({"classifier": {"epochs": 4}}, {"classifier.target_texts"}),
        (
            {"classifier": {"target_texts": 900, "learning_rate": "auto"}},
            {"classifier.target_texts", "classifier.learning_rate"},
        ),
        ({"language_model": {"epochs": 0}}, {"language_model.learning_rate"}),
        ({"language_model": {"epochs": 2}}, set()),
    ],
)
def test_a_hyperparameter_without_an_effect_is_not_searched(
    config: dict[str, dict[str, object]], missing: set[str]
) -> None:
    """Stated epochs leave the number of texts without an effect, and without epochs a learning rate has none."""
    searched = {name for name in module._RANGES if module._is_searched(name, config)}
    assert searched == set(module._RANGES) - missing


def test_impossible_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"time_budget is '0m' \(str\), expected a duration such as 90s, 10m"):
        tune(OLD, out=tmp_path / "t", time_budget="0m", **BRIEF)
    with pytest.raises(ConfigError, match="most_trials is 0, expected 1 or more"):
        tune(OLD, out=tmp_path / "t", time_budget="1m", most_trials=0, **BRIEF)
    with pytest.raises(ConfigError, match="plot cannot be combined with tune"):
        tune(OLD, out=tmp_path / "t", time_budget="1m", plot="p.png", **BRIEF)
    with pytest.raises(DataError, match="has no column 'moode'"):
        tune(OLD, out=tmp_path / "t", time_budget="1m", **{**BRIEF, "label": "moode"})
    with pytest.raises(DataError, match="has no column 'reviews'"):  # a mistake does not claim the folder
        tune(OLD, out=tmp_path / "t", time_budget="1m", **{**BRIEF, "text": "reviews"})
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="exists and has no trials: choose another --out"):
        tune(OLD, out=tmp_path, time_budget="1m", **BRIEF)
