"""A time budget: fewer epochs, recorded once, so that a killed run continues; too short ones are refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bothways
from bothways.errors import ConfigError
from bothways.text.reading import Direction
from bothways.training import pipeline
from bothways.training.plan import Plan, PlanFolder
from bothways.training.reports import Report, StageReport
from bothways.training.time_budget import STAGE
from tests.training_runs.test_training_data import OPTIONS, frame_of_stars

LANGUAGE_MODEL_S, EPOCH_S = 4000.0, 1000.0


def options(**changes: Any) -> dict[str, Any]:
    """Return options with whose hyperparameters 2 epochs of language model and 6 of classifier are the whole."""
    found = copy.deepcopy({**OPTIONS, "text": "text", "label": "stars", "force": True})
    config: Any = found["config"]
    config["language_model"] = {"target_tokens": 1, "batch_size": 4, "sequence_length": 12}
    del config["classifier"]["epochs"]
    config["classifier"]["target_texts"] = 6 * 43
    return {**found, **changes}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend that language models take 4,000 seconds, and an epoch of classifiers 1,000; list what is measured.

    Beside these, the seconds that reading the rows takes do not matter.
    """
    sizes = []

    def measure(folder: Path, plan: Plan) -> Iterator[Report]:
        assert PlanFolder(folder).read_plan().is_provisional
        sizes.append(str(plan.size))
        cost = {"of_epoch": EPOCH_S, "of_validation": 0.0, "groups": 3, "texts": 43}
        yield StageReport("time", facts={"language_model": LANGUAGE_MODEL_S, "tokens": 1000, "classifier": cost})

    monkeypatch.setattr(pipeline, "measure_directions", measure)
    return sizes


def epochs(model: bothways.Classifier) -> tuple[object, object]:
    used: Any = model.manifest.training.hyperparameters
    return used["language_model"]["epochs"], used["classifier"]["epochs"]


def test_a_budget_halves_the_epochs_and_is_recorded(tmp_path: Path, measured: list[str]) -> None:
    """Of 6,000 seconds a tenth is reserved, and 5,400 are about half of the 10,000 that all epochs take."""
    model = bothways.train(frame_of_stars(), out=tmp_path / "m.bundle", time_budget="6000s", **options())
    assert len(measured) == 1
    language_model, classifier = epochs(model)
    assert isinstance(language_model, float)
    assert 0.9 < language_model <= 1.08  # reading the rows also counts
    assert classifier == 3
    assert model.manifest.training.size == "tiny"
    stated = options()
    stated["config"]["language_model"]["epochs"] = language_model
    stated["config"]["classifier"]["epochs"] = classifier
    again = bothways.train(frame_of_stars(), out=tmp_path / "again.bundle", **stated)
    weights = "forward.safetensors"
    assert (tmp_path / "m.bundle" / weights).read_bytes() == (tmp_path / "again.bundle" / weights).read_bytes()
    assert again.manifest.training.validation == model.manifest.training.validation


def test_unfreezing_is_left_out_unless_it_is_stated(tmp_path: Path, measured: list[str]) -> None:
    """All epochs take more than 9,000 seconds, with and without gradual unfreezing."""
    for name, stated, found in (("a", None, 0), ("b", 1, 1)):
        arguments = options()
        del arguments["config"]["classifier"]["unfreezing_epochs"]
        if stated is not None:
            arguments["config"]["classifier"]["unfreezing_epochs"] = stated
        model = bothways.train(frame_of_stars(), out=tmp_path / name, time_budget="10000s", **arguments)
        used: Any = model.manifest.training.hyperparameters
        assert used["classifier"]["unfreezing_epochs"] == found


def test_a_long_budget_changes_nothing(tmp_path: Path, measured: list[str]) -> None:
    model = bothways.train(frame_of_stars(), out=tmp_path / "m.bundle", time_budget="10h", **options())
    whole = bothways.train(frame_of_stars(), out=tmp_path / "whole.bundle", **options())
    assert model.digest == whole.digest


def test_a_killed_run_keeps_its_epochs_and_needs_the_same_budget(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget does not begin again, and nothing is measured again."""
    arguments = {"out": tmp_path / "m.bundle", "time_budget": "6000s", **options()}

    def killed(folder: Path, plan: Plan) -> Iterator[Report]:
        assert not plan.is_provisional
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "train_directions", killed)
        with pytest.raises(KeyboardInterrupt):
            bothways.train(frame_of_stars(), **arguments)
    plan = PlanFolder(tmp_path / "m.bundle.run").read_plan()
    with pytest.raises(ConfigError, match="time_budget"):
        bothways.train(frame_of_stars(), **{**arguments, "time_budget": "6001s"})
    model = bothways.train(frame_of_stars(), **arguments)
    assert epochs(model) == (plan.hyperparameters.language_model.epochs, plan.hyperparameters.classifier.epochs)
    assert len(measured) == 1


def test_a_model_from_scratch_without_a_stated_size_becomes_tiny(tmp_path: Path, measured: list[str]) -> None:
    model = bothways.train(frame_of_stars(), out=tmp_path / "m.bundle", time_budget="4000s", **options(size=None))
    assert measured == ["small", "tiny"]
    assert model.manifest.training.size == "tiny"
    assert epochs(model)[1] == 2  # of 6: the pretended costs are those of the larger size


def test_a_run_that_was_killed_after_it_became_tiny_stays_so(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"out": tmp_path / "m.bundle", "time_budget": "4000s", **options(size=None)}
    measure = vars(pipeline)["measure_directions"]

    def killed_at_the_second(folder: Path, plan: Plan) -> Iterator[Report]:
        if plan.size == "tiny":
            raise KeyboardInterrupt
        yield from measure(folder, plan)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "measure_directions", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            bothways.train(frame_of_stars(), **arguments)
    assert PlanFolder(tmp_path / "m.bundle.run").read_plan().is_provisional
    assert bothways.train(frame_of_stars(), **arguments).manifest.training.size == "tiny"
    assert measured == ["small", "tiny"]


def test_a_budget_that_is_too_short_is_refused_with_what_is_needed(tmp_path: Path, measured: list[str]) -> None:
    """One epoch takes 1,000 seconds. The folder of the run is removed, so that another budget can follow."""
    with pytest.raises(ConfigError, match=r"15 minutes is too short: .* at least 19 minutes on this machine"):
        bothways.train(frame_of_stars(), out=tmp_path / "m.bundle", time_budget="900s", **options())
    bothways.train(frame_of_stars(), out=tmp_path / "m.bundle", time_budget="4000s", **options())


def test_stated_epochs_are_refused_before_rows_are_read(tmp_path: Path) -> None:
    config = {"language_model": {"epochs": 2}, "classifier": {"epochs": 3}}
    arguments = {**options(), "config": config, "out": tmp_path / "m.bundle"}
    with pytest.raises(ConfigError, match=r"language_model.epochs and classifier.epochs are both stated"):
        bothways.train(tmp_path / "missing.csv", time_budget="10m", **arguments)


@pytest.mark.slow
def test_real_measurements_lead_to_a_training_within_the_budget(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both directions are measured at the same time, by the processes that train them later."""
    arguments = options(directions="both", progress=True)
    arguments["config"]["classifier"]["target_texts"] = 10**6
    model = bothways.train(frame_of_stars(), out=tmp_path / "m.bundle", time_budget="20m", **arguments)
    assert set(model.manifest.training.validation) == {*Direction, "ensemble"}
    assert f"{STAGE}: " in capfd.readouterr().err
