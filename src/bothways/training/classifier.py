"""Train a classifier on top of a language model's encoder, with gradual unfreezing.

In: ids in reading order and class numbers. Out: reports while it goes on; the model's best epoch, by its loss on the
validation rows.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bothways.data.batches import count_batches, pad, plan_batches, shuffled_batches
from bothways.nn.awd_lstm import activation_penalty
from bothways.nn.classifier import Classifier
from bothways.text.reading import Ids
from bothways.training.optimising import StageOptimiser
from bothways.training.recipe import ClassifierRecipe
from bothways.training.reports import EpochReport, Report, StepReport

STAGE = "classifier"


@dataclass(frozen=True, eq=False)
class ClassRows:
    """Texts' ids in one reading order, with the number of each text's class, (N,)."""

    ids: Sequence[Ids]
    classes: NDArray[np.int64]


def train_classifier(
    model: Classifier,
    train: ClassRows,
    valid: ClassRows,
    class_weights: Tensor | None,
    recipe: ClassifierRecipe,
    seed: int,
) -> Generator[Report, None, dict[str, float]]:
    """Train in place and keep the best epoch; the generator's value is that epoch's measures.

    Args:
        model: On the device to train on.
        train: Rows to learn from.
        valid: Rows to choose the best epoch on.
        class_weights: Weight of each class in the loss, (C,), or None.
        recipe: Numbers of this stage.
        seed: Decides order and dropout.
    """
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    model.encoder.dropouts = recipe.dropouts.scaled(recipe.dropout_factor)
    device = model.encoder.embedding.weight.device
    weights = class_weights.to(device) if class_weights is not None else None
    groups = [model.encoder.embedding, *model.encoder.layers, model.head]
    phases = [(depth, recipe.epochs_frozen) for depth in range(1, len(groups))] if recipe.epochs_frozen else []
    phases.append((len(groups), recipe.epochs_for(len(train.ids))))
    steps_an_epoch = count_batches(train.ids, recipe.batch_texts, recipe.batch_tokens)
    epochs = sum(count for _, count in phases)
    best: dict[str, float] | None = None
    best_weights = copy.deepcopy(model.state_dict())
    epoch, step = 0, 0
    for unfrozen, phase_epochs in phases:
        optimiser = StageOptimiser(
            groups,
            unfrozen=unfrozen,
            steps=phase_epochs * steps_an_epoch,
            schedule=recipe.schedule,
            rate_peak=recipe.rate_peak,
            rate_divisor=recipe.rate_divisor,
            weight_decay=recipe.weight_decay,
            gradient_norm_max=recipe.gradient_norm_max,
        )
        for _ in range(phase_epochs):
            started = time.monotonic()
            model.train()
            epoch += 1
            for batch in shuffled_batches(train.ids, recipe.batch_texts, recipe.batch_tokens, chance):
                expected = torch.from_numpy(train.classes[batch.rows]).to(device)
                ids, lengths = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.lengths).to(device)
                logits, raw, dropped = model(ids, lengths)
                loss = functional.cross_entropy(logits, expected, weight=weights)
                penalty = activation_penalty(raw, dropped, recipe.penalty_activation, recipe.penalty_change, lengths)
                rate = optimiser.step(loss + penalty if unfrozen > 1 else loss)
                step += 1
                total = max(step, epochs * steps_an_epoch)
                yield StepReport(STAGE, model.direction, epoch, epochs, step, total, loss.item(), rate)
            measures = measure(model, valid, recipe)
            is_best = best is None or measures["loss"] < best["loss"]
            if is_best:
                best, best_weights = measures, copy.deepcopy(model.state_dict())
            seconds = time.monotonic() - started
            yield EpochReport(STAGE, model.direction, epoch, epochs, measures, is_best, seconds)
    model.load_state_dict(best_weights)
    model.eval()
    assert best is not None
    return best


@torch.no_grad()
def class_probabilities(model: Classifier, ids: Sequence[Ids], recipe: ClassifierRecipe) -> NDArray[np.float64]:
    """Give the probabilities of each text's classes, (N, C), in order."""
    model.eval()
    device = model.encoder.embedding.weight.device
    lengths = np.array([len(text) for text in ids], dtype=np.int64)
    result = np.empty((len(ids), model.head.classes))
    for rows in plan_batches(lengths, 2 * recipe.batch_texts, recipe.batch_tokens):
        batch = pad(ids, rows)
        logits, _, _ = model(torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.lengths).to(device))
        result[rows] = functional.softmax(logits.double(), dim=1).cpu().numpy()
    return result


def measure(model: Classifier, rows: ClassRows, recipe: ClassifierRecipe) -> dict[str, float]:
    """Give loss (nats a text) and accuracy (0..1) on rows."""
    return measures_of(class_probabilities(model, rows.ids, recipe), rows.classes)


def measures_of(probabilities: NDArray[np.float64], classes: NDArray[np.int64]) -> dict[str, float]:
    """Give loss (nats a text) and accuracy (0..1) of probabilities, (N, C), for the true classes, (N,)."""
    likelihood = np.maximum(probabilities[np.arange(len(classes)), classes], 1e-12)
    accuracy = float((probabilities.argmax(axis=1) == classes).mean())
    return {"loss": float(-np.log(likelihood).mean()), "accuracy": accuracy}
