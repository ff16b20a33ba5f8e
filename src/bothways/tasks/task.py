"""Define what a task decides: how labels are read, split and encoded, and what a model's outputs mean.

In: label values, and arrays of outputs. Out: targets, probabilities or values, decisions and metrics. No other module
asks which task a model has. Does not import torch and reads no files.

Letters: N texts, C outputs (one per label, or a single one for regression).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ConfigError, DataError, quoted
from bothways.pages.figures import Figure
from bothways.tasks.label_errors import LabelError
from bothways.tasks.labels import KNOWN_SHOWN, KnownLabels, LabelKind, LabelValue, listed, parse_label
from bothways.tasks.metrics import Metrics, Scores
from bothways.text.fields import Text

TaskName = Literal["single-label", "multi-label", "regression"]
Activation = Literal["softmax", "sigmoid", "identity"]
Operator = Literal["Softmax", "Sigmoid", "Mul", "Add"]
"""An operator of ONNX. Softmax is over the outputs."""
Targets = NDArray[Any]
"""What is true of texts, as the loss takes it: class numbers (N,), 0 and 1 (N, C), or values in their unit (N, C)."""
Value = float | Mapping[str, float]
"""What a regression predicts for a text: a number, or several numbers by the name of their target."""
Predictions = NDArray[np.object_] | NDArray[np.int64] | NDArray[np.bool_] | NDArray[np.float64]
"""The predictions for texts, (N,), or (N, C) for a regression with several targets."""


@dataclass(frozen=True)
class Numbers:
    """The label of a row for a regression with several targets: a number per target, in their order."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class SoftLabel:
    """The label of a row as a teacher gives it: a probability per label.

    Attributes:
        labels: All labels, in the order of ``probabilities``. Rows share them.
        probabilities: 0..1, with sum 1 for single-label.
        chosen: The labels that the probabilities speak for: the most probable one for single-label.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    chosen: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(map(repr, self.probabilities))


Label = tuple[str, ...] | float | Numbers | SoftLabel
"""What one row is labeled with: a tuple of labels (exactly one for single-label), or a number or several for
regression, or probabilities of labels."""


@dataclass(frozen=True)
class InvalidRow:
    """A row that cannot be used.

    Attributes:
        source: Where it comes from, such as the name of a file.
        place: Its place there, such as ``row 3 (line 4)``.
        column: The column with the first problem; empty if the problem is the whole row.
        reason: What is wrong.
        values: The row's values by column.
        number: Its number among all rows of the source, from 1 on; 0 if it is not known.
    """

    source: str
    place: str
    column: str
    reason: str
    values: Mapping[str, object]
    number: int = 0


@dataclass(frozen=True)
class LabeledTexts:
    """Texts with their labels, in the order of the source.

    Attributes:
        name: Where they come from, for messages.
        texts: Checked texts.
        labels: One ``Label`` per text.
        weights: The weight of each text in the training loss, finite and not negative; None for equal weights.
        invalid: The rows that were left out.
    """

    name: str
    texts: list[Text]
    labels: list[Label]
    weights: list[float] | None = None
    invalid: tuple[InvalidRow, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def label_sets(self) -> list[tuple[str, ...]]:
        """The labels of each text, for classification. Of a soft label, those that it speaks for."""
        sets = (label.chosen if isinstance(label, SoftLabel) else label for label in self.labels)
        return [labels for labels in sets if isinstance(labels, tuple)]

    @property
    def distinct_labels(self) -> set[str]:
        """All labels that a text has, or that a soft label has a probability of."""
        by_teacher = {label.labels for label in self.labels if isinstance(label, SoftLabel)}
        return {label for labels in (*self.label_sets, *by_teacher) for label in labels}

    @property
    def has_soft_label(self) -> NDArray[np.bool_]:
        """Whether the label of each text is a soft one, (N,)."""
        return np.array([isinstance(label, SoftLabel) for label in self.labels], dtype=np.bool_)

    @property
    def values(self) -> NDArray[np.float64]:
        """The targets of each text, (N, C) float64, for regression."""
        rows = [
            label.values if isinstance(label, Numbers) else (label,)
            for label in self.labels
            if not isinstance(label, tuple | SoftLabel)
        ]
        return np.array(rows, dtype=np.float64)


ResampledMetrics = Callable[[NDArray[np.int64]], dict[str, float]]


@dataclass(frozen=True)
class Split:
    """Training and validation rows, and what a user should know about them.

    Attributes:
        train: Training rows. Those that a teacher labeled come last.
        valid: Validation rows.
        warnings: What a user should know.
        taught: Number of training rows that a teacher labeled.
    """

    train: LabeledTexts
    valid: LabeledTexts
    warnings: list[str] = field(default_factory=list)
    taught: int = 0


@dataclass(frozen=True)
class Decision:
    """What a task concludes from one text's scores.

    Attributes:
        label: The most probable label, the first one on a tie; None for regression.
        probability: The probability of ``label``; None for regression.
        chosen: The labels assigned to the text; empty for regression.
        value: The predicted value in the target's unit, for several targets by name; None for classification.
    """

    label: LabelValue | None = None
    probability: float | None = None
    chosen: tuple[LabelValue, ...] = ()
    value: Value | None = None


@dataclass(frozen=True)
class Target:
    """A number that a regression predicts: ``scale`` times an output of the model, plus ``center``.

    Attributes:
        name: Its name. A single target is called ``value``.
        center: Mean of the training targets, or 0 for an imported model.
        scale: Standard deviation of the training targets, or the size of the outputs of an imported model. Above 0.
    """

    name: str = "value"
    center: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Operation:
    """One step from logits to scores, for graphs that other runtimes execute.

    Attributes:
        operator: Its name in ONNX.
        operand: What is multiplied or added, (C,); None for other operators.
    """

    operator: Operator
    operand: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class TaskRecord:
    """A task as files store it.

    Attributes:
        name: Which task.
        labels: In the order of the outputs, as text; empty for regression.
        label_kind: The type that users get the labels in.
        label_columns: The names of 0/1 columns, or of the positions of multi-hot lists, or of the columns of several
            targets; empty unless labels come so.
        temperature: Of the ensemble's calibration; None where the task has none.
        thresholds: Per label; None where the task has none.
        targets: In the order of the outputs; empty unless the task is regression.
        value_range: The lowest and highest value that a regression can predict; None if there are no such limits.
        separator: The string between two labels in a cell; None where the task has none.
    """

    name: TaskName
    labels: tuple[str, ...] = ()
    temperature: float | None = None
    thresholds: tuple[float, ...] | None = None
    targets: tuple[Target, ...] = ()
    value_range: tuple[float, float] | None = None
    separator: str | None = None
    label_kind: LabelKind = "text"
    label_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task(ABC):
    """Everything that depends on what a label is.

    A task is created empty, ``fitted`` to training rows (labels in order, or mean and scale of a target) and
    ``calibrated`` on validation rows. Each step returns a new task; the manifest of a bundle records the last one.
    """

    name: ClassVar[TaskName]
    title: ClassVar[str]
    """What a model of this task is called on its card."""
    activation_name: ClassVar[Activation]
    """The function that turns logits into scores."""
    no_early_exit: ClassVar[str] = ""
    """Why a model of this task cannot exit early; empty if it can."""
    no_abstention: ClassVar[str] = ""
    """Why a model of this task cannot abstain from texts; empty if it can."""
    no_probabilities: ClassVar[str] = ""
    """Why a model of this task has no probabilities; empty if it has them."""
    no_label_errors: ClassVar[str] = ""
    """Why wrong labels of this task cannot be found; empty if they can."""
    max_int8_difference: ClassVar[float] = 0.1
    """The largest difference of scores, by ``difference``, that int8 may have from the parity record."""
    learns_probabilities: ClassVar[bool] = True
    """Whether each output is learned as the probability of a label, and not as a number."""
    score_kind: ClassVar[Literal["probabilities", "values"]] = "probabilities"
    """What scores are called in a parity record and in replies."""
    selection_note: ClassVar[str]
    """What was chosen on the validation rows, so that the metrics on them are slightly optimistic."""
    headline: ClassVar[tuple[str, ...]]
    """The metrics shown first, and with a confidence interval; names of ``Metrics.summary``."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """All labels as text, in the order of the outputs; empty for regression and before the task is fitted."""

    @property
    @abstractmethod
    def label_values(self) -> tuple[LabelValue, ...]:
        """All labels as users get them: text, whole numbers or booleans."""

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns with 0 or 1 per label or with a number per target; empty unless labels come so."""
        return ()

    @property
    @abstractmethod
    def outputs(self) -> int:
        """The number of outputs of a model, C."""

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of several targets, in the order of the outputs; empty for any other model."""
        return ()

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """A name per output: its label or its target. A single target is called ``value``."""

    @abstractmethod
    def record(self) -> TaskRecord:
        """Return the task as files store it."""

    @classmethod
    @abstractmethod
    def from_record(cls, record: TaskRecord) -> Self:
        """Return the task that a file stores.

        Raises:
            ValueError: The parts do not fit together; the message says which.
        """

    # Rows

    def labeled_by(self, columns: Sequence[str]) -> Self:
        """Return the task with its labels in several columns, one per target.

        Raises:
            ConfigError: The labels of this task are not in such columns, or these are not its columns in their order.
        """
        raise ConfigError(
            f"{len(columns)} label columns are named, but a {self.title} reads one. Name the label column"
        )

    @abstractmethod
    def parse(self, value: object) -> Label:
        """Return the label that a cell of a table holds, in the spelling of this task's labels if it is one of them.

        Args:
            value: The cell, of any type; a list of cells for 0/1 columns.

        Raises:
            DataError: The value is missing or cannot be a label of this task. The message has no place.
        """

    @abstractmethod
    def cell(self, label: Label) -> object:
        """Return the value of a cell that ``parse`` reads as this label, which is not a soft one."""

    @abstractmethod
    def unknown(self, label: Label) -> list[str]:
        """Return the labels of a parsed cell that this task does not know; empty before the task is fitted."""

    @abstractmethod
    def unified(self, labels: list[Label]) -> list[Label]:
        """Return the labels of all rows of a source in one spelling each, before the task is fitted."""

    @abstractmethod
    def extended(self, labels: Sequence[str]) -> Self:
        """Return the task with further labels behind its own, which no model predicts."""

    @abstractmethod
    def without(self, labels: Collection[str]) -> Self:
        """Return the task without some of its labels.

        Raises:
            ConfigError: The task does not have one of them, or too few labels remain.
        """

    @abstractmethod
    def check(self, rows: LabeledTexts) -> list[str]:
        """Return warnings about labels that look like mistakes.

        Raises:
            DataError: Nothing can be learned from these labels.
        """

    @abstractmethod
    def split(self, rows: LabeledTexts, fraction: float, seed: int) -> Split:
        """Set a fraction of checked rows aside for validation, the same rows for the same seed.

        Rows with the same text stay on the same side, so that nothing is validated on what was trained on.

        Args:
            rows: Checked rows.
            fraction: Share of the texts to set aside, above 0 and below 1.
            seed: Random seed.

        Raises:
            DataError: No text can be set aside.
        """

    @abstractmethod
    def split_with(self, train: LabeledTexts, valid: LabeledTexts) -> Split:
        """Return the split that a user made, with warnings."""

    @abstractmethod
    def fitted(self, rows: LabeledTexts) -> Self:
        """Return this task with what the training rows determine: the order of labels, or mean and scale."""

    @abstractmethod
    def targets(self, rows: LabeledTexts) -> Targets:
        """Return what is true of each row, in the form that the loss takes.

        Raises:
            DataError: A row has a label that the task does not know.
        """

    def soft_label_columns(self, columns: Sequence[str]) -> list[str] | None:
        """Return those columns of a table that hold a teacher's prediction, or None if it has none.

        For classification one column of probabilities per label, in the order of the labels.

        Args:
            columns: All columns of the table.
        """
        found = self.columns()
        return found if set(found) <= set(columns) else None

    @abstractmethod
    def parse_soft(self, cells: Sequence[object]) -> Label:
        """Return the label in the columns of a teacher's prediction.

        Args:
            cells: One value per column of ``soft_label_columns``.

        Raises:
            DataError: A value is missing or cannot be part of a prediction. The message has no place.
        """

    def soft_targets(self, rows: LabeledTexts) -> Targets | None:
        """Return the probability of each label of each row, (N, C) float32; None if no row has a soft label."""
        del rows
        return None

    @abstractmethod
    def class_weights(self, wanted: str | Mapping[str, float], targets: Targets) -> list[float] | None:
        """Return the weight of each label in the loss, or None for equal weights.

        Args:
            wanted: ``none``, ``balanced``, or weights by label.
            targets: Those of the training rows, also soft ones.

        Raises:
            ConfigError: A weight names an unknown label, or the task has no class weights.
        """

    # Outputs

    @abstractmethod
    def activation(self, logits: NDArray[np.float64]) -> Scores:
        """Return one direction's scores for logits, both (C,) or (N, C)."""

    @abstractmethod
    def operations(self) -> list[Operation]:
        """Return the steps of ``activation``, at least one, for graphs that other runtimes execute."""

    @abstractmethod
    def one_vs_rest_targets(self, targets: Targets) -> NDArray[np.bool_] | NDArray[np.float64]:
        """Return what a model that is fitted to each output on its own learns, (N, C).

        For classification whether a text has the label, or the probability that it has it if targets are soft.
        Standardized numbers for regression.

        Args:
            targets: Those of the texts, also soft ones.
        """

    def one_vs_rest_weights(self, targets: Targets, class_weights: Sequence[float]) -> NDArray[np.float64]:
        """Return the weight of each text where a model learns each output on its own, (N, C).

        Args:
            targets: Those of the texts, also soft ones.
            class_weights: Weight of each label in the loss, (C,).
        """
        shares = self.one_vs_rest_targets(targets)
        return np.asarray(shares * np.array(class_weights) + (1.0 - shares), dtype=np.float64)

    @abstractmethod
    def one_vs_rest_logits(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits of a model that was fitted to each output on its own, for ``activation``.

        Args:
            outputs: Log odds of each label, or a number for each target, (C,) or (N, C).
        """

    @abstractmethod
    def mixed(self, directions: Scores, linear: Scores, weight: float) -> Scores:
        """Return the mean of the directions' scores and those of a linear member, (C,) or (N, C).

        Args:
            directions: The mean of the directions.
            linear: The scores of the linear member.
            weight: Weight of the linear member, 0..1. That of the directions is the rest.
        """

    @abstractmethod
    def calibrated(self, scores: Scores, targets: Targets, soft_targets: Targets | None = None) -> Self:
        """Return this task with temperature and thresholds chosen on the ensemble's validation scores, (N, C).

        Args:
            scores: The ensemble's scores of the validation rows, (N, C).
            targets: Their targets.
            soft_targets: Their probabilities according to a teacher, (N, C), to which the temperature is fitted.
        """

    @abstractmethod
    def with_temperature(self, scores: Scores, temperature: float) -> Scores:
        """Return scores, (C,) or (N, C), after division of their logits by a temperature; 1 changes no bit."""

    @property
    @abstractmethod
    def temperature(self) -> float:
        """The temperature of the ensemble; 1 if it is not calibrated."""

    @property
    @abstractmethod
    def thresholds(self) -> tuple[float, ...] | None:
        """The probability from which on each label is assigned; None where the task has no thresholds."""

    def with_thresholds(self, thresholds: Mapping[str, float], default: float | None = None) -> Self:
        """Return this task with other thresholds.

        Args:
            thresholds: Thresholds by label, 0..1.
            default: The threshold of the labels that are not named. Defaults to those of the task.

        Raises:
            ConfigError: The task has no thresholds, a label is unknown, or a threshold is not between 0 and 1.
        """
        raise ConfigError(f"a {self.title} has no thresholds. Only multi-label models have them")

    def mean(self, members: Iterable[Scores]) -> Scores:
        """Return the members' mean with equal weights, in the order and with the rounding of prediction."""
        rows = list(members)
        return np.asarray(sum((row * (1 / len(rows)) for row in rows), np.zeros(1)), dtype=np.float64)

    @abstractmethod
    def decide(self, scores: Scores) -> Decision:
        """Return what follows from one text's ensemble scores, (C,)."""

    def uncertainty(self, scores: Scores) -> float:
        """Return how unsure a model is of its decision, 0..1, from one text's ensemble scores, (C,).

        Raises:
            ConfigError: A model of this task has no probabilities.
        """
        raise ConfigError(self.no_probabilities)

    @abstractmethod
    def epoch_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the metrics of a training epoch, ``loss`` and one or two more, for scores, (N, C)."""

    def epoch_rank(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Return what the best epoch has the most of, from the metrics that ``epoch_metrics`` returned."""
        return (-metrics["loss"],)

    @abstractmethod
    def validation_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the metrics that a bundle records of its ensemble.

        Args:
            scores: The ensemble's scores before calibration, (N, C).
            targets: Those of the validation rows.
        """

    @abstractmethod
    def headline_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the metrics named in ``headline`` for scores, (N, C)."""

    def resampled_headline(self, scores: Scores, targets: Targets) -> ResampledMetrics:
        """Return a function from the rows of a resample, (N,), to ``headline_metrics`` of them.

        What does not depend on the resample is computed once, so that a bootstrap of many rows is fast.
        """
        return lambda rows: self.headline_metrics(scores[rows], targets[rows])

    def label_errors(self, scores: Scores, targets: Targets) -> list[LabelError]:
        """Return the rows whose label is probably wrong, the most doubtful first.

        Args:
            scores: Out-of-fold scores, (N, C).
            targets: Targets of the rows.

        Raises:
            ConfigError: Wrong labels of this task cannot be found.
        """
        raise ConfigError(self.no_label_errors)

    @abstractmethod
    def metrics(self, scores: Scores, targets: Targets) -> Metrics:
        """Return all metrics of scores, (N, C)."""

    # Reports

    error_is_share: ClassVar[bool] = True
    """Whether the mean of ``row_errors`` is a share of the texts."""

    @property
    @abstractmethod
    def error_name(self) -> str:
        """What ``row_errors`` are on average, such as ``error rate``."""

    @property
    @abstractmethod
    def confidence_note(self) -> str:
        """How ``confidence`` is defined, as a sentence; empty if a model of this task has none."""

    @abstractmethod
    def row_errors(self, scores: Scores, targets: Targets) -> NDArray[np.float64]:
        """Return the error of each text, (N,): 1 for a wrong answer and 0 for a right one, or a distance.

        Args:
            scores: Scores of the texts, (N, C).
            targets: Targets of the texts.
        """

    @abstractmethod
    def error_interval(self, errors: NDArray[np.float64]) -> tuple[float, float]:
        """Return the 95 % confidence interval of the mean of ``row_errors``, (N,) with N at least 1."""

    @abstractmethod
    def confidence(self, scores: Scores) -> NDArray[np.float64] | None:
        """Return how sure a model is of each answer, (N,), for scores, (N, C). None if it does not know."""

    @abstractmethod
    def agreement(self, first: Scores, second: Scores) -> list[tuple[str, NDArray[np.bool_]]]:
        """Return groups of texts by how far two members agree on them, each with its name and whether it has a text.

        Args:
            first: Scores of one member, (N, C).
            second: Scores of the other.
        """

    @abstractmethod
    def answer(self, scores: Scores) -> str:
        """Return what a model answers for one text's scores, (C,), for people."""

    @abstractmethod
    def truth(self, target: Any) -> str:
        """Return what is true of one text, given its element of ``targets``, for people."""

    @abstractmethod
    def figures(self, scores: Mapping[str, Scores], targets: Targets) -> list[Figure]:
        """Return the charts and tables that a report shows.

        Args:
            scores: Scores by member, each (N, C). The ensemble comes last.
            targets: Targets of the texts.
        """

    @abstractmethod
    def why_constant(self, scores: Scores, targets: Targets) -> str | None:
        """Return why predictions are no better than the same prediction for every text, as a clause; None if they are.

        Args:
            scores: The calibrated ensemble's scores of validation rows, (N, C).
            targets: Those of the rows.
        """

    @abstractmethod
    def array(self, scores: Sequence[Scores]) -> Predictions:
        """Return the predictions for texts from the ensemble's scores of each, (C,)."""

    # Explanations

    def main_output(self, scores: Scores) -> int:
        """Return the number of the output that a text is mainly about: the most probable label, or the first target.

        Args:
            scores: The ensemble's scores of the text, (C,).
        """
        return int(scores.argmax())

    def output_number(self, name: object) -> int:
        """Return the number of the output with the name of a label, or of a target.

        Raises:
            ConfigError: The model has no such label or target.
        """
        try:
            found = KnownLabels(self.output_names).find(parse_label(name))
        except DataError as error:
            raise ConfigError(str(error)) from None
        if found not in self.output_names:
            known = listed(self.output_names, KNOWN_SHOWN)
            raise ConfigError(f"the model has no label or target {quoted(name)}, expected one of {known}")
        return self.output_names.index(found)

    def linear_unit(self, output: int) -> float:
        """Return the unit of what n-grams add to an output of a linear model: 1 for log odds, or a target's scale."""
        del output
        return 1.0

    # Abstention

    def true_probabilities(self, scores: Scores, targets: Targets) -> NDArray[np.float64] | None:
        """Return the probability of each text's only correct label, (N,); None unless texts have exactly one.

        Args:
            scores: The ensemble's scores, (N, C).
            targets: What is true of the texts.
        """
        del scores, targets
        return None

    def label_shares(self, scores: Scores) -> NDArray[np.float64]:
        """Return the share of the texts for which each label is predicted, (C,).

        Args:
            scores: The ensemble's scores, (N, C), N at least 1.

        Raises:
            ConfigError: The task has no labels.
        """
        raise ConfigError(self.no_abstention)

    # What is written

    @abstractmethod
    def columns(self) -> list[str]:
        """Return the names of the columns that prediction adds to a table."""

    @abstractmethod
    def cells(self, scores: Scores) -> list[object]:
        """Return the values of ``columns`` for one text's ensemble scores, (C,)."""

    @abstractmethod
    def difference(self, found: Scores, recorded: Scores) -> float:
        """Return the largest difference of scores, (N, C), in a unit in which the parity record allows 1e-5.

        Infinite if a number found is not one.
        """

    @abstractmethod
    def card(self) -> list[str]:
        """Return the lines of a model card that describe the labels or the target."""


def largest_difference(found: Scores, recorded: Scores) -> float:
    """Return the largest absolute difference, or infinity if a number found is not one."""
    if not found.size:
        return 0.0
    difference = float(np.abs(found - recorded).max())
    return float("inf") if np.isnan(difference) else difference


def warnings_about_both(train: LabeledTexts, valid: LabeledTexts) -> list[str]:
    """Return a warning if texts are in the training rows and in the validation rows."""
    seen = set(train.texts)
    both = sum(text in seen for text in valid.texts)
    if not both:
        return []
    return [f"{valid.name}: {both} of {len(valid)} texts are also in {train.name}; validation will look too good"]


def joined(first: LabeledTexts, second: LabeledTexts) -> LabeledTexts:
    """Return the rows of two sources. Where only one has weights, those of the other are 1."""
    weights: list[float] | None = None
    if first.weights is not None or second.weights is not None:
        weights = [weight for rows in (first, second) for weight in rows.weights or [1.0] * len(rows)]
    texts, labels = [*first.texts, *second.texts], [*first.labels, *second.labels]
    return LabeledTexts(first.name, texts, labels, weights, (*first.invalid, *second.invalid))


def selected(rows: LabeledTexts, keep: Sequence[bool]) -> LabeledTexts:
    """Return the rows whose flag is set."""
    kept = [number for number, is_kept in enumerate(keep) if is_kept]
    weights = None if rows.weights is None else [rows.weights[n] for n in kept]
    return LabeledTexts(rows.name, [rows.texts[n] for n in kept], [rows.labels[n] for n in kept], weights)
