"""Train a language model on a stream of token ids, from scratch or starting from the weights of a pack.

The ids are in the model's reading order. The encoder's state is carried over from window to window along each row of
the stream. All random numbers are derived from the seed and the number of the step, so that a killed run continues to
the same bytes (guarantee 7).
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bothways.data.token_store import Numbers, Stream, TokenStore
from bothways.errors import ConfigError
from bothways.nn.encoder import EncoderNetwork
from bothways.nn.language_model import LanguageModelNetwork, activation_penalty
from bothways.nn.next_token import CandidateSampler
from bothways.nn.state import State, detached
from bothways.training.checkpoints import Checkpoints, LanguageModelCheckpoint, with_prefix
from bothways.training.distributed import gather_rows, mean_over_processes, processes
from bothways.training.hyperparameters import LanguageModelConfig
from bothways.training.optimizer import StageOptimizer
from bothways.training.reports import LANGUAGE_MODEL_STAGE, EpochReport, Report, StageReport, StepReport
from bothways.training.seeds import derived_seed

_TOKENS_BETWEEN_VALIDATIONS = 5_000_000
_MOST_VALIDATIONS = 20
VALIDATION_TOKENS = 250_000


@dataclass(frozen=True, eq=False)
class StreamTexts:
    """Token ids of the training and validation texts in one reading order.

    Attributes:
        store: Ids of all texts.
        training: Indices of the training texts in the store.
        validation: Indices of the validation texts in the store.
        validation_words: Number of whitespace-separated words of each validation text. None if the perplexity per word
            is not needed.
    """

    store: TokenStore
    training: Numbers
    validation: Numbers
    validation_words: Numbers | None = None


@dataclass(frozen=True, eq=False)
class _Best:
    """The best weights so far, with their metrics and the number of steps after which they were reached."""

    step: int
    metrics: dict[str, float]
    weights: dict[str, Tensor]


def keep_unread_bytes(model: LanguageModelNetwork, texts: StreamTexts, byte_ids: range) -> None:
    """Keep training from moving the embeddings of bytes that the training texts do not contain.

    The decoder shares its weights with the embedding, so the softmax would push all of them far in the same direction.
    Texts with such bytes would then be misread more often than texts with unknown tokens (docs/decisions/039).

    Args:
        model: The model to train.
        texts: Its texts.
        byte_ids: Ids of the tokenizer's bytes.
    """
    unread = set(byte_ids)
    for number in texts.training if byte_ids else ():
        unread.difference_update(texts.store[number].tolist())
    if unread:
        weight = model.encoder.embedding.weight
        rows = torch.tensor(sorted(unread), device=weight.device)
        weight.register_hook(lambda gradient: gradient.index_fill(0, rows, 0))  # type: ignore[no-untyped-call]


def train_language_model(
    model: LanguageModelNetwork,
    texts: StreamTexts,
    config: LanguageModelConfig,
    seed: int,
    start: LanguageModelCheckpoint,
    checkpoints: Checkpoints,
) -> Generator[Report, None, dict[str, float]]:
    """Train a model in place and load its best weights at the end.

    Guarantee 7: training from any checkpoint results in the same bytes.

    Args:
        model: The model with the weights of ``start``, on the device to train on.
        texts: Texts in the model's reading order.
        config: Hyperparameters of this stage.
        seed: Random seed for the order of the texts and for dropout.
        start: The checkpoint to start from.
        checkpoints: Where to save further checkpoints.

    Yields:
        A report per optimizer step and per evaluation.

    Returns:
        Validation metrics of the best weights.

    Raises:
        ConfigError: The batch size is not a multiple of the number of processes.
    """
    model.encoder.dropouts = config.dropouts.scaled(config.dropout_multiplier)
    device, here = model.decoder.bias.device, processes()

    def stream_of(epoch: int) -> Stream:
        order = np.random.default_rng([seed, epoch]).permutation(texts.training)
        return Stream(texts.store, order, config.batch_size, config.sequence_length)

    stream = stream_of(0)
    if stream.rows % here.count:
        raise ConfigError(f"batch_size is {stream.rows}, expected a multiple of the {here.count} processes")
    rows = here.rows(stream.rows)
    windows = max(1, stream.windows)
    epochs = config.epochs_for(stream.rows * stream.tokens_per_row)
    steps = max(1, round(epochs * windows)) if epochs else 0
    validation_steps = max(
        math.ceil(_TOKENS_BETWEEN_VALIDATIONS / (stream.rows * config.sequence_length)),
        math.ceil(steps / _MOST_VALIDATIONS),  # a GPU reads five million tokens in seconds
    )
    optimizer = _optimizer(model, config, steps)
    sampler = _sampler(model, texts.store, config)
    first = start.step
    if first:
        optimizer.restore(start.part("optimizer"), first)
        best = _Best(start.best_step, start.best, start.part("best"))
        state = _restored_state(model.encoder, start, rows, device)
        stream = stream_of(first // windows)
    else:
        best = _Best(0, evaluate_language_model(model, texts, config), copy.deepcopy(model.state_dict()))
        state = model.encoder.zero_state(rows.stop - rows.start)

    started = time.monotonic()
    for step in range(first, steps):
        epoch, window = divmod(step, windows)
        if window == 0:
            stream = stream_of(epoch)
            state = model.encoder.zero_state(rows.stop - rows.start)
        torch.manual_seed(derived_seed(seed, step, here.rank))
        inputs, targets = (torch.from_numpy(ids).to(device) for ids in stream.window(window, rows))
        model.train()
        loss, raw, dropped, state = model(inputs, targets, state, sampler)
        state = detached(state)
        penalty = activation_penalty(
            raw, dropped, config.activation_regularization, config.temporal_activation_regularization
        )
        rate, norm = optimizer.step(loss + penalty)
        mean_loss, due = mean_over_processes([loss.item(), float(checkpoints.is_due())], device)
        position = (LANGUAGE_MODEL_STAGE, model.direction, epoch + 1, math.ceil(epochs))
        yield StepReport(*position, step + 1, steps, mean_loss, rate, norm, stream.rows * inputs.shape[1])
        if window == windows - 1 or step == steps - 1 or (step + 1) % validation_steps == 0:
            metrics = evaluate_language_model(model, texts, config)
            if metrics["loss"] <= best.metrics["loss"]:  # equal without validation tokens: keep the last weights then
                best = _Best(step + 1, metrics, copy.deepcopy(model.state_dict()))
            yield EpochReport(*position, step + 1, metrics, time.monotonic() - started, best.step == step + 1)
            started = time.monotonic()
        if due:
            checkpoints.save(_checkpoint(model, optimizer, step + 1, best, _gather_state(state)))
    if steps and not best.step:
        yield StageReport(LANGUAGE_MODEL_STAGE, _no_improvement(model, config), is_warning=True)
    model.load_state_dict(best.weights)
    return best.metrics


def windows_per_epoch(texts: StreamTexts, config: LanguageModelConfig) -> int:
    """Return the number of steps of an epoch."""
    return max(1, Stream(texts.store, texts.training, config.batch_size, config.sequence_length).windows)


def evaluate_language_model(
    model: LanguageModelNetwork, texts: StreamTexts, config: LanguageModelConfig
) -> dict[str, float]:
    """Return the metrics of a model on the first 250,000 tokens or so of the validation texts, computed in float32.

    Returns:
        ``loss`` (nats per token), ``perplexity`` and, if ``texts`` has word counts, ``perplexity_per_word``, which is
        comparable between vocabularies.
    """
    ends = np.cumsum(texts.store.lengths[texts.validation])
    few = texts.validation[: 1 + int(np.searchsorted(ends, VALIDATION_TOKENS))]
    stream = Stream(texts.store, few, config.batch_size, config.sequence_length)
    device = model.decoder.bias.device
    total, count = 0.0, 0
    with torch.no_grad(), in_float32(model.encoder):
        model.eval()
        state = model.encoder.zero_state(stream.rows)
        for window in range(stream.windows):
            inputs, targets = (torch.from_numpy(ids).to(device) for ids in stream.window(window))
            loss, _, _, state = model(inputs, targets, state)
            total += loss.item() * targets.numel()
            count += targets.numel()
    loss_per_token: float = total / max(1, count)
    metrics = {"loss": loss_per_token, "perplexity": _perplexity(loss_per_token)}
    if texts.validation_words is not None:
        tokens_per_word = texts.store.lengths[few].sum() / texts.validation_words[: len(few)].sum()
        metrics["perplexity_per_word"] = _perplexity(float(loss_per_token * tokens_per_word))
    return metrics


def _no_improvement(model: LanguageModelNetwork, config: LanguageModelConfig) -> str:
    return (
        f"training did not improve the {model.direction} language model, so its first weights are kept. "
        f"If you did not expect that, lower its learning_rate: it is {config.learning_rate:g}"
    )


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 50))


@contextlib.contextmanager
def in_float32(encoder: EncoderNetwork) -> Iterator[None]:
    """Make an encoder compute in float32 within the block, for metrics and parity records."""
    before = encoder.compute_type
    encoder.compute_type = torch.float32
    try:
        yield
    finally:
        encoder.compute_type = before


def _sampler(model: LanguageModelNetwork, store: TokenStore, config: LanguageModelConfig) -> CandidateSampler | None:
    if config.candidates == "all":
        return None
    return CandidateSampler(store.counts(model.encoder.architecture.vocabulary_size), config.candidates)


def _optimizer(model: LanguageModelNetwork, config: LanguageModelConfig, steps: int) -> StageOptimizer:
    """Return the optimizer. The tied decoder and the embedding form the top layer group."""
    groups = [*model.encoder.layers, nn.ModuleList([model.encoder.embedding, model.decoder])]
    return StageOptimizer(
        groups,
        unfrozen=len(groups),
        steps=steps,
        schedule=config.schedule,
        learning_rate=config.learning_rate,
        layer_decay=config.layer_decay,
        weight_decay=config.weight_decay,
        max_gradient_norm=config.max_gradient_norm,
    )


def _restored_state(
    encoder: EncoderNetwork, start: LanguageModelCheckpoint, rows: slice, device: torch.device
) -> State:
    """Return the carried state of this process's rows."""
    layers = [start.part(f"state.{number}") for number in range(len(encoder.layers))]
    return [{name: values[rows].to(device) for name, values in layer.items()} for layer in layers]


def _gather_state(state: State) -> State:
    return [{name: gather_rows(values) for name, values in layer.items()} for layer in state]


def _checkpoint(
    model: LanguageModelNetwork,
    optimizer: StageOptimizer,
    step: int,
    best: _Best,
    state: State,
) -> LanguageModelCheckpoint:
    """Return everything that the next step depends on."""
    carried = {f"state.{number}.{name}": values for number, layer in enumerate(state) for name, values in layer.items()}
    tensors = {
        **with_prefix("model", model.state_dict()),
        **with_prefix("best", best.weights),
        **with_prefix("optimizer", optimizer.state()),
        **carried,
    }
    return LanguageModelCheckpoint(step=step, best=best.metrics, best_step=best.step, tensors=tensors)
