"""Define ``bundle.json``: the task, the members and how they are combined, and the digest of every file and of itself.

In: parsed JSON. Out: a validated ``Manifest``. The order of the labels is stored here, once. Does not read files. This
is format 2. ``format_1`` brings older manifests into its shape.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, SerializerFunctionWrapHandler, model_serializer, model_validator

from bothways.errors import quoted
from bothways.schema import STOP_EARLY, Document, Entries, Items
from bothways.tasks import task as tasks
from bothways.tasks.labels import LONGEST_LABEL, LabelKind
from bothways.tasks.metrics import Scores
from bothways.tasks.registry import task_of
from bothways.tasks.task import Task, TaskRecord
from bothways.text.reading import Direction, Ids, SpecialTokenPlacement
from bothways.text.tokenizer import PADDING_ID

FORMAT: Final = 2
OLDEST_FORMAT: Final = 1
MANIFEST_FILE = "bundle.json"
TOKENIZER_FILE: Final = "tokenizer.json"
PARITY_FILE: Final = "parity.jsonl"
CARD_FILE: Final = "README.md"

LARGEST_MANIFEST_BYTES = 16 * 1024 * 1024
LARGEST_FILE_BYTES = 4 * 1024 * 1024 * 1024
LARGEST_DOCUMENT_BYTES = 256 * 1024 * 1024
"""The size limit of files without weights."""

LINEAR_FILE: Final = "linear.safetensors"
DOMAIN_FILE: Final = "domain.safetensors"

FileName = Literal[
    "tokenizer.json",
    "forward.safetensors",
    "backward.safetensors",
    "linear.safetensors",
    "domain.safetensors",
    "parity.jsonl",
    "README.md",
]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Width = Annotated[int, Field(ge=1, le=65_536)]
_LabelText = Annotated[str, Field(min_length=1, max_length=LONGEST_LABEL)]
_ABSENT_IF_UNUSED = frozenset({"targets", "value_range", "linear", "abstention"})
_ABSENT_IF_LSTM = frozenset({"kind", "first_window", "output_gate"})
LINEAR: Final = "linear"
"""The name of a linear member's scores."""
LONGEST_ABOUT = 10_000
"""Limit of ``about``, in characters."""
Threshold = Annotated[FiniteFloat, Field(gt=0, lt=1)]
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
_Direction = Annotated[Direction, Field(strict=False)]  # JSON has no enumerations: a strict one would refuse text


class Kind(StrEnum):
    """The kind of models in a bundle: ``classifier`` (any task with labels or a target) or ``language-model``."""

    CLASSIFIER = "classifier"
    LANGUAGE_MODEL = "language-model"


EncoderKind = Literal["lstm", "qrnn"]
"""The kind of an encoder: an AWD-LSTM, or a quasi-recurrent network (QRNN, arXiv 1611.01576)."""


class AbstentionReason(StrEnum):
    """Why a calibrated model abstains from a text that it can read."""

    OUT_OF_DOMAIN = "out of domain"
    LOW_CONFIDENCE = "low confidence"


class Architecture(Document):
    """The kind and sizes of one encoder: vocabulary V, embedding E, hidden H and layers L.

    The last layer is as wide as the embedding, so that the language model's decoder can be tied to it.

    Attributes:
        kind: The kind of the layers. Absent in ``bundle.json`` for ``lstm``, and so are the next two.
        first_window: For ``qrnn``: the number of tokens that an input of the first layer consists of. 2 joins each
            token with the one before it.
        output_gate: For ``qrnn``: whether the layers have an output gate.
    """

    vocabulary_size: Annotated[int, Field(ge=1, le=10_000_000)]
    width_embedding: Width
    width_hidden: Width
    layers: Annotated[int, Field(ge=1, le=64)]
    kind: EncoderKind = "lstm"
    first_window: Annotated[int, Field(ge=1, le=2)] = 1
    output_gate: bool = True

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out what only a QRNN has, so that the manifest of an LSTM is the same as in earlier versions."""
        fields: dict[str, object] = serialize(self)
        return {name: value for name, value in fields.items() if self.kind != "lstm" or name not in _ABSENT_IF_LSTM}

    @model_validator(mode="after")
    def _only_a_qrnn_has_variants(self) -> Architecture:
        if self.kind == "lstm" and (self.first_window != 1 or not self.output_gate):
            raise ValueError("first_window and output_gate are settings of a qrnn, but the kind is lstm")
        return self

    @property
    def title(self) -> str:
        """The kind and its variant for people, such as ``AWD-LSTM`` or ``QRNN (window 2)``."""
        if self.kind == "lstm":
            return "AWD-LSTM"
        parts = ["window 2"] if self.first_window == 2 else []
        parts += [] if self.output_gate else ["no output gate"]
        return f"QRNN ({', '.join(parts)})" if parts else "QRNN"

    @property
    def qrnn_gates(self) -> int:
        """The number of gates of a QRNN layer: candidate, forget and, possibly, output gate."""
        return 3 if self.output_gate else 2

    @property
    def layer_windows(self) -> list[int]:
        """The number of tokens that an input of each layer consists of, from first to last."""
        return [self.first_window, *[1] * (self.layers - 1)]

    @property
    def layer_widths(self) -> list[tuple[int, int]]:
        """Input and output width of each layer, from first to last."""
        inner = [self.width_hidden] * (self.layers - 1)
        return list(zip([self.width_embedding, *inner], [*inner, self.width_embedding], strict=True))


class FastaiPooling(Document):
    """Which tokens of a text an imported classifier pools, as its version of fastai does when it predicts one text.

    fastai reads a long text completely but pools only its last windows, and it does not pool padding tokens that occur
    in the text itself.

    Attributes:
        window_tokens: Length of the windows into which a text is cut, from its first token in reading order.
        tail_tokens: Windows that begin further from the end of the text are not pooled. At least ``window_tokens``;
            None pools all windows.
        last_skips_padding: Whether the last state is taken as many tokens before the end as the last window has padding
            tokens (fastai 2), or at the last token (fastai 1).
    """

    window_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    tail_tokens: Annotated[int, Field(ge=1, le=1_000_000_000)] | None
    last_skips_padding: bool

    @model_validator(mode="after")
    def _something_is_pooled(self) -> FastaiPooling:
        if self.tail_tokens is not None and self.tail_tokens < self.window_tokens:
            raise ValueError(f"tail_tokens is {self.tail_tokens}, expected at least window_tokens")
        return self

    def first_pooled(self, tokens: int) -> int:
        """Return the position, in reading order, from which a text of this many tokens is pooled."""
        if self.tail_tokens is None:
            return 0
        return max(0, -((self.tail_tokens - tokens) // self.window_tokens) * self.window_tokens)

    def pooled_tokens(self, ids: Ids) -> int:
        """Return the number of tokens that are pooled of a text with these ids, at least 1."""
        kept = ids[self.first_pooled(len(ids)) :]
        return max(1, int((kept != PADDING_ID).sum()))

    def last_pooled(self, ids: Ids) -> int:
        """Return the position of the last state of a text with these ids, in reading order."""
        first, end = self.first_pooled(len(ids)), len(ids) - 1
        if not self.last_skips_padding:
            return end
        return max(first, end - int((ids[max(first, len(ids) - self.window_tokens) :] == PADDING_ID).sum()))


class Member(Document):
    """One model of the bundle and its reading order.

    Attributes:
        direction: The direction in which it reads.
        special_tokens: Where special tokens are placed in backward reading.
        weights: Name of the file with its weights.
        architecture: The sizes of its encoder.
        widths_head: Widths of the hidden layers of its head, usually one; None for a language model.
        pooling: Which tokens an imported classifier pools; None pools all.
    """

    direction: _Direction
    special_tokens: Annotated[SpecialTokenPlacement, Field(strict=False)]
    weights: FileName
    architecture: Architecture
    widths_head: Annotated[Items[Width], Field(max_length=16)] | None = None
    pooling: FastaiPooling | None = None

    @model_validator(mode="after")
    def _weights_are_named_by_direction(self) -> Member:
        if self.weights != f"{self.direction}.safetensors":
            raise ValueError(f"the weights of a {self.direction} member must be {self.direction}.safetensors")
        return self


class Combination(Document):
    """How the members' scores are combined: a weighted mean, in the order of the members."""

    method: Literal["mean"]
    weights: Items[Annotated[FiniteFloat, Field(gt=0, le=1)]]


class LinearMember(Document):
    """A linear model of hashed n-grams, whose scores are mixed with the mean of the directions (``Task.mixed``).

    Attributes:
        weights: Name of the file with its weights.
        words: Number of n-grams of words that it knows.
        characters: Number of n-grams of characters that it knows.
        weight: Its weight in the ensemble. The directions share the rest.
    """

    weights: Literal["linear.safetensors"]
    words: Annotated[int, Field(ge=0, le=10_000_000)]
    characters: Annotated[int, Field(ge=0, le=10_000_000)]
    weight: Annotated[FiniteFloat, Field(gt=0, le=1)]


def with_linear(task: Task, member: LinearMember | None, directions: Scores, linear: Scores | None) -> Scores:
    """Return scores of one or more directions, mixed with those of the linear member if there is one."""
    return directions if member is None or linear is None else task.mixed(directions, linear, member.weight)


class Calibration(Document):
    """The temperature by which the ensemble's log probabilities are divided; 1 leaves them unchanged.

    For multi-label, the log odds of each label are divided.
    """

    temperature: Annotated[FiniteFloat, Field(gt=0, le=1000)]


class Target(Document):
    """The scale of a regression's target, which converts outputs to values: ``center + scale * output``.

    Attributes:
        center: Mean of the training targets; 0 for an imported model.
        scale: Standard deviation of the training targets; for an imported model the size of its outputs.
    """

    center: FiniteFloat
    scale: Annotated[FiniteFloat, Field(gt=0)]


class NamedTarget(Target):
    """One of several targets.

    Attributes:
        name: Its name, different from those of the others.
    """

    name: _LabelText


class LinearExit(Document):
    """When the linear member alone is enough, so that no direction reads the text.

    Attributes:
        temperature: Its log probabilities are divided by it.
        threshold: No direction reads texts whose most probable label has a higher probability than this.
        read_by_linear: The share of the rows of the calibration that no direction reads.
    """

    temperature: Annotated[FiniteFloat, Field(gt=0, le=1000)]
    threshold: Annotated[FiniteFloat, Field(ge=0, le=1)]
    read_by_linear: Annotated[FiniteFloat, Field(ge=0, le=1)]

    def is_confident(self, probabilities: NDArray[np.float64]) -> bool:
        """Return whether the linear member is enough, by its probabilities at its temperature, (C,)."""
        return bool(probabilities.max() > self.threshold)


class EarlyExitPoint(Document):
    """The effect of a threshold: the share of texts that both members read, the accuracy and macro F1."""

    threshold: Annotated[FiniteFloat, Field(ge=0, le=1)]
    read_by_both: Annotated[FiniteFloat, Field(ge=0, le=1)]
    accuracy: Annotated[FiniteFloat, Field(ge=0, le=1)]
    macro_f1: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None


class EarlyExit(Document):
    """When one direction is enough, calibrated on labeled rows that were not used in training.

    Attributes:
        first: The direction that reads every text, except those that the linear member alone is enough for.
        temperature: Its log probabilities are divided by it.
        threshold: The other direction skips texts whose most probable label has a higher probability than this.
        largest_loss: The share of rows that may lose their correct label through early exit.
        rows: Number of labeled rows it was calibrated on.
        read_by_both: The share of these rows that both directions read.
        accuracy: The accuracy on these rows with early exit.
        accuracy_of_ensemble: The accuracy on these rows if both directions read all.
        macro_f1: Macro F1 on these rows with early exit; None in bundles of earlier versions.
        macro_f1_of_ensemble: Macro F1 on these rows if both directions read all; None in bundles of earlier versions.
        curve: The effect of other thresholds on these rows.
        linear: When the linear member alone is enough. Absent if a direction reads every text.
    """

    first: _Direction
    temperature: Annotated[FiniteFloat, Field(gt=0, le=1000)]
    threshold: Annotated[FiniteFloat, Field(ge=0, le=1)]
    largest_loss: Annotated[FiniteFloat, Field(gt=0, le=1)]
    rows: Annotated[int, Field(ge=1)]
    read_by_both: Annotated[FiniteFloat, Field(ge=0, le=1)]
    accuracy: Annotated[FiniteFloat, Field(ge=0, le=1)]
    accuracy_of_ensemble: Annotated[FiniteFloat, Field(ge=0, le=1)]
    macro_f1: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    macro_f1_of_ensemble: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    curve: Annotated[Items[EarlyExitPoint], Field(max_length=1000)]
    linear: LinearExit | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out ``linear`` if it is None, so that other manifests are the same as in earlier versions."""
        fields: dict[str, object] = serialize(self)
        return {name: value for name, value in fields.items() if value is not None or name not in _ABSENT_IF_UNUSED}

    @model_validator(mode="after")
    def _shares_are_of_the_same_rows(self) -> EarlyExit:
        if self.linear is not None and self.linear.read_by_linear + self.read_by_both > 1 + 1e-9:
            raise ValueError("read_by_linear and read_by_both add up to more than 1")
        return self

    def is_confident(self, probabilities: NDArray[np.float64]) -> bool:
        """Return whether one direction is enough, by its probabilities at its temperature, (C,)."""
        return bool(probabilities.max() > self.threshold)


class Domain(Document):
    """From which distance to the calibration rows on a text is out of domain.

    Attributes:
        weights: Name of the file with the density of the pooled states.
        components: Number of principal components of the density.
        threshold: Texts with a higher score (``DomainModel.score``) are out of domain.
        flagged: The share of the rows of the calibration that are.
    """

    weights: Literal["domain.safetensors"]
    components: Annotated[int, Field(ge=1, le=1024)]
    threshold: Annotated[FiniteFloat, Field(ge=0)]
    flagged: _Share


class LabelSets(Document):
    """Which labels a conformal label set has: those with at least this probability, and the most probable one.

    Attributes:
        alpha: At most this share of the sets lacks the correct label, on average over calibrations.
        threshold: The lowest probability of a label in a set.
        covered: The share of the rows of the calibration whose set has the correct label.
        mean_size: Mean number of labels per set on these rows.
    """

    alpha: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    threshold: _Share
    covered: _Share
    mean_size: Annotated[FiniteFloat, Field(ge=1)]


class Reference(Document):
    """What the model predicts for the rows of the calibration, with which ``drift`` compares other texts.

    Attributes:
        rows: Number of rows.
        label_shares: The share of the rows with each label, in the order of the labels.
        confidence: Mean confidence.
        confidence_deviation: Standard deviation of the confidence.
    """

    rows: Annotated[int, Field(ge=2)]
    label_shares: Items[_Share]
    confidence: _Share
    confidence_deviation: _Share


class AbstentionPoint(Document):
    """The effect of a threshold on the rows of the calibration: the share answered, and the share of errors in it."""

    threshold: _Share
    answered: _Share
    measured_risk: _Share


class Abstention(AbstentionPoint):
    """When a classifier abstains, calibrated on labeled rows that were not used in training.

    Attributes:
        risk: At most this share of the answers is wrong, with 98 % probability over the rows of the calibration.
        threshold: The model abstains from texts with a lower confidence.
        rows: Number of labeled rows that the threshold was tested on.
        answered: The share of them that is answered.
        measured_risk: The share of wrong answers among those.
        risk_of_all: The share of wrong predictions if all rows are answered.
        domain: Which texts are out of domain. The model abstains from them too.
        label_sets: The conformal label sets; None if the task has none.
        reference: What the model predicts for the rows of the calibration.
        curve: The effect of other thresholds on these rows.
    """

    risk: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    rows: Annotated[int, Field(ge=1)]
    risk_of_all: _Share
    domain: Domain
    label_sets: LabelSets | None
    reference: Reference
    curve: Annotated[Items[AbstentionPoint], Field(max_length=1000)]

    def reason(self, confidence: float, domain_score: float) -> AbstentionReason | None:
        """Return why the model abstains from a text, or None if it answers."""
        if domain_score > self.domain.threshold:
            return AbstentionReason.OUT_OF_DOMAIN
        return AbstentionReason.LOW_CONFIDENCE if confidence < self.threshold else None


class FileRecord(Document):
    """Size and SHA-256 of one file."""

    size_bytes: Annotated[int, Field(ge=0, le=LARGEST_FILE_BYTES)]
    sha256: Digest


class ImportedFile(Document):
    """The file that a member was imported from, and how its direction is known.

    Attributes:
        name: The name of the file, without folders.
        sha256: SHA-256 of its bytes.
        direction_known_by: ``recorded`` in the file, ``inferred`` from its weights, or ``given`` by a person.
        direction_deviations: By how many standard errors text has a lower loss in this direction than in the other;
            negative if the loss is higher.
    """

    name: str
    sha256: Digest
    direction_known_by: Literal["recorded", "inferred", "given"]
    direction_deviations: FiniteFloat


class ImportRecord(Document):
    """The library and files that a model was imported from."""

    library: str
    files: Annotated[dict[_Direction, ImportedFile], STOP_EARLY]


_NEW_KEYS = frozenset({"label_rows", "validation_intervals"})


class TrainingRecord(Document):
    """How a model was made: enough to distinguish models, and to read the same columns again.

    Contains no date and no duration, so that the same seed gives the same bytes. ``seed`` and ``size`` are None for an
    imported model; ``size`` is None if a pack fixed the model size. ``about`` describes the texts of a pack.

    Attributes:
        text_columns: The text columns, in the order in which they are read; empty if unknown.
        label_column: The label column; None if there was none, or if the labels have one column each.
        label_columns: For multi-label: the columns with 0 or 1 per label; or, with a label column, the names of the
            positions of its lists of 0 and 1. Empty otherwise.
        label_separator: For multi-label: the string between the labels in a cell. None otherwise.
        weight_column: The column of row weights; None if all rows weighed the same.
        label_rows: For classification: the number of training rows with each label. Empty in bundles of earlier
            versions and where it is unknown.
        validation_intervals: Lower and upper bound of the 95 % confidence interval of the ensemble's headline metrics
            on the validation rows (bootstrap over rows). Absent from bundles of earlier versions, and from packs.
    """

    bothways_version: str
    seed: int | None = None
    size: str | None = None
    imported: ImportRecord | None = None
    text_columns: Items[str] = Field(default=[])
    label_column: str | None = None
    label_columns: Items[str] = Field(default=[])
    weight_column: str | None = None
    label_separator: Annotated[str, Field(min_length=1, max_length=LONGEST_LABEL)] | None = None
    rows: Entries[int] = Field(default={})
    label_rows: Entries[Annotated[int, Field(ge=0)]] = Field(default={})
    validation: Entries[Entries[FiniteFloat]] = Field(default={})
    validation_intervals: Entries[Annotated[Items[FiniteFloat], Field(min_length=2, max_length=2)]] = Field(default={})
    pretrained: str | None = None
    pretrained_name: str | None = None
    about: Annotated[str, Field(max_length=LONGEST_ABOUT)] | None = None
    hyperparameters: dict[str, object] = Field(default={})

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out new keys if they are empty, so that other manifests are the same as in earlier versions."""
        fields: dict[str, object] = serialize(self)
        return {name: value for name, value in fields.items() if value or name not in _NEW_KEYS}

    @model_validator(mode="after")
    def _text_columns_differ(self) -> TrainingRecord:
        if len(set(self.text_columns)) != len(self.text_columns):
            raise ValueError("a text column occurs twice")
        return self


class Manifest(Document):
    """The whole of ``bundle.json``.

    Attributes:
        format: The number of the format on disk. A manifest of format 1 has the shape of format 2 once it is read.
        digest: SHA-256 of everything else in the manifest (``digest_of``), and so of the whole bundle, which it
            identifies. For format 1: SHA-256 of the manifest's bytes.
        kind: The kind of its models.
        task: What its models predict; ``next-token`` for language models.
        labels: In the order of the outputs; empty for regression and for a language model.
        label_kind: Whether labels are texts, or stand for whole numbers or booleans, which predictions return.
        members: One per direction.
        combination: How the members' scores are combined; None for a language model.
        linear: The linear member of a classifier. Absent if there is none.
        calibration: The calibration of the ensemble; None for regression and for a language model.
        thresholds: For multi-label: a label is assigned if its probability is at least its threshold, in the order of
            the labels. None otherwise.
        target: For a regression with one target: its scale. None otherwise.
        targets: For a regression with several targets: their names and scales, in the order of the outputs. Absent
            otherwise.
        value_range: For a regression whose values have limits: the lowest and the highest value, between which a
            sigmoid of each scaled output decides. Absent otherwise.
        early_exit: When one direction is enough; None if it was not calibrated. Used only on request.
        abstention: When the model abstains. Absent if it was not calibrated.
        training: How the models were made.
        files: All other files.
    """

    format: Annotated[int, Field(ge=OLDEST_FORMAT, le=FORMAT)]
    digest: Digest
    kind: Annotated[Kind, Field(strict=False)]
    task: Literal["single-label", "multi-label", "regression", "next-token"]
    labels: Annotated[Items[_LabelText], Field(max_length=100_000)]
    label_kind: LabelKind = "text"
    members: Annotated[Items[Member], Field(min_length=1, max_length=2)]
    combination: Combination | None
    linear: LinearMember | None = None
    calibration: Calibration | None
    thresholds: Items[Threshold] | None = None
    target: Target | None = None
    targets: Annotated[Items[NamedTarget], Field(min_length=2, max_length=100_000)] | None = None
    value_range: Annotated[Items[FiniteFloat], Field(min_length=2, max_length=2)] | None = None
    early_exit: EarlyExit | None = None
    abstention: Abstention | None = None
    training: TrainingRecord
    files: Annotated[dict[FileName, FileRecord], STOP_EARLY]

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out the keys that are absent from most manifests, so that these are the same as in earlier versions."""
        fields: dict[str, object] = serialize(self)
        return {name: value for name, value in fields.items() if value is not None or name not in _ABSENT_IF_UNUSED}

    @model_validator(mode="after")
    def _agree(self) -> Manifest:
        directions = [member.direction for member in self.members]
        if len(set(directions)) != len(directions):
            raise ValueError(f"two members read {directions[0]}")
        more: list[str] = [self.linear.weights] if self.linear is not None else []
        more += [self.abstention.domain.weights] if self.abstention is not None else []
        expected = {TOKENIZER_FILE, PARITY_FILE, CARD_FILE, *(member.weights for member in self.members), *more}
        if set(self.files) != expected:
            wrong = ", ".join(sorted(set(self.files) ^ expected))
            raise ValueError(f"the files listed are not those of these members: {wrong}")
        for name, record in self.files.items():
            if record.size_bytes > LARGEST_DOCUMENT_BYTES and not name.endswith(".safetensors"):
                raise ValueError(f"{name} has {record.size_bytes} bytes, expected at most {LARGEST_DOCUMENT_BYTES}")
        if len({member.architecture.vocabulary_size for member in self.members}) > 1:
            raise ValueError("the members have vocabularies of different sizes, but share one tokenizer")
        if self.label_kind != "text" and not self.labels:
            raise ValueError(f"there are no labels, but their kind is {self.label_kind}")
        if self.kind is Kind.CLASSIFIER:
            self._check_classifier()
        elif self.labels or self.combination or self.calibration or self._targets or self.task != "next-token":
            raise ValueError("a language model has no labels, combination, calibration or target")
        elif any(part is not None for part in (self.thresholds, self.early_exit, self.value_range, self.linear)):
            raise ValueError("a language model has no thresholds, no early exit, no range and no linear member")
        elif self.abstention is not None:
            raise ValueError("a language model has no abstention")
        elif any(member.widths_head is not None for member in self.members):
            raise ValueError("a language model's member has no widths_head")
        elif any(member.pooling is not None for member in self.members):
            raise ValueError("a language model pools nothing, but a member has a pooling")
        return self

    def _check_classifier(self) -> None:
        if self.task == "next-token":
            raise ValueError(f"a classifier cannot have the task {quoted(self.task)}")
        if self.target is not None and self.targets is not None:
            raise ValueError("a regression has either one target or several")
        task = task_of(self._task_record)
        if self.early_exit is not None and (task.no_early_exit or len(self.members) < 2):
            raise ValueError("early exit needs two members and the task single-label")
        if self.early_exit is not None and self.early_exit.linear is not None and self.linear is None:
            raise ValueError("early exit starts with a linear member, but the bundle lacks one")
        if self.abstention is not None:
            if task.no_abstention:
                raise ValueError("abstention needs a task with labels")
            if len(self.abstention.reference.label_shares) != len(self.labels):
                raise ValueError("abstention: label_shares needs one share per label")
        if self.combination is None:
            raise ValueError("a classifier needs a combination")
        if len(self.combination.weights) != len(self.members):
            raise ValueError(f"{len(self.combination.weights)} weights for {len(self.members)} members")
        if abs(sum(self.combination.weights) - 1) > 1e-9:
            raise ValueError(f"the members' weights add up to {sum(self.combination.weights)}, expected 1")
        if any(member.widths_head is None for member in self.members):
            raise ValueError("a classifier's member needs widths_head")

    @property
    def _task_record(self) -> TaskRecord:
        assert self.task != "next-token"
        return TaskRecord(
            name=self.task,
            labels=tuple(self.labels),
            temperature=self.calibration.temperature if self.calibration else None,
            thresholds=None if self.thresholds is None else tuple(self.thresholds),
            targets=self._targets,
            value_range=(self.value_range[0], self.value_range[1]) if self.value_range else None,
            separator=self.training.label_separator,
            label_kind=self.label_kind,
            label_columns=tuple(self.training.label_columns),
        )

    @property
    def _targets(self) -> tuple[tasks.Target, ...]:
        if self.target is not None:
            return (tasks.Target(center=self.target.center, scale=self.target.scale),)
        return tuple(tasks.Target(each.name, each.center, each.scale) for each in self.targets or ())

    @property
    def decisions(self) -> Task:
        """The task of a classifier, as it was fitted and calibrated."""
        return task_of(self._task_record)

    @property
    def outputs(self) -> int:
        """The number of outputs of each member's head; 0 for a language model."""
        return 0 if self.task == "next-token" else self.decisions.outputs

    def member(self, direction: Direction) -> Member:
        """Return the member that reads in this direction."""
        return next(member for member in self.members if member.direction is direction)

    @property
    def directions(self) -> list[Direction]:
        """The directions of the members, in order."""
        return [member.direction for member in self.members]

    @property
    def pooled_width(self) -> int:
        """The number of pooled states of all members together."""
        return sum(3 * member.architecture.width_embedding for member in self.members)

    @property
    def scored_by(self) -> list[str]:
        """The names of all that give scores of their own, in order: the directions, and the linear member if any."""
        return [*map(str, self.directions), *([LINEAR] if self.linear is not None else [])]


def digest_of(fields: Mapping[str, object]) -> str:
    """Return the digest of a manifest, a SHA-256 of all its fields but ``digest``.

    It covers the fields as JSON with sorted keys, without white space, in ASCII, with the shortest decimal form of each
    float: ``json.dumps(fields, sort_keys=True, separators=(",", ":"))``.

    Args:
        fields: The manifest as parsed JSON.

    Raises:
        ValueError: The fields are nested too deeply.
    """
    covered = {name: value for name, value in fields.items() if name != "digest"}
    try:
        text = json.dumps(covered, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return hashlib.sha256(text.encode("ascii")).hexdigest()
