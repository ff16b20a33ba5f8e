"""Guarantee 9: with a linear member, the ensemble is never clearly worse than the linear model, nor than without it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.tasks.metrics import Scores
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import LabeledTexts, Targets, Task
from bothways.training import linear
from bothways.training.linear import TrainedLinear, fit_linear

RESULTS = Path(__file__).parents[2] / "benchmarks" / "accuracy" / "results"
WORDS = ["lovely", "dull", "film", "story", "so", "very", "good", "bad"]
TRAIN, VALID = 24, 12


def loss(task: Task, directions: Scores, found: TrainedLinear | None, targets: Targets) -> float:
    """Return the loss of the calibrated ensemble on all validation rows together, in nats."""
    scores = directions if found is None else task.mixed(directions, found.validation, found.member.weight)
    calibrated = task.calibrated(scores, targets)
    return len(targets) * task.epoch_metrics(task.with_temperature(scores, calibrated.temperature), targets)["loss"]


@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize("name", ["single-label", "multi-label", "regression"])
@given(seed=st.integers(0, 2**32 - 1), knows=st.floats(0, 1), learns=st.floats(0, 1))
def test_the_loss_on_validation_rows_is_at_most_one_nat_above_that_of_each_part(
    name: str, seed: int, knows: float, learns: float
) -> None:
    """For directions that know anything from nothing to all, and texts that tell as much.

    Args:
        name: Task.
        seed: Of everything random.
        knows: How often the directions are right.
        learns: How often a text contains the word of its class.
    """
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, TRAIN + VALID)
    classes[:2] = 0, 1
    texts = [
        " ".join([*rng.choice(WORDS[2:], 3), WORDS[label if rng.random() < learns else 1 - label]]) for label in classes
    ]
    task, targets, directions = SETTINGS[name](classes, rng.random(TRAIN + VALID) < knows, rng)
    arguments = (
        texts[:TRAIN],
        targets[:TRAIN],
        None,
        None,
        texts[TRAIN:],
        targets[TRAIN:],
        directions[TRAIN:],
        task,
        0,
    )
    chosen = fit_linear(*arguments)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(linear, "_WEIGHTS", (1.0,))
        alone = fit_linear(*arguments)
    assert alone is not None
    assert alone.member.weight == 1
    of_ensemble, of_linear, of_directions = (
        loss(task, directions[TRAIN:], found, targets[TRAIN:]) for found in (chosen, alone, None)
    )
    assert of_ensemble <= min(of_linear, of_directions) + 1 + 1e-9


def _single(classes: Targets, is_right: Targets, rng: np.random.Generator) -> tuple[Task, Targets, Scores]:
    share = rng.uniform(0.5, 1, len(classes))
    predicted = np.where(is_right, classes, 1 - classes)
    return (
        SingleLabel(("a", "b")),
        classes,
        np.where(np.arange(2) == predicted[:, None], share[:, None], 1 - share[:, None]),
    )


def _several(classes: Targets, is_right: Targets, rng: np.random.Generator) -> tuple[Task, Targets, Scores]:
    _, _, scores = _single(classes, is_right, rng)
    targets = np.stack([classes == 0, classes == 1], axis=1).astype(np.float32)
    return MultiLabel(("a", "b"), thresholds=(0.5, 0.5)), targets, scores


def _number(classes: Targets, is_right: Targets, rng: np.random.Generator) -> tuple[Task, Targets, Scores]:
    values = classes[:, None] * 4.0 + rng.normal(size=(len(classes), 1))
    task = Regression().fitted(LabeledTexts("rows", [""] * TRAIN, values[:TRAIN, 0].tolist()))
    return task, values, np.where(is_right[:, None], values, values.mean())


SETTINGS = {"single-label": _single, "multi-label": _several, "regression": _number}


def measured() -> list[dict[str, Any]]:
    """Return the results with a linear member. Its weight is 0 in the others, so that the ensemble has none."""
    results = (
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*/*.bothways-linear*.json"))
    )
    return [result for result in results if "linear" in result["scores"]]


@pytest.mark.parametrize("result", measured(), ids=lambda result: "{set}.{method}.{seed}".format(**result))
def test_it_is_not_clearly_worse_than_the_linear_member_on_the_test_rows_of_the_benchmark(
    result: dict[str, Any],
) -> None:
    """Clearly: by more than two standard errors of the difference of two independent error rates."""
    is_error = result["measure"] == "error"
    values = [result["scores"][name][result["measure"]] for name in ("ensemble", "linear")]
    ensemble, alone = values if is_error else [1 - value for value in values]
    allowed = 2 * math.sqrt((ensemble * (1 - ensemble) + alone * (1 - alone)) / result["rows"]["test"])
    assert ensemble <= alone + allowed
