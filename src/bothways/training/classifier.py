"""Train a classifier on top of a language model's encoder, with gradual unfreezing.

In: token ids in reading order, and targets. Out: reports during training, and the model after the last epoch, when its
learning rate has decayed, or after its best epoch. All random numbers follow from the seed and the numbers of epoch and
batch, so that a killed training continues to the same bytes (guarantee 7).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bothways.data.batches import TextBatch, count_batches, pad, plan_batches, shuffled_batches
from bothways.nn.classifier import ClassifierNetwork
from bothways.nn.language_model import activation_penalty
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Targets, Task
from bothways.text.reading import Ids
from bothways.training.checkpoints import Checkpoints, ClassifierCheckpoint, with_prefix
from bothways.training.hyperparameters import ClassifierConfig
from bothways.training.language_model import in_float32
from bothways.training.objective import Objective
from bothways.training.optimizer import StageOptimizer
from bothways.training.reports import CLASSIFIER_STAGE, EpochReport, Report, StageReport, StepReport
from bothways.training.seeds import derived_seed

_TEXTS_WITHOUT_GRADIENTS = 128


@dataclass(frozen=True, eq=False)
class ClassRows:
    """Token ids of texts in one reading order, with their targets.

    Attributes:
        ids: Token ids by text.
        targets: (N,) or (N, C).
        weights: Weight of each text in the loss, (N,) float32, above 0 and with mean 1; None for equal weights.
        temperatures: By what the logits of each text are divided in the loss, (N,) float32; None for 1.
    """

    ids: Sequence[Ids]
    targets: Targets
    weights: NDArray[np.float32] | None = None
    temperatures: NDArray[np.float32] | None = None

    @property
    def loss_scale(self) -> float:
        """By what the temperatures multiply the loss of a model whose outputs are all zero."""
        return 1.0 if self.temperatures is None else float((self.temperatures**2).mean())


@dataclass(frozen=True)
class _Epoch:
    """One epoch: the number of unfrozen top layer groups, and its position among the epochs with that number."""

    unfrozen: int
    number: int
    count: int


@dataclass(frozen=True, eq=False)
class _Best:
    """The best epoch so far, by its index from 0, with its metrics and, if they are to be kept, its weights."""

    epoch: int = -1
    metrics: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


def train_classifier(
    model: ClassifierNetwork,
    train: ClassRows,
    valid: ClassRows,
    task: Task,
    objective: Objective,
    config: ClassifierConfig,
    seed: int,
    start: ClassifierCheckpoint,
    checkpoints: Checkpoints,
) -> Generator[Report, None, None]:
    """Train a classifier in place, and yield reports.

    Guarantee 7: training from any checkpoint on ends in the same bytes.

    Args:
        model: The classifier, on the device to train on, with the weights of ``start``.
        train: Training rows.
        valid: Validation rows, on which each epoch is measured. The weights depend on them only if ``config`` keeps the
            best epoch.
        task: Computes the metrics of each epoch.
        objective: The loss to minimize.
        config: Hyperparameters of this stage.
        seed: Random seed of the order of texts and of dropout.
        start: The first checkpoint of this stage, or a later one.
        checkpoints: Receives further checkpoints.
    """
    model.encoder.dropouts = config.dropouts.scaled(config.dropout_multiplier)
    groups = [model.encoder.embedding, *model.encoder.layers, model.head]
    plan = _plan(len(groups), config, len(train.ids))
    batch_size = config.batch_size_for(len(train.ids))
    steps_of_epoch = steps_per_epoch(train, config)

    def optimizer_of(epoch: _Epoch) -> StageOptimizer:
        return StageOptimizer(
            groups,
            unfrozen=epoch.unfrozen,
            steps=epoch.count * steps_of_epoch,
            schedule=config.schedule,
            learning_rate=learning_rate_of(train, config),
            layer_decay=config.layer_decay,
            weight_decay=config.weight_decay,
            max_gradient_norm=config.max_gradient_norm,
        )

    first, batches_done, step = start.epoch, start.batch, start.step
    best = _Best(start.best_epoch, start.best, start.part("best"))
    if first < len(plan):
        optimizer = optimizer_of(plan[first])
        if plan[first].number or batches_done:
            optimizer.restore(start.part("optimizer"), start.optimizer_steps)

    features: Tensor | None = None
    for epoch in range(first, len(plan)):
        if _is_exhausted(plan, epoch, best, config):
            message = f"{model.direction} stopped after epoch {epoch}/{len(plan)}: epoch {best.epoch + 1} was the best"
            yield StageReport(CLASSIFIER_STAGE, message)
            break
        started = time.monotonic()
        if epoch > first and plan[epoch].number == 0:
            optimizer = optimizer_of(plan[epoch])
        rng = np.random.default_rng([seed, epoch])
        batches = shuffled_batches(train.ids, batch_size, config.max_batch_tokens, rng)
        for number in range(batches_done, len(batches)):
            torch.manual_seed(derived_seed(seed, epoch, number))
            model.train()
            batch = pad(train.ids, batches[number])
            if plan[epoch].unfrozen == 1 and features is None:
                features = frozen_features(model, train.ids, config)
            loss, penalty = _loss(
                model, batch, train, objective, config, features if plan[epoch].unfrozen == 1 else None
            )
            rate, norm = optimizer.step(loss + penalty)
            step += 1
            total = max(step, len(plan) * steps_of_epoch)
            tokens = int(batch.lengths.sum())
            position = (CLASSIFIER_STAGE, model.direction, epoch + 1, len(plan))
            yield StepReport(*position, step, total, loss.item(), rate, norm, tokens)
            if checkpoints.is_due() and number < len(batches) - 1:
                checkpoints.save(_checkpoint(model, optimizer, best, start.perplexity, epoch, number + 1, step))
        batches_done = 0
        metrics = task.epoch_metrics(class_scores(model, valid.ids, objective, config), valid.targets)
        is_best = not best.metrics or task.epoch_rank(metrics) > task.epoch_rank(best.metrics)
        if is_best:
            best = _Best(epoch, metrics, copy.deepcopy(model.state_dict()) if config.keep == "best" else {})
        yield EpochReport(*position, step, metrics, time.monotonic() - started, is_best)
        if checkpoints.is_due():
            checkpoints.save(_checkpoint(model, optimizer, best, start.perplexity, epoch + 1, 0, step))
    if config.keep == "best":
        model.load_state_dict(best.weights)
    model.eval()


def steps_per_epoch(train: ClassRows, config: ClassifierConfig) -> int:
    """Return the number of steps of an epoch."""
    return count_batches(train.ids, config.batch_size_for(len(train.ids)), config.max_batch_tokens)


def learning_rate_of(train: ClassRows, config: ClassifierConfig) -> float:
    """Return the peak learning rate of the top layer group for these training rows."""
    return config.learning_rate_for(len(train.ids) / steps_per_epoch(train, config))


def _is_exhausted(plan: Sequence[_Epoch], epoch: int, best: _Best, config: ClassifierConfig) -> bool:
    """Return whether training stops before an epoch: too many with all layers unfrozen did not improve on the best."""
    whole = next(number for number, part in enumerate(plan) if part.unfrozen == plan[-1].unfrozen)
    return config.patience != "none" and epoch - max(best.epoch + 1, whole) >= config.patience


def _loss(
    model: ClassifierNetwork,
    batch: TextBatch,
    train: ClassRows,
    objective: Objective,
    config: ClassifierConfig,
    features: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return a batch's loss and its activation penalty; if the encoder is frozen, from the features of all texts."""
    device = model.encoder.embedding.weight.device
    expected = torch.from_numpy(train.targets[batch.rows]).to(device)
    weights = None if train.weights is None else torch.from_numpy(train.weights[batch.rows]).to(device)
    temperatures: Tensor | None = None
    if train.temperatures is not None:  # times its square, so that the gradients keep their size (arXiv 1503.02531)
        temperatures = torch.from_numpy(train.temperatures[batch.rows]).to(device)
        weights = temperatures**2 if weights is None else weights * temperatures**2
    if features is not None:
        logits = model.head(features[torch.from_numpy(batch.rows).to(device)])
        loss = objective.loss(_divided(logits, temperatures), expected, weights)
        return loss, torch.zeros_like(loss)
    ids, lengths = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.lengths).to(device)
    logits, raw, dropped = model(ids, lengths)
    penalty = activation_penalty(
        raw, dropped, config.activation_regularization, config.temporal_activation_regularization, lengths
    )
    return objective.loss(_divided(logits, temperatures), expected, weights), penalty


def _divided(logits: Tensor, temperatures: Tensor | None) -> Tensor:
    return logits if temperatures is None else logits / temperatures[:, None]


def frozen_features(model: ClassifierNetwork, ids: Sequence[Ids], config: ClassifierConfig) -> Tensor:
    """Return the pooled features of each text, (N, 3E), which are computed once while the encoder is frozen."""
    device = model.encoder.embedding.weight.device
    lengths = np.array([len(text) for text in ids], dtype=np.int64)
    result = torch.empty(len(ids), 3 * model.encoder.architecture.width_embedding, device=device)
    is_training = model.training
    model.eval()
    with torch.no_grad():
        for rows in plan_batches(lengths, _TEXTS_WITHOUT_GRADIENTS, config.max_batch_tokens):
            batch = pad(ids, rows)
            result[rows], _, _ = model.pooled(
                torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.lengths).to(device)
            )
    model.train(is_training)
    return result


def class_scores(
    model: ClassifierNetwork, ids: Sequence[Ids], objective: Objective, config: ClassifierConfig
) -> Scores:
    """Return the scores of each text, (N, C), in order, computed in float32."""
    device = model.encoder.embedding.weight.device
    lengths = np.array([len(text) for text in ids], dtype=np.int64)
    result = np.empty((len(ids), model.head.classes))
    with torch.no_grad(), in_float32(model.encoder):
        model.eval()
        for rows in plan_batches(lengths, _TEXTS_WITHOUT_GRADIENTS, config.max_batch_tokens):
            batch = pad(ids, rows)
            logits, _, _ = model(torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.lengths).to(device))
            result[rows] = objective.scores(logits)
    return result


def _plan(groups: int, config: ClassifierConfig, texts: int) -> list[_Epoch]:
    """Return all epochs: those of each step of gradual unfreezing, then those of the whole model."""
    depths = range(1, groups) if config.unfreezing_epochs else ()
    phases = [*((depth, config.unfreezing_epochs) for depth in depths), (groups, config.epochs_for(texts))]
    return [_Epoch(unfrozen, number, count) for unfrozen, count in phases for number in range(count)]


def _checkpoint(
    model: ClassifierNetwork,
    optimizer: StageOptimizer,
    best: _Best,
    perplexity: float | None,
    epoch: int,
    batch: int,
    step: int,
) -> ClassifierCheckpoint:
    """Return everything that the next step depends on."""
    return ClassifierCheckpoint(
        perplexity=perplexity,
        epoch=epoch,
        batch=batch,
        step=step,
        optimizer_steps=optimizer.steps_taken,
        best=best.metrics,
        best_epoch=best.epoch,
        tensors={
            **with_prefix("model", model.state_dict()),
            **with_prefix("optimizer", optimizer.state()),
            **with_prefix("best", best.weights),
        },
    )
