"""Keeping the best epoch and early stopping, which survive a kill at any step (guarantee 7)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bothways.bundle.manifest import Architecture
from bothways.errors import ConfigError
from bothways.tasks.single_label import SingleLabel
from bothways.text.reading import Direction
from bothways.training.checkpoints import (
    AnyCheckpoint,
    Checkpoints,
    ClassifierCheckpoint,
    with_prefix,
)
from bothways.training.classifier import ClassRows, class_scores, train_classifier
from bothways.training.hyperparameters import ClassifierConfig, load_hyperparameters
from bothways.training.models import build_classifier, build_language_model
from bothways.training.objective import objective_of
from bothways.training.reports import EpochReport, Report, StageReport

TASK = SingleLabel(("a", "b"))
SIZES = Architecture(vocabulary_size=20, width_embedding=8, width_hidden=8, layers=1)
EPOCHS = 6


def rows(count: int, seed: int, wrong: bool = False) -> ClassRows:
    """Return texts whose first half of the vocabulary means class 0."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, count)
    ids = [rng.integers(3 + 8 * label, 11 + 8 * label, 6).astype(np.int32) for label in truth]
    return ClassRows(ids, 1 - truth if wrong else truth)


TRAIN = rows(24, 0)
GETS_WORSE = rows(16, 1, wrong=True)


class Kept(Checkpoints):
    """Checkpoints after every step, in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0)
        self.all: list[AnyCheckpoint] = []

    def save(self, checkpoint: AnyCheckpoint) -> None:
        super().save(checkpoint)
        found, _ = self.newest()
        assert found is not None
        self.all.append(found)


def a_start() -> ClassifierCheckpoint:
    language_model = build_language_model(SIZES, Direction.FORWARD, 0)
    model = build_classifier(language_model, Direction.FORWARD, 2, ClassifierConfig(), 0)
    return ClassifierCheckpoint(perplexity=1.0, tensors=with_prefix("model", model.state_dict()))


def trained(
    folder: Path, start: ClassifierCheckpoint, **changes: object
) -> tuple[list[Report], dict[str, torch.Tensor], Kept, float]:
    """Return reports, final weights, checkpoints and the final loss on the validation rows."""
    config = ClassifierConfig.model_validate(
        {"epochs": EPOCHS, "batch_size": 8, "learning_rate": 0.05, "head_dropout": 0.0, **changes}
    )
    language_model = build_language_model(SIZES, Direction.FORWARD, 0)
    model = build_classifier(language_model, Direction.FORWARD, 2, config, 0)
    model.load_state_dict(start.part("model"))
    checkpoints, objective = Kept(folder), objective_of(TASK)
    reports = [*train_classifier(model, TRAIN, GETS_WORSE, TASK, objective, config, 3, start, checkpoints)]
    loss = TASK.epoch_metrics(class_scores(model, GETS_WORSE.ids, objective, config), GETS_WORSE.targets)["loss"]
    return reports, model.state_dict(), checkpoints, loss


def epochs_of(reports: list[Report]) -> list[EpochReport]:
    return [report for report in reports if isinstance(report, EpochReport)]


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_last_epoch_is_kept_by_default_and_the_best_if_requested(tmp_path: Path) -> None:
    start = a_start()
    reports, last, _, loss = trained(tmp_path / "last", start)
    losses = [report.metrics["loss"] for report in epochs_of(reports)]
    assert len(losses) == 2 + EPOCHS  # two steps of gradual unfreezing
    assert loss == losses[-1]
    best_reports, best, _, best_loss = trained(tmp_path / "best", start, keep="best")
    assert [report.metrics for report in epochs_of(best_reports)] == [report.metrics for report in epochs_of(reports)]
    kept = [report for report in epochs_of(best_reports) if report.is_best][-1]
    assert kept.epoch < len(losses)  # otherwise the test shows nothing
    assert best_loss == kept.metrics["loss"]
    assert not same(last, best)


def test_the_best_epoch_is_the_most_accurate_and_then_the_one_with_the_least_loss() -> None:
    ranks = [TASK.epoch_rank({"accuracy": accuracy, "loss": loss}) for accuracy, loss in ((0.8, 9), (0.8, 1), (0.7, 0))]
    assert ranks[1] > ranks[0] > ranks[2]


def test_training_stops_when_epochs_with_all_layers_unfrozen_do_not_improve(tmp_path: Path) -> None:
    reports, weights, _, _ = trained(tmp_path / "a", a_start(), keep="best", patience=2)
    epochs = epochs_of(reports)
    best = [report.epoch for report in epochs if report.is_best][-1]
    assert len(epochs) == max(best, 2) + 2 < 2 + EPOCHS
    message = f"forward stopped after epoch {len(epochs)}/{2 + EPOCHS}: epoch {best} was the best"
    assert reports[-1] == StageReport("classifier", message)
    whole_reports, whole, _, _ = trained(tmp_path / "b", a_start(), keep="best")
    assert epochs == [
        EpochReport(**{**vars(theirs), "seconds": ours.seconds})
        for ours, theirs in zip(epochs, epochs_of(whole_reports), strict=False)
    ]
    assert same(weights, whole)  # no later epoch was better


@pytest.mark.parametrize("changes", [{"keep": "best"}, {"keep": "best", "patience": 2}])
def test_training_continues_from_any_step_to_the_same_bytes(tmp_path: Path, changes: dict[str, object]) -> None:
    _, expected, checkpoints, _ = trained(tmp_path / "whole", a_start(), **changes)
    assert len(checkpoints.all) >= 12
    for number, start in enumerate(checkpoints.all[::3]):
        assert isinstance(start, ClassifierCheckpoint)
        assert bool(start.part("best")) == ("keep" in changes and start.best_epoch >= 0)
        _, found, _, _ = trained(tmp_path / str(number), start, **changes)
        assert same(found, expected), f"from epoch {start.epoch}, batch {start.batch}"


def test_patience_needs_the_best_epoch(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[classifier]\npatience = 3\n")
    with pytest.raises(ConfigError, match=r'1 error: classifier\.patience: needs keep = "best" beside it, found 3$'):
        load_hyperparameters("small", path)
    path.write_text('[classifier]\npatience = 3\nkeep = "best"\n')
    assert load_hyperparameters("small", path).classifier.patience == 3
    path.write_text("[classifier]\npatience = 0\n")
    with pytest.raises(ConfigError, match=r"classifier\.patience: input should be 'none' or "):
        load_hyperparameters("small", path)
