"""Collect labelled and unlabelled texts from files or tables in memory, and check them before anything is trained.

In: paths, or tables in memory. Out: texts, labels and warnings; a stratified split. Reports what is wrong by file, row
and column. Does not know tokens.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bothways.data.tables import open_table
from bothways.errors import DataError
from bothways.text.checking import check_text

TableSource = str | os.PathLike[str] | Mapping[str, Any]
"""A path, or a table in memory: anything that gives a column by its name, such as a dict of lists or a DataFrame."""

_PANDAS_MISSING = ("NAType", "NaTType")

LONGEST_LABEL = 1000
"""Characters; what is longer is a text in the wrong column."""


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their labels, in the order of the source.

    Attributes:
        name: Where they come from, for messages.
        texts: Checked texts.
        labels: One a text, as text.
    """

    name: str
    texts: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Split:
    """Training and validation rows, and what a user should know of them."""

    train: LabelledTexts
    valid: LabelledTexts
    warnings: list[str] = field(default_factory=list)


def read_labelled(source: TableSource, text_column: str, label_column: str) -> LabelledTexts:
    """Give all labelled texts of a source.

    Raises:
        DataError: A column is missing, a text or label is missing or of a wrong kind, or there is no row.
    """
    texts: list[str] = []
    labels: list[str] = []
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else "the table"
    for name, place, text, label in _rows(source, [text_column, label_column], ["--text", "--label"]):
        texts.append(_text(text, name, place, text_column))
        labels.append(_label(label, name, place, label_column))
    if not texts:
        raise DataError(f"{name} has no row, expected texts with labels")
    _refuse_empty_column(texts, name, text_column)
    return LabelledTexts(name, texts, labels)


def read_unlabelled(source: TableSource, text_column: str) -> list[str]:
    """Give all texts of a source; other columns are not looked at.

    Raises:
        DataError: The column is missing, or a text is missing or not a string.
    """
    return [_text(text, name, place, text_column) for name, place, text in _rows(source, [text_column], ["--text"])]


def check_labels(data: LabelledTexts) -> list[str]:
    """Refuse labels that nothing can be learnt from, and give warnings for those that look like slips.

    Raises:
        DataError: There is only one class, or a class with a single text.
    """
    distinct = Counter(data.labels)
    if len(distinct) < 2:
        raise DataError(
            f"{data.name}: all {len(data)} rows have the label {data.labels[0]!r}, expected at least two classes"
        )
    texts_by_label: dict[str, set[str]] = defaultdict(set)
    for text, label in zip(data.texts, data.labels, strict=True):
        texts_by_label[label].add(text)
    for label, texts in texts_by_label.items():
        if len(texts) < 2:
            rows = f"{distinct[label]} row{'s' if distinct[label] > 1 else ''} with one text"
            raise DataError(
                f"{data.name}: the label {label!r} has only {rows}, expected at least 2 different texts "
                "(one to train on, one to validate): add some, or remove the label"
            )
    alike: dict[str, list[str]] = defaultdict(list)
    for label in distinct:
        alike["".join(label.split()).casefold()].append(label)
    return [
        f"{data.name}: the labels {' and '.join(map(repr, sorted(group)))} differ only by white space or case; "
        "they are taken as different classes"
        for group in alike.values()
        if len(group) > 1
    ]


def split_by_label(data: LabelledTexts, share: float, seed: int) -> Split:
    """Set a share of each class aside for validation, the same rows for the same seed.

    Rows with the same text stay on the same side, so that nothing is validated on what was trained on.

    Args:
        data: Checked rows (``check_labels``).
        share: Of each class's texts, above 0 and below 1; at least one text of each class goes to either side (where
            texts stand there with several labels, at least to the training side).
        seed: Decides which.
    """
    labels_by_text = _labels_by_text(data)
    texts_by_label: dict[str, list[str]] = defaultdict(list)
    for text, labels in labels_by_text.items():
        texts_by_label[labels[0]].append(text)
    texts_left = Counter(label for labels in labels_by_text.values() for label in labels)  # to train on
    chance = np.random.default_rng(seed)
    held: set[str] = set()
    for label in sorted(texts_by_label):
        texts = sorted(texts_by_label[label])
        wanted = max(1, round(share * len(texts)))
        for text in (texts[i] for i in chance.permutation(len(texts))):
            if wanted > 0 and all(texts_left[each] > 1 for each in labels_by_text[text]):
                held.add(text)
                texts_left.subtract(labels_by_text[text])
                wanted -= 1
    is_held = [text in held for text in data.texts]
    return Split(_selected(data, [not h for h in is_held]), _selected(data, is_held), _ambiguous(data))


def split_with_file(train: LabelledTexts, valid: LabelledTexts) -> Split:
    """Give the split that a user made, with a warning for texts that are on both sides.

    Raises:
        DataError: The validation rows have a label that the training rows lack.
    """
    unknown = sorted(set(valid.labels) - set(train.labels))
    if unknown:
        raise DataError(f"{valid.name}: the label {unknown[0]!r} does not occur in {train.name}")
    seen = set(train.texts)
    both = sum(text in seen for text in valid.texts)
    warnings = _ambiguous(train)
    if both:
        warnings.append(
            f"{valid.name}: {both} of {len(valid)} texts are also in {train.name}: validation will look too good"
        )
    return Split(train, valid, warnings)


def _selected(data: LabelledTexts, keep: list[bool]) -> LabelledTexts:
    texts = [text for text, kept in zip(data.texts, keep, strict=True) if kept]
    labels = [label for label, kept in zip(data.labels, keep, strict=True) if kept]
    return LabelledTexts(data.name, texts, labels)


def _labels_by_text(data: LabelledTexts) -> dict[str, list[str]]:
    """Give each text's different labels, in the order in which they come."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for text, label in zip(data.texts, data.labels, strict=True):
        found[text][label] = None
    return {text: list(labels) for text, labels in found.items()}


def _ambiguous(data: LabelledTexts) -> list[str]:
    count = sum(len(labels) > 1 for labels in _labels_by_text(data).values())
    return [f"{data.name}: {count} texts stand there with more than one label"] if count else []


def _rows(source: TableSource, columns: list[str], options: list[str]) -> Iterator[tuple[Any, ...]]:
    """Give name, place and the wanted columns' values of each row."""
    if isinstance(source, str | os.PathLike):
        with open_table(os.fspath(source)) as table:
            for column, option in zip(columns, options, strict=True):
                table.require_column(column, option)
            for chunk in table.chunks():
                for place, *values in zip(chunk.places, *(chunk.column(column) for column in columns), strict=True):
                    yield table.name, place, *values
        return
    values_by_column = []
    for column in columns:
        try:
            values_by_column.append(list(_python_values(source[column])))
        except (KeyError, TypeError, IndexError):
            raise DataError(f"the table has no column {column!r}") from None
    if len({len(values) for values in values_by_column}) > 1:
        raise DataError(f"the columns {' and '.join(columns)} have different numbers of rows")
    for number, row in enumerate(zip(*values_by_column, strict=True), start=1):
        yield "the table", f"row {number}", *row


def _python_values(column: Any) -> Iterable[object]:
    """Give plain Python values for lists, arrays, Series and Arrow columns; a lone string is none of them."""
    if isinstance(column, str | bytes):
        raise DataError(f"a column of the table is the string {column[:20]!r}, expected one value for each row")
    for method in ("to_pylist", "tolist"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)


def _text(value: object, name: str, place: str, column: str) -> str:
    where = f"{name}, {place}, column {column!r}"
    if _is_missing(value):
        raise DataError(f"{where}: the text is missing (null); remove the row or write an empty text")
    return check_text(value, where)


def _label(value: object, name: str, place: str, column: str) -> str:
    where = f"{name}, {place}, column {column!r}"
    if isinstance(value, np.bool_ | np.integer):
        value = value.item()
    if isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if _is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where}: the label is missing; label the row, or move it to the unlabelled texts")
    label = check_text(value, where)
    if len(label) > LONGEST_LABEL:
        raise DataError(f"{where}: a label of {len(label)} characters, expected at most {LONGEST_LABEL}")
    return label


def _is_missing(value: object) -> bool:
    """Say whether a value is none at all; tables in memory also say so by NaN, pandas' NA and NaT."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in _PANDAS_MISSING


def _refuse_empty_column(texts: list[str], name: str, column: str) -> None:
    if not any(text.strip() for text in texts):
        raise DataError(f"{name}: the column {column!r} is empty in every row")
