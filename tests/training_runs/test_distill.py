"""Distillation: a small model learns what a larger one predicts, from texts without labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bothways
from bothways.errors import ConfigError, DataError
from bothways.training.plan import PlanFolder, SplitName
from tests.training_runs.test_soft_labels import BAD, CONFIG, GOOD, MORE, probability_of_good
from tests.training_runs.test_training_data import CONFIG_DICT, OPTIONS

SMALLER = {**CONFIG_DICT, "encoder": {"embedding_size": 12, "hidden_size": 16, "layers": 1, "precision": "float32"}}
QUIET = {"progress": False, "directions": "forward", "config": SMALLER}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "teacher.bundle"
    labels = ["good" if probability_of_good(text) > 0.5 else "bad" for text in MORE]
    options: dict[str, Any] = {**OPTIONS, "config": CONFIG}
    bothways.train({"review": MORE, "mood": labels}, text="review", label="mood", out=out, **options)
    return out


def test_a_smaller_model_learns_what_its_teacher_predicts(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The columns are the teacher's, and so is what is recorded, so that the model is used in its place."""
    with (tmp_path / "more.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["review", "stars"], *([text, 3] for text in MORE)])
    options = {**QUIET, "progress": True}
    model = bothways.distill(teacher, tmp_path / "more.csv", out=tmp_path / "fast.bundle", **options)  # type: ignore[arg-type]
    printed = capsys.readouterr().err
    assert "labeled 48 texts" in printed
    assert "are the agreement with the teacher" in printed
    assert model.labels == ("bad", "good")
    record = model.manifest.training
    assert (record.text_columns, record.label_column, record.size) == (["review"], "mood", "tiny")
    assert record.rows["labeled by a teacher"] == record.rows["training"] == 48 - record.rows["validation"]
    new = [f"film {number} was {word}" for number, word in enumerate(GOOD[2:] + BAD[2:])]
    larger = bothways.load(teacher)
    assert (model.predict(new) == larger.predict(new)).all()
    assert model.manifest.members[0].architecture.width_hidden < larger.manifest.members[0].architecture.width_hidden
    assert bothways.verify(tmp_path / "fast.bundle").passed


def test_it_is_validated_on_labeled_rows_that_are_not_learned(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bothways.training.pipeline.train_directions", interrupted)
    valid = {"review": MORE[:6], "mood": ["good", "bad"] * 3}
    options = {**QUIET, "progress": True, "out": tmp_path / "m.bundle"}
    with pytest.raises(KeyboardInterrupt):
        bothways.distill(bothways.load(teacher), MORE, valid=valid, **options)  # type: ignore[arg-type]
    printed = capsys.readouterr().err
    assert "6 of 48 texts are validation rows and are left out" in printed
    assert "are those of the labels in the table" in printed
    files = PlanFolder(tmp_path / "m.bundle.run")
    assert files.targets(SplitName.VALIDATION).tolist() == [1, 0] * 3
    assert files.targets(SplitName.TRAINING).shape == (42, 2)


def test_calibration_follows_the_probabilities_of_the_teacher() -> None:
    """Not its labels: a teacher that is right three times out of four makes no student that is always sure."""
    from bothways.tasks.single_label import SingleLabel

    task = SingleLabel(("bad", "good"))
    scores = np.array([[0.2, 0.8], [0.8, 0.2]] * 20)
    targets = scores.argmax(axis=1)
    soft = np.where(scores > 0.5, 0.75, 0.25)
    assert task.with_temperature(scores, task.calibrated(scores, targets).temperature).max() > 0.95
    calibrated = task.with_temperature(scores, task.calibrated(scores, targets, soft).temperature)
    assert calibrated.max() == pytest.approx(0.75, abs=0.01)


def test_what_cannot_be_distilled_is_refused(teacher: Path, targets_bundle_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    with pytest.raises(DataError, match="all 12 rows have the label 'good'"):
        bothways.distill(teacher, [f"film {number} was fine and fine" for number in range(12)], out=out, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="has no column 'review'"):
        bothways.distill(teacher, {"text": MORE}, out=out, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the teacher predicts several numbers"):
        bothways.distill(targets_bundle_path, MORE, out=out, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--size cannot be combined with --pretrained"):
        bothways.distill(teacher, MORE, out=out, size="base", pretrained="en-small", **QUIET)  # type: ignore[arg-type]
    assert not out.exists()


def test_a_regression_is_distilled(regression_bundle_path: Path, tmp_path: Path) -> None:
    model = bothways.distill(regression_bundle_path, MORE, out=tmp_path / "m.bundle", force=True, **QUIET)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "m.bundle" / "bundle.json").read_text())["task"] == "regression"
    assert model.manifest.training.rows["labeled by a teacher"] > 30
