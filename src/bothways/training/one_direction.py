"""Train one direction of a run, from its first checkpoint to its last.

In: a run's folder with a complete plan. Out: reports during training, and a final checkpoint with the weights and the
numbers of the parity record. Each direction is trained independently of the other. Run as a module, it trains one
direction, or measures how long that takes, and writes its reports to standard output, one JSON object per line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import filelock
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bothways import strict_json
from bothways.bundle.manifest import Member
from bothways.bundle.weights import rounded_to_half
from bothways.data.token_store import TokenStore
from bothways.errors import BothwaysError, TrainingError
from bothways.nn.classifier import ClassifierNetwork
from bothways.nn.language_model import LanguageModelNetwork
from bothways.runtime.cores import available_cores
from bothways.text.reading import Direction
from bothways.training.checkpoints import (
    Checkpoints,
    ClassifierCheckpoint,
    FinalCheckpoint,
    LanguageModelCheckpoint,
    with_prefix,
)
from bothways.training.classifier import ClassRows, class_scores, learning_rate_of, train_classifier
from bothways.training.distributed import processes
from bothways.training.divergence import StageSettings, stopped_if_diverged
from bothways.training.estimate import ClassifierCost, classifier_cost, duration_text, language_model_seconds
from bothways.training.hyperparameters import ClassifierConfig, LanguageModelConfig
from bothways.training.language_model import (
    StreamTexts,
    evaluate_language_model,
    keep_unread_bytes,
    train_language_model,
)
from bothways.training.models import (
    build_classifier,
    build_language_model,
    choose_device,
    parity_losses,
    parity_scores,
    weights_of,
)
from bothways.training.objective import untrained_loss
from bothways.training.plan import DIRECTION_LOCK, Plan, PlanFolder, SplitName
from bothways.training.reports import (
    CLASSIFIER_STAGE,
    LANGUAGE_MODEL_STAGE,
    TIME_STAGE,
    Report,
    StageReport,
    dump_report,
)
from bothways.training.seeds import derived_seed
from bothways.training.sweep import classifier_sweep, language_model_sweep

ERROR_KEY = "error"
Work = Callable[[Path, Direction], Iterator[Report]]
"""What is done for a direction: ``train_direction`` or ``measure_direction``."""
_LONGEST_WAIT_S = 120
"""Time for a process whose parent was killed to notice it and release the lock."""


def first_checkpoint(
    member: Member, seed: int, weights: dict[str, NDArray[np.float32]] | None, byte_ids: range = range(0)
) -> LanguageModelCheckpoint:
    """Return the checkpoint from which a direction starts: the weights of a pack's model, and random ones without it.

    A pack that continues with another kind of encoder has no weights of its layers. Embeddings of bytes start with
    zeros, which those of bytes that the texts do not contain keep (``keep_unread_bytes``).
    """
    model = build_language_model(member.architecture, member.direction, derived_seed(seed, member.direction, "build"))
    with torch.no_grad():
        model.encoder.embedding.weight[byte_ids.start : byte_ids.stop] = 0
    if weights is not None:
        found = {name: torch.from_numpy(array) for name, array in weights.items()}
        model.load_state_dict({**model.state_dict(), **found})
    return LanguageModelCheckpoint(tensors=with_prefix("model", model.state_dict()))


def updated_checkpoint(
    start: LanguageModelCheckpoint,
    member: Member,
    weights: Mapping[str, NDArray[np.float32]],
    outputs: NDArray[np.intp],
    config: ClassifierConfig,
    seed: int,
) -> ClassifierCheckpoint:
    """Return the checkpoint from which a direction of an updated classifier starts: its encoder and its head.

    Args:
        start: The checkpoint with the encoder.
        member: The direction's member of the new classifier.
        weights: Those of the classifier to update, by their names in a bundle.
        outputs: For each output of the new classifier the one of the old classifier, or -1 for a new label, (C,).
        config: Hyperparameters of the head.
        seed: Random seed of the weights of new labels.
    """
    language_model = build_language_model(member.architecture, member.direction, 0)
    language_model.load_state_dict(start.part("model"))
    seed = derived_seed(seed, member.direction, "head")
    model = build_classifier(language_model, member.direction, len(outputs), config, seed)
    state, is_known = model.head.state_dict(), torch.from_numpy(outputs >= 0)
    for name, tensor in state.items():
        if (found := weights.get(f"head.{name}")) is None:  # a counter of batches, which is not stored
            continue
        array = torch.from_numpy(found)
        if name.startswith(f"layers.{len(model.head.layers) - 1}."):
            tensor[is_known] = array[torch.from_numpy(outputs[outputs >= 0])]
        else:
            state[name] = array
    model.head.load_state_dict(state)
    return ClassifierCheckpoint(perplexity=None, tensors=with_prefix("model", model.state_dict()))


def train_direction(folder: Path, direction: Direction) -> Generator[Report, None, None]:
    """Train one direction from its newest checkpoint to the end.

    Guarantee 7: it may be killed at any moment and started again.

    Args:
        folder: The folder of a run whose plan is complete.
        direction: The direction to train.

    Raises:
        TrainingDiverged: A stage diverged. The message names the hyperparameter to lower.
        TrainingError: No checkpoint is intact.
        DataError: A checkpoint cannot be written.
    """
    files = PlanFolder(folder)
    plan = files.read_plan()
    is_first = processes().rank == 0
    checkpoints = Checkpoints(files.checkpoints(direction), plan.seconds_between_checkpoints, writes=is_first)
    lock = filelock.FileLock(files.checkpoints(direction) / DIRECTION_LOCK, timeout=_LONGEST_WAIT_S)
    with lock if is_first else contextlib.nullcontext():  # other processes only read checkpoints
        start, problems = checkpoints.newest()
        for problem in problems:
            yield StageReport("start", problem, is_warning=True)
        if start is None:
            place = files.checkpoints(direction)
            raise TrainingError(f"{place} has no intact checkpoint")
        with _reproducible_torch(plan.threads):
            if direction is plan.members[0].direction and processes().count == 1:
                yield from _time_report(files, plan, start)
            if isinstance(start, LanguageModelCheckpoint):
                start = yield from _language_model_stage(files, plan, direction, start, checkpoints)
                checkpoints.save(start)
            if isinstance(start, ClassifierCheckpoint):
                start = yield from _classifier_stage(files, plan, direction, start, checkpoints)
                checkpoints.save(start)


@contextlib.contextmanager
def _reproducible_torch(threads: int) -> Iterator[None]:
    """Make torch compute the same bits in each run, on this number of threads; restore its settings afterwards.

    float32 stays float32 on a GPU too: cuDNN's LSTM would otherwise multiply with 19 bits (TF32).
    """
    threads_before = torch.get_num_threads()
    mode_before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    shortens_before = torch.backends.cudnn.allow_tf32
    fills_before = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow, and never read
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(mode_before[0], warn_only=mode_before[1])
        torch.backends.cudnn.allow_tf32 = shortens_before
        torch.utils.deterministic.fill_uninitialized_memory = fills_before  # type: ignore[attr-defined]


def _language_model_stage(
    files: PlanFolder, plan: Plan, direction: Direction, start: LanguageModelCheckpoint, checkpoints: Checkpoints
) -> Generator[Report, None, ClassifierCheckpoint | FinalCheckpoint]:
    """Return the checkpoint of the next stage."""
    is_classifier = not plan.is_pretraining
    config, texts = _language_model_config(plan), _stream_texts(files, plan, direction)
    model = _language_model(plan, direction, start.part("model"))
    seed = derived_seed(plan.seed, direction, "lm")
    section = "language_model" if is_classifier else "pretraining"
    uniform = math.log(plan.member(direction).architecture.vocabulary_size)
    settings = StageSettings(LANGUAGE_MODEL_STAGE, direction, section, config.learning_rate, uniform)
    keep_unread_bytes(model, texts, files.read_tokenizer().byte_ids)
    reports = train_language_model(model, texts, config, seed, start, checkpoints)
    metrics = yield from stopped_if_diverged(reports, settings)
    if is_classifier:
        seed = derived_seed(plan.seed, direction, "head")
        whole = build_classifier(model, direction, plan.task.outputs, plan.hyperparameters.classifier, seed)
        tensors = with_prefix("model", whole.state_dict())
        return ClassifierCheckpoint(perplexity=metrics["perplexity"], tensors=tensors)
    member = plan.member(direction)
    try:
        rounded = rounded_to_half(weights_of(model, member, 0))
    except TrainingError as error:
        raise settings.diverged(f"at its end: {error}") from None
    model.load_state_dict({name: torch.from_numpy(array) for name, array in rounded.items()})
    metrics = evaluate_language_model(model, texts, config)
    parity_record = parity_losses(model, member.special_tokens, files.read_tokenizer(), plan.seed)
    settings.refuse_infinite(parity_record)
    tensors = {**with_prefix("weights", _tensors(rounded)), "parity": torch.from_numpy(parity_record)}
    return FinalCheckpoint(metrics=metrics, tensors=tensors)


def _language_model_config(plan: Plan) -> LanguageModelConfig:
    return plan.hyperparameters.pretraining if plan.is_pretraining else plan.hyperparameters.language_model


def _stream_texts(files: PlanFolder, plan: Plan, direction: Direction) -> StreamTexts:
    training = files.numbers(SplitName.TRAINING)
    if not plan.is_pretraining:
        training = np.concatenate([training, files.numbers(SplitName.UNLABELED)])
    words = files.targets(SplitName.VALIDATION) if plan.is_pretraining else None
    return StreamTexts(files.tokens.open(direction), training, files.numbers(SplitName.VALIDATION), words)


def _time_report(
    files: PlanFolder, plan: Plan, start: LanguageModelCheckpoint | ClassifierCheckpoint | FinalCheckpoint
) -> Iterator[Report]:
    """Report how long the rest of the run takes: the time of the first direction, measured on a few steps of it."""
    if isinstance(start, FinalCheckpoint):
        return
    seconds, cost = _measured(files, plan, plan.members[0].direction, start)
    if cost is not None:
        epochs_done = start.epoch if isinstance(start, ClassifierCheckpoint) else 0
        seconds += cost.seconds(plan.hyperparameters.classifier, epochs_done)
    seconds *= 1 if plan.at_once else len(plan.members)
    message = f"about {duration_text(seconds)} to train on this machine"
    facts = {"seconds": round(seconds, 1), "device": plan.device, "cores": available_cores()}
    yield StageReport(TIME_STAGE, message, facts=facts)


def _measured(
    files: PlanFolder, plan: Plan, direction: Direction, start: LanguageModelCheckpoint | ClassifierCheckpoint
) -> tuple[float, ClassifierCost | None]:
    """Return the seconds that the rest of a language model's training takes, and what its classifier's takes."""
    place, config, seconds = files.checkpoints(direction), plan.hyperparameters.classifier, 0.0
    if isinstance(start, LanguageModelCheckpoint):
        texts = _stream_texts(files, plan, direction)
        model = _language_model(plan, direction, start.part("model"))
        seconds = language_model_seconds(model, texts, _language_model_config(plan), start.step, place)
        if plan.is_pretraining:
            return seconds, None
        classifier = build_classifier(model, direction, plan.task.outputs, config, 0)
    else:
        classifier = _classifier(plan, direction, start.part("model"))
    train, valid = _train_and_valid(files, plan, direction)
    return seconds, classifier_cost(classifier, train, valid, plan.task, plan.objective, config, place)


def measure_direction(folder: Path, direction: Direction) -> Iterator[Report]:
    """Yield a report of what the training of a direction takes on this machine; nothing is changed.

    Args:
        folder: The folder of a run whose plan is written and whose training has not begun.
        direction: The direction to measure.
    """
    files = PlanFolder(folder)
    plan = files.read_plan()
    start, _ = Checkpoints(files.checkpoints(direction), 0, writes=False).newest()
    assert isinstance(start, LanguageModelCheckpoint)
    with _reproducible_torch(plan.threads):
        seconds, cost = _measured(files, plan, direction, start)
    assert cost is not None
    texts = _stream_texts(files, plan, direction)
    tokens = int(texts.store.lengths[texts.training].sum())
    yield StageReport(
        TIME_STAGE, facts={"language_model": seconds, "tokens": tokens, "classifier": dataclasses.asdict(cost)}
    )


def sweep_direction(folder: Path, direction: Direction) -> Iterator[Report]:
    """Yield reports of about 100 steps per stage with a learning rate that rises from 1e-5 to 1; nothing is changed.

    The last report has the learning rate of each stage in an ordinary training.

    The classifier is trained with all layers unfrozen, on the encoder from which the language model starts.

    Args:
        folder: The folder of a run whose plan is written and whose training has not begun.
        direction: The direction to train.
    """
    files = PlanFolder(folder)
    plan = files.read_plan()
    place = files.checkpoints(direction)
    start, _ = Checkpoints(place, 0, writes=False).newest()
    assert isinstance(start, LanguageModelCheckpoint)
    with _reproducible_torch(plan.threads):
        model, texts = _language_model(plan, direction, start.part("model")), _stream_texts(files, plan, direction)
        yield from language_model_sweep(model, texts, plan.hyperparameters.language_model, plan.seed, place)
        model = _language_model(plan, direction, start.part("model"))
        config = plan.hyperparameters.classifier
        classifier = build_classifier(model, direction, plan.task.outputs, config, plan.seed)
        train, valid = _train_and_valid(files, plan, direction)
        yield from classifier_sweep(classifier, train, valid, plan.task, plan.objective, config, plan.seed, place)
    rates: dict[str, object] = {
        LANGUAGE_MODEL_STAGE: plan.hyperparameters.language_model.learning_rate,
        CLASSIFIER_STAGE: learning_rate_of(train, config),
    }
    yield StageReport("done", facts=rates)


def _classifier_stage(
    files: PlanFolder, plan: Plan, direction: Direction, start: ClassifierCheckpoint, checkpoints: Checkpoints
) -> Generator[Report, None, FinalCheckpoint]:
    """Return the direction's final checkpoint."""
    config, member = plan.hyperparameters.classifier, plan.member(direction)
    task, objective = plan.task, plan.objective
    model = _classifier(plan, direction, start.part("model"))
    train, valid = _train_and_valid(files, plan, direction)
    seed = derived_seed(plan.seed, direction, "classifier")
    settings = StageSettings(
        CLASSIFIER_STAGE,
        direction,
        "classifier",
        learning_rate_of(train, config),
        untrained_loss(objective, train.targets, task.outputs) * train.loss_scale,
    )
    reports = train_classifier(model, train, valid, task, objective, config, seed, start, checkpoints)
    yield from stopped_if_diverged(reports, settings)
    scores = class_scores(model, valid.ids, objective, config)
    metrics = task.epoch_metrics(scores, valid.targets)
    parity_record = parity_scores(
        model, member.special_tokens, objective, files.read_tokenizer(), plan.seed, plan.fields
    )
    settings.refuse_infinite(parity_record)
    tensors = {
        **with_prefix("weights", _tensors(weights_of(model, member, task.outputs))),
        "parity": torch.from_numpy(parity_record),
        "validation": torch.from_numpy(scores),
    }
    if start.perplexity is not None:
        metrics = {**metrics, "perplexity": start.perplexity}
    return FinalCheckpoint(metrics=metrics, tensors=tensors)


def _train_and_valid(files: PlanFolder, plan: Plan, direction: Direction) -> tuple[ClassRows, ClassRows]:
    store, longest = files.tokens.open(direction), plan.hyperparameters.classifier.max_text_tokens
    return (
        _class_rows(files, plan, store, longest, SplitName.TRAINING),
        _class_rows(files, plan, store, longest, SplitName.VALIDATION),
    )


def _class_rows(files: PlanFolder, plan: Plan, store: TokenStore, max_tokens: int, split_name: SplitName) -> ClassRows:
    """Return the rows of a split. Texts of weight 0 are left out, and the other weights have mean 1."""
    numbers, targets, weights = files.numbers(split_name), files.targets(split_name), files.weights(split_name)
    is_soft, temperature = files.has_soft_label(split_name), plan.hyperparameters.classifier.distillation_temperature
    scaled, temperatures = None, None
    if is_soft is not None and temperature != 1:
        targets[is_soft] = plan.task.with_temperature(targets[is_soft].astype(np.float64), temperature)
        temperatures = np.where(is_soft, temperature, 1).astype(np.float32)
    if weights is not None:
        is_used = weights > 0
        numbers, targets, weights = numbers[is_used], targets[is_used], weights[is_used]
        temperatures = None if temperatures is None else temperatures[is_used]
        scaled = (weights / weights.mean()).astype(np.float32)
    return ClassRows([store[number][:max_tokens] for number in numbers], targets, scaled, temperatures)


def _language_model(plan: Plan, direction: Direction, weights: dict[str, Tensor]) -> LanguageModelNetwork:
    model = build_language_model(plan.member(direction).architecture, direction, 0)
    model.load_state_dict(weights)
    model.encoder.compute_type = plan.compute_type
    return model.to(choose_device(plan.device))


def _classifier(plan: Plan, direction: Direction, weights: dict[str, Tensor]) -> ClassifierNetwork:
    language_model = build_language_model(plan.member(direction).architecture, direction, 0)
    model = build_classifier(language_model, direction, plan.task.outputs, plan.hyperparameters.classifier, 0)
    model.load_state_dict(weights)
    model.encoder.compute_type = plan.compute_type
    return model.to(choose_device(plan.device))


def _tensors(arrays: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _run_and_report(reports: Iterator[Report]) -> int:
    """Train or measure one direction, write its reports to standard output, and return the exit status."""
    try:
        for report in reports:
            sys.stdout.write(dump_report(report) + "\n")
            sys.stdout.flush()
    except BothwaysError as error:
        sys.stdout.write(strict_json.dump({ERROR_KEY: type(error).__name__, "message": str(error)}) + "\n")
        sys.stdout.flush()
        return 1
    except BrokenPipeError:  # the parent process was killed
        os._exit(1)
    return 0


if __name__ == "__main__":
    work: Work = train_direction if sys.argv[3] == "train" else measure_direction
    sys.exit(_run_and_report(work(Path(sys.argv[1]), Direction(sys.argv[2]))))
