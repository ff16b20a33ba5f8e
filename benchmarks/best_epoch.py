"""Compare the weights of the last epoch of a classifier with those of its best epoch, over several seeds.

Run: .venv/bin/python benchmarks/best_epoch.py trec6 200
It needs BOTHWAYS_DATA and takes six minutes for 200 rows on one core. All rows are training rows of the data set.
Some are trained on, a tenth of them chooses the epoch, and 600 others measure it. No test row is read. One training
per seed and direction is enough, because each epoch can be measured on both. The last line is JSON.
"""

from __future__ import annotations

import copy
import csv
import json
import os
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bothways.bundle.manifest import Kind
from bothways.bundle.packs import pack_path
from bothways.bundle.read import Bundle, read_bundle
from bothways.data.labeled import read_labeled
from bothways.data.token_store import TokenStore
from bothways.tasks.metrics import Scores
from bothways.tasks.registry import new_task
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Split, Targets
from bothways.text.fields import Text
from bothways.text.reading import Direction, read
from bothways.training.checkpoints import Checkpoints, ClassifierCheckpoint
from bothways.training.classifier import ClassRows, class_scores, train_classifier
from bothways.training.hyperparameters import FROM_PACK, load_hyperparameters
from bothways.training.language_model import StreamTexts, train_language_model
from bothways.training.models import build_classifier, build_language_model, fast_type
from bothways.training.objective import objective_of
from bothways.training.one_direction import first_checkpoint
from bothways.training.reports import EpochReport

FILES = {"trec6": "trec6/train.csv", "sms_spam": "sms_spam/sms.csv", "clinc150": "clinc150/train.csv"}
SEEDS = 5
MEASURED_ROWS = 600
PATIENCE = 5
LANGUAGE_MODEL_TOKENS = 20_000
"""Much less than by default, which saves most of the time and affects all rules alike."""
HYPERPARAMETERS = load_hyperparameters(FROM_PACK)
RULES = ("last", "least loss", "most accurate", f"most accurate, patience {PATIENCE}")


@dataclass(frozen=True, eq=False)
class Kept:
    """The epoch that a rule keeps of one training, from 0, and its scores, each (N, C)."""

    epoch: int
    valid: Scores
    measured: Scores


def main(name: str, rows: int) -> None:
    """Print the error of each rule per seed and its mean."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    texts, labels = rows_of(name)
    pack = read_bundle(pack_path("en-small"), Kind.LANGUAGE_MODEL)
    pool = {"text": texts[:rows], "label": labels[:rows]}
    measured = {"text": texts[rows : rows + MEASURED_ROWS], "label": labels[rows : rows + MEASURED_ROWS]}
    task = new_task(None, None)
    labeled, others = (read_labeled(table, "text", "label", task) for table in (pool, measured))
    fitted = task.fitted(labeled)
    assert isinstance(fitted, SingleLabel)
    models = {direction: fine_tuned(pack, direction, labeled.texts) for direction in Direction}
    errors: dict[str, list[dict[str, float]]] = {rule: [] for rule in RULES}
    for seed in range(SEEDS):
        split = task.split(labeled, HYPERPARAMETERS.classifier.validation_fraction, seed)
        truth = fitted.targets(split.valid), fitted.targets(others)
        trained = {
            direction: kept_of(pack, direction, state, split, others.texts, fitted, seed)
            for direction, state in models.items()
        }
        for rule in RULES:
            kept = {direction: by_rule[rule] for direction, by_rule in trained.items()}
            errors[rule].append(outcome(kept, fitted, *truth))
            print(name, rows, "seed", seed, rule, json.dumps(errors[rule][-1]), flush=True)
    report(errors)


def rows_of(name: str) -> tuple[list[str], list[str]]:
    """Return texts and labels of the training rows, shuffled."""
    with (Path(os.environ["BOTHWAYS_DATA"]) / FILES[name]).open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    rows = sorted(set(rows))
    random.Random(0).shuffle(rows)  # noqa: S311  (no secret)
    texts, labels = zip(*rows, strict=True)
    return list(texts), list(labels)


def ids_of(pack: Bundle, direction: Direction, texts: list[Text]) -> list[np.ndarray]:
    """Return the ids of texts in a reading order."""
    placement = pack.manifest.member(direction).special_tokens
    return [read(pack.tokenizer.tokenize(text), direction, placement) for text in texts]


def fine_tuned(pack: Bundle, direction: Direction, texts: list[Text]) -> dict[str, torch.Tensor]:
    """Return the weights of the pack's language model after its fine-tuning on texts."""
    member = pack.manifest.member(direction)
    start = first_checkpoint(member, 0, dict(pack.weights[direction]))
    model = build_language_model(member.architecture, direction, 0)
    model.load_state_dict(start.part("model"))
    model.encoder.compute_type = fast_type(torch.device("cpu"))
    config = HYPERPARAMETERS.language_model.model_copy(update={"target_tokens": LANGUAGE_MODEL_TOKENS})
    numbers = np.arange(len(texts))
    stream = StreamTexts(TokenStore.of(ids_of(pack, direction, texts)), numbers, numbers[: len(texts) // 10])
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), 0, writes=False)
        for _ in train_language_model(model, stream, config, 0, start, checkpoints):
            pass
    return model.state_dict()


def kept_of(
    pack: Bundle,
    direction: Direction,
    state: dict[str, torch.Tensor],
    split: Split,
    others: list[Text],
    task: SingleLabel,
    seed: int,
) -> dict[str, Kept]:
    """Train a classifier and return what each rule keeps."""
    config = HYPERPARAMETERS.classifier
    language_model = build_language_model(pack.manifest.member(direction).architecture, direction, 0)
    language_model.load_state_dict(state)
    language_model.encoder.compute_type = fast_type(torch.device("cpu"))
    model = build_classifier(language_model, direction, task.outputs, config, seed)
    train, valid = (
        ClassRows(ids_of(pack, direction, rows.texts), task.targets(rows)) for rows in (split.train, split.valid)
    )
    measured, objective = ids_of(pack, direction, others), objective_of(task, None, config.label_smoothing)
    metrics: list[dict[str, float]] = []
    weights: dict[int, dict[str, torch.Tensor]] = {}
    best: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoints, start = Checkpoints(Path(folder), 0, writes=False), ClassifierCheckpoint(perplexity=0)
        for report in train_classifier(model, train, valid, task, objective, config, seed, start, checkpoints):
            if isinstance(report, EpochReport):
                metrics.append(report.metrics)
                whole = report.epochs - config.epochs_for(len(train.ids))
                best = {rule: chosen(rule, metrics, whole) for rule in RULES}
                if report.epoch - 1 in best.values():
                    weights[report.epoch - 1] = copy.deepcopy(model.state_dict())
                weights = {epoch: state for epoch, state in weights.items() if epoch in best.values()}
    scores = {}
    for epoch, parameters in weights.items():
        model.load_state_dict(parameters)
        scores[epoch] = Kept(epoch, *(class_scores(model, ids, objective, config) for ids in (valid.ids, measured)))
    return {rule: scores[epoch] for rule, epoch in best.items()}


def chosen(rule: str, metrics: list[dict[str, float]], whole: int) -> int:
    """Return the index of the epoch that a rule keeps. All layers are trained from epoch ``whole`` on."""
    if rule == "last":
        return len(metrics) - 1
    if rule == "least loss":
        return min(range(len(metrics)), key=lambda epoch: metrics[epoch]["loss"])
    best = 0
    for epoch in range(1, len(metrics)):
        if rule != "most accurate" and epoch - max(best + 1, whole) >= PATIENCE:
            break
        if (metrics[epoch]["accuracy"], -metrics[epoch]["loss"]) > (metrics[best]["accuracy"], -metrics[best]["loss"]):
            best = epoch
    return best


def outcome(kept: dict[Direction, Kept], task: SingleLabel, valid: Targets, measured: Targets) -> dict[str, float]:
    """Return epochs, and errors and loss on the measured rows, of each direction and of the calibrated ensemble."""
    calibrated = task.calibrated(task.mean(each.valid for each in kept.values()), valid)
    ensemble = task.with_temperature(task.mean(each.measured for each in kept.values()), calibrated.temperature)
    final = task.epoch_metrics(ensemble, measured)
    found = {"error": 100 * (1 - final["accuracy"]), "loss": final["loss"]}
    for direction, each in kept.items():
        found[f"{direction} epoch"] = each.epoch + 1
        found[f"{direction} error"] = 100 * (1 - task.epoch_metrics(each.measured, measured)["accuracy"])
    return {name: round(value, 4) for name, value in found.items()}


def report(errors: dict[str, list[dict[str, float]]]) -> None:
    """Print a Markdown table: means over seeds, and the difference of the ensemble to the last epoch."""
    print("| kept | forward | backward | ensemble | difference to last (mean ± standard error) | loss |")
    print("|---|--:|--:|--:|--:|--:|")
    for rule, found in errors.items():
        means = {key: float(np.mean([row[key] for row in found])) for key in found[0]}
        differences = [row["error"] - last["error"] for row, last in zip(found, errors["last"], strict=True)]
        error = np.std(differences, ddof=1) / len(differences) ** 0.5
        print(
            f"| {rule} | {means['forward error']:.1f} % | {means['backward error']:.1f} % | {means['error']:.1f} % | "
            f"{np.mean(differences):+.2f} ± {error:.2f} | {means['loss']:.3f} |"
        )
    print(json.dumps(errors))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
