"""Multi-label classification: each text has any number of labels, each decided by its own threshold.

Letters: N texts, C labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ConfigError, DataError
from bothways.tasks import classification, metrics
from bothways.tasks.metrics import Metrics, Scores
from bothways.tasks.stratification import held_texts
from bothways.tasks.task import (
    Activation,
    Decision,
    Label,
    LabeledTexts,
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
_LABELS_LISTED = 3
_THRESHOLDS = np.linspace(0.05, 0.95, 91)
_DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class MultiLabel(Task):
    """Each text has any number of labels, possibly none.

    Attributes:
        labels: In the order of the outputs; empty before the task is fitted.
        temperature: The log odds of each of the ensemble's probabilities are divided by it.
        thresholds: A label is assigned if its probability is at least its threshold, in the order of the labels.
        separator: The string between two labels in a cell; None if all cells are lists.
    """

    labels: tuple[str, ...] = ()
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    separator: str | None = None

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

    @property
    def outputs(self) -> int:
        """One per label."""
        return len(self.labels)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def record(self) -> TaskRecord:
        """Return labels, temperature, thresholds and separator."""
        return TaskRecord(self.name, self.labels, self.temperature, self.thresholds, separator=self.separator)

    @classmethod
    def from_record(cls, record: TaskRecord) -> Self:
        """Return the task with labels, temperature, thresholds and separator."""
        classification.refuse_impossible(record, least_labels=1)
        if record.thresholds is None:
            raise ValueError("a multi-label classifier needs thresholds, one per label")
        if len(record.thresholds) != len(record.labels):
            raise ValueError(f"{len(record.thresholds)} thresholds for {len(record.labels)} labels")
        assert record.temperature is not None
        return cls(record.labels, record.temperature, record.thresholds, record.separator)

    def parse(self, value: object, where: str) -> Label:
        """Return the distinct labels in a cell: a string that the separator splits, or a list of labels.

        White space around a label is removed, empty labels are ignored, and a repeated label counts once.
        """
        labels = tuple(
            dict.fromkeys(classification.parse_label(part, where).strip() for part in self._parts(value, where))
        )
        joiner = self.separator or DEFAULT_SEPARATOR
        for label in labels:
            if joiner in label:
                raise DataError(
                    f"{where}: the label {label!r} contains the separator {joiner!r}; use another separator"
                )
        return labels

    def _parts(self, value: object, where: str) -> Collection[object]:
        if isinstance(value, list | tuple | np.ndarray):
            return [part for part in value if not (isinstance(part, str) and not part.strip())]
        if is_missing(value):
            raise DataError(f"{where}: the labels are missing (null); write an empty value if the text has no label")
        if not isinstance(value, str):
            return [value]
        if self.separator is None:
            raise DataError(
                f"{where} is the string {value[:40]!r}, expected a list of labels; give the separator of the labels"
            )
        return [part for part in value.split(self.separator) if part.strip()]

    def check(self, rows: LabeledTexts) -> list[str]:
        """Refuse rows without any label; warn about similar labels and about labels that cannot be validated."""
        texts_by_label: dict[str, set[Text]] = defaultdict(set)
        for text, labels in zip(rows.texts, rows.label_sets, strict=True):
            for label in labels:
                texts_by_label[label].add(text)
        if not texts_by_label:
            raise DataError(f"{rows.name}: none of the {len(rows)} rows has a label; at least one is needed")
        warnings = classification.warnings_about_similar(rows.name, texts_by_label)
        if rare := sorted(label for label, texts in texts_by_label.items() if len(texts) < 2):
            more = f" and {len(rare) - _LABELS_LISTED} more" if len(rare) > _LABELS_LISTED else ""
            warnings.append(
                f"{rows.name}: {len(rare)} label{'s have' if len(rare) > 1 else ' has'} a single text and cannot be "
                f"validated: {', '.join(map(repr, rare[:_LABELS_LISTED]))}{more}"
            )
        return warnings

    def split(self, rows: LabeledTexts, fraction: float, seed: int) -> Split:
        """Set a fraction of each label's texts aside; every label of the validation rows has training rows too."""
        labels_by_text: dict[Text, set[str]] = defaultdict(set)
        for text, labels in zip(rows.texts, rows.label_sets, strict=True):
            labels_by_text[text].update(labels)
        held = held_texts(labels_by_text, fraction, seed)
        if not held:
            raise DataError(
                f"{rows.name}: no text can be set aside for validation, because each is the only text of a label; add "
                "rows, or give a file of validation rows"
            )
        is_held = [text in held for text in rows.texts]
        return Split(selected(rows, [not h for h in is_held]), selected(rows, is_held), _warnings(rows))

    def split_with(self, train: LabeledTexts, valid: LabeledTexts) -> Split:
        """Return the split that a user made, with warnings."""
        known = {label for labels in train.label_sets for label in labels}
        found = {label for labels in valid.label_sets for label in labels}
        classification.refuse_untrained(found, known, valid.name, train.name)
        return Split(train, valid, [*_warnings(train), *warnings_about_both(train, valid)])

    def fitted(self, rows: LabeledTexts) -> Self:
        """Return the task with its labels in alphabetical order and default thresholds."""
        labels = tuple(sorted({label for labels in rows.label_sets for label in labels}))
        return replace(self, labels=labels, thresholds=(_DEFAULT_THRESHOLD,) * len(labels))

    def targets(self, rows: LabeledTexts) -> Targets:
        """Return 1 for each label that a text has and 0 otherwise, (N, C) float32."""
        found = (label for labels in rows.label_sets for label in labels)
        positions = classification.label_positions(self.labels, found, rows.name)
        targets = np.zeros((len(rows), len(self.labels)), dtype=np.float32)
        for target, labels in zip(targets, rows.label_sets, strict=True):
            target[[positions[label] for label in labels]] = 1
        return targets

    def class_weights(self, wanted: str | Mapping[str, float], targets: Targets) -> list[float] | None:
        """Return the weight of each label's presence in the loss: ``balanced`` is absent / present rows, at least 1."""
        if wanted == "none":
            return None
        if not isinstance(wanted, str):
            return classification.weights_by_label(wanted, self.labels)
        counts = targets.sum(axis=0)
        return [float(weight) for weight in ((len(targets) - counts) / counts).clip(min=1)]

    def activation(self, logits: NDArray[np.float64]) -> Scores:
        """Return the sigmoid of each logit."""
        return classification.sigmoid(logits)

    def with_temperature(self, scores: Scores, temperature: float) -> Scores:
        """Return the sigmoid of the log odds over the temperature (Guo et al., arXiv 1706.04599)."""
        if temperature == 1:
            return scores
        with np.errstate(divide="ignore", over="ignore"):
            others = np.log1p(-np.minimum(scores, classification.LARGEST_WITH_ODDS))
            return classification.sigmoid((np.log(scores) - others) / temperature)

    def calibrated(self, scores: Scores, targets: Targets) -> Self:
        """Return the task with the temperature that minimizes the loss, and then the thresholds with the best F1."""
        is_true = targets > 0.5
        temperature = metrics.best_temperature(
            lambda temperature: metrics.binary_log_loss(self.with_temperature(scores, temperature), is_true)
        )
        thresholds = best_thresholds(self.with_temperature(scores, temperature), is_true)
        return replace(self, temperature=temperature, thresholds=thresholds)

    def chosen(self, scores: Scores) -> NDArray[np.bool_]:
        """Return whether each label is assigned, for scores (C,) or (N, C)."""
        return np.asarray(scores >= np.array(self.thresholds))

    def decide(self, scores: Scores) -> Decision:
        """Assign all labels whose probability is at least their threshold, possibly none."""
        best = int(scores.argmax())
        chosen = tuple(label for label, is_chosen in zip(self.labels, self.chosen(scores), strict=True) if is_chosen)
        return Decision(self.labels[best], float(scores[best]), chosen)

    def epoch_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the loss, without class weights, and the share of correct decisions at one half."""
        loss = metrics.binary_log_loss(scores, targets > 0.5)
        return {"loss": loss, "accuracy": float(((scores >= 0.5) == (targets > 0.5)).mean())}

    def validation_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return loss, accuracy, the calibration error after and before calibration, and macro F1."""
        calibrated = self.with_temperature(scores, self.temperature)
        is_true = targets > 0.5
        return {
            **self.epoch_metrics(calibrated, targets),
            "calibration_error": metrics.calibration_error(calibrated, is_true),
            "calibration_error_before": metrics.calibration_error(scores, is_true),
            "macro_f1": metrics.label_counts(is_true, self.chosen(calibrated)).macro_f1,
        }

    def headline_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return macro F1, micro F1 and subset accuracy (all labels of a text correct)."""
        is_true, chosen = targets > 0.5, self.chosen(scores)
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
        return Metrics(summary, counts.classes(self.labels))

    def array(self, scores: Sequence[Scores]) -> NDArray[np.object_]:
        """Return the assigned labels of each text, (N,) tuples of str."""
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
        return [joiner.join(self.decide(scores).chosen), *scores.tolist()]

    def difference(self, found: Scores, recorded: Scores) -> float:
        """Return the largest difference of a probability."""
        return largest_difference(found, recorded)

    def card(self) -> list[str]:
        """Return the labels, the thresholds and the calibration."""
        lines = [
            f"Labels, in order: {', '.join(f'`{label}`' for label in self.labels)}",
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
            found.append(_DEFAULT_THRESHOLD)
            continue
        is_chosen = column[None, :] >= _THRESHOLDS[:, None]
        correct = (is_chosen & is_present).sum(axis=1)
        f1 = 2 * correct / (is_chosen.sum(axis=1) + is_present.sum())
        best = _THRESHOLDS[f1 >= f1.max() - 1e-12]
        found.append(float(best[np.argmin(np.abs(best - _DEFAULT_THRESHOLD))]))
    return tuple(found)


def _warnings(rows: LabeledTexts) -> list[str]:
    """Return a warning if duplicate texts have different labels, regardless of their order."""
    found: dict[Text, set[frozenset[str]]] = defaultdict(set)
    for text, labels in zip(rows.texts, rows.label_sets, strict=True):
        found[text].add(frozenset(labels))
    count = sum(len(sets) > 1 for sets in found.values())
    return [f"{rows.name}: {count} duplicate texts with conflicting labels"] if count else []
