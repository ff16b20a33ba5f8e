"""Train a language model on texts in its reading direction, from scratch or on from a pack.

In: ids in reading order. Out: reports while it goes on; the model's best epoch. The state is carried from window to
window along each row of the stream.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch.nn import functional

from bothways.data.batches import Matrix, stream_rows, stream_windows
from bothways.nn.awd_lstm import LanguageModel, State, activation_penalty
from bothways.text.reading import Ids
from bothways.training.optimising import StageOptimiser
from bothways.training.recipe import LanguageModelRecipe
from bothways.training.reports import EpochReport, Report, StepReport

STAGE = "language model"


def train_language_model(
    model: LanguageModel, train: Sequence[Ids], valid: Sequence[Ids], recipe: LanguageModelRecipe, seed: int
) -> Generator[Report, None, dict[str, float]]:
    """Train in place and keep the best epoch; the generator's value is that epoch's measures.

    Args:
        model: On the device to train on.
        train: Texts' ids in the model's reading order.
        valid: The same for texts that are not trained on.
        recipe: Numbers of this stage.
        seed: Decides order and dropout.
    """
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    model.encoder.dropouts = recipe.dropouts.scaled(recipe.dropout_factor)
    device = model.decoder.bias.device
    validation = stream_rows(valid, recipe.batch_rows, None)
    rows, tokens_a_row = stream_rows(train, recipe.batch_rows, None).shape
    epochs = recipe.epochs_for(rows * tokens_a_row)
    steps = epochs * max(1, math.ceil((tokens_a_row - 1) / recipe.window_tokens))
    groups = [*_groups(model)]
    optimiser = StageOptimiser(
        groups,
        unfrozen=len(groups),
        steps=steps,
        schedule=recipe.schedule,
        rate_peak=recipe.rate_peak,
        rate_divisor=recipe.rate_divisor,
        weight_decay=recipe.weight_decay,
        gradient_norm_max=recipe.gradient_norm_max,
    )
    best = _measures(model, validation, recipe.window_tokens)
    best_weights = copy.deepcopy(model.state_dict())
    step = 0
    for epoch in range(1, epochs + 1):
        started = time.monotonic()
        model.train()
        stream = stream_rows(train, recipe.batch_rows, chance)
        state = model.encoder.zero_state(len(stream))
        for inputs, targets in stream_windows(stream, recipe.window_tokens):
            logits, raw, dropped, state = model(torch.from_numpy(inputs).to(device), state)
            state = _detached(state)
            loss = functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).to(device).flatten())
            penalty = activation_penalty(raw, dropped, recipe.penalty_activation, recipe.penalty_change)
            rate = optimiser.step(loss + penalty)
            step += 1
            yield StepReport(STAGE, model.direction, epoch, epochs, step, steps, loss.item(), rate)
        measures = _measures(model, validation, recipe.window_tokens)
        is_best = measures["loss"] <= best["loss"]  # equal where there is nothing to validate on: the last one then
        if is_best:
            best, best_weights = measures, copy.deepcopy(model.state_dict())
        seconds = time.monotonic() - started
        yield EpochReport(STAGE, model.direction, epoch, epochs, measures, is_best, seconds)
    model.load_state_dict(best_weights)
    return best


def _groups(model: LanguageModel) -> list[torch.nn.Module]:
    """Give the layers from lowest to highest; the tied decoder learns with the embedding's group on top."""
    return [*model.encoder.layers, torch.nn.ModuleList([model.encoder.embedding, model.decoder])]


def _detached(state: State) -> State:
    return [(hidden.detach(), cell.detach()) for hidden, cell in state]


@torch.no_grad()
def _measures(model: LanguageModel, stream: Matrix, window_tokens: int) -> dict[str, float]:
    """Give loss (nats a token) and perplexity on a stream."""
    model.eval()
    device = model.decoder.bias.device
    state = model.encoder.zero_state(len(stream))
    total, count = 0.0, 0
    for inputs, targets in stream_windows(stream, window_tokens):
        logits, _, _, state = model(torch.from_numpy(inputs).to(device), state)
        expected = torch.from_numpy(targets).to(device).flatten()
        total += functional.cross_entropy(logits.flatten(0, 1), expected, reduction="sum").item()
        count += targets.size
    loss = total / max(1, count)
    return {"loss": loss, "perplexity": math.exp(min(loss, 50))}
