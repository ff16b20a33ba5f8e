"""Predict with a bundle: texts in, labels and probabilities or values out.

In: texts. Out: predictions of each member and of the ensemble, in the order of the texts. Every surface (Python,
command line, server) goes through ``Classifier.predictions_of`` or ``Classifier.slots``. What the outputs mean is
decided by the bundle's task.
"""

from __future__ import annotations

import asyncio
import os
import reprlib
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from bothways.arguments import as_flag, as_integer, as_path, as_text, checked, optional
from bothways.bundle.hub import absolute
from bothways.bundle.manifest import LINEAR, Abstention, EarlyExit, Kind, Manifest, with_linear
from bothways.bundle.parity import ENSEMBLE, recorded_scores
from bothways.bundle.read import Bundle, read_bundle
from bothways.bundle.weights import Weights
from bothways.errors import BundleBroken, ConfigError, path_text, quoted
from bothways.runtime.allocator import return_freed_memory
from bothways.runtime.cores import available_cores
from bothways.runtime.domain import DomainModel
from bothways.runtime.encoder import PRECISIONS, Precision
from bothways.runtime.explanation import MAX_READINGS, Explanation, Occlusion, explain
from bothways.runtime.head import Head
from bothways.runtime.linear import LinearModel
from bothways.runtime.prediction import Prediction
from bothways.runtime.reader import TextReader
from bothways.runtime.sessions import EncoderSession, encoder_of
from bothways.runtime.slots import (
    SLOTS,
    EarlyExitRule,
    Pooled,
    PreparedText,
    ReadText,
    Screening,
    SlotEngine,
    Slots,
    TokenCounts,
)
from bothways.tasks.labels import LabelValue
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Predictions, Task, Value
from bothways.text.coverage import is_wordless, unreadable_tokens
from bothways.text.fields import Text, columns_text, fields_of
from bothways.text.reading import Direction, TokenizedText
from bothways.text.tokenizer import Tokenizer
from bothways.text.validation import check_item, check_texts

_SHORT_TOKENS = 64
_LABELS_SHOWN = 10
_DIGEST_SHOWN = 12


class _AsyncReader:
    """The thread that reads for ``apredict``: calls share the cores, so that reading several at once gains nothing."""

    def __init__(self) -> None:
        self._process_id = 0
        self._executor: ThreadPoolExecutor | None = None

    def executor(self) -> ThreadPoolExecutor:
        """Return the executor of this process: a fork has no threads."""
        if self._executor is None or self._process_id != os.getpid():
            self._process_id, self._executor = os.getpid(), ThreadPoolExecutor(1, "bothways-apredict")
        return self._executor


_async_reader = _AsyncReader()


class _LoadOptions(NamedTuple):
    """The arguments of ``load``, with absolute paths. A reference to the Hub names a commit."""

    path: str
    threads: int | None
    early_exit: bool
    precision: Precision
    key: str | None


class _Abstained(TypedDict, total=False):
    """The fields of a prediction of a model that abstains."""

    abstained: str | None
    label_set: tuple[LabelValue, ...] | None
    domain_score: float


class _WeightsAgain:
    """Reads the weights of a model again, for a process that was forked after the model was loaded."""

    def __init__(self, loaded_by: _LoadOptions, digest: str) -> None:
        self._loaded_by, self._digest = loaded_by, digest
        self._lock = threading.Lock()
        self._unused: dict[Direction, Weights] = {}

    def of(self, direction: Direction) -> Weights:
        """Return the weights of a member. The bundle is read once for all members.

        Raises:
            BundleError: The bundle can't be read, or it is another one by now.
        """
        with self._lock:
            if direction not in self._unused:
                bundle = read_bundle(self._loaded_by.path, Kind.CLASSIFIER, self._loaded_by.key)
                require_digest(bundle.digest, self._digest, self._loaded_by.path, "the model before the fork")
                self._unused = dict(bundle.weights)
            return self._unused.pop(direction)


class Classifier:
    """A model that reproduces the numbers of its trainer. Made by ``bothways.load``.

    Also holds regression models, whose predictions are numbers. Needs no torch, and nothing on disk once it is loaded.
    Safe to use from several threads. It never changes, so that a copy is the model itself. Pickled, it is the path of
    its bundle, its digest and the options of ``load``: another process loads the same bundle.

    Takes the weights out of the bundle that it is made from, so that a bundle serves for one classifier only.

    Attributes:
        labels: All labels (text, whole numbers or booleans, as in training), in the order of every row of
            probabilities; empty for regression.
        targets: The names of several targets, in the order of every row of values; empty for any other model.
        task: What the outputs mean.
        manifest: The manifest of the bundle.
        digest: The bundle's identity, a SHA-256.
        tokenizer: Shared by both directions.
        engine: Reads tokenized texts with every member.
        early_exit: When one direction, or the linear member, is enough; None if both directions always read.
        abstention: When the model abstains; None if that was not calibrated, or with early exit, with which confidences
            mean something else.
        precision: Precision of the matrix products, ``float32`` or ``int8``.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        early_exit: EarlyExit | None = None,
        precision: Precision = "float32",
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        self._loaded_by = _LoadOptions(
            absolute(bundle.name),
            threads,
            early_exit is not None,
            precision,
            None if key is None else str(Path(key).absolute()),
        )
        self.manifest: Manifest = bundle.manifest
        self.task: Task = bundle.manifest.decisions
        self.precision = precision
        self.early_exit = early_exit
        self.labels: tuple[LabelValue, ...] = self.task.label_values
        self.targets: tuple[str, ...] = self.task.target_names
        self.digest: str = bundle.digest
        self.tokenizer: Tokenizer = bundle.tokenizer
        members = bundle.manifest.members
        cores = threads or available_cores()
        can_share = all(encoder_of(member.architecture).is_compute_bound(precision) for member in members)
        # With early exit one member reads first, and cores that cannot be divided evenly would be idle.
        at_once = len(members) if can_share and early_exit is None and cores % len(members) == 0 else 1
        again = _WeightsAgain(self._loaded_by, bundle.digest)
        sessions, self._heads = [], []
        for member in members:
            weights = bundle.weights.pop(member.direction)  # freed before the next member's weights are packed
            sessions.append(
                EncoderSession(
                    member.architecture,
                    weights,
                    pools_padding=member.pooling is None,
                    threads=cores // at_once,
                    precision=precision,
                    weights_again=partial(again.of, member.direction),
                )
            )
            self._heads.append(Head(weights, len(member.widths_head or []) + 1))
            del weights
            return_freed_memory()  # the member's weights, and the memory in which they were packed
        self.engine = SlotEngine(members, sessions, at_once)
        self._linear = None if bundle.linear is None else LinearModel(bundle.linear[1], self.task)
        self.abstention: Abstention | None = None
        self._domain: DomainModel | None = None
        if bundle.abstention is not None and early_exit is None:
            self.abstention, self._domain = bundle.abstention[0], DomainModel(bundle.abstention[1])

    def __repr__(self) -> str:
        parts: list[str] = [self.task.name]
        if self.labels:
            listed = ", ".join(map(reprlib.repr, self.labels[:_LABELS_SHOWN]))
            more = len(self.labels) - _LABELS_SHOWN
            parts.append(f"labels=({listed}, … {more} more)" if more > 0 else f"labels=({listed})")
        if self.targets:
            parts.append(f"targets={list(self.targets[:_LABELS_SHOWN])}")
        if len(self.text_columns) > 1:
            parts.append(f"text_columns={list(self.text_columns)}")
        return f"Classifier({', '.join(parts)}, directions={self.directions}, digest='{self.digest[:_DIGEST_SHOWN]}…')"

    def __copy__(self) -> Classifier:
        return self

    def __deepcopy__(self, _: object) -> Classifier:
        return self

    def __reduce__(self) -> tuple[object, tuple[_LoadOptions, str]]:
        return _load_same, (self._loaded_by, self.digest)

    @property
    def directions(self) -> list[str]:
        """The directions that this model reads, in the bundle's order."""
        return [str(direction) for direction in self.manifest.directions]

    @property
    def scored_by(self) -> list[str]:
        """The names of all that give scores of their own: the directions, and ``linear`` if there is such a member."""
        return self.manifest.scored_by

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The text columns that this model was trained on, in their order. Empty if they are not recorded."""
        return tuple(self.manifest.training.text_columns)

    @property
    def training_shares(self) -> NDArray[np.float64] | None:
        """The share of the training rows that have each label, (C,); None if the bundle does not record it."""
        training = self.manifest.training
        if not training.label_rows or not training.rows.get("training"):
            return None
        counts = [training.label_rows.get(label, 0) for label in self.manifest.labels]
        return np.array(counts) / training.rows["training"]

    def predict(self, texts: Iterable[object]) -> Predictions:
        """Return the prediction for each text, in the order of the texts.

        Args:
            texts: A list, array, Series or any other iterable of texts. A text is a string. For a model with several
                text columns it is a dict by column, or a tuple with one string per column. A table with the columns
                that the model was trained on is also accepted: a DataFrame, an Arrow table, a dict of lists.

        Returns:
            (N,): a label per text for single-label (str, int64 or bool, as the labels in training); a tuple of labels,
            possibly empty, for multi-label; a number (float64) for regression. (N, C) float64 for a regression with
            several targets, columns in the order of ``targets``.

        Raises:
            TextError: ``texts`` is a single string, or one of the texts cannot be read.
        """
        return self.task.array([prediction.scores[ENSEMBLE] for prediction in self.stream(texts)])

    async def apredict(self, texts: Iterable[object]) -> Predictions:
        """Return what ``predict`` returns, without blocking the event loop.

        The texts of one call are read after those of the other, each with all threads of the model. A call that is
        canceled stops reading. ``texts`` must not be changed meanwhile.

        Raises:
            TextError: ``texts`` is a single string, or one of the texts cannot be read.
        """
        is_canceled = threading.Event()

        def read() -> Predictions:
            found = []
            for prediction in self.stream(texts):
                if is_canceled.is_set():
                    break
                found.append(prediction.scores[ENSEMBLE])
            return self.task.array(found)

        try:
            return await asyncio.get_running_loop().run_in_executor(_async_reader.executor(), read)
        finally:
            is_canceled.set()

    def predict_proba(self, texts: Iterable[object]) -> Scores:
        """Return the ensemble's probabilities of each text, (N, C) float64, columns in the order of ``labels``.

        Rows add up to 1 for single-label.

        Guarantee 2: the row of a text is bit-identical alone, in any batch and in any order.

        Raises:
            TextError: ``texts`` is a single string, or one of the texts cannot be read.
            ConfigError: The model is a regression, which has no probabilities.
        """
        return self.predict_proba_by_direction(texts)[ENSEMBLE]

    def predict_proba_by_direction(self, texts: Iterable[object]) -> dict[str, Scores]:
        """Return ``forward``, ``backward``, ``linear`` (those the bundle has) and ``ensemble``, each (N, C) float64.

        With early exit, the rows of a direction that did not read a text are NaN.

        Raises:
            TextError: ``texts`` is a single string, or one of the texts cannot be read.
            ConfigError: The model is a regression, which has no probabilities.
        """
        if self.task.no_probabilities:
            raise ConfigError(self.task.no_probabilities)
        return self.scores_by_direction(texts)

    def scores_by_direction(self, texts: Iterable[object]) -> dict[str, Scores]:
        """Return the scores of each direction, of ``linear`` if there is one, and of ``ensemble``, each (N, C) float64.

        Scores are probabilities, or for regression values, one per target.

        Raises:
            TextError: ``texts`` is a single string, or one of the texts cannot be read.
        """
        return self.gathered(self.stream(texts))

    def gathered(self, predictions: Iterable[Prediction]) -> dict[str, Scores]:
        """Return the scores of predictions as ``scores_by_direction`` does, each (N, C) float64."""
        rows = [prediction.scores for prediction in predictions]
        names = [*self.scored_by, ENSEMBLE]
        shape = (len(rows), self.task.outputs)
        unread = np.full(self.task.outputs, np.nan)
        return {
            name: np.array([row.get(name, unread) for row in rows], dtype=np.float64).reshape(shape) for name in names
        }

    def stream(self, texts: Iterable[object], lookahead: int = SLOTS) -> Iterator[Prediction]:
        """Yield a prediction for each text of an iterable that may be infinite, in its order.

        Guarantees 3, 4 and 6: each text is tokenized once; prediction *i* belongs to text *i*; memory is bounded.

        Args:
            texts: Any iterable of texts, as in ``predict``.
            lookahead: Number of texts in progress at a time, 1 or more. A large number is fast; 1 returns each
                prediction before the next text is requested. While a long text is read, the results of up to 20,000
                shorter ones behind it wait for it.

        Raises:
            TextError: ``texts`` is a single string (immediately), or one of the texts cannot be read (when it is
                reached; predictions of earlier texts that were not yielded yet are lost).
            ConfigError: ``lookahead`` is below 1.
        """
        if as_integer("lookahead", lookahead) < 1:
            raise ConfigError(f"lookahead is {lookahead}, expected 1 or more")
        return self.predictions_of(map(self.prepare, check_texts(texts, self.text_columns)), lookahead)

    @checked(max_readings=as_integer)
    def explain(
        self, text: object, *, label: LabelValue | None = None, max_readings: int = MAX_READINGS
    ) -> Explanation:
        """Return which words of a text decided its prediction, for each direction, the linear member and the ensemble.

        Deterministic: the same text has the same bits, and the explanation's own prediction is that of ``predict``.

        Args:
            text: A text, as in ``predict``.
            label: The label to explain, or the target of a regression. Defaults to the most probable label, or to the
                first target.
            max_readings: Largest number of texts to read, 2 or more: the text, and the text without each word. A longer
                text is explained by groups of neighboring words.

        Raises:
            TextError: The text cannot be read.
            ConfigError: The model has no such label or target, or ``max_readings`` is too small for the text.
        """
        if label is not None:
            self.task.output_number(label)  # refused before anything is read
        occlusion = Occlusion.of(check_item(text, "the text", self.text_columns), max_readings)
        return self.explanation(occlusion, self.predictions_of(map(self.prepare, occlusion.texts())), label)

    def explanation(
        self, occlusion: Occlusion, predictions: Iterable[Prediction], label: LabelValue | None = None
    ) -> Explanation:
        """Return the explanation of a text whose texts were read elsewhere, such as in the running batch of a server.

        Args:
            occlusion: The text and its words.
            predictions: One per text of ``occlusion.texts()``, in order.
            label: As in ``explain``.

        Raises:
            ConfigError: The model has no such label or target.
        """
        return explain(occlusion, list(predictions), self.task, self._linear, self.text_columns, label)

    def prepare(self, text: Text) -> PreparedText:
        """Return a validated text with its tokens, and with the scores of the linear member if there is one.

        With early exit, this decides whether a direction has to read the text.

        Guarantee 3: a whole text is tokenized here, once for all members.
        """
        tokens = self.tokenizer.tokenize(text)
        linear = None if self._linear is None else self._linear.scores(text)
        needs_reading = not self._is_linear_enough(linear)
        screening = None
        if self._domain is not None:
            screening = self._screening(tokens, all(map(is_wordless, fields_of(text))))
        parts = tokens.ids, tokens.group_starts, tokens.special_token_counts
        return PreparedText(*parts, linear, needs_reading, screening)

    def _screening(self, tokens: TokenizedText, is_wordless: bool) -> Screening | None:
        """Return what is known of a text before it is read; None if the model does not abstain.

        Args:
            tokens: Its tokens.
            is_wordless: Whether all of its fields are wordless.
        """
        if self._domain is None:
            return None
        reason = unreadable_tokens(tokens, self.tokenizer, is_wordless=is_wordless)
        return Screening(reason, self._domain.token_loss(tokens.ids))

    def open(self) -> TextReader:
        """Return a reader of one text that arrives in parts: ``append`` each part, then ``close``.

        Raises:
            ConfigError: No model of the bundle reads forward; its tokens depend on the whole text (models imported from
                fastai); or it was loaded with early exit, which needs the whole text.
        """
        if self.early_exit is not None:
            raise ConfigError("early exit needs the whole text: load the bundle without it to read a text in parts")
        directions = self.manifest.directions
        if Direction.FORWARD not in directions:
            raise ConfigError("this bundle only reads backward, so it cannot read a text before its end is known")
        if len(self.text_columns) > 1:
            raise ConfigError(
                f"this model reads {columns_text(self.text_columns)}, which cannot be read in parts: "
                "pass complete rows to predict or stream"
            )
        if self.tokenizer.stable_length("") is None:
            raise ConfigError(
                "this bundle tokenizes by fastai's and spaCy's rules, which look across a whole text: "
                "read complete texts with predict or stream"
            )
        forward = directions.index(Direction.FORWARD)
        to_scores = partial(self._scores, forward)
        return TextReader(
            self.tokenizer,
            self.engine,
            forward,
            to_scores,
            self.prediction,
            self._linear,
            self._screening,
        )

    def predictions_of(
        self, texts: Iterable[PreparedText], lookahead: int = SLOTS, counts: TokenCounts | None = None
    ) -> Iterator[Prediction]:
        """Yield a prediction for each prepared text, as ``stream`` does; the tokens read are added to ``counts``."""
        for found in self.engine.run_early_exit(texts, lookahead, self._early_exit_rule(), counts):
            yield self.prediction(found)

    def slots(self, max_sequences: int, counts: TokenCounts | None = None) -> Slots:
        """Return slots for up to ``max_sequences`` texts at a time, driven by the caller.

        Their results become predictions by ``prediction``. A step reads one window of each text, so that a text that
        arrives meanwhile does not wait longer than that.
        """
        return Slots(self.engine, max_sequences, self._early_exit_rule(), counts, max_windows=1)

    def _early_exit_rule(self) -> EarlyExitRule | None:
        if self.early_exit is None:
            return None
        return EarlyExitRule(self.manifest.directions.index(self.early_exit.first), self._is_confident)

    def _is_linear_enough(self, linear: Scores | None) -> bool:
        """Return whether early exit finds the scores of the linear member sufficient."""
        alone = None if self.early_exit is None else self.early_exit.linear
        if alone is None or linear is None:
            return False
        return alone.is_confident(self.task.with_temperature(linear, alone.temperature))

    def _is_confident(self, pooled: Pooled, linear: Scores | None) -> bool:
        """Return whether the direction that reads first, with the linear member, is confident about a text."""
        assert self.early_exit is not None
        number = self.manifest.directions.index(self.early_exit.first)
        found = self._with_linear(self._scores(number, pooled), linear)
        return self.early_exit.is_confident(self.task.with_temperature(found, self.early_exit.temperature))

    def _with_linear(self, directions: Scores, linear: Scores | None) -> Scores:
        """Return scores of one or more directions, mixed with those of the linear member if there is one."""
        return with_linear(self.task, self.manifest.linear, directions, linear)

    def _scores(self, number: int, pooled: Pooled) -> Scores:
        """Return the scores of one member for a text."""
        return self.task.activation(self._heads[number].logits(pooled))

    def prediction(self, text: ReadText) -> Prediction:
        """Return the prediction for a text that was read, or that no direction has to read."""
        combination = self.manifest.combination
        assert combination is not None
        each = {
            direction: self._scores(number, vector)
            for number, (direction, vector) in enumerate(zip(self.directions, text.pooled, strict=True))
            if vector is not None
        }
        if len(each) == len(text.pooled):
            mean = sum(
                (weight * row for weight, row in zip(combination.weights, each.values(), strict=True)), np.zeros(1)
            )
            found, temperature = self._with_linear(mean, text.linear), self.task.temperature
        elif each:
            assert self.early_exit is not None
            found = self._with_linear(each[self.early_exit.first], text.linear)
            temperature = self.early_exit.temperature
        else:
            assert self.early_exit is not None
            assert self.early_exit.linear is not None
            assert text.linear is not None
            found, temperature = text.linear, self.early_exit.linear.temperature
        ensemble = self.task.with_temperature(found, temperature)
        decision = self.task.decide(ensemble)
        scores = {**each, **({} if text.linear is None else {LINEAR: text.linear}), ENSEMBLE: ensemble}
        values: dict[str, Value] = {}
        if decision.value is not None:
            for name, row in scores.items():
                value = self.task.decide(row).value
                assert value is not None
                values[name] = value
        return Prediction(
            label=decision.label,
            probability=decision.probability,
            chosen=decision.chosen,
            labels=self.labels,
            probabilities={} if values else scores,
            read="both" if len(each) > 1 else next(iter(each), LINEAR),
            **self._abstained(text, ensemble),
            value=decision.value,
            values=values,
            scores=scores,
        )

    def _abstained(self, text: ReadText, ensemble: Scores) -> _Abstained:
        """Return whether the model abstains from a text, and its label set."""
        pooled = [vector for vector in text.pooled if vector is not None]
        screening = text.screening
        if self.abstention is None or self._domain is None or screening is None or len(pooled) < len(text.pooled):
            return {}
        domain_score = self._domain.score(pooled, screening.token_loss)
        confidence = self.task.confidence(ensemble[None])
        assert confidence is not None
        reason = screening.unreadable or self.abstention.reason(float(confidence[0]), domain_score)
        label_set, sets = None, self.abstention.label_sets
        if sets is not None:
            ranked = np.argsort(-ensemble, kind="stable")
            count = max(1, int((ensemble >= sets.threshold).sum()))
            label_set = tuple(self.labels[position] for position in ranked[:count])
        return {"abstained": reason, "label_set": label_set, "domain_score": domain_score}


@checked(path=as_path, threads=optional(as_integer), early_exit=as_flag, precision=as_text, key=optional(as_path))
def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    early_exit: bool = False,
    precision: Precision = "float32",
    key: str | os.PathLike[str] | None = None,
) -> Classifier:
    """Return the classifier in a bundle.

    Args:
        path: The bundle's directory, or a reference to a repository of the Hugging Face Hub, such as
            ``hf://user/name@revision`` (docs/hub.md).
        threads: Compute threads, 1 or more. Defaults to all cores available to the process, including a container's
            quota. The number changes the speed and no bit of the results. Processes that are forked later share the
            weights if it is 1. Otherwise each of them reads the bundle again when it first predicts.
        early_exit: Skip the second direction when the first is confident, and both when the linear member is, as
            calibrated by ``fit_early_exit``.
        precision: ``float32``, or ``int8``, which is faster and only close to the trainer's numbers. The bundle keeps
            float32. ``verify`` reports how close int8 is, ``bothways bench`` how much faster on this machine.
        key: PEM file with the Ed25519 public key of whoever must have signed the bundle with ``bothways sign``.
            Defaults to no such check.

    Raises:
        ConfigError: ``threads`` is below 1, the precision is unknown, the bundle has no early exit, or int8 differs by
            more than the task allows from the bundle's parity record on this machine (0.1 for probabilities).
        BundleMissing: There is no bundle at the path, or no such repository or revision.
        BundleTooNew: The bundle's format is newer than this version.
        BundleBroken: The bundle is damaged, or not a classifier's.
        BundleUntrusted: The bundle is not signed with the key.
        HubError: The Hugging Face Hub can't be reached, or it refuses the request.
        DependencyMissing: A key is given, and the library cryptography is not installed. Or the path is a reference,
            and huggingface_hub is not installed.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}, expected 1 or more")
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {quoted(precision)}; use {' or '.join(PRECISIONS)}")
    bundle = read_bundle(path, Kind.CLASSIFIER, key)
    model = Classifier(bundle, threads, early_exit_of(bundle) if early_exit else None, precision, key)
    if precision == "int8":
        _refuse_far_from_parity_record(model, bundle)
    return model


def _load_same(options: _LoadOptions, digest: str) -> Classifier:
    """Return the model that was pickled.

    Raises:
        BundleBroken: The bundle at the path is another one by now.
        BothwaysError: See ``load``.
    """
    model = load(**options._asdict())
    require_digest(model.digest, digest, options.path, "the pickled model")
    return model


def require_digest(found: str, expected: str, path: str, whose: str) -> None:
    """Refuse a bundle that is another one than expected.

    Args:
        found: Digest of the bundle.
        expected: Digest of the expected bundle.
        path: Path of the bundle.
        whose: What expects it, for the message.

    Raises:
        BundleBroken: The digests differ.
    """
    if found != expected:
        raise BundleBroken(
            f"{path_text(path)} has the digest {found[:_DIGEST_SHOWN]}…, but {whose} has {expected[:_DIGEST_SHOWN]}…: "
            f"put the bundle of {whose} there, or load the new one"
        )


def early_exit_of(bundle: Bundle) -> EarlyExit:
    """Return a bundle's early exit.

    Raises:
        ConfigError: The task has none, or it was not calibrated.
    """
    if reason := bundle.manifest.decisions.no_early_exit:
        raise ConfigError(f"{bundle.name}: {reason}")
    if bundle.manifest.early_exit is None:
        raise ConfigError(f"{bundle.name} has no early exit; calibrate it on labeled rows with bothways early-exit")
    return bundle.manifest.early_exit


def _refuse_far_from_parity_record(model: Classifier, bundle: Bundle) -> None:
    """Refuse a precision that is of no use on this machine, by the short texts of the parity record."""
    rows = [row for row in bundle.parity_record if len(row.ids) <= _SHORT_TOKENS]
    name = model.early_exit.first if model.early_exit is not None else ENSEMBLE
    columns = bundle.manifest.training.text_columns
    predictions = list(model.stream(row.text_in(columns) for row in rows))
    rows = [row for row, prediction in zip(rows, predictions, strict=True) if prediction.read != LINEAR]
    found = np.array([prediction.scores[name] for prediction in predictions if prediction.read != LINEAR])
    difference = model.task.difference(found, recorded_scores(rows, name, model.task)) if rows else 0.0
    if not difference <= model.task.max_int8_difference:
        raise ConfigError(
            f"{bundle.name}: int8 differs by {difference:.2g} from the trainer's {model.task.score_kind} on this "
            f"machine, at most {model.task.max_int8_difference:g} is allowed; load it in float32"
        )
