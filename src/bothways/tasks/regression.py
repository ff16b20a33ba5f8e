"""Regression: each text has a number, or several, and a model predicts them in the unit of the training data.

Models learn standardized values (mean 0, standard deviation 1 on the training rows), so that learning rates do not
depend on the unit. Imported models can have several targets, and a range that limits all values. Letters: N texts, C
targets.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ConfigError, DataError, quoted
from bothways.pages.figures import Figure
from bothways.tasks import classification, constant, figures, metrics
from bothways.tasks.labels import LONGEST_LABEL, as_list, printed_items
from bothways.tasks.metrics import Metrics, Scores
from bothways.tasks.stratification import held_texts
from bothways.tasks.task import (
    Activation,
    Decision,
    Label,
    LabeledTexts,
    Numbers,
    Operation,
    Split,
    Target,
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
    """Each text has a number, or one per target.

    Attributes:
        predicted: The targets, in the order of the outputs.
        value_range: All values are between these two: sigmoid(center + scale * output) of the way from the first to
            the second. None if values have no limits.
        label_columns: The columns of several targets; empty if they are not known.
    """

    predicted: tuple[Target, ...] = (Target(),)
    value_range: tuple[float, float] | None = None
    label_columns: tuple[str, ...] = ()
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
    no_label_errors: ClassVar[str] = (
        "wrong labels are found by the probabilities of classes, and a regression model predicts a number"
    )
    no_abstention: ClassVar[str] = (
        "abstention needs the confidence of a classifier, and a regression model predicts a number"
    )
    no_probabilities: ClassVar[str] = "a regression model predicts a number and has no probabilities: use predict"
    max_int8_difference: ClassVar[float] = 0.4
    """In the unit of ``difference``, which is a logit here. A probability changes by at most a quarter of the change of
    its logit, so this is the 0.1 that classifiers may differ by."""
    learns_probabilities: ClassVar[bool] = False
    error_is_share: ClassVar[bool] = False
    score_kind: ClassVar[Literal["probabilities", "values"]] = "values"
    selection_note: ClassVar[str] = ""
    headline: ClassVar[tuple[str, ...]] = ("rmse", "mae", "r2", "spearman")

    @property
    def outputs(self) -> int:
        """One per target."""
        return len(self.predicted)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the targets: ``value`` for a single one."""
        return tuple(target.name for target in self.predicted)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of several targets; empty for a single one."""
        return self.output_names if self.outputs > 1 else ()

    @functools.cached_property
    def centers(self) -> NDArray[np.float64]:
        """The center of each target, (C,)."""
        return np.array([target.center for target in self.predicted])

    @functools.cached_property
    def scales(self) -> NDArray[np.float64]:
        """The scale of each target, (C,)."""
        return np.array([target.scale for target in self.predicted])

    @functools.cached_property
    def units(self) -> NDArray[np.float64]:
        """By how much each value changes at most if an output changes by 1, (C,)."""
        if self.value_range is None:
            return self.scales
        low, high = self.value_range
        return np.asarray(self.scales * (high - low) / 4, dtype=np.float64)

    def record(self) -> TaskRecord:
        """Return the targets and the range."""
        return TaskRecord(
            self.name, targets=self.predicted, value_range=self.value_range, label_columns=self.label_columns
        )

    @classmethod
    def from_record(cls, record: TaskRecord) -> Self:
        """Return the task with the targets and the range."""
        if record.labels or record.thresholds is not None:
            raise ValueError("a regression model has no labels and no thresholds")
        if record.temperature is not None:
            raise ValueError("a regression model has no calibration: its predictions are not probabilities")
        if not record.targets:
            raise ValueError("a regression model needs a target with center and scale")
        names = [target.name for target in record.targets]
        if len(set(names)) != len(names):
            raise ValueError("the name of a target occurs twice")
        for name in names:
            if not 0 < len(name) <= LONGEST_LABEL or any("\ud800" <= character <= "\udfff" for character in name):
                raise ValueError(f"the target name {quoted(name)} is not a text of 1 to {LONGEST_LABEL} characters")
        if record.value_range is not None and not record.value_range[0] < record.value_range[1]:
            raise ValueError("the first value of the range is not below the second")
        columns = record.label_columns if len(names) > 1 else ()
        if columns and len(columns) != len(names):
            raise ValueError(f"{len(columns)} label columns for {len(names)} targets")
        return cls(record.targets, record.value_range, columns)

    def labeled_by(self, columns: Sequence[str]) -> Self:
        """Return the task with a label column per target, in the order of the targets."""
        if len(columns) != self.outputs:
            raise ConfigError(
                f"{len(columns)} label columns are named, but the model predicts {self._what()}. Repeat --label for "
                "each, in this order"
            )
        known = self.label_columns or self.output_names
        if sorted(columns) == sorted(known) and list(columns) != list(known):
            raise ConfigError(
                f"the label columns of this model are {', '.join(map(quoted, known))}. Name them in this order"
            )
        return replace(self, label_columns=tuple(columns))

    def _what(self) -> str:
        return (
            f"{self.outputs} numbers ({', '.join(map(quoted, self.output_names))})" if self.outputs > 1 else "a number"
        )

    def parse(self, value: object) -> Label:
        """Return the number in a cell, which may be written as a string; for several targets those of a list."""
        if self.outputs == 1:
            return self._number(value)
        cells = as_list(value)
        if cells is None and isinstance(value, str):
            cells = list(printed_items(value) or ()) or None
        if cells is None or len(cells) != self.outputs:
            found = f"{len(cells)} values" if cells is not None else quoted(value, 40)
            raise DataError(f"found {found}, expected a list of {self.outputs} numbers, one per target")
        numbers = []
        for name, cell in zip(self.output_names, cells, strict=True):
            try:
                numbers.append(self._number(cell))
            except DataError as error:
                raise DataError(f"target {quoted(name)}: {error}") from None
        return Numbers(tuple(numbers))

    @staticmethod
    def _number(value: object) -> float:
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

    def cell(self, label: Label) -> object:
        """Return the number, or a list with one per target."""
        return [*label.values] if isinstance(label, Numbers) else label

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

    def without(self, labels: Collection[str]) -> Self:
        """Return the task as it is. It has no labels that could be removed."""
        if labels:
            raise ConfigError(f"the label {quoted(min(labels))} cannot be removed: a regression has no labels")
        return self

    def check(self, rows: LabeledTexts) -> list[str]:
        """Refuse targets that are all equal, and a single distinct text."""
        values = rows.values
        if values.min() == values.max():
            raise DataError(
                f"{rows.name}: all {len(rows)} rows have the target {values[0, 0]:g}; nothing can be learned"
            )
        if len(set(rows.texts)) < 2:
            raise DataError(f"{rows.name}: all {len(rows)} rows have the same text; at least 2 are needed")
        return []

    def split(self, rows: LabeledTexts, fraction: float, seed: int) -> Split:
        """Set a fraction of the texts aside, about the same fraction in each tenth of the range of targets."""
        values_by_text: dict[Text, list[float]] = defaultdict(list)
        for text, value in zip(rows.texts, rows.values.mean(axis=1).tolist(), strict=True):
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
        fitted = (
            replace(target, center=float(values.mean()), scale=float(values.std()) or 1.0)
            for target, values in zip(self.predicted, rows.values.T, strict=True)
        )
        return replace(self, predicted=tuple(fitted))

    def targets(self, rows: LabeledTexts) -> Targets:
        """Return the targets in their unit, (N, C) float64; the loss standardizes them."""
        return rows.values

    def parse_soft(self, cells: Sequence[object]) -> Label:
        """Return the predicted number, or one for each of several targets."""
        return self.parse(cells[0] if self.outputs == 1 else list(cells))

    def class_weights(self, wanted: str | Mapping[str, float], targets: Targets) -> list[float] | None:
        """Return None: a regression has no classes."""
        del targets
        if wanted != "none":
            raise ConfigError("class_weights needs classes, and a regression has none; remove it from the config file")
        return None

    def activation(self, logits: NDArray[np.float64]) -> Scores:
        """Return the values in the unit of each target."""
        values = np.asarray(logits * self.scales + self.centers, dtype=np.float64)
        if self.value_range is None:
            return values
        low, high = self.value_range
        return np.asarray(classification.sigmoid(values) * (high - low) + low, dtype=np.float64)

    def operations(self) -> list[Operation]:
        """Return the change of scale, and the sigmoid within the range if there is one."""
        steps = [Operation("Mul", self.scales), Operation("Add", self.centers)]
        if self.value_range is not None:
            low, high = self.value_range
            wide = np.ones(self.outputs)
            steps += [Operation("Sigmoid"), Operation("Mul", wide * (high - low)), Operation("Add", wide * low)]
        return steps

    def with_temperature(self, scores: Scores, temperature: float) -> Scores:
        """Return the scores as they are: a value has no temperature."""
        del temperature
        return scores

    def one_vs_rest_targets(self, targets: Targets) -> NDArray[np.bool_] | NDArray[np.float64]:
        """Return the standardized targets, (N, C)."""
        return np.asarray((targets - self.centers) / self.scales, dtype=np.float64)

    def one_vs_rest_logits(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the outputs as they are."""
        return outputs

    def main_output(self, scores: Scores) -> int:
        """Return the first target."""
        del scores
        return 0

    def linear_unit(self, output: int) -> float:
        """Return the scale of the target; with a range, by how much its value changes at most."""
        return float(self.units[output])

    def mixed(self, directions: Scores, linear: Scores, weight: float) -> Scores:
        """Return the weighted mean of the values."""
        return np.asarray((1 - weight) * directions + weight * linear, dtype=np.float64)

    def calibrated(self, scores: Scores, targets: Targets, soft_targets: Targets | None = None) -> Self:
        """Return the task as it is: values are not calibrated."""
        del scores, targets, soft_targets
        return self

    def decide(self, scores: Scores) -> Decision:
        """Return the value, for several targets by name."""
        if self.outputs == 1:
            return Decision(value=float(scores[0]))
        return Decision(value=dict(zip(self.output_names, scores.tolist(), strict=True)))

    def epoch_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the loss (mean squared error of standardized values) and the RMSE in the target's unit."""
        squared = ((scores - targets) ** 2).mean(axis=0)
        return {"loss": float((squared / self.units**2).mean()), "rmse": float(np.sqrt(squared).mean())}

    def validation_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return the loss and all metrics of the values."""
        return {"loss": self.epoch_metrics(scores, targets)["loss"], **self.headline_metrics(scores, targets)}

    def headline_metrics(self, scores: Scores, targets: Targets) -> dict[str, float]:
        """Return RMSE, MAE, R² and Spearman's rank correlation, those that are defined.

        For several targets the mean of each over the targets for which it is defined.
        """
        by_target = self._metrics_by_target(scores, targets)
        return {
            name: float(np.mean(defined))
            for name in self.headline
            if (defined := [found[name] for found in by_target if name in found])
        }

    @staticmethod
    def _metrics_by_target(scores: Scores, targets: Targets) -> list[dict[str, float]]:
        columns = zip(np.transpose(scores), np.transpose(targets), strict=True)
        return [metrics.regression_metrics(values, true) for values, true in columns]

    def metrics(self, scores: Scores, targets: Targets) -> Metrics:
        """Return the metrics of ``headline_metrics``, and for several targets those of each."""
        each = zip(self.target_names, self._metrics_by_target(scores, targets), strict=False)
        return Metrics(self.headline_metrics(scores, targets), targets=dict(each))

    @property
    def error_name(self) -> str:
        """The mean absolute error, for several targets in the scale of each."""
        return "mean absolute error" if self.outputs == 1 else "scaled mean absolute error"

    @property
    def confidence_note(self) -> str:
        """Empty: a value has no confidence."""
        return ""

    def row_errors(self, scores: Scores, targets: Targets) -> NDArray[np.float64]:
        """Return the absolute error of each text, (N,). For several targets the mean of each in its scale."""
        errors = np.abs(scores - targets)
        return np.asarray(errors[:, 0] if self.outputs == 1 else (errors / self.units).mean(axis=1), dtype=np.float64)

    def error_interval(self, errors: NDArray[np.float64]) -> tuple[float, float]:
        """Return the interval of a mean by its standard error."""
        margin = 1.96 * float(errors.std()) / math.sqrt(len(errors))
        return max(0.0, float(errors.mean()) - margin), float(errors.mean()) + margin

    def confidence(self, scores: Scores) -> None:
        """Return None: a value has no confidence."""
        del scores

    def agreement(self, first: Scores, second: Scores) -> list[tuple[str, NDArray[np.bool_]]]:
        """Return quarters of the texts, from those with the closest values to those with the most different ones."""
        order = metrics.ranks(self.row_errors(first, second))
        quarters = np.minimum(((order - 1) * 4 / len(order)).astype(np.int64), 3)
        names = ("closest 25%", "25–50%", "50–75%", "farthest 25%")
        return [(name, quarters == number) for number, name in enumerate(names)]

    def answer(self, scores: Scores) -> str:
        """Return the value of each target."""
        values = [f"{value:.4g}" for value in scores.tolist()]
        return ", ".join(
            [f"{name} {value}" for name, value in zip(self.target_names, values, strict=True)]
            if self.target_names
            else values
        )

    def truth(self, target: Any) -> str:
        """Return the true value of each target."""
        return self.answer(np.asarray(target, dtype=np.float64))

    def figures(self, scores: Mapping[str, Scores], targets: Targets) -> list[Figure]:
        """Return metrics per target, predicted against true values, and their differences."""
        *_, ensemble = scores.values()
        by_target = self.metrics(ensemble, targets).targets
        tables: list[Figure] = [figures.target_table(by_target)] if by_target else []
        return [*tables, *figures.value_charts(ensemble, targets, self.output_names)]

    def why_constant(self, scores: Scores, targets: Targets) -> str | None:
        """Compare with always the mean of the training targets."""
        if constant.beats_mean(scores, targets, self.centers, self.units):
            return None
        of_model, of_mean = (float(np.sqrt(np.square(v - targets).mean())) for v in (scores, self.centers))
        means = ", ".join(f"{center:.4g}" for center in self.centers)
        return f"its RMSE is {of_model:.4g}, and always answering the training mean {means} has {of_mean:.4g}"

    def array(self, scores: Sequence[Scores]) -> NDArray[np.float64]:
        """Return the value of each text, (N,) float64, or those of each target, (N, C)."""
        values = np.array(scores, dtype=np.float64).reshape(len(scores), self.outputs)
        return values[:, 0].copy() if self.outputs == 1 else values

    def columns(self) -> list[str]:
        """Return the column of each target's value."""
        return [f"predicted_{name}" for name in self.output_names]

    def cells(self, scores: Scores) -> list[object]:
        """Return the value of each target."""
        return [*scores.tolist()]

    def difference(self, found: Scores, recorded: Scores) -> float:
        """Return the largest difference of a value, in the unit of its target (``units``).

        For a trained model that is the standard deviation of the training targets.
        """
        return largest_difference(found / self.units, recorded / self.units)

    def card(self) -> list[str]:
        """Return the names of the targets and the range, and mean and standard deviation of the training targets."""
        several = self.target_names
        what = f"{len(several)} numbers: {', '.join(f'`{name}`' for name in several)}" if several else "a number"
        low, high = self.value_range or (0.0, 0.0)
        within = "" if self.value_range is None else f" between {low:g} and {high:g}"
        found = [
            f"mean {target.center:.6g}, standard deviation {target.scale:.6g}"
            for target in self.predicted
            if target.center != 0  # 0 for an imported model, which does not record its training targets
        ]
        lines = [f"Predicts {what}{within}.", ""]
        return [f"Predicts {what}{within}. Training targets: {'; '.join(found)}.", ""] if found else lines


def _warnings(rows: LabeledTexts) -> list[str]:
    found: dict[Text, set[Label]] = defaultdict(set)
    for text, label in zip(rows.texts, rows.labels, strict=True):
        found[text].add(label)
    count = sum(len(values) > 1 for values in found.values())
    return [f"{rows.name}: {count} duplicate texts with different targets"] if count else []
