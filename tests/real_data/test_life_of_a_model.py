"""Questions of TREC-6: a model gets a new class and new rows, is cross-validated and tuned. Brief trainings.

Nothing here measures the accuracy of a real training. That is in docs/benchmarks.md.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bothways
from bothways.errors import WorseThanBefore

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("BOTHWAYS_DATA" not in os.environ, reason="BOTHWAYS_DATA is not set: no real data sets"),
]
BRIEF: dict[str, Any] = {
    "text": "text",
    "label": "label",
    "progress": False,
    "config": {
        "language_model": {"epochs": 0},
        "classifier": {"epochs": 4, "unfreezing_epochs": 0, "max_text_tokens": 40, "learning_rate": 0.01},
    },
}
NEW = "NUM"
"""The class that the first model does not know."""


def questions(count: int) -> list[dict[str, str]]:
    with (Path(os.environ["BOTHWAYS_DATA"]) / "trec6" / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [rows[number] for number in np.random.default_rng(0).permutation(len(rows))[:count].tolist()]


def test_an_update_learns_a_class_and_keeps_the_others(tmp_path: Path) -> None:
    rows = questions(1_400)
    old, new, test = [row for row in rows[:700] if row["label"] != NEW], rows[700:1_000], rows[1_000:]
    first = bothways.train(old, out=tmp_path / "old.bundle", pretrained="en-small", **BRIEF)
    assert NEW not in first.labels
    found = bothways.update(tmp_path / "old.bundle", new, old=old, out=tmp_path / "new.bundle", max_drop=0.3, **BRIEF)
    assert found.added == (NEW,)
    assert found.old is not None
    known = bothways.evaluate(first, [row for row in test if row["label"] != NEW]).summary["ensemble"]
    after = bothways.evaluate(found.model, test)
    every = after.summary["ensemble"]
    f1 = {each.label: each.f1 for each in after.classes}
    print(
        f"\nupdate: {len(old)} old rows, {len(new)} new ones; accuracy on questions of the old classes "
        f"{known['accuracy']:.1%}, after the update on all {every['accuracy']:.1%}; F1 of the new class {f1[NEW]:.1%}"
    )
    assert f1[NEW] > 0.5  # 45 questions taught it
    assert every["accuracy"] > known["accuracy"] - 0.05  # with one class more
    mislabeled = [{**row, "label": "LOC" if row["label"] == "HUM" else row["label"]} for row in new]
    with pytest.raises(WorseThanBefore, match="HUM"):
        bothways.update(tmp_path / "old.bundle", mislabeled, out=tmp_path / "bad.bundle", old=old, **BRIEF)
    assert not (tmp_path / "bad.bundle").exists()


def test_out_of_fold_metrics_are_those_of_other_rows(tmp_path: Path) -> None:
    """The mean of the folds is not better than what 500 other rows show. Its models have a third of the rows less."""
    rows = questions(1_000)
    found = bothways.cross_validate(rows[:500], folds=3, out=tmp_path / "folds", pretrained="en-small", **BRIEF)
    model = bothways.train(rows[:500], out=tmp_path / "m.bundle", pretrained="en-small", **BRIEF)
    measured = bothways.evaluate(model, rows[500:]).summary["ensemble"]["accuracy"]
    mean, deviation = found.mean["accuracy"], found.standard_deviation["accuracy"]
    print(f"\n3 folds: accuracy {mean:.1%} ± {deviation:.1%}; on 500 other rows {measured:.1%}")
    assert measured - 0.25 < mean < measured + 0.08


def test_tuning_is_never_worse_than_the_defaults_on_the_validation_rows(tmp_path: Path) -> None:
    config = {**BRIEF["config"], "classifier": {"max_text_tokens": 40, "unfreezing_epochs": 0, "epochs": 3}}
    options = {**BRIEF, "config": config, "pretrained": "en-small", "directions": "forward"}
    found = bothways.tune(questions(400), out=tmp_path / "tuned", time_budget="1h", most_trials=3, **options)
    losses = [trial.loss for trial in found.trials]
    print(f"\ntune: validation losses {losses}")
    assert found.best.loss == min(losses) <= losses[0]
    assert bothways.load(found.bundle).manifest.training.validation["ensemble"]["loss"] == found.best.loss
