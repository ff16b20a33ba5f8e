"""Run a training from texts to a verified bundle: tokens, language models, classifiers, calibration.

In: labeled texts in memory, or a corpus. Out: reports during training, and a bundle on disk. Everything a run needs is
first written to its folder. Each direction is then trained from there, so that a killed run continues (guarantee 7).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from bothways.bundle.manifest import LINEAR, Architecture, FileName, Member, TrainingRecord
from bothways.bundle.parity import ENSEMBLE, parity_texts_with_fields
from bothways.bundle.read import Bundle
from bothways.bundle.write import write_bundle
from bothways.data.corpus import Corpus
from bothways.data.token_store import Numbers
from bothways.data.tokenization import tokenize_all
from bothways.errors import NoBetterThanConstant, ParityFailed
from bothways.evaluation.evaluate import confidence_intervals
from bothways.runtime.cores import available_cores
from bothways.runtime.verify import verify_in_fresh_process
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Split, Targets, Task
from bothways.text.fields import Text, fields_of
from bothways.text.reading import Direction, require_direction
from bothways.text.subwords import train_tokenizer
from bothways.text.tokenizer import Tokenizer
from bothways.training import time_budget
from bothways.training.checkpoints import (
    Checkpoints,
    ClassifierCheckpoint,
    FinalCheckpoint,
    LanguageModelCheckpoint,
)
from bothways.training.choices import Size
from bothways.training.directions import measure_directions, train_directions
from bothways.training.distributed import joined, processes, wait_for_all
from bothways.training.hyperparameters import Hyperparameters
from bothways.training.linear import TrainedLinear, fit_linear
from bothways.training.models import (
    Arrays,
    adapted_pack,
    classifier_parity_record,
    fast_type,
    language_model_parity_record,
    pack_with_field_token,
)
from bothways.training.one_direction import first_checkpoint, updated_checkpoint
from bothways.training.plan import Plan, PlanFolder, SplitName
from bothways.training.reports import ProgressReport, Report, StageReport
from bothways.training.run_folder import run_folder
from bothways.training.summary import RESULT_STAGE, label_counts, length_report, result_reports
from bothways.version import __version__

SECONDS_BETWEEN_CHECKPOINTS = 60.0
_TEXTS_PER_REPORT = 500
_SAMPLE_CHARACTERS = 60_000_000
"""A tokenizer is trained on at most this much of a corpus."""


@dataclass(frozen=True)
class RunSettings:
    """Settings of a training run.

    Attributes:
        out: Bundle to create.
        directions: Models to train, in the bundle's order.
        seed: Random seed.
        size: Name of the preset of hyperparameters, recorded in the bundle; None where a pack fixes the model size.
        hyperparameters: All hyperparameters.
        device: Device to train on.
        pack: Language models to start from, or None to train from scratch.
        updates: The classifier to update, whose encoders are ``pack``. Its heads are trained further, ``task`` is
            fitted, and language models are not trained.
        text_columns: Text columns in their order, recorded in the bundle.
        label_column: Label column, recorded in the bundle.
        weight_column: Column of the weights of texts, recorded in the bundle.
        invalid_rows: Number of rows that were left out, recorded in the bundle.
        task: What the classifiers predict, before it is fitted; None to train language models only.
        about: Description of the texts, for the card.
        data: A digest of the texts of each split.
        force: Publish a classifier even if it is no better than a constant prediction. Not part of the fingerprint.
        time_budget: Seconds that the training of a classifier may take, which limit its epochs; None for no limit.
        began: When the budget began, as ``time.monotonic`` returns it. Not part of the fingerprint.
        smaller: Hyperparameters of size tiny, if a budget may choose it.
        made_smaller_from: The settings of which a budget made these; they determine the result.
        seconds_between_checkpoints: Interval of checkpoints within a stage.
    """

    out: Path
    directions: tuple[Direction, ...]
    seed: int
    size: Size | None
    hyperparameters: Hyperparameters
    device: torch.device
    pack: Bundle | None = None
    updates: Bundle | None = None
    text_columns: tuple[str, ...] = ()
    label_column: str | None = None
    weight_column: str | None = None
    invalid_rows: int = 0
    task: Task | None = None
    about: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    force: bool = False
    time_budget: float | None = None
    began: float = field(default_factory=time.monotonic)
    smaller: Hyperparameters | None = None
    made_smaller_from: RunSettings | None = None
    seconds_between_checkpoints: float = field(default_factory=lambda: SECONDS_BETWEEN_CHECKPOINTS)

    @property
    def folder(self) -> Path:
        """The folder with everything the run needs."""
        return run_folder(self.out)

    @property
    def fingerprint(self) -> dict[str, object]:
        """Everything that determines the result of the run, as JSON holds it."""
        if self.made_smaller_from is not None:
            return self.made_smaller_from.fingerprint
        return {
            "bothways": __version__,
            "torch": torch.__version__,
            "data": dict(self.data),
            "directions": list(self.directions),
            "seed": self.seed,
            "device": self.device.type,
            "processes": processes().count,
            "pretrained": self.pack.digest if self.pack else None,
            "updates": self.updates.digest if self.updates else None,
            "text_columns": list(self.text_columns),
            "label_column": self.label_column,
            "weight_column": self.weight_column,
            "invalid_rows": self.invalid_rows,
            "task": dataclasses.asdict(self.task.record()) if self.task is not None else None,
            "about": self.about,
            "size": self.size,
            "time_budget": self.time_budget,
            "hyperparameters": self.hyperparameters.model_dump(mode="json", exclude=self._unused_sections),
        }

    @property
    def joins_fields(self) -> bool:
        """Whether a text has several fields."""
        return len(self.text_columns) > 1

    @property
    def _unused_sections(self) -> set[str]:
        """Sections of the hyperparameters that this run does not use."""
        return {"language_model", "classifier", "linear"} if self.task is None else {"pretraining"}


def digest_of(texts: Iterable[Text]) -> str:
    """Return a SHA-256 of texts with equal numbers of fields, and their order."""
    digest = hashlib.sha256()
    for field_ in itertools.chain.from_iterable(map(fields_of, texts)):
        data = field_.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class Judge(Protocol):
    """Compares a trained ensemble with something else before it is published."""

    def __call__(self, task: Task, scores: Scores) -> Iterator[Report]:
        """Yield reports about the calibrated ensemble's scores of the validation rows, (N, C).

        Raises:
            BothwaysError: The ensemble must not be published.
        """


def train_bundle(
    split: Split, unlabeled: list[Text], settings: RunSettings, judge: Judge | None = None
) -> Generator[Report, None, None]:
    """Train a classifier in each direction and publish the bundle.

    The same seed on the same machine gives the same bytes, even if the run was killed and continued (guarantee 7).

    Args:
        split: Training and validation rows, checked.
        unlabeled: Texts for the language models only.
        settings: Settings of the run.
        judge: Refuses to publish some ensembles. Only those that are no better than a constant are refused by default.

    Raises:
        DirectionError: The pack has no model for one of the directions; raised before anything is trained.
        ConfigError: Class weights name an unknown label, or the task has no classes.
        NoBetterThanConstant: The ensemble is no better than the same prediction for every text, and ``settings.force``
            is not set. The run's folder is kept.
        TrainingError: A loss became infinite or NaN, or the bundle could not be verified.
    """
    _refuse_missing_directions(settings)
    files = PlanFolder(settings.folder)
    if not files.is_complete:
        yield from prepare_classifiers(files, split, unlabeled, settings)
    if files.read_plan().is_provisional:
        yield from _fit_to_budget(files, split, unlabeled, settings)
    plan = files.read_plan()
    settings = replace(settings, hyperparameters=plan.hyperparameters, size=plan.size)
    yield length_report(_labeled_lengths(files, settings))
    yield from train_directions(settings.folder, plan)

    ends = _ends(files, plan)
    validation = {str(direction): end.metrics for direction, end in ends.items()}
    targets, soft_targets = files.targets(SplitName.VALIDATION), plan.task.soft_targets(split.valid)
    each = {str(direction): end.tensors["validation"].numpy() for direction, end in ends.items()}
    scores = plan.task.mean(each.values())
    linear = yield from _linear(files, plan, split, scores)
    if linear is not None:
        each[LINEAR] = linear.validation
        validation[LINEAR] = plan.task.epoch_metrics(linear.validation, targets)
        scores = plan.task.mixed(scores, linear.validation, linear.member.weight)
    task = plan.task.calibrated(scores, targets, soft_targets)
    validation[ENSEMBLE] = task.validation_metrics(scores, targets)
    ensemble = task.with_temperature(scores, task.temperature)
    yield from _judged(task, each, ensemble, targets, settings)
    if judge is not None:
        yield from judge(task, ensemble)
    yield StageReport("bundle", "verifying it in a fresh process without torch")
    tokenizer = files.read_tokenizer()
    parity = {str(direction): end.tensors["parity"].numpy() for direction, end in ends.items()}
    parity_scores = task.mean(parity.values())
    if linear is not None:
        texts = parity_texts_with_fields(tokenizer, settings.seed, max(1, len(settings.text_columns)))
        parity[LINEAR] = np.array([linear.model.scores(text) for text in texts])
        parity_scores = task.mixed(parity_scores, parity[LINEAR], linear.member.weight)
    parity_ensemble = task.with_temperature(parity_scores, task.temperature)
    write_bundle(
        settings.out,
        task=task,
        members=plan.members,
        weights=_weights(ends),
        tokenizer=tokenizer,
        parity_record=classifier_parity_record(
            parity, parity_ensemble, task, tokenizer, settings.seed, settings.text_columns
        ),
        training=_record(settings, files, validation, split, confidence_intervals(task, ensemble, targets)),
        linear=None if linear is None else (linear.member, linear.arrays),
        verify=_verify("classifier", settings.hyperparameters.classifier.learning_rate),
    )
    yield StageReport("done", str(settings.out), facts={"validation": validation})


def _fit_to_budget(
    files: PlanFolder, split: Split, unlabeled: list[Text], settings: RunSettings
) -> Generator[Report, None, None]:
    """Choose the epochs by the time budget, and the smaller size if it suits the budget better; complete the plan.

    Raises:
        ConfigError: The budget is too short for one epoch.
    """
    assert settings.time_budget is not None
    yield StageReport(time_budget.STAGE, "measuring a few steps")
    plan, stated = files.read_plan(), settings.hyperparameters  # a plan does not distinguish what the user stated
    smaller = None
    if settings.smaller is not None:
        smaller = replace(settings, size="tiny", hyperparameters=settings.smaller, made_smaller_from=settings)
        if plan.size == smaller.size:  # a killed run had chosen it
            stated, smaller = smaller.hyperparameters, None
    cost = time_budget.Cost.of(measure_directions(settings.folder, plan), stated, at_once=plan.at_once)
    left = settings.began + settings.time_budget - time.monotonic()
    seconds = time_budget.training_seconds(left)
    chosen, share = time_budget.fitted(stated, cost, seconds)
    if share < time_budget.LEAST_SHARE and smaller is not None:
        files.remove()
        yield from prepare_classifiers(files, split, unlabeled, smaller)
        yield from _fit_to_budget(files, split, unlabeled, settings)
        return
    if not share:
        needed = time_budget.shortest(stated, cost) + settings.time_budget - left
        files.remove()
        raise time_budget.too_short(settings.time_budget, needed)
    yield time_budget.report(chosen, cost, plan.size, share)
    files.complete(plan.model_copy(update={"hyperparameters": chosen, "is_provisional": False}))


def _linear(
    files: PlanFolder, plan: Plan, split: Split, directions: Scores
) -> Generator[Report, None, TrainedLinear | None]:
    """Return the linear member, or None if the ensemble is better without it or none is wanted.

    It is fitted in seconds, so there are no checkpoints: a run that was killed fits it again, to the same bytes.

    Args:
        files: The files of the run.
        plan: The plan of the run.
        split: Training and validation rows.
        directions: The mean of the directions' scores of the validation rows, (N, C).
    """
    if plan.hyperparameters.linear.include == "none":
        return None
    yield StageReport(LINEAR, "fitting a linear model of n-grams")
    found = fit_linear(
        split.train.texts,
        files.targets(SplitName.TRAINING),
        files.weights(SplitName.TRAINING),
        plan.class_weights,
        split.valid.texts,
        files.targets(SplitName.VALIDATION),
        directions,
        plan.task,
        plan.seed,
    )
    if found is None:
        yield StageReport(LINEAR, "left out, because the ensemble is better without it on the validation rows")
        return None
    known = found.member.words + found.member.characters
    weight = found.member.weight
    yield StageReport(LINEAR, f"{known:,} n-grams, weight {weight:.1f} in the ensemble", facts={"weight": weight})
    return found


def _judged(
    task: Task, each: Mapping[str, Scores], ensemble: Scores, targets: Targets, settings: RunSettings
) -> Iterator[Report]:
    """Report what the models are worth on the validation rows, and refuse an ensemble that is worth nothing.

    Raises:
        NoBetterThanConstant: The ensemble is no better than the same prediction for every text, and
            ``settings.force`` is not set.
    """
    yield from result_reports(task, {**each, ENSEMBLE: ensemble}, targets)
    reason = task.why_constant(ensemble, targets)
    if reason is None:
        return
    verdict = f"on {len(targets):,} validation rows the model is no better than one answer for every text: {reason}"
    if settings.force:
        yield StageReport(RESULT_STAGE, verdict, is_warning=True)
        return
    raise NoBetterThanConstant(
        f"{verdict}. It is not published. Add rows, try {'--pretrained none, ' if settings.pack else ''}more epochs or "
        "another learning_rate in a --config file, or repeat the command with --force to publish it as it is"
    )


def _verify(section: str, learning_rate: float | str) -> Callable[[Path], None]:
    """Return ``verify_in_fresh_process``, whose error also names the hyperparameter that may have caused it."""

    def verify(folder: Path) -> None:
        try:
            verify_in_fresh_process(folder)
        except ParityFailed as error:
            raise ParityFailed(
                f"{error}. A learning_rate in [{section}] that is too high can cause this: it is {learning_rate}"
            ) from None

    return verify


def prepare_classifiers(
    files: PlanFolder, split: Split, unlabeled: list[Text], settings: RunSettings
) -> Generator[Report, None, None]:
    """Write everything that the training of each direction needs to a run's folder, the plan last.

    Args:
        files: The folder.
        split: Training and validation rows, checked.
        unlabeled: Texts for the language models only.
        settings: Settings of the run.
    """
    assert settings.task is not None
    task = settings.task if settings.updates is not None else settings.task.fitted(split.train)
    soft_targets = task.soft_targets(split.train)
    targets = {
        SplitName.TRAINING: task.targets(split.train) if soft_targets is None else soft_targets,
        SplitName.VALIDATION: task.targets(split.valid),
    }
    wanted = settings.hyperparameters.classifier.class_weights
    class_weights = task.class_weights(wanted, targets[SplitName.TRAINING])
    yield StageReport("tokenizer")
    texts = [*split.train.texts, *unlabeled]
    if settings.pack is not None:
        pack = pack_with_field_token(settings.pack) if settings.joins_fields else settings.pack
        settings = replace(settings, pack=adapted_pack(pack, texts))
    tokenizer = settings.pack.tokenizer if settings.pack else _train_tokenizer(texts, settings)
    counts = {
        SplitName.TRAINING: len(split.train.texts),
        SplitName.UNLABELED: len(unlabeled),
        SplitName.VALIDATION: len(split.valid.texts),
    }
    start = 0
    for part, count in counts.items():
        numbers = np.arange(start, start + count, dtype=np.int64)
        is_training = part is SplitName.TRAINING
        weights = split.train.weights if is_training else None
        has_soft_label = split.train.has_soft_label if is_training and soft_targets is not None else None
        files.write_split(part, numbers, targets.get(part), weights, has_soft_label)
        start += count
    widths_head = [settings.hyperparameters.classifier.head_size]
    members = [_member(direction, tokenizer, settings, widths_head) for direction in settings.directions]
    every_text = [*texts, *split.valid.texts]
    yield from _prepare(files, tokenizer, every_text, len(every_text), members, task, settings)
    yield from _length_warnings(files, settings)
    files.complete(_plan(settings, members, task, class_weights))


def pretrain_pack(corpus: Corpus, settings: RunSettings) -> Generator[Report, None, None]:
    """Train a language model in each direction and publish them as one pack, stored in half precision.

    With ``torchrun``, all processes train each model together, and the first one does everything else.

    Args:
        corpus: Texts to train on; a share of them is set aside to choose the best weights.
        settings: Settings of the run. With a pack, training continues from it.

    Raises:
        ConfigError: The rows of a batch cannot be divided evenly among the processes.
        DirectionError: The pack has no model for one of the directions.
        TrainingError: A loss became infinite or NaN, or the pack could not be verified.
    """
    _refuse_missing_directions(settings)
    files = PlanFolder(settings.folder)
    is_first = processes().rank == 0
    with joined(settings.device):
        if is_first and not files.is_complete:
            yield from _prepare_corpus(files, corpus, settings)
        wait_for_all()
        plan = files.read_plan()
        yield from train_directions(settings.folder, plan)
        wait_for_all()
    if not is_first:
        return
    yield StageReport("pack", "verifying it in a fresh process without torch")
    ends = _ends(files, plan)
    validation = {str(direction): end.metrics for direction, end in ends.items()}
    tokenizer = files.read_tokenizer()
    losses = {direction: end.tensors["parity"].numpy() for direction, end in ends.items()}
    write_bundle(
        settings.out,
        task=None,
        members=plan.members,
        weights=_weights(ends),
        half_precision=True,
        tokenizer=tokenizer,
        parity_record=language_model_parity_record(losses, tokenizer, settings.seed),
        training=_record(settings, files, validation),
        verify=_verify("pretraining", settings.hyperparameters.pretraining.learning_rate),
    )
    yield StageReport("done", str(settings.out), facts={"validation": validation})


def _prepare_corpus(files: PlanFolder, corpus: Corpus, settings: RunSettings) -> Generator[Report, None, None]:
    yield StageReport("tokenizer", f"{corpus.texts} texts, {corpus.characters:,} characters")
    if settings.pack is not None:
        tokenizer = settings.pack.tokenizer
    else:
        tokenizer = _train_tokenizer(corpus.sample(_SAMPLE_CHARACTERS), settings)
    members = [_member(direction, tokenizer, settings, None) for direction in settings.directions]
    training, validation = corpus.split(settings.seed)
    files.write_split(SplitName.TRAINING, training)
    words = [
        len(text.split()) for text in itertools.compress(corpus.read(), np.isin(np.arange(corpus.texts), validation))
    ]
    files.write_split(SplitName.VALIDATION, validation, np.array(words))
    yield StageReport("tokens", f"a vocabulary of {len(tokenizer):,}")
    yield from _prepare(files, tokenizer, corpus.read(), corpus.texts, members, None, settings)
    files.complete(_plan(settings, members, None, None))


def _prepare(
    files: PlanFolder,
    tokenizer: Tokenizer,
    texts: Iterable[Text],
    count: int,
    members: Sequence[Member],
    task: Task | None,
    settings: RunSettings,
) -> Generator[Report, None, None]:
    """Write tokens, tokenizer and the first checkpoints to the run's folder."""
    orders = [(member.direction, member.special_tokens) for member in members]
    with files.tokens.writing([member.direction for member in members], len(tokenizer)) as add:
        for number, ids in enumerate(tokenize_all(tokenizer, texts, orders, available_cores()), start=1):
            add(ids)
            if number % _TEXTS_PER_REPORT == 0:
                yield ProgressReport("tokens", number, count)
    files.write_tokenizer(tokenizer)
    for member in members:
        start = _first_checkpoint(member, tokenizer, task, settings)
        Checkpoints(files.checkpoints(member.direction), 0).save(start)


def _first_checkpoint(
    member: Member, tokenizer: Tokenizer, task: Task | None, settings: RunSettings
) -> LanguageModelCheckpoint | ClassifierCheckpoint:
    """Return the checkpoint from which the training of a direction starts."""
    weights = dict(settings.pack.weights[member.direction]) if settings.pack else None
    start = first_checkpoint(member, settings.seed, weights, tokenizer.byte_ids)
    if settings.updates is None:
        return start
    assert task is not None
    known = {label: number for number, label in enumerate(settings.updates.manifest.decisions.output_names)}
    return updated_checkpoint(
        start,
        member,
        settings.updates.weights[member.direction],
        np.array([known.get(label, -1) for label in task.output_names]),
        settings.hyperparameters.classifier,
        settings.seed,
    )


def _plan(
    settings: RunSettings,
    members: list[Member],
    task: Task | None,
    class_weights: list[float] | None,
) -> Plan:
    cores = available_cores()
    at_once = len(members) > 1 and processes().count == 1 and (settings.device.type == "cuda" or cores > 1)
    precision = settings.hyperparameters.encoder.precision
    if precision == "auto":
        precision = "bfloat16" if fast_type(settings.device) is torch.bfloat16 else "float32"
    return Plan(
        fingerprint=settings.fingerprint,
        fields=max(1, len(settings.text_columns)),
        members=members,
        task_record=task.record() if task is not None else None,
        class_weights=class_weights,
        seed=settings.seed,
        hyperparameters=settings.hyperparameters,
        size=settings.size,
        is_provisional=settings.time_budget is not None,
        device=settings.device.type,
        precision=precision,
        threads=max(1, cores // len(members)) if at_once else max(1, cores // processes().count),
        at_once=at_once,
        seconds_between_checkpoints=settings.seconds_between_checkpoints,
    )


def _ends(files: PlanFolder, plan: Plan) -> dict[Direction, FinalCheckpoint]:
    """Return the last checkpoint of each direction."""
    ends = {}
    for member in plan.members:
        end, _ = Checkpoints(files.checkpoints(member.direction), 0).newest()
        assert isinstance(end, FinalCheckpoint)
        ends[member.direction] = end
    return ends


def _weights(ends: Mapping[Direction, FinalCheckpoint]) -> dict[Direction, Arrays]:
    return {
        direction: {name: tensor.numpy() for name, tensor in end.part("weights").items()}
        for direction, end in ends.items()
    }


def _refuse_missing_directions(settings: RunSettings) -> None:
    if settings.pack is not None:
        for direction in settings.directions:
            require_direction(direction, settings.pack.manifest.directions, settings.pack.name)


def _train_tokenizer(texts: Iterable[Text], settings: RunSettings) -> Tokenizer:
    tokenizer = train_tokenizer(texts, settings.hyperparameters.tokenizer.vocabulary_size)
    return tokenizer.with_field_token() if settings.joins_fields else tokenizer


def _labeled_lengths(files: PlanFolder, settings: RunSettings) -> Numbers:
    """Return the number of tokens of each labeled text."""
    labeled = np.concatenate([files.numbers(SplitName.TRAINING), files.numbers(SplitName.VALIDATION)])
    lengths: Numbers = files.tokens.open(settings.directions[0]).lengths[labeled]
    return lengths


def _length_warnings(files: PlanFolder, settings: RunSettings) -> Iterator[Report]:
    longest = settings.hyperparameters.classifier.max_text_tokens
    lengths = _labeled_lengths(files, settings)
    too_long = int((lengths > longest).sum())
    if too_long:
        message = (
            f"{too_long} of {len(lengths)} texts exceed {longest:,} tokens and are truncated for training "
            "(not for prediction)"
        )
        yield StageReport("tokenizer", message, is_warning=True)


def _member(direction: Direction, tokenizer: Tokenizer, settings: RunSettings, widths_head: list[int] | None) -> Member:
    if settings.pack is not None:
        known = settings.pack.manifest.member(direction)
        return known.model_copy(update={"widths_head": widths_head})
    sizes = settings.hyperparameters.encoder
    architecture = Architecture(
        vocabulary_size=len(tokenizer),
        width_embedding=sizes.embedding_size,
        width_hidden=sizes.hidden_size,
        layers=sizes.layers,
        kind=sizes.kind,
        first_window=sizes.first_window,
    )
    weights: FileName = "forward.safetensors" if direction is Direction.FORWARD else "backward.safetensors"
    return Member(
        direction=direction,
        special_tokens=sizes.special_token_placement,
        weights=weights,
        architecture=architecture,
        widths_head=widths_head,
    )


def _record(
    settings: RunSettings,
    files: PlanFolder,
    validation: dict[str, dict[str, float]],
    split: Split | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> TrainingRecord:
    taught = 0 if split is None else split.taught
    record = settings.task.record() if settings.task is not None else None
    return TrainingRecord(
        bothways_version=__version__,
        seed=settings.seed,
        size=settings.size,
        text_columns=list(settings.text_columns),
        label_column=settings.label_column,
        label_columns=list(record.label_columns) if record is not None else [],
        label_separator=record.separator if record is not None else None,
        weight_column=settings.weight_column,
        about=settings.about,
        rows={
            **{str(part): len(files.numbers(part)) for part in files.splits},
            **({"labeled by a teacher": taught} if taught else {}),
            **({"invalid": settings.invalid_rows} if settings.invalid_rows else {}),
        },
        label_rows={} if split is None else dict(label_counts(split.train)),
        validation=validation,
        validation_intervals={name: list(bounds) for name, bounds in (intervals or {}).items()},
        pretrained=settings.pack.digest if settings.pack else None,
        pretrained_name=Path(settings.pack.name).name if settings.pack else None,
        hyperparameters=settings.hyperparameters.model_dump(mode="json"),
    )
