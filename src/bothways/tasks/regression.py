"""Regression: each text has a number, and a model predicts it in the unit of the training data.

Models learn standardized values (mean 0, standard deviation 1 on the training rows), so that learning rates do not
depend on the unit. Letters: N texts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ConfigError, DataError, quoted
from bothways.tasks import constant, metrics
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
from bothways.text.fields import Text, fields_of
from bothways.text.validation import is_missing

_BINS = 10
_LARGEST_TARGET = 1e30
"""Beyond it, squares of differences overflow."""


@dataclass(frozen=True)
class Regression(Task):
    """Each text has a number.

    Attributes:
        center: Mean of the training rows' targets.
        scale: Standard deviation of the training rows' targets, above 0.
    """

    center: float = 0.0
    scale: float = 1.0
    labels: tuple[()] = ()
    label_values: tuple[()] = ()
    thresholds: None = None
    temperature: float = 1.0

    name: ClassVar[TaskName] = "regression"
    title: ClassVar[str] = "text regression model"
    activation_name: ClassVar[Activation] = "identity"
    no_early_exit: ClassVar[str] = (
        "early exit needs the confidence of a single-label classifier, and a regression model predicts a number"
    )
    no_probabilities: ClassVar[str] = "a regression model predicts a number and has no probabilities: use predict"
    max_int8_difference: ClassVar[float] = 0.4
    """In standard deviations of the target, which are logits here. A probability changes by at most a quarter of the
    change of its logit, so this is the 0.1 that classifiers may differ by."""
    score_kind: ClassVar[Literal["probabilities", "values"]] = "values"
    selection_note: ClassVar[str] = ""
    headline: ClassVar[tuple[str, ...]] = ("rmse", "mae", "r2", "spearman")

    @property
    def outputs(self) -> int:
        """The value."""
        return 1

    @property
    def output_names(self) -> tuple[str, ...]:
        """One name, ``value``."""
        return ("value",)

    def record(self) -> TaskRecord:
        """Return mean and standard deviation of the training targets."""
        return TaskRecord(self.name, center=self.center, scale=self.scale)

    @classmethod
    def from_record(cls, record: TaskRecord) -> Self:
        """Return the task with mean and standard deviation of the training targets."""
        if record.labels or record.thresholds is not None:
            raise ValueError("a regression model has no labels and no thresholds")
        if record.temperature is not None:
            raise ValueError("a regression model has no calibration: its predictions are not probabilities")
        if record.center is None or record.scale is None:
            raise ValueError("a regression model needs a target with center and scale")
        return cls(record.center, record.scale)

    def parse(self, value: object) -> Label:
        """Return the number in a cell, which may be written as a string."""
        if isinstance(value, np.generic):
            value = value.item()
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            raise DataError("the target is missing")
        try:
            number = (
                float(value)
                if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool)
                else math.nan
            )
        except (ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= _LARGEST_TARGET:
            raise DataError(f"the target is {quoted(value, 40)}, expected a finite number such as 3.5")
        return number

    def unknown(self, label: Label) -> list[str]:
        """Return no label: every number can be predicted."""
        del label
        return []

    def unified(self, labels: list[Label]) -> list[Label]:
        """Return the numbers as they are."""
        return labels

    def extended(self, labels: Sequence[str]) -> Self:
        """Return the task as it is: it has no labels."""
        del labels
        return self

    def check(self, rows: LabeledTexts) -> list[str]:
        """Refuse targets that are all equal, and a single distinct text."""
        values = rows.values
        if values.min() == values.max():
            raise DataError(f"{rows.name}: all {len(rows)} rows have the target {values[0]:g}; nothing can be learned")
        if len(set(rows.texts)) < 2:
            raise DataError(f"{rows.name}: all {len(rows)} rows have the same text; at least 2 are needed")
        return []

    def split(self, rows: LabeledTexts, fraction: float, seed: int) -> Split:
        """Set a fraction of the texts aside, about the same fraction in each tenth of the range of targets."""
        values_by_text: dict[Text, list[float]] = defaultdict(list)
        for text, value in zip(rows.texts, rows.values.tolist(), strict=True):
            values_by_text[text].append(value)
        texts = sorted(values_by_text, key=fields_of)
        order = metrics.ranks(np.array([float(np.mean(values_by_text[text])) for text in texts]))
        bins = np.minimum((order - 1) * _BINS / len(texts), _BINS - 1).astype(np.int64).tolist()
        held = held_texts({text: {str(number)} for text, number in zip(texts, bins, strict=True)}, fraction, seed)
        if not held:  # fewer than two texts in each tenth
            held = {texts[int(np.random.default_rng(seed).integers(len(texts)))]}
        is_held = [text in held for text in rows.texts]
        return Split(selected(rows, [not h for h in is_held]), selected(rows, is_held), _warnings(rows))

    def split_with(self, train: LabeledTexts, valid: LabeledTexts) -> Split:
        """Return the split that a user made, with warnings."""
        return Split(train, valid, [*_warnings(train), *warnings_about_both(train, valid)])

    def fitted(self, rows: LabeledTexts) -> Self:
        """Return the task with mean and standard deviation of the training rows' targets."""
        values = rows.values
        return replace(self, center=float(values.mean()), scale=float(values.std()) or 1.0)

    def targets(self, rows: LabeledTexts) -> Targets:
        """Return the targets in their unit, (N, 1) float64; the loss standardizes them."""
        return rows.values[:, None]

    def class_weights(self, wanted: str | Mapping[str, float], targets: Targets) -> list[float] | None:
        """Return None: a regression has no classes."""
        del targets
        if wanted != "none":
            raise ConfigError("class_weights needs classes, and a regression has none; remove it from the config file")
        return None

    def activation(self, logits: NDArray[np.float64]) -> Scores:
        """Return the values in the target's unit."""
        return np.asarray(logits * self.scale + self.center, dtype=np.float64)

    def with_temperature(self, scores: Scores, temperature: float) -> Scores:
        """Return the scores as they are: a value has no temperature."""
        del temperature
        return scores

    def calibrated(self, scores: Scores, targets: Targets) -> Self:
        """Return the task as it is: values are not calibrated."""
        del scores, targets
        return self

    def decide(self, scores: Scores) -> Decision:
        """Return the value."""
        return Decision(value=float(scores[0]))

    def epoch_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the loss (mean squared error of standardized values) and the RMSE in the target's unit."""
        squared = float(((scores - targets) ** 2).mean())
        return {"loss": squared / self.scale**2, "rmse": math.sqrt(squared)}

    def validation_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the loss and all metrics of the values."""
        return {"loss": self.epoch_metrics(scores, targets)["loss"], **self.headline_metrics(scores, targets)}

    def headline_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return RMSE, MAE, R² and Spearman's rank correlation, those that are defined."""
        return metrics.regression_metrics(scores[:, 0], targets[:, 0])

    def metrics(self, scores: Scores, targets: Targets) -> Metrics:
        """Return all metrics, which are those of ``headline_metrics``."""
        return Metrics(self.headline_metrics(scores, targets))

    def why_constant(self, scores: Scores, targets: Targets) -> str | None:
        """Compare with always the mean of the training targets."""
        if constant.beats_mean(scores[:, 0], targets[:, 0], self.center):
            return None
        of_model, of_mean = (math.sqrt(float(np.square(v - targets).mean())) for v in (scores, self.center))
        return f"its RMSE is {of_model:.4g}, and always answering the training mean {self.center:.4g} has {of_mean:.4g}"

    def array(self, scores: Sequence[Scores]) -> NDArray[np.float64]:
        """Return the value of each text, (N,) float64."""
        return np.array([row[0] for row in scores], dtype=np.float64)

    def columns(self) -> list[str]:
        """Return the column of the value."""
        return ["predicted_value"]

    def cells(self, scores: Scores) -> list[object]:
        """Return the value."""
        return [self.decide(scores).value]

    def difference(self, found: Scores, recorded: Scores) -> float:
        """Return the largest difference of a value, in standard deviations of the training targets."""
        return largest_difference(found, recorded) / self.scale

    def card(self) -> list[str]:
        """Return mean and standard deviation of the training targets."""
        return [
            f"Predicts a number. Training targets: mean {self.center:.6g}, standard deviation {self.scale:.6g}.",
            "",
        ]


def _warnings(rows: LabeledTexts) -> list[str]:
    found: dict[Text, set[float]] = defaultdict(set)
    for text, value in zip(rows.texts, rows.values.tolist(), strict=True):
        found[text].add(value)
    count = sum(len(values) > 1 for values in found.values())
    return [f"{rows.name}: {count} duplicate texts with different targets"] if count else []
