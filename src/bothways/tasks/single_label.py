"""Single-label classification: each text has exactly one label, the most probable one.

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

from bothways.errors import DataError, quoted
from bothways.pages.figures import Figure
from bothways.tasks import classification, constant, figures, metrics
from bothways.tasks.label_errors import LabelError, doubts
from bothways.tasks.labels import (
    LARGEST_WEIGHT,
    KnownLabels,
    LabelKind,
    LabelValue,
    extended_kind,
    in_order,
    kind_of,
    kind_text,
    label_text,
    label_value,
    parse_label,
    printed_items,
    warnings_about_missing,
    warnings_about_similar,
)
from bothways.tasks.metrics import Metrics, Scores
from bothways.tasks.task import (
    Activation,
    Decision,
    Label,
    LabeledTexts,
    Operation,
    Predictions,
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
from bothways.text.fields import Text, fields_of

_FOR_LISTS = "for several labels per text use --task multi-label"


@dataclass(frozen=True)
class SingleLabel(Task):
    """Each text has exactly one label.

    Attributes:
        labels: In the order of the outputs; empty before the task is fitted.
        temperature: The ensemble's log probabilities are divided by it.
        label_kind: The type that users get the labels in.
    """

    labels: tuple[str, ...] = ()
    temperature: float = 1.0
    thresholds: None = None
    label_kind: LabelKind = "text"

    name: ClassVar[TaskName] = "single-label"
    title: ClassVar[str] = "text classifier"
    activation_name: ClassVar[Activation] = "softmax"
    selection_note: ClassVar[str] = "the ensemble's temperature was chosen on them, so its loss is slightly optimistic"
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")

    @functools.cached_property
    def label_values(self) -> tuple[LabelValue, ...]:
        """The labels as text, whole numbers or booleans."""
        return tuple(label_value(label, self.label_kind) for label in self.labels)

    @functools.cached_property
    def _known(self) -> KnownLabels:
        return KnownLabels(self.labels)

    @property
    def outputs(self) -> int:
        """One per label."""
        return len(self.labels)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def record(self) -> TaskRecord:
        """Return labels, their type and temperature."""
        return TaskRecord(self.name, self.labels, self.temperature, label_kind=self.label_kind)

    @classmethod
    def from_record(cls, record: TaskRecord) -> Self:
        """Return the task with labels, their type and temperature."""
        classification.refuse_impossible(record, least_labels=2)
        if record.thresholds is not None:
            raise ValueError("a single-label classifier has no thresholds: its label is the most probable one")
        assert record.temperature is not None
        return cls(record.labels, record.temperature, label_kind=record.label_kind)

    def parse(self, value: object) -> Label:
        """Return the one label in a cell."""
        label = parse_label(value)
        if isinstance(value, str) and printed_items(label) is not None:
            raise DataError(f"the label is a list written as text; {_FOR_LISTS}")
        return (self._known.find(label),)

    def cell(self, label: Label) -> object:
        """Return the one label."""
        assert isinstance(label, tuple)
        return label[0]

    def unknown(self, label: Label) -> list[str]:
        """Return the label if it is unknown."""
        return classification.unknown_labels(self.labels, label) if isinstance(label, tuple) else []

    def unified(self, labels: list[Label]) -> list[Label]:
        """Return the labels in one spelling each."""
        return classification.unified(labels)

    def extended(self, labels: Sequence[str]) -> Self:
        """Return the task with further labels, which no text is given."""
        return replace(self, labels=(*self.labels, *labels), label_kind=extended_kind(self.label_kind, labels))

    def without(self, labels: Collection[str]) -> Self:
        """Return the task without these labels. At least 2 must remain."""
        kept = classification.kept_positions(self.labels, labels, least=2)
        return replace(self, labels=tuple(self.labels[position] for position in kept))

    def check(self, rows: LabeledTexts) -> list[str]:
        """Refuse a single class; warn about similar labels and printed missing values."""
        found = [label for (label,) in rows.label_sets]
        if len(set(found)) < 2:
            raise DataError(
                f"{rows.name}: all {len(rows)} rows have the label {quoted(found[0])}; at least 2 are needed"
            )
        return [*warnings_about_missing(rows.name, found), *warnings_about_similar(rows.name, dict.fromkeys(found))]

    def split(self, rows: LabeledTexts, fraction: float, seed: int) -> Split:
        """Set a fraction of each class's texts aside, at least one text of each class with several texts.

        Each class keeps a text to train on. Where one text has several labels, a class may have no validation text.
        """
        labels_by_text = _labels_by_text(rows)
        texts_by_label: dict[str, list[Text]] = defaultdict(list)
        for text, labels in labels_by_text.items():
            texts_by_label[labels[0]].append(text)
        texts_left = Counter(label for labels in labels_by_text.values() for label in labels)  # to train on
        rng = np.random.default_rng(seed)
        held: set[Text] = set()
        for label in sorted(texts_by_label):
            texts = sorted(texts_by_label[label], key=fields_of)
            wanted = max(1, round(fraction * len(texts)))
            for text in (texts[i] for i in rng.permutation(len(texts))):
                if wanted > 0 and all(texts_left[each] > 1 for each in labels_by_text[text]):
                    held.add(text)
                    texts_left.subtract(labels_by_text[text])
                    wanted -= 1
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
        """Return the task with its labels in order: whole numbers by value, text alphabetically."""
        labels = in_order(rows.distinct_labels)
        return replace(self, labels=labels, label_kind=kind_of(labels))

    def targets(self, rows: LabeledTexts) -> Targets:
        """Return class numbers, (N,) int64."""
        found = [label for (label,) in rows.label_sets]
        positions = classification.label_positions(self.labels, found, rows.name)
        return np.array([positions[label] for label in found], dtype=np.int64)

    def soft_label_columns(self, columns: Sequence[str]) -> list[str] | None:
        """Return a column of probabilities per label."""
        return classification.probability_columns(self.labels, columns)

    def parse_soft(self, cells: Sequence[object]) -> Label:
        """Return the probabilities in the cells of a row: numbers of at least 0, each divided by their sum.

        So the numbers may also be the votes of annotators.
        """
        shares = classification.parse_shares(self.labels, cells, LARGEST_WEIGHT)
        total = sum(shares)
        if not total:
            raise DataError("the probability of every label is 0, expected that of at least one to be larger")
        best = self.labels[shares.index(max(shares))]
        return SoftLabel(self.labels, tuple(share / total for share in shares), (best,))

    def soft_targets(self, rows: LabeledTexts) -> Targets | None:
        """Return the probabilities of soft labels, and 1 for the label of other rows."""
        return classification.soft_targets(self.labels, rows)

    def class_weights(self, wanted: str | Mapping[str, float], targets: Targets) -> list[float] | None:
        """Return the weight of each class in the loss: ``balanced`` is N / (C * rows of the class)."""
        if wanted == "none":
            return None
        if not isinstance(wanted, str):
            return classification.weights_by_label(wanted, self.labels)
        counts = self.one_vs_rest_targets(targets).sum(axis=0)
        return [float(weight) for weight in len(targets) / (len(self.labels) * counts)]

    def activation(self, logits: NDArray[np.float64]) -> Scores:
        """Return the softmax."""
        return classification.softmax(logits)

    def operations(self) -> list[Operation]:
        """Return the softmax."""
        return [Operation("Softmax")]

    def with_temperature(self, scores: Scores, temperature: float) -> Scores:
        """Return the softmax of the log probabilities over the temperature (Guo et al., arXiv 1706.04599)."""
        if temperature == 1:
            return scores
        with np.errstate(divide="ignore", over="ignore"):
            logarithms = np.log(scores)
            return classification.softmax((logarithms - logarithms.max(axis=-1, keepdims=True)) / temperature)

    def one_vs_rest_targets(self, targets: Targets) -> NDArray[np.bool_] | NDArray[np.float64]:
        """Return whether each text has each label, (N, C), or soft targets as they are."""
        if targets.ndim == 2:
            return np.asarray(targets, dtype=np.float64)
        return np.asarray(targets[:, None] == np.arange(len(self.labels)), dtype=np.bool_)

    def one_vs_rest_weights(self, targets: Targets, class_weights: Sequence[float]) -> NDArray[np.float64]:
        """Return the weight of each text's label for all labels, (N, C), as in the loss."""
        of_texts = self.one_vs_rest_targets(targets) @ np.array(class_weights, dtype=np.float64)
        return np.repeat(of_texts[:, None], len(self.labels), axis=1)

    def one_vs_rest_logits(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithms of the sigmoids, so that probabilities are in proportion to each label's own."""
        return np.asarray(-np.logaddexp(0, -outputs), dtype=np.float64)

    def mixed(self, directions: Scores, linear: Scores, weight: float) -> Scores:
        """Return the softmax of the mean of the log probabilities."""
        logarithms = [np.log(np.maximum(scores, metrics.SMALLEST_PROBABILITY)) for scores in (directions, linear)]
        return classification.softmax((1 - weight) * logarithms[0] + weight * logarithms[1])

    def calibrated(self, scores: Scores, targets: Targets, soft_targets: Targets | None = None) -> Self:
        """Return the task with the temperature that minimizes the loss; it never changes the most probable class."""
        true = targets if soft_targets is None else soft_targets
        temperature = metrics.best_temperature(
            lambda temperature: metrics.log_loss(self.with_temperature(scores, temperature), true)
        )
        return replace(self, temperature=temperature)

    def decide(self, scores: Scores) -> Decision:
        """Choose the most probable label."""
        best = int(scores.argmax())
        label = self.label_values[best]
        return Decision(label, float(scores[best]), (label,))

    def uncertainty(self, scores: Scores) -> float:
        """Return 1 minus the margin between the two most probable labels."""
        second, first = np.sort(scores)[-2:]
        return float(1 - (first - second))

    def epoch_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the loss, without class weights or label smoothing, the accuracy and macro F1."""
        return {"loss": metrics.log_loss(scores, targets), **self.headline_metrics(scores, targets)}

    def epoch_rank(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Return the accuracy, then the loss: overconfidence raises the loss long before the errors stop falling."""
        return (metrics["accuracy"], -metrics["loss"])

    def validation_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return loss, accuracy, macro F1, and the calibration error after and before calibration."""
        calibrated = self.with_temperature(scores, self.temperature)
        return {
            **self.epoch_metrics(calibrated, targets),
            "calibration_error": _calibration_error(calibrated, targets),
            "calibration_error_before": _calibration_error(scores, targets),
        }

    def headline_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return accuracy and macro F1, over the classes that are true or predicted, as in scikit-learn."""
        return self._headline_of(scores.argmax(axis=1), targets)

    def resampled_headline(self, scores: Scores, targets: Targets) -> ResampledMetrics:
        """Return a function from the rows of a resample to their headline metrics. Classes are chosen once."""
        predicted = scores.argmax(axis=1)
        return lambda rows: self._headline_of(predicted[rows], targets[rows])

    def _headline_of(self, predicted: NDArray[np.int64], targets: Targets) -> dict[str, float]:
        counts = metrics.class_counts(metrics.confusion(targets, predicted, len(self.labels)))
        return {"accuracy": float((predicted == targets).mean()), "macro_f1": counts.present().macro_f1}

    def metrics(self, scores: Scores, targets: Targets) -> Metrics:
        """Return all metrics.

        ROC-AUC and average precision are those of the second label if there are two, and otherwise the mean over all
        labels, one against the rest.
        """
        counts = metrics.confusion(targets, scores.argmax(axis=1), len(self.labels))
        by_class = metrics.class_counts(counts)
        is_true = np.eye(len(self.labels), dtype=np.bool_)[targets]
        columns = slice(1, 2) if len(self.labels) == 2 else slice(None)
        ranked, is_relevant = scores[:, columns], is_true[:, columns]
        summary = metrics.without_undefined(
            **self.headline_metrics(scores, targets),
            micro_f1=by_class.micro_f1,
            weighted_f1=by_class.weighted_f1,
            log_loss=metrics.log_loss(scores, targets),
            ece=_calibration_error(scores, targets),
            roc_auc=metrics.mean_over_labels(metrics.roc_auc, ranked, is_relevant),
            average_precision=metrics.mean_over_labels(metrics.average_precision, ranked, is_relevant),
        )
        return Metrics(summary, by_class.classes(self.label_values), counts)

    @property
    def error_name(self) -> str:
        """The share of texts whose label is wrong."""
        return "error rate"

    @property
    def confidence_note(self) -> str:
        """The probability of the label."""
        return "Confidence is the probability of the predicted label."

    def row_errors(self, scores: Scores, targets: Targets) -> NDArray[np.float64]:
        """Return 1 for each text whose most probable label is wrong, (N,)."""
        return np.asarray(scores.argmax(axis=1) != targets, dtype=np.float64)

    def error_interval(self, errors: NDArray[np.float64]) -> tuple[float, float]:
        """Return the Wilson interval of the error rate."""
        return classification.error_interval(errors)

    def confidence(self, scores: Scores) -> NDArray[np.float64]:
        """Return the probability of the most probable label, (N,)."""
        return np.asarray(scores.max(axis=1), dtype=np.float64)

    def agreement(self, first: Scores, second: Scores) -> list[tuple[str, NDArray[np.bool_]]]:
        """Return the texts with the same label, and those with different labels."""
        return classification.agreement(first.argmax(axis=1) == second.argmax(axis=1))

    def answer(self, scores: Scores) -> str:
        """Return the most probable label."""
        return label_text(self.label_values[int(scores.argmax())])

    def truth(self, target: Any) -> str:
        """Return the label."""
        return label_text(self.label_values[int(target)])

    def figures(self, scores: Mapping[str, Scores], targets: Targets) -> list[Figure]:
        """Return confusion, metrics per class, reliability, precision and recall, risk and coverage."""
        *_, ensemble = scores.values()
        counts = metrics.confusion(targets, ensemble.argmax(axis=1), len(self.labels))
        is_true = np.eye(len(self.labels), dtype=np.bool_)[targets]
        columns, what = slice(None), "all labels together, each against the rest (micro-average)"
        if len(self.labels) == 2:
            columns, what = slice(1, 2), f"the label {quoted(label_text(self.label_values[1]), 40)}"
        by_member = {name: (self.confidence(rows), self.row_errors(rows, targets)) for name, rows in scores.items()}
        return [
            figures.confusion_figure(counts, self.label_values),
            figures.class_table(metrics.class_counts(counts).classes(self.label_values)),
            figures.reliability(
                ensemble.max(axis=1), ensemble.argmax(axis=1) == targets, "the predicted label (ensemble)"
            ),
            figures.risk_coverage_chart(by_member, self.error_name, self.confidence_note),
            figures.precision_recall_chart(
                {name: rows[:, columns].ravel() for name, rows in scores.items()}, is_true[:, columns].ravel(), what
            ),
        ]

    def label_errors(self, scores: Scores, targets: Targets) -> list[LabelError]:
        """Return the rows with a more probable label, which is the suggestion."""
        found = doubts(scores, targets)
        return [
            LabelError(int(place), float(found.scores[place]), self.labels[found.others[place]])
            for place in found.order
        ]

    def why_constant(self, scores: Scores, targets: Targets) -> str | None:
        """Compare with always the largest class of the validation rows."""
        counts = metrics.confusion(targets, scores.argmax(axis=1), len(self.labels))
        if constant.beats_largest_class(counts):
            return None
        rows = counts.sum(axis=1)
        largest = int(rows.argmax())
        return (
            f"its accuracy is {counts.diagonal().sum() / len(targets):.1%}, "
            f"and always answering {quoted(self.label_values[largest])} has {rows[largest] / len(targets):.1%}"
        )

    def label_shares(self, scores: Scores) -> NDArray[np.float64]:
        """Return the share of the texts with each most probable label."""
        return np.bincount(scores.argmax(axis=1), minlength=len(self.labels)) / len(scores)

    def true_probabilities(self, scores: Scores, targets: Targets) -> NDArray[np.float64]:
        """Return the probability of the correct label."""
        return np.asarray(scores[np.arange(len(scores)), targets], dtype=np.float64)

    def array(self, scores: Sequence[Scores]) -> Predictions:
        """Return the most probable label of each text, (N,): str objects, int64 or bool."""
        found = [self.decide(row).label for row in scores]
        if self.label_kind == "integer":
            return np.array(found, dtype=np.int64)
        if self.label_kind == "boolean":
            return np.array(found, dtype=np.bool_)
        return np.array(found, dtype=object)

    def columns(self) -> list[str]:
        """Return the columns of the label, its probability, and the probability of each label."""
        each = (f"{classification.CLASS_COLUMN_PREFIX}{label}" for label in self.labels)
        return ["predicted_label", "predicted_probability", *each]

    def cells(self, scores: Scores) -> list[object]:
        """Return the label, its probability, and the probability of each label."""
        decision = self.decide(scores)
        return [decision.label, decision.probability, *scores.tolist()]

    def difference(self, found: Scores, recorded: Scores) -> float:
        """Return the largest difference of a probability."""
        return largest_difference(found, recorded)

    def card(self) -> list[str]:
        """Return the labels and the calibration."""
        lines = [
            f"Labels, in order{kind_text(self.label_kind)}: {', '.join(f'`{label}`' for label in self.labels)}",
            "",
        ]
        if self.temperature != 1:
            lines += [f"The ensemble's probabilities are calibrated with temperature {self.temperature:.4g}.", ""]
        return lines


def _calibration_error(scores: Scores, targets: Targets) -> float:
    """Return the expected calibration error of the most probable class."""
    return metrics.calibration_error(scores.max(axis=1), scores.argmax(axis=1) == targets)


def _labels_by_text(rows: LabeledTexts) -> dict[Text, Sequence[str]]:
    """Return the distinct labels of each text, in the order in which they occur."""
    found: dict[Text, dict[str, None]] = defaultdict(dict)
    for text, (label,) in zip(rows.texts, rows.label_sets, strict=True):
        found[text][label] = None
    return {text: list(labels) for text, labels in found.items()}


def _warnings(rows: LabeledTexts) -> list[str]:
    count = sum(len(labels) > 1 for labels in _labels_by_text(rows).values())
    return [f"{rows.name}: {count} duplicate texts with conflicting labels"] if count else []
