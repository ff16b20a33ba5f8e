"""Collect labeled and unlabeled texts from files or tables in memory, and check them before anything is trained.

In: paths, or tables in memory. Out: texts, labels and warnings; a stratified split. Texts have one label each, or any
number of labels (multi-label). Reports what is wrong by file, row and column. Does not know tokens.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from bothways.data.tables import open_table
from bothways.errors import ConfigError, DataError
from bothways.tasks.stratification import held_texts
from bothways.text.validation import check_text

TableSource = str | os.PathLike[str] | Mapping[str, Any]
"""A path, or a table in memory: anything that gives a column by its name, such as a dict of lists or a DataFrame."""

_PANDAS_MISSING = ("NAType", "NaTType")

LONGEST_LABEL = 1000
"""Characters; what is longer is a text in the wrong column."""

LABEL_SEPARATOR = "|"
"""What stands between the labels of a text where nobody says otherwise."""

_LABELS_LISTED = 3


@dataclass(frozen=True)
class LabeledTexts:
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
class MultiLabeledTexts:
    """Texts with any number of labels each, in the order of the source.

    Attributes:
        name: Where they come from, for messages.
        texts: Checked texts.
        labels: For each text its different labels, as text, in the order of the source; maybe none.
    """

    name: str
    texts: list[str]
    labels: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.texts)


_Rows = TypeVar("_Rows", LabeledTexts, MultiLabeledTexts)


@dataclass(frozen=True)
class Split:
    """Training and validation rows, and what a user should know of them."""

    train: LabeledTexts
    valid: LabeledTexts
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class MultiLabelSplit:
    """The same for texts with any number of labels."""

    train: MultiLabeledTexts
    valid: MultiLabeledTexts
    warnings: list[str] = field(default_factory=list)


def read_labeled(source: TableSource, text_column: str, label_column: str) -> LabeledTexts:
    """Return all labeled texts of a source.

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
    return LabeledTexts(name, texts, labels)


def read_multi_labeled(
    source: TableSource, text_column: str, label_column: str, separator: str | None
) -> MultiLabeledTexts:
    """Return all texts of a source, each with any number of labels.

    A value of the label column is a string that the separator cuts into labels, or a list of labels (in memory, JSON
    lines and Parquet). White space around a label is no part of it; what is empty is no label; a label that stands
    twice with a text counts once.

    Args:
        source: A path, or a table in memory.
        text_column: Where the texts are.
        label_column: Where the labels are.
        separator: What stands between two labels in a string; None if all values are lists.

    Raises:
        ConfigError: The separator is empty.
        DataError: A column is missing, a text or value is missing or of a wrong kind, or there is no row.
    """
    if separator == "":
        raise ConfigError("the label separator is empty, expected one character or more, such as |")
    texts: list[str] = []
    labels: list[tuple[str, ...]] = []
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else "the table"
    for name, place, text, value in _rows(source, [text_column, label_column], ["--text", "--label"]):
        texts.append(_text(text, name, place, text_column))
        labels.append(_labels(value, separator, name, place, label_column))
    if not texts:
        raise DataError(f"{name} has no row, expected texts with labels")
    _refuse_empty_column(texts, name, text_column)
    return MultiLabeledTexts(name, texts, labels)


def read_unlabeled(source: TableSource, text_column: str) -> list[str]:
    """Return all texts of a source; other columns are not looked at.

    Raises:
        DataError: The column is missing, or a text is missing or not a string.
    """
    return list(iterate_texts(source, text_column))


def iterate_texts(source: TableSource, text_column: str) -> Iterator[str]:
    """Return the texts of a source one by one, as ``read_unlabeled`` does."""
    for name, place, text in _rows(source, [text_column], ["--text"]):
        yield _text(text, name, place, text_column)


def label_numbers(known: Sequence[str], found: Iterable[str], name: str) -> dict[str, int]:
    """Return each known label's position.

    Raises:
        DataError: A label that was found is none of them.
    """
    number = {label: position for position, label in enumerate(known)}
    unknown = sorted(set(found) - number.keys())
    if unknown:
        raise DataError(f"{name}: the label {unknown[0]!r} is none of the bundle's: {', '.join(known)}")
    return number


def check_labels(data: LabeledTexts) -> list[str]:
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
    return _warnings_of_alike(data.name, distinct)


def check_multi_labels(data: MultiLabeledTexts) -> list[str]:
    """Refuse rows without any label, and give warnings for labels that look like slips or can't be validated.

    Raises:
        DataError: No row has a label.
    """
    texts_by_label: dict[str, set[str]] = defaultdict(set)
    for text, labels in zip(data.texts, data.labels, strict=True):
        for label in labels:
            texts_by_label[label].add(text)
    if not texts_by_label:
        raise DataError(f"{data.name}: none of the {len(data)} rows has a label, expected one at least")
    warnings = _warnings_of_alike(data.name, texts_by_label)
    if rare := sorted(label for label, texts in texts_by_label.items() if len(texts) < 2):
        more = f" and {len(rare) - _LABELS_LISTED} more" if len(rare) > _LABELS_LISTED else ""
        warnings.append(
            f"{data.name}: {len(rare)} label{'s have' if len(rare) > 1 else ' has'} a single text to train on and none "
            f"to be validated on: {', '.join(map(repr, rare[:_LABELS_LISTED]))}{more}"
        )
    return warnings


def _warnings_of_alike(name: str, labels: Iterable[str]) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        alike["".join(label.split()).casefold()].append(label)
    return [
        f"{name}: the labels {' and '.join(map(repr, sorted(group)))} differ only by white space or case; "
        "they are taken as different classes"
        for group in alike.values()
        if len(group) > 1
    ]


def split_by_label(data: LabeledTexts, share: float, seed: int) -> Split:
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
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for label in sorted(texts_by_label):
        texts = sorted(texts_by_label[label])
        wanted = max(1, round(share * len(texts)))
        for text in (texts[i] for i in rng.permutation(len(texts))):
            if wanted > 0 and all(texts_left[each] > 1 for each in labels_by_text[text]):
                held.add(text)
                texts_left.subtract(labels_by_text[text])
                wanted -= 1
    is_held = [text in held for text in data.texts]
    return Split(_selected(data, [not h for h in is_held]), _selected(data, is_held), _ambiguous(data))


def split_with_file(train: LabeledTexts, valid: LabeledTexts) -> Split:
    """Return the split that a user made, with a warning for texts that are on both sides.

    Raises:
        DataError: The validation rows have a label that the training rows lack.
    """
    _refuse_untrained(set(valid.labels), set(train.labels), valid.name, train.name)
    return Split(train, valid, [*_ambiguous(train), *_warnings_of_both(train, valid)])


def split_multi_label(data: MultiLabeledTexts, share: float, seed: int) -> MultiLabelSplit:
    """Set a share of each label's texts aside for validation, the same rows for the same seed.

    Rows with the same text stay on the same side, and every label of the validation rows is one of the training rows.

    Args:
        data: Checked rows (``check_multi_labels``).
        share: Of each label's texts, above 0 and below 1.
        seed: Decides which.

    Raises:
        DataError: No text can be set aside.
    """
    labels_by_text: dict[str, set[str]] = defaultdict(set)
    for text, labels in zip(data.texts, data.labels, strict=True):
        labels_by_text[text].update(labels)
    held = held_texts(labels_by_text, share, seed)
    if not held:
        raise DataError(
            f"{data.name}: no text can be set aside for validation, each is the last one of a label: add rows, or give "
            "a file of validation rows"
        )
    is_held = [text in held for text in data.texts]
    train, valid = (_selected(data, keep) for keep in ([not h for h in is_held], is_held))
    return MultiLabelSplit(train, valid, _warnings_of_other_labels(data))


def split_multi_label_with_file(train: MultiLabeledTexts, valid: MultiLabeledTexts) -> MultiLabelSplit:
    """Return the split that a user made, with a warning for texts that are on both sides.

    Raises:
        DataError: The validation rows have a label that the training rows lack.
    """
    _refuse_untrained(set().union(*valid.labels), set().union(*train.labels), valid.name, train.name)
    return MultiLabelSplit(train, valid, [*_warnings_of_other_labels(train), *_warnings_of_both(train, valid)])


def _refuse_untrained(valid: set[str], train: set[str], name: str, train_name: str) -> None:
    if unknown := valid - train:
        raise DataError(f"{name}: the label {min(unknown)!r} does not occur in {train_name}")


def _warnings_of_both(train: _Rows, valid: _Rows) -> list[str]:
    seen = set(train.texts)
    both = sum(text in seen for text in valid.texts)
    if not both:
        return []
    return [f"{valid.name}: {both} of {len(valid)} texts are also in {train.name}: validation will look too good"]


def _warnings_of_other_labels(data: MultiLabeledTexts) -> list[str]:
    """Return a warning if rows with the same text have other labels; their order is of no matter."""
    found: dict[str, set[frozenset[str]]] = defaultdict(set)
    for text, labels in zip(data.texts, data.labels, strict=True):
        found[text].add(frozenset(labels))
    count = sum(len(sets) > 1 for sets in found.values())
    return [f"{data.name}: {count} texts stand there several times with other labels each time"] if count else []


def _selected(data: _Rows, keep: list[bool]) -> _Rows:
    texts = list(itertools.compress(data.texts, keep))
    return replace(data, texts=texts, labels=list(itertools.compress(data.labels, keep)))


def _labels_by_text(data: LabeledTexts) -> dict[str, list[str]]:
    """Return each text's different labels, in the order in which they come."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for text, label in zip(data.texts, data.labels, strict=True):
        found[text][label] = None
    return {text: list(labels) for text, labels in found.items()}


def _ambiguous(data: LabeledTexts) -> list[str]:
    count = sum(len(labels) > 1 for labels in _labels_by_text(data).values())
    return [f"{data.name}: {count} texts stand there with more than one label"] if count else []


def _rows(source: TableSource, columns: list[str], options: list[str]) -> Iterator[tuple[Any, ...]]:
    """Return name, place and the wanted columns' values of each row."""
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
    """Return plain Python values for lists, arrays, Series and Arrow columns; a lone string is none of them."""
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
        raise DataError(f"{where}: the label is missing; label the row, or move it to the unlabeled texts")
    label = check_text(value, where)
    if len(label) > LONGEST_LABEL:
        raise DataError(f"{where}: a label of {len(label)} characters, expected at most {LONGEST_LABEL}")
    return label


def _labels(value: object, separator: str | None, name: str, place: str, column: str) -> tuple[str, ...]:
    """Return the different labels in a value, in its order."""
    where = f"{name}, {place}, column {column!r}"
    parts: Collection[object]
    if isinstance(value, list | tuple | np.ndarray):
        parts = [part for part in value if not (isinstance(part, str) and not part.strip())]
    elif _is_missing(value):
        raise DataError(f"{where}: the labels are missing (null); where a text has none, write an empty value")
    elif not isinstance(value, str):
        parts = [value]
    elif separator is None:
        raise DataError(
            f"{where} is str {value[:40]!r}, expected a list of labels: name what separates them in a string"
        )
    else:
        parts = [part for part in value.split(separator) if part.strip()]
    labels = tuple(dict.fromkeys(_label(part, name, place, column).strip() for part in parts))
    for label in labels:
        if (separator or LABEL_SEPARATOR) in label:
            raise DataError(
                f"{where}: the label {label!r} holds {separator or LABEL_SEPARATOR!r}, which stands between labels: "
                "name another separator"
            )
    return labels


def _is_missing(value: object) -> bool:
    """Say whether a value is none at all; tables in memory also say so by NaN, pandas' NA and NaT."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in _PANDAS_MISSING


def _refuse_empty_column(texts: list[str], name: str, column: str) -> None:
    if not any(text.strip() for text in texts):
        raise DataError(f"{name}: the column {column!r} is empty in every row")
