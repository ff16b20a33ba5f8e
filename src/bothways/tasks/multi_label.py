"""Multi-label classification: each text has any number of labels, each decided by its own threshold.

Letters: N texts, C labels.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ConfigError, DataError, quoted
from bothways.pages.figures import Figure
from bothways.tasks import classification, constant, figures, metrics
from bothways.tasks.label_errors import LabelError, doubts
from bothways.tasks.labels import (
    KNOWN_SHOWN,
    KnownLabels,
    LabelKind,
    LabelValue,
    as_list,
    clean_label,
    extended_kind,
    in_order,
    kind_of,
    kind_text,
    label_text,
    label_value,
    listed,
    looks_multi_hot,
    parse_flag,
    parse_label,
    printed_items,
    spellings,
    warnings_about_missing,
    warnings_about_similar,
)
from bothways.tasks.metrics import Metrics, Scores
from bothways.tasks.stratification import held_texts
from bothways.tasks.task import (
    Activation,
    Decision,
    Label,
    LabeledTexts,
    Operation,
    ResampledMetrics,
    SoftLabel,
    Split,
    Targets,
    Task,
    TaskName,
    TaskRecord,
    largest_difference,
    selected,
    warnings_about_both,
)
from bothways.text.fields import Text
from bothways.text.validation import is_missing

DEFAULT_SEPARATOR = "|"
_SEPARATORS = ("|", ";", ",")
_THRESHOLDS = np.linspace(0.05, 0.95, 91)
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class MultiLabel(Task):
    """Each text has any number of labels, possibly none.

    Attributes:
        labels: In the order of the outputs; empty before the task is fitted.
        temperature: The log odds of each of the ensemble's probabilities are divided by it.
        thresholds: A label is assigned if its probability is at least its threshold, in the order of the labels.
        separator: The string between two labels in a cell; None if all cells are lists.
        label_kind: The type that users get the labels in.
        label_columns: The names of 0/1 columns, or of the positions of multi-hot lists, as they were given; empty if
            cells hold labels.
    """

    labels: tuple[str, ...] = ()
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    separator: str | None = None
    label_kind: LabelKind = "text"
    label_columns: tuple[str, ...] = ()

    name: ClassVar[TaskName] = "multi-label"
    title: ClassVar[str] = "multi-label text classifier"
    activation_name: ClassVar[Activation] = "sigmoid"
    no_early_exit: ClassVar[str] = "early exit needs single-label classification, and this model is multi-label"
    selection_note: ClassVar[str] = (
        "temperature and thresholds were chosen on them, so the ensemble's metrics are slightly optimistic"
    )
    headline: ClassVar[tuple[str, ...]] = ("macro_f1", "micro_f1", "subset_accuracy")

    def __post_init__(self) -> None:
        if self.separator == "":
            raise ConfigError("the label separator is empty; give at least one character, such as |")
        _ = self._named  # refuses names that cannot be labels

    @functools.cached_property
    def label_values(self) -> tuple[LabelValue, ...]:
        """The labels as text, whole numbers or booleans."""
        return tuple(label_value(label, self.label_kind) for label in self.labels)

    @functools.cached_property
    def _known(self) -> KnownLabels:
        return KnownLabels(self.labels)

    @functools.cached_property
    def _named(self) -> tuple[str, ...]:
        """The labels of 0/1 columns.

        Raises:
            ConfigError: A name is empty, repeated or contains the separator.
        """
        found = []
        for name in self.label_columns:
            try:
                found.append(self._checked(parse_label(name)))
            except DataError as error:
                raise ConfigError(f"the label name {quoted(name)} cannot be used: {error}") from None
        labels = tuple(map(spellings(Counter(found)).__getitem__, found))
        if repeated := [label for label, count in Counter(labels).items() if count > 1]:
            raise ConfigError(f"the label name {quoted(repeated[0])} is given twice")
        return labels

    @property
    def outputs(self) -> int:
        """One per label."""
        return len(self.labels)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def record(self) -> TaskRecord:
        """Return labels, temperature, thresholds, and how labels are written."""
        return TaskRecord(
            self.name,
            self.labels,
            self.temperature,
            self.thresholds,
            separator=self.separator,
            label_kind=self.label_kind,
            label_columns=self.label_columns,
        )

    @classmethod
    def from_record(cls, record: TaskRecord) -> Self:
        """Return the task with labels, temperature, thresholds, and how labels are written."""
        classification.refuse_impossible(record, least_labels=1)
        if record.thresholds is None:
            raise ValueError("a multi-label classifier needs thresholds, one per label")
        if len(record.thresholds) != len(record.labels):
            raise ValueError(f"{len(record.thresholds)} thresholds for {len(record.labels)} labels")
        assert record.temperature is not None
        task = cls(
            record.labels,
            record.temperature,
            record.thresholds,
            record.separator,
            record.label_kind,
            record.label_columns,
        )
        if record.label_columns and set(task._named) != set(record.labels):
            raise ValueError("the names of the label columns are not those of the labels")
        return task

    def parse(self, value: object) -> Label:
        """Return the distinct labels in a cell: a string that the separator splits, a list of labels, or 0/1 flags.

        White space around a label is removed, empty labels are ignored, and a repeated label counts once. A list may
        also be written as text, such as ``['a', 'b']``.
        """
        if self.label_columns:
            return self._flagged(value)
        labels = (self._checked(self._known.find(parse_label(part))) for part in self._parts(value))
        return tuple(dict.fromkeys(labels))

    def _flagged(self, value: object) -> Label:
        flags = as_list(value)
        if flags is None and isinstance(value, str):
            flags = list(printed_items(value) or ()) or None
        if flags is None or len(flags) != len(self._named):
            found = f"{len(flags)} values" if flags is not None else quoted(value, 40)
            raise DataError(f"found {found}, expected a list of {len(self._named)} values, 0 or 1 per label")
        return tuple(label for label, flag in zip(self._named, flags, strict=True) if self._is_set(label, flag))

    @staticmethod
    def _is_set(label: str, flag: object) -> bool:
        try:
            return parse_flag(flag)
        except DataError as error:
            raise DataError(f"label {quoted(label)}: {error}") from None

    def _checked(self, label: str) -> str:
        joiner = self.separator or DEFAULT_SEPARATOR
        if joiner in label:
            raise DataError(
                f"the label {quoted(label)} contains the separator {quoted(joiner)}; use another --label-separator"
            )
        return label

    def _parts(self, value: object) -> Collection[object]:
        parts = as_list(value)
        if parts is None and is_missing(value):
            raise DataError("the labels are missing (null); write an empty value if the text has no label")
        if parts is None and isinstance(value, str):
            parts = list[object](items) if (items := printed_items(value)) is not None else None
            if parts is None and self.separator is None:
                parts = self._known_parts(value)
            if parts is None and self.separator is None and value.strip():
                expected = (
                    "labels that the model knows, as a list or with | ; or , between them"
                    if self.labels
                    else "a list of labels; give the separator of the labels with --label-separator"
                )
                raise DataError(f"the labels are the string {quoted(value, 40)}, expected {expected}")
            if parts is None:
                parts = list[object](value.split(self.separator)) if self.separator else []
        if parts is None:
            return [value]
        parts = [part for part in parts if not (isinstance(part, str) and not clean_label(part))]
        if looks_multi_hot(parts):
            raise DataError(
                f"the labels are {str(value)[:40]}, a multi-hot list; name the label of each position with --labels "
                "(labels= in Python)"
            )
        return parts

    def _known_parts(self, cell: str) -> list[object] | None:
        """Return the labels in a cell of a model without a separator, if a usual one leaves only labels that it knows.

        A model that was imported does not record the separator.
        """
        for parts in ([cell], *(cell.split(separator) for separator in (*_SEPARATORS, None))):
            named = [part for part in parts if clean_label(part)]
            if named and all(self._known.find(clean_label(part)) in self._known for part in named):
                return [*named]
        return None

    def cell(self, label: Label) -> object:
        """Return a list of the labels, or of 0 and 1 for each named column."""
        assert isinstance(label, tuple)
        return [int(name in label) for name in self._named] if self.label_columns else [*label]

    def unknown(self, label: Label) -> list[str]:
        """Return the labels of a row that are unknown."""
        return classification.unknown_labels(self.labels, label) if isinstance(label, tuple) else []

    def unified(self, labels: list[Label]) -> list[Label]:
        """Return the labels in one spelling each; those of 0/1 columns are so already."""
        return labels if self.label_columns else classification.unified(labels)

    def extended(self, labels: Sequence[str]) -> Self:
        """Return the task with further labels, which no text is given."""
        return replace(
            self,
            labels=(*self.labels, *labels),
            thresholds=(*self.thresholds, *(DEFAULT_THRESHOLD for _ in labels)),
            label_kind=extended_kind(self.label_kind, labels),
        )

    def without(self, labels: Collection[str]) -> Self:
        """Return the task without these labels. At least 1 must remain."""
        if labels and self.label_columns:
            raise ConfigError("labels in columns of 0 and 1 cannot be removed: train again without their columns")
        kept = classification.kept_positions(self.labels, labels, least=1)
        return replace(
            self,
            labels=tuple(self.labels[position] for position in kept),
            thresholds=tuple(self.thresholds[position] for position in kept),
        )

    def check(self, rows: LabeledTexts) -> list[str]:
        """Refuse rows with equal labels only; warn about labels that look like mistakes."""
        sets = rows.label_sets
        found = [label for labels in sets for label in labels]
        if not found:
            raise DataError(f"{rows.name}: none of the {len(rows)} rows has a label; at least one is needed")
        distinct = set(map(frozenset, sets))
        if len(distinct) == 1 and len(distinct.pop()) > 1:
            raise DataError(
                f"{rows.name}: all {len(rows)} rows have the labels {listed(in_order(found))}; nothing can be learned. "
                "Name the positions of multi-hot lists with --labels"
            )
        return [
            *self._warnings_about_names(rows.name, found),
            *self._warnings_about_separator(rows.name, sets),
            *warnings_about_missing(rows.name, found),
            *warnings_about_similar(rows.name, dict.fromkeys(found)),
        ]

    def _warnings_about_names(self, name: str, found: Collection[str]) -> list[str]:
        absent = sorted(set(self._named) - set(found))
        return [f"{name}: no row has the labels {listed(absent)}, so they cannot be learned"] if absent else []

    def _warnings_about_separator(self, name: str, sets: Sequence[tuple[str, ...]]) -> list[str]:
        """Return a warning if the separator separates no labels, or refuse it if another one seems to."""
        labels = in_order(label for row in sets for label in row)
        if self.separator is None or len(labels) < 2 or any(len(row) > 1 for row in sets):
            return []
        problem = f"{name}: the label separator {quoted(self.separator)} occurs in no row"
        for other in _SEPARATORS:
            if joined := [label for label in labels if other in label]:
                raise DataError(
                    f"{problem}, but {quoted(other)} does in {listed(joined)}. Pass that one to --label-separator, or "
                    "use --task single-label if each text has one label"
                )
        return [f"{problem}, so every text has at most one label"]

    def split(self, rows: LabeledTexts, fraction: float, seed: int) -> Split:
        """Set a fraction of each label's texts aside; every label of the validation rows has training rows too."""
        labels_by_text: dict[Text, set[str]] = defaultdict(set)
        for text, labels in zip(rows.texts, rows.label_sets, strict=True):
            labels_by_text[text].update(labels)
        held = held_texts(labels_by_text, fraction, seed)
        if not held:
            raise DataError(
                f"{rows.name}: no text can be set aside for validation, because each is the only text of a label; add "
                "rows, or give a file of validation rows with --valid"
            )
        is_held = [text in held for text in rows.texts]
        return Split(selected(rows, [not h for h in is_held]), selected(rows, is_held), _warnings(rows))

    def split_with(self, train: LabeledTexts, valid: LabeledTexts) -> Split:
        """Return the split that a user made, with warnings."""
        return Split(train, valid, [*_warnings(train), *warnings_about_both(train, valid)])

    def fitted(self, rows: LabeledTexts) -> Self:
        """Return the task with default thresholds and its labels in order.

        Whole numbers are sorted by value and text alphabetically; named columns keep their order.
        """
        labels = self._named or in_order(rows.distinct_labels)
        thresholds = (DEFAULT_THRESHOLD,) * len(labels)
        return replace(self, labels=labels, thresholds=thresholds, label_kind=kind_of(labels))

    def targets(self, rows: LabeledTexts) -> Targets:
        """Return 1 for each label that a text has and 0 otherwise, (N, C) float32."""
        found = (label for labels in rows.label_sets for label in labels)
        positions = classification.label_positions(self.labels, found, rows.name)
        targets = np.zeros((len(rows), len(self.labels)), dtype=np.float32)
        for target, labels in zip(targets, rows.label_sets, strict=True):
            target[[positions[label] for label in labels]] = 1
        return targets

    def soft_label_columns(self, columns: Sequence[str]) -> list[str] | None:
        """Return a column of probabilities per label."""
        return classification.probability_columns(self.labels, columns)

    def parse_soft(self, cells: Sequence[object]) -> Label:
        """Return the probabilities in the cells of a row, each 0..1."""
        shares = tuple(classification.parse_shares(self.labels, cells, 1))
        is_chosen = zip(self.labels, self.chosen(np.array(shares)), strict=True)
        return SoftLabel(self.labels, shares, tuple(label for label, is_assigned in is_chosen if is_assigned))

    def soft_targets(self, rows: LabeledTexts) -> Targets | None:
        """Return the probabilities of soft labels, and 1 for the labels of other rows."""
        return classification.soft_targets(self.labels, rows)

    def class_weights(self, wanted: str | Mapping[str, float], targets: Targets) -> list[float] | None:
        """Return the weight of each label's presence in the loss: ``balanced`` is absent / present rows, at least 1."""
        if wanted == "none":
            return None
        if not isinstance(wanted, str):
            return classification.weights_by_label(wanted, self.labels)
        counts = targets.sum(axis=0)
        return [float(weight) for weight in ((len(targets) - counts) / counts.clip(min=1)).clip(min=1)]

    def activation(self, logits: NDArray[np.float64]) -> Scores:
        """Return the sigmoid of each logit."""
        return classification.sigmoid(logits)

    def operations(self) -> list[Operation]:
        """Return the sigmoid."""
        return [Operation("Sigmoid")]

    def with_temperature(self, scores: Scores, temperature: float) -> Scores:
        """Return the sigmoid of the log odds over the temperature (Guo et al., arXiv 1706.04599)."""
        if temperature == 1:
            return scores
        with np.errstate(divide="ignore", over="ignore"):
            others = np.log1p(-np.minimum(scores, classification.LARGEST_WITH_ODDS))
            return classification.sigmoid((np.log(scores) - others) / temperature)

    def one_vs_rest_targets(self, targets: Targets) -> NDArray[np.bool_] | NDArray[np.float64]:
        """Return whether each text has each label, (N, C), or soft targets as they are."""
        is_hard = bool(((targets == 0) | (targets == 1)).all())
        return np.asarray(targets > 0.5, dtype=np.bool_) if is_hard else np.asarray(targets, dtype=np.float64)

    def one_vs_rest_logits(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log odds as they are."""
        return outputs

    def mixed(self, directions: Scores, linear: Scores, weight: float) -> Scores:
        """Return the sigmoid of the mean of the log odds."""
        least = metrics.SMALLEST_PROBABILITY
        clipped = [np.clip(scores, least, 1 - least) for scores in (directions, linear)]
        odds = [np.log(scores) - np.log1p(-scores) for scores in clipped]
        return classification.sigmoid((1 - weight) * odds[0] + weight * odds[1])

    def calibrated(self, scores: Scores, targets: Targets, soft_targets: Targets | None = None) -> Self:
        """Return the task with the temperature that minimizes the loss, and then the thresholds with the best F1."""
        is_true = targets > 0.5
        true = is_true if soft_targets is None else soft_targets
        temperature = metrics.best_temperature(
            lambda temperature: metrics.binary_log_loss(self.with_temperature(scores, temperature), true)
        )
        thresholds = best_thresholds(self.with_temperature(scores, temperature), is_true)
        return replace(self, temperature=temperature, thresholds=thresholds)

    def with_thresholds(self, thresholds: Mapping[str, float], default: float | None = None) -> Self:
        """Return this task with other thresholds, each 0..1, for all labels or for some."""
        if unknown := classification.unknown_labels(self.labels, thresholds):
            there = listed(self.labels, KNOWN_SHOWN)
            raise ConfigError(f"thresholds name the unknown labels {listed(unknown)}; the model has {there}")
        values = [*thresholds.values(), *([] if default is None else [default])]
        if bad := [value for value in values if not 0 <= value <= 1]:
            raise ConfigError(f"a threshold is {bad[0]:g}, expected a number between 0 and 1")
        present = self.thresholds if default is None else (default,) * len(self.labels)
        found = (thresholds.get(label, value) for label, value in zip(self.labels, present, strict=True))
        return replace(self, thresholds=tuple(map(float, found)))

    def chosen(self, scores: Scores) -> NDArray[np.bool_]:
        """Return whether each label is assigned, for scores (C,) or (N, C)."""
        return np.asarray(scores >= np.array(self.thresholds))

    def decide(self, scores: Scores) -> Decision:
        """Assign all labels whose probability is at least their threshold, possibly none."""
        best = int(scores.argmax())
        is_chosen = self.chosen(scores)
        chosen = tuple(label for label, is_assigned in zip(self.label_values, is_chosen, strict=True) if is_assigned)
        return Decision(self.label_values[best], float(scores[best]), chosen)

    def uncertainty(self, scores: Scores) -> float:
        """Return 1 minus twice the distance of the most doubtful probability from one half."""
        return float(1 - 2 * np.abs(scores - 0.5).min())

    def epoch_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the loss, without class weights, and the headline metrics of decisions at one half."""
        loss = metrics.binary_log_loss(scores, targets > 0.5)
        at_half = replace(self, thresholds=(DEFAULT_THRESHOLD,) * len(self.labels))
        return {"loss": loss, **at_half.headline_metrics(scores, targets)}

    def validation_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return loss, the headline metrics, and the calibration error after and before calibration."""
        calibrated = self.with_temperature(scores, self.temperature)
        is_true = targets > 0.5
        return {
            "loss": metrics.binary_log_loss(calibrated, is_true),
            **self.headline_metrics(calibrated, targets),
            "calibration_error": metrics.calibration_error(calibrated, is_true),
            "calibration_error_before": metrics.calibration_error(scores, is_true),
        }

    def headline_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return macro F1 over all labels, micro F1, and subset accuracy (all labels of a text correct)."""
        return self._headline_of(self.chosen(scores), targets > 0.5)

    def resampled_headline(self, scores: Scores, targets: Targets) -> ResampledMetrics:
        """Return a function from the rows of a resample to their headline metrics. Labels are chosen once."""
        is_true, chosen = targets > 0.5, self.chosen(scores)
        return lambda rows: self._headline_of(chosen[rows], is_true[rows])

    @staticmethod
    def _headline_of(chosen: NDArray[np.bool_], is_true: NDArray[np.bool_]) -> dict[str, float]:
        counts = metrics.label_counts(is_true, chosen)
        subset_accuracy = float((chosen == is_true).all(axis=1).mean())
        return {"macro_f1": counts.macro_f1, "micro_f1": counts.micro_f1, "subset_accuracy": subset_accuracy}

    def metrics(self, scores: Scores, targets: Targets) -> Metrics:
        """Return all metrics; a label that is neither true nor predicted has F1 0, as in scikit-learn."""
        is_true = targets > 0.5
        counts = metrics.label_counts(is_true, self.chosen(scores))
        summary = metrics.without_undefined(
            **self.headline_metrics(scores, targets),
            weighted_f1=counts.weighted_f1,
            log_loss=metrics.binary_log_loss(scores, is_true),
            ece=metrics.calibration_error(scores, is_true),
            roc_auc=metrics.mean_over_labels(metrics.roc_auc, scores, is_true),
            average_precision=metrics.mean_over_labels(metrics.average_precision, scores, is_true),
        )
        return Metrics(summary, counts.classes(self.label_values))

    @property
    def error_name(self) -> str:
        """The share of texts with a wrong set of labels."""
        return "rate of wrong label sets"

    @property
    def confidence_note(self) -> str:
        """The probability that all decisions are right."""
        return "Confidence is the product of the probabilities of the decisions about all labels."

    def row_errors(self, scores: Scores, targets: Targets) -> NDArray[np.float64]:
        """Return 1 for each text with a label too many or too few, (N,)."""
        return np.asarray((self.chosen(scores) != (targets > 0.5)).any(axis=1), dtype=np.float64)

    def error_interval(self, errors: NDArray[np.float64]) -> tuple[float, float]:
        """Return the Wilson interval of the share of wrong texts."""
        return classification.error_interval(errors)

    def confidence(self, scores: Scores) -> NDArray[np.float64]:
        """Return the product of the probabilities of the decisions about all labels, (N,)."""
        return np.asarray(np.where(self.chosen(scores), scores, 1 - scores).prod(axis=1), dtype=np.float64)

    def agreement(self, first: Scores, second: Scores) -> list[tuple[str, NDArray[np.bool_]]]:
        """Return the texts with the same set of labels, and those with different sets."""
        return classification.agreement((self.chosen(first) == self.chosen(second)).all(axis=1))

    def answer(self, scores: Scores) -> str:
        """Return the assigned labels."""
        return self._joined(self.chosen(scores))

    def truth(self, target: Any) -> str:
        """Return the labels."""
        return self._joined(np.asarray(target) > 0.5)

    def _joined(self, flags: NDArray[np.bool_]) -> str:
        joiner = f" {self.separator or DEFAULT_SEPARATOR} "
        chosen = [label_text(label) for label, flag in zip(self.label_values, flags, strict=True) if flag]
        return joiner.join(chosen) or "no label"

    def figures(self, scores: Mapping[str, Scores], targets: Targets) -> list[Figure]:
        """Return metrics per label, reliability, precision and recall, risk and coverage, and curves per threshold."""
        *_, ensemble = scores.values()
        is_true = targets > 0.5
        by_member = {name: (self.confidence(rows), self.row_errors(rows, targets)) for name, rows in scores.items()}
        return [
            figures.class_table(self.metrics(ensemble, targets).classes, self.thresholds),
            figures.reliability(ensemble.ravel(), is_true.ravel(), "each label of each text (ensemble)"),
            figures.risk_coverage_chart(by_member, self.error_name, self.confidence_note),
            figures.precision_recall_chart(
                {name: rows.ravel() for name, rows in scores.items()},
                is_true.ravel(),
                "all labels together (micro-average)",
            ),
            *figures.threshold_charts(ensemble, is_true, self.label_values, self.thresholds),
        ]

    def label_errors(self, scores: Scores, targets: Targets) -> list[LabelError]:
        """Return the rows with a label to add or to remove, each with its most doubtful one.

        How many labels to add and how many to remove is estimated for each label separately. If both were counted
        together, rare labels to remove would take the places of the labels to add.
        """
        found: dict[int, LabelError] = {}
        for column, label in enumerate(self.labels):
            has_label = targets[:, column] > 0.5
            of_label = doubts(np.stack([1 - scores[:, column], scores[:, column]], axis=1), has_label.astype(np.int64))
            for place in map(int, np.flatnonzero(of_label.wrong)):
                score = float(of_label.scores[place])
                if place not in found or score > found[place].score:
                    found[place] = LabelError(place, score, f"{'remove' if has_label[place] else 'add'} {label}")
        return sorted(found.values(), key=lambda each: (-each.score, each.place))

    def why_constant(self, scores: Scores, targets: Targets) -> str | None:
        """Compare with the same labels for every text."""
        is_true, chosen = targets > 0.5, self.chosen(scores)
        if constant.beats_same_labels(scores, chosen, is_true):
            return None
        if not (chosen == chosen[0]).all():
            area = metrics.mean_over_labels(metrics.roc_auc, scores, is_true)
            return f"its mean ROC-AUC is {area:.3f}, and chance has 0.5"
        named = zip(self.label_values, chosen[0], strict=True)
        labels = ", ".join(quoted(label) for label, is_chosen in named if is_chosen)
        return f"it assigns {labels or 'no label'} to every text"

    def label_shares(self, scores: Scores) -> NDArray[np.float64]:
        """Return the share of the texts that each label is assigned to."""
        return np.asarray(self.chosen(scores).mean(axis=0), dtype=np.float64)

    def array(self, scores: Sequence[Scores]) -> NDArray[np.object_]:
        """Return the assigned labels of each text, (N,) tuples."""
        found = np.empty(len(scores), dtype=object)
        for number, row in enumerate(scores):  # one by one: numpy would turn tuples of one length into columns
            found[number] = self.decide(row).chosen
        return found

    def columns(self) -> list[str]:
        """Return the columns of the assigned labels and of the probability of each label."""
        each = (f"{classification.CLASS_COLUMN_PREFIX}{label}" for label in self.labels)
        return ["predicted_labels", *each]

    def cells(self, scores: Scores) -> list[object]:
        """Return the assigned labels, joined with the separator, and the probability of each label."""
        joiner = self.separator or DEFAULT_SEPARATOR
        return [joiner.join(map(label_text, self.decide(scores).chosen)), *scores.tolist()]

    def difference(self, found: Scores, recorded: Scores) -> float:
        """Return the largest difference of a probability."""
        return largest_difference(found, recorded)

    def card(self) -> list[str]:
        """Return the labels, the thresholds and the calibration."""
        lines = [
            f"Labels, in order{kind_text(self.label_kind)}: {', '.join(f'`{label}`' for label in self.labels)}",
            "",
            "A text has any number of them: each whose probability is at least its threshold.",
            "",
            f"Thresholds: {classification.thresholds_text(self.thresholds)}.",
            "",
        ]
        if self.temperature != 1:
            lines += [f"The ensemble's probabilities are calibrated with temperature {self.temperature:.4g}.", ""]
        return lines


def best_thresholds(probabilities: Scores, is_true: NDArray[np.bool_]) -> tuple[float, ...]:
    """Return for each label the threshold, 0.05 to 0.95, with the best F1.

    Among equally good thresholds the one closest to one half is taken. A label that no text has gets one half.

    Args:
        probabilities: The ensemble's, after calibration, (N, C).
        is_true: Whether each text has each label, (N, C).
    """
    found = []
    for column, is_present in zip(probabilities.T, is_true.T, strict=True):
        if not is_present.any():
            found.append(DEFAULT_THRESHOLD)
            continue
        is_chosen = column[None, :] >= _THRESHOLDS[:, None]
        correct = (is_chosen & is_present).sum(axis=1)
        f1 = 2 * correct / (is_chosen.sum(axis=1) + is_present.sum())
        best = _THRESHOLDS[f1 >= f1.max() - 1e-12]
        found.append(float(best[np.argmin(np.abs(best - DEFAULT_THRESHOLD))]))
    return tuple(found)


def _warnings(rows: LabeledTexts) -> list[str]:
    """Return a warning if duplicate texts have different labels, regardless of their order."""
    found: dict[Text, set[frozenset[str]]] = defaultdict(set)
    for text, labels in zip(rows.texts, rows.label_sets, strict=True):
        found[text].add(frozenset(labels))
    count = sum(len(sets) > 1 for sets in found.values())
    return [f"{rows.name}: {count} duplicate texts with conflicting labels"] if count else []
