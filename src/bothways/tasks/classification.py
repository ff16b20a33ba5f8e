"""What single-label and multi-label classification share: reading labels, checking them, and the last activations.

In: label values, arrays. Out: labels, warnings, probabilities. Does not know files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ConfigError, DataError
from bothways.tasks.metrics import Scores
from bothways.tasks.task import LONGEST_LABEL, TaskRecord
from bothways.text.validation import check_text, is_missing

CLASS_COLUMN_PREFIX = "probability_"
LARGEST_WITH_ODDS = 1 - 1e-12
"""Probabilities closer to 1 are treated as this one: their odds would depend on the last bit."""


def parse_label(value: object, where: str) -> str:
    """Return one label as a string; whole numbers and booleans become their usual notation.

    Raises:
        DataError: The value is missing, not a label, or too long to be one.
    """
    if isinstance(value, np.bool_ | np.integer):
        value = value.item()
    if isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where}: the label is missing; label the row, or move it to the unlabeled texts")
    label = check_text(value, where)
    if len(label) > LONGEST_LABEL:
        raise DataError(
            f"{where}: the label has {len(label)} characters, expected at most {LONGEST_LABEL}; "
            "is this the column of the texts?"
        )
    return label


def warnings_about_similar(name: str, labels: Iterable[str]) -> list[str]:
    """Return a warning for each group of labels that differ only by white space or case."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups["".join(label.split()).casefold()].append(label)
    return [
        f"{name}: the labels {' and '.join(map(repr, sorted(group)))} differ only by white space or case; "
        "they are treated as different labels"
        for group in groups.values()
        if len(group) > 1
    ]


def refuse_untrained(valid: set[str], train: set[str], name: str, train_name: str) -> None:
    """Refuse validation labels that no training row has.

    Raises:
        DataError: There is one; the message names it.
    """
    if unknown := valid - train:
        raise DataError(f"{name}: the label {min(unknown)!r} does not occur in {train_name}")


def refuse_impossible(record: TaskRecord, least_labels: int) -> None:
    """Refuse the record of a classifier that cannot be one.

    Raises:
        ValueError: Labels are too few, repeated or not text; the calibration is missing; or there is a target.
    """
    if len(record.labels) < least_labels:
        raise ValueError(f"a {record.name} classifier needs at least {least_labels} labels, found {len(record.labels)}")
    if len(set(record.labels)) != len(record.labels):
        raise ValueError("a label occurs twice")
    for label in record.labels:
        if any("\ud800" <= character <= "\udfff" for character in label):
            raise ValueError(f"the label {label!r} contains a lone surrogate")
    if record.temperature is None:
        raise ValueError("a classifier needs a calibration")
    if record.center is not None or record.scale is not None:
        raise ValueError("a classifier has labels and no target")


def label_positions(labels: tuple[str, ...], found: Iterable[str], name: str) -> dict[str, int]:
    """Return the position of each known label.

    Raises:
        DataError: One of the labels found is unknown.
    """
    positions = {label: position for position, label in enumerate(labels)}
    if unknown := sorted(set(found) - positions.keys()):
        raise DataError(f"{name}: unknown label {unknown[0]!r}; the model has {', '.join(labels)}")
    return positions


def weights_by_label(wanted: Mapping[str, float], labels: tuple[str, ...]) -> list[float]:
    """Return the weight of each label, 1 where none is given.

    Raises:
        ConfigError: A weight names an unknown label.
    """
    if unknown := sorted(set(wanted) - set(labels)):
        raise ConfigError(f"class_weights names the unknown label {unknown[0]!r}; the data has {', '.join(labels)}")
    return [wanted.get(label, 1.0) for label in labels]


def softmax(logits: NDArray[np.float64]) -> Scores:
    """Return the softmax over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float64)


def sigmoid(logits: NDArray[np.float64]) -> Scores:
    """Return the sigmoid of each logit, which may be infinite."""
    small = np.exp(-np.abs(logits))  # never overflows
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), dtype=np.float64)


def thresholds_text(thresholds: tuple[float, ...]) -> str:
    """Return thresholds in a few words: the value, or the range."""
    lowest, highest = min(thresholds), max(thresholds)
    return f"{lowest:.4g}" if lowest == highest else f"{lowest:.4g} to {highest:.4g}, by label"
