"""Train a classifier on top of a language model's encoder, with gradual unfreezing.

In: ids in reading order and what is true of each text. Out: reports while it goes on; the model after the last epoch,
when its rates have come down: of few validation rows, the loss is least long before the errors are (docs/LOG.md).
Everything that chance decides follows from the seed and the numbers of epoch and batch, so that a killed training goes
on to the same bytes (law 7).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bothways.data.batches import TextBatch, count_batches, pad, plan_batches, shuffled_batches
from bothways.nn.awd_lstm import activation_penalty
from bothways.nn.classifier import Classifier
from bothways.text.reading import Ids
from bothways.training.checkpoints import Checkpoint, Checkpoints, with_prefix
from bothways.training.language_model import in_float32
from bothways.training.objective import Objective, Probabilities, Targets
from bothways.training.optimising import StageOptimiser
from bothways.training.recipe import ClassifierRecipe
from bothways.training.reports import EpochReport, Report, StepReport
from bothways.training.seeds import derived_seed

STAGE = "classifier"
_TEXTS_WITHOUT_GRADIENTS = 128


@dataclass(frozen=True, eq=False)
class ClassRows:
    """Texts' ids in one reading order, with what is true of each text, (N,) or (N, C)."""

    ids: Sequence[Ids]
    targets: Targets


@dataclass(frozen=True)
class _Epoch:
    """What is trained in one epoch: how many of the top groups, as which of how many epochs of the same."""

    unfrozen: int
    number: int
    count: int


def train_classifier(
    model: Classifier,
    train: ClassRows,
    valid: ClassRows,
    objective: Objective,
    recipe: ClassifierRecipe,
    seed: int,
    start: Checkpoint,
    checkpoints: Checkpoints,
) -> Generator[Report, None, None]:
    """Train in place.

    Law 7: from any checkpoint on, what comes out has the same bytes.

    Args:
        model: On the device to train on, with the weights of ``start``.
        train: Rows to learn from.
        valid: Rows to measure each epoch on; the training does not depend on them.
        objective: What is trained towards.
        recipe: Numbers of this stage.
        seed: Decides order and dropout.
        start: Of this stage, or from somewhere within.
        checkpoints: Where to keep more of them.
    """
    model.encoder.dropouts = recipe.dropouts.scaled(recipe.dropout_factor)
    groups = [model.encoder.embedding, *model.encoder.layers, model.head]
    plan = _plan(len(groups), recipe, len(train.ids))
    batch_texts = recipe.batch_texts_for(len(train.ids))
    steps_an_epoch = count_batches(train.ids, batch_texts, recipe.batch_tokens)

    def optimiser_of(epoch: _Epoch) -> StageOptimiser:
        return StageOptimiser(
            groups,
            unfrozen=epoch.unfrozen,
            steps=epoch.count * steps_an_epoch,
            schedule=recipe.schedule,
            rate_peak=recipe.rate_peak_for(len(train.ids) / steps_an_epoch),
            rate_divisor=recipe.rate_divisor,
            weight_decay=recipe.weight_decay,
            gradient_norm_max=recipe.gradient_norm_max,
        )

    first = start.facts.get("epoch", 0)
    batches_done = start.facts.get("batch", 0)
    step = start.facts.get("step", 0)
    if first < len(plan):
        optimiser = optimiser_of(plan[first])
        if plan[first].number or batches_done:
            optimiser.restore(start.part("optimiser"), start.facts["steps_of_optimiser"])

    features: Tensor | None = None
    for epoch in range(first, len(plan)):
        started = time.monotonic()
        if epoch > first and plan[epoch].number == 0:
            optimiser = optimiser_of(plan[epoch])
        chance = np.random.default_rng([seed, epoch])
        batches = shuffled_batches(train.ids, batch_texts, recipe.batch_tokens, chance)
        for number in range(batches_done, len(batches)):
            torch.manual_seed(derived_seed(seed, epoch, number))
            model.train()
            batch = pad(train.ids, batches[number])
            if plan[epoch].unfrozen == 1 and features is None:
                features = frozen_features(model, train.ids, recipe)
            loss, penalty = _loss(
                model, batch, train.targets, objective, recipe, features if plan[epoch].unfrozen == 1 else None
            )
            rate = optimiser.step(loss + penalty)
            step += 1
            total = max(step, len(plan) * steps_an_epoch)
            tokens = int(batch.lengths.sum())
            yield StepReport(STAGE, model.direction, epoch + 1, len(plan), step, total, loss.item(), rate, tokens)
            if checkpoints.is_due() and number < len(batches) - 1:
                facts = {**start.facts, "epoch": epoch, "batch": number + 1, "step": step}
                checkpoints.save(_standing(model, optimiser, facts))
        batches_done = 0
        measures = objective.measures(class_probabilities(model, valid.ids, objective, recipe), valid.targets)
        yield EpochReport(STAGE, model.direction, epoch + 1, len(plan), measures, time.monotonic() - started)
        if checkpoints.is_due():
            facts = {**start.facts, "epoch": epoch + 1, "batch": 0, "step": step}
            checkpoints.save(_standing(model, optimiser, facts))
    model.eval()


def _loss(
    model: Classifier,
    batch: TextBatch,
    targets: Targets,
    objective: Objective,
    recipe: ClassifierRecipe,
    features: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Give a batch's loss and the penalty on activations; from all texts' features, if the encoder is frozen."""
    device = model.encoder.embedding.weight.device
    expected = torch.from_numpy(targets[batch.rows]).to(device)
    if features is not None:
        loss = objective.loss(model.head(features[torch.from_numpy(batch.rows).to(device)]), expected)
        return loss, torch.zeros_like(loss)
    ids, lengths = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.lengths).to(device)
    logits, raw, dropped = model(ids, lengths)
    penalty = activation_penalty(raw, dropped, recipe.penalty_activation, recipe.penalty_change, lengths)
    return objective.loss(logits, expected), penalty


def frozen_features(model: Classifier, ids: Sequence[Ids], recipe: ClassifierRecipe) -> Tensor:
    """Give what the head sees of each text while the encoder is frozen, (N, 3E), so that it is only computed once."""
    device = model.encoder.embedding.weight.device
    lengths = np.array([len(text) for text in ids], dtype=np.int64)
    result = torch.empty(len(ids), 3 * model.encoder.architecture.width_embedding, device=device)
    is_training = model.training
    model.eval()
    with torch.no_grad():
        for rows in plan_batches(lengths, _TEXTS_WITHOUT_GRADIENTS, recipe.batch_tokens):
            batch = pad(ids, rows)
            result[rows], _, _ = model.pooled(
                torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.lengths).to(device)
            )
    model.train(is_training)
    return result


def class_probabilities(
    model: Classifier, ids: Sequence[Ids], objective: Objective, recipe: ClassifierRecipe
) -> Probabilities:
    """Give the probabilities of each text's classes, (N, C), in order, computed in float32."""
    device = model.encoder.embedding.weight.device
    lengths = np.array([len(text) for text in ids], dtype=np.int64)
    result = np.empty((len(ids), model.head.classes))
    with torch.no_grad(), in_float32(model.encoder):
        model.eval()
        for rows in plan_batches(lengths, _TEXTS_WITHOUT_GRADIENTS, recipe.batch_tokens):
            batch = pad(ids, rows)
            logits, _, _ = model(torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.lengths).to(device))
            result[rows] = objective.probabilities(logits)
    return result


def _plan(groups: int, recipe: ClassifierRecipe, texts: int) -> list[_Epoch]:
    """Give all epochs: some for each step of gradual unfreezing, then those of the whole model."""
    depths = range(1, groups) if recipe.epochs_frozen else ()
    phases = [*((depth, recipe.epochs_frozen) for depth in depths), (groups, recipe.epochs_for(texts))]
    return [_Epoch(unfrozen, number, count) for unfrozen, count in phases for number in range(count)]


def _standing(model: Classifier, optimiser: StageOptimiser, facts: dict[str, object]) -> Checkpoint:
    """Give all that the next step depends on."""
    tensors = {
        **with_prefix("model", model.state_dict()),
        **with_prefix("optimiser", optimiser.state()),
    }
    return Checkpoint(STAGE, {**facts, "steps_of_optimiser": optimiser.steps_taken}, tensors)
