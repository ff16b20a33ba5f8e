"""Measure how many texts a linear member alone can answer, and how much faster early exit that starts with it is.

    BOTHWAYS_DATA=... python -m benchmarks.linear_exit [--sets sms trec6] [--seeds 0 1 2] [--runs 5] [--threads 1]

Directions are not trained: their weights are random, with the sizes of ``en-small``. So the label that both directions
predict is taken to be the correct one, and every wrong answer of the linear member counts as a lost label. The shares
are lower bounds. The linear member is fitted to training rows, and its threshold is chosen on others of them for a loss
of 0.1 points. Shares and errors are those of the test rows. The speed is that of the test texts, in turns for each
configuration. Early exit reads 15 % of all texts in both directions, with and without the linear member.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from pathlib import Path

import numpy as np
from benchmarks.accuracy.sets import Rows, load_task
from benchmarks.accuracy.splits import stratified_numbers
from benchmarks.speed.models import random_weights
from numpy.typing import NDArray

from bothways.bundle.manifest import Calibration, Combination, EarlyExit, Kind, LinearExit
from bothways.bundle.packs import pack_path
from bothways.bundle.read import Bundle, read_bundle
from bothways.bundle.weights import member_shapes
from bothways.evaluation.early_exit import calibrate_early_exit
from bothways.runtime.classifier import Classifier
from bothways.tasks.metrics import Scores
from bothways.tasks.single_label import SingleLabel
from bothways.text.reading import Direction
from bothways.training.linear import TrainedLinear, fit_linear

LARGEST_LOSS = 0.001
CALIBRATION_SHARE, VALIDATION_SHARE = 0.25, 0.1
READ_BY_BOTH = 0.15


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["sms", "trec6"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.sets:
        for seed in arguments.seeds:
            data = load_task(name, Path(os.environ["BOTHWAYS_DATA"]), seed)
            task = SingleLabel(data.labels)
            found, alone = _calibrated(task, data.train, seed)
            scores = np.array([found.model.scores(text) for text in data.test.texts])
            confident = np.array(
                [alone.is_confident(task.with_temperature(row, alone.temperature)) for row in scores], dtype=np.bool_
            )
            is_wrong = scores.argmax(axis=1) != _targets(task, data.test)
            print(
                f"{name}, seed {seed}: confidence above {alone.threshold:.4f}, of the calibration rows "
                f"{alone.read_by_linear:.1%}, of {len(scores)} test texts {confident.mean():.1%}, "
                f"{int((is_wrong & confident).sum())} of them wrong ({int(is_wrong.sum())} of all)",
                flush=True,
            )
        _measure(task, data.test.texts, found, alone, float(confident.mean()), arguments)


def _calibrated(task: SingleLabel, train: Rows, seed: int) -> tuple[TrainedLinear, LinearExit]:
    """Fit a linear member to some rows, and choose its threshold on others."""
    held, rest = _split(train, CALIBRATION_SHARE, seed)
    valid, fitted = _split(rest, VALIDATION_SHARE, seed)
    targets = [_targets(task, rows) for rows in (fitted, valid, held)]
    unknown = np.full((len(valid), task.outputs), 1 / task.outputs)
    found = fit_linear(fitted.texts, targets[0], None, None, valid.texts, targets[1], unknown, task, seed)
    assert found is not None
    scores = np.array([found.model.scores(text) for text in held.texts])
    directions = {Direction.FORWARD: np.full_like(scores, 1 / task.outputs)}
    correct = np.eye(task.outputs)[targets[2]]
    early_exit = calibrate_early_exit(directions, correct, targets[2], LARGEST_LOSS, task, scores)
    assert early_exit.linear is not None
    return found, early_exit.linear


def _split(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Return about this share of the rows, and the others."""
    chosen = stratified_numbers(rows.texts, rows.labels, share, seed)
    others = np.setdiff1d(np.arange(len(rows)), chosen)
    return rows.selected(chosen), rows.selected(others)


def _targets(task: SingleLabel, rows: Rows) -> NDArray[np.intp]:
    return np.array([task.labels.index(label) for (label,) in rows.labels], dtype=np.intp)


def _measure(
    task: SingleLabel,
    texts: list[str],
    found: TrainedLinear,
    alone: LinearExit,
    share: float,
    arguments: argparse.Namespace,
) -> None:
    """Print the texts per second without early exit, with it, and with a start with the linear member."""
    whole = Classifier(_bundle(task, found), threads=arguments.threads)
    scores = whole.predict_proba_by_direction(texts)
    mixed = task.mixed(scores["forward"], scores["linear"], found.member.weight)
    calibrated = [task.with_temperature(row, alone.temperature) for row in scores["linear"]]
    is_read = np.array([not alone.is_confident(row) for row in calibrated], dtype=np.bool_)
    exits = {
        "both directions": None,
        "early exit": _early_exit(mixed, READ_BY_BOTH, None),
        "linear member first": _early_exit(mixed[is_read], min(1.0, READ_BY_BOTH / (1 - share)), alone),
    }
    models = {
        name: Classifier(_bundle(task, found), threads=arguments.threads, early_exit=early_exit)
        for name, early_exit in exits.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    read: dict[str, list[str]] = {}
    for _ in range(arguments.runs):
        for name, model in models.items():
            started = time.process_time()
            read[name] = [prediction.read for prediction in model.stream(texts)]
            seconds[name].append(time.process_time() - started)
    for name, found_read in read.items():
        linear, both = (found_read.count(kind) / len(texts) for kind in ("linear", "both"))
        speed = len(texts) / statistics.median(seconds[name])
        print(f"  {name}: {speed:,.0f} texts/s of CPU time, read in no direction {linear:.1%}, in both {both:.1%}")


def _early_exit(scores: Scores, share: float, linear: LinearExit | None) -> EarlyExit:
    """Return an early exit with which both directions read this share of the texts with these scores."""
    return EarlyExit(
        first=Direction.FORWARD,
        temperature=1,
        threshold=float(np.quantile(scores.max(axis=1), share)),
        largest_loss=LARGEST_LOSS,
        rows=len(scores),
        read_by_both=0,
        accuracy=0,
        accuracy_of_ensemble=0,
        curve=[],
        linear=linear,
    )


def _bundle(task: SingleLabel, found: TrainedLinear) -> Bundle:
    """Return a bundle with random directions of the sizes of ``en-small``."""
    pack = read_bundle(pack_path("en-small"), Kind.LANGUAGE_MODEL)
    members = [member.model_copy(update={"widths_head": [50]}) for member in pack.manifest.members]
    manifest = pack.manifest.model_copy(
        update={
            "kind": Kind.CLASSIFIER,
            "task": task.name,
            "labels": list(task.labels),
            "members": members,
            "combination": Combination(method="mean", weights=[0.5, 0.5]),
            "calibration": Calibration(temperature=1),
            "linear": found.member,
        }
    )
    weights = {member.direction: random_weights(member_shapes(member, task.outputs)) for member in members}
    return dataclasses.replace(pack, manifest=manifest, weights=weights, linear=(found.member, found.arrays))


if __name__ == "__main__":
    main()
