"""What single-label and multi-label classification share: their labels, and the last activations.

In: label values, arrays. Out: labels, warnings, probabilities. Does not know files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ConfigError, DataError, quoted
from bothways.tasks import labels, metrics
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Label, LabeledTexts, SoftLabel, TaskRecord

CLASS_COLUMN_PREFIX = "probability_"
LARGEST_WITH_ODDS = 1 - 1e-12
"""Probabilities closer to 1 are treated as this one: their odds would depend on the last bit."""


def unknown_labels(labels: tuple[str, ...], found: Iterable[str]) -> list[str]:
    """Return the labels found that are not known, sorted; none if no label is known yet."""
    return sorted(set(found) - set(labels)) if labels else []


def unified(rows: list[Label]) -> list[Label]:
    """Return the labels of all rows, each distinct label in one spelling (``labels.spellings``)."""
    found = [label for label in rows if isinstance(label, tuple)]
    distinct = Counter(found)  # few, in most data
    counts: Counter[str] = Counter()
    for row, count in distinct.items():
        counts.update(dict.fromkeys(row, count) if len(set(row)) == len(row) else [*row] * count)
    spelling = labels.spellings(counts)
    one_spelling: dict[Label, Label] = {row: tuple(dict.fromkeys(spelling[label] for label in row)) for row in distinct}
    return [one_spelling[row] for row in found]


def refuse_impossible(record: TaskRecord, least_labels: int) -> None:
    """Refuse the record of a classifier that cannot be one.

    Raises:
        ValueError: Labels are too few, repeated or not text; the calibration is missing; or there is a target.
    """
    if len(record.labels) < least_labels:
        raise ValueError(f"a {record.name} classifier needs at least {least_labels} labels, found {len(record.labels)}")
    if len(set(record.labels)) != len(record.labels):
        raise ValueError("a label occurs twice")
    labels.refuse_other_kind(record.labels, record.label_kind)
    for label in record.labels:
        if any("\ud800" <= character <= "\udfff" for character in label):
            raise ValueError(f"the label {quoted(label)} contains a lone surrogate")
    if record.temperature is None:
        raise ValueError("a classifier needs a calibration")
    if record.targets or record.value_range is not None:
        raise ValueError("a classifier has labels and no target")


def label_positions(known: tuple[str, ...], found: Iterable[str], name: str) -> dict[str, int]:
    """Return the position of each known label.

    Raises:
        DataError: Some of the labels found are unknown; the message names the first few.
    """
    if unknown := unknown_labels(known, found):
        there = labels.listed(known, labels.KNOWN_SHOWN)
        raise DataError(f"{name}: unknown labels {labels.listed(unknown)}; the model has {there}")
    return {label: position for position, label in enumerate(known)}


def kept_positions(known: tuple[str, ...], removed: Collection[str], least: int) -> list[int]:
    """Return the positions of the labels that remain.

    Raises:
        ConfigError: A label to remove is unknown, or fewer than ``least`` remain.
    """
    if unknown := unknown_labels(known, removed):
        there = labels.listed(known, labels.KNOWN_SHOWN)
        raise ConfigError(f"unknown labels {labels.listed(unknown)} cannot be removed; the model has {there}")
    kept = [position for position, label in enumerate(known) if label not in removed]
    if len(kept) < least:
        raise ConfigError(f"{len(kept)} labels remain of {len(known)}, at least {least} must")
    return kept


def probability_columns(known: tuple[str, ...], columns: Sequence[str]) -> list[str] | None:
    """Return the columns of a table with the probability of each label, in the order of the labels.

    They are called as ``bothways predict`` writes them, or as the labels. None if a label has no such column.
    """
    for prefix in (CLASS_COLUMN_PREFIX, ""):
        found = [f"{prefix}{label}" for label in known]
        if set(found) <= set(columns):
            return found
    return None


def parse_shares(known: tuple[str, ...], cells: Sequence[object], largest: float) -> list[float]:
    """Return the probability, or the number of votes, of each label that the cells of a row hold.

    Args:
        known: The labels, in the order of the cells.
        cells: One value per label, of any type.
        largest: The largest value allowed.

    Raises:
        DataError: A value is not a number from 0 to ``largest``. The message names the label.
    """
    shares = []
    for label, cell in zip(known, cells, strict=True):
        try:
            shares.append(labels.parse_number(cell, largest))
        except DataError as error:
            raise DataError(f"label {quoted(label, 40)}: found {error}") from None
    return shares


def soft_targets(known: tuple[str, ...], rows: LabeledTexts) -> NDArray[np.float32] | None:
    """Return the probability of each label of each row, (N, C); 1 for the labels of a row without a soft label.

    None if no row has a soft label.
    """
    if not rows.has_soft_label.any():
        return None
    positions = {label: position for position, label in enumerate(known)}
    found = np.zeros((len(rows), len(known)), dtype=np.float32)
    for target, label in zip(found, rows.labels, strict=True):
        if isinstance(label, SoftLabel):
            target[[positions[name] for name in label.labels]] = label.probabilities
        elif isinstance(label, tuple):
            target[[positions[name] for name in label]] = 1
    return found


def weights_by_label(wanted: Mapping[str, float], known: tuple[str, ...]) -> list[float]:
    """Return the weight of each label, 1 where none is given.

    Raises:
        ConfigError: Some weights name unknown labels.
    """
    spelling = labels.KnownLabels(known)
    found = {spelling.find(labels.clean_label(label)): weight for label, weight in wanted.items()}
    if unknown := unknown_labels(known, found):
        there = labels.listed(known, labels.KNOWN_SHOWN)
        raise ConfigError(f"class_weights names the unknown labels {labels.listed(unknown)}; the data has {there}")
    return [found.get(label, 1.0) for label in known]


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


def agreement(is_same: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the texts for which two members have the same answer, and those for which they have not."""
    return [("same answer", is_same), ("different answers", ~is_same)]


def error_interval(errors: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of wrong texts, (N,) of 0 and 1."""
    return metrics.wilson_interval(round(float(errors.sum())), len(errors))
