"""Define what one label is: how it is spelled, compared and sorted, and which type it has.

In: cells of a table. Out: labels as text in one spelling, and their values: text, whole numbers or booleans. Files and
the rest of the program hold labels as text. Users get values. Does not know files.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from bothways.errors import DataError, quoted
from bothways.text.validation import check_text, is_missing

LabelKind = Literal["text", "integer", "boolean"]
"""The type that all labels of a model have."""
LabelValue = str | int | bool
"""A label as users get it."""

LONGEST_LABEL = 1000
"""Characters; what is longer is a text in the wrong column."""
_LONGEST_CLEANED = 4 * LONGEST_LABEL
_LARGEST_INTEGER = 2**63 - 1
_LONGEST_INTEGER_BITS = 330
_WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]{0,18}))(?:\.0{1,9})?")
_DECIMAL_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_BOOLEANS = {"false": False, "true": True}
_JOINERS = "\u200c\u200d"
"""Part of Persian words and of emoji, so they are shown; labels that differ by nothing else are equal."""
_VISIBLE_FORMAT = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U000e0020-\U000e007f]")
"""Format characters that change what is seen: signs around numbers, and the letters in emoji of flags."""
_OUTSIDE = "".join(filter(str.isspace, map(chr, range(0x3001)))) + _JOINERS
_LIST_TOKEN = re.compile(
    r"""\s*(?:('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[0-9.eE+-]+|True|False|true|false)|(,))\s*""", re.DOTALL
)
_BRACKETS = ("[]", "{}", "()")
PRINTED_MISSING = frozenset({"nan", "NaN", "None", "<NA>", "NaT", "null", "NULL", "\\N", "#N/A"})
"""What programs print for a missing value. Each may also be a real label."""
_SHOWN = 3
KNOWN_SHOWN = 10
"""Labels of a model in a message."""


def clean_label(text: str) -> str:
    """Return a label in NFC, without surrounding white space and without invisible characters.

    Guaranteed to be idempotent. Joiners within a label are kept.
    """
    if text.isascii():
        return text.strip()
    kept = (
        character
        for character in text
        if unicodedata.category(character) != "Cf" or character in _JOINERS or _VISIBLE_FORMAT.match(character)
    )
    return unicodedata.normalize("NFC", "".join(kept)).strip(_OUTSIDE)


def compared(label: str) -> str:
    """Return what two spellings of the same label have in common: the clean label without joiners."""
    return clean_label(label.replace(_JOINERS[0], "").replace(_JOINERS[1], ""))


def parse_label(value: object) -> str:
    """Return one label as clean text; whole numbers and booleans become their usual notation.

    Raises:
        DataError: The value is missing, not a label, or too long to be one. The message has no place.
    """
    if isinstance(value, np.generic) and not isinstance(value, np.floating):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        if value.bit_length() > _LONGEST_INTEGER_BITS:
            raise DataError("the label is a whole number of more than 100 digits")
        return str(value)
    if is_missing(value):
        raise DataError("the label is missing")
    if isinstance(value, float | np.floating | Decimal):
        return _parse_number(value)
    if as_list(value) is not None or isinstance(value, Mapping):
        raise DataError(
            f"the label is a {type(value).__name__}, expected one label; for several labels per text use "
            "--task multi-label"
        )
    text = check_text(value, "the label").strip()
    label = clean_label(text) if len(text) <= _LONGEST_CLEANED else text  # a whole text takes long to clean
    if not label:
        raise DataError("the label is missing")
    if len(label) > LONGEST_LABEL:
        raise DataError(
            f"the label has {len(label)} characters, expected at most {LONGEST_LABEL}; is this the column of the texts?"
        )
    return label


def _parse_number(value: float | np.floating[Any] | Decimal) -> str:
    """Return a number as text: 1 for 1.0, and 0.1 for the float32 that is closest to it."""
    number = float(value)
    if not math.isfinite(number):
        raise DataError(f"the label is {number}, expected text, a whole number or a boolean")
    return str(int(number)) if number.is_integer() and abs(number) <= _LARGEST_INTEGER else str(value)


def as_list(value: object) -> list[object] | None:
    """Return the items of a list, tuple, set, array or column in one cell, or None for any other value.

    The items of a set are sorted.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=lambda item: (type(item).__name__, str(item)))
    if isinstance(value, str | bytes | Mapping | np.generic):
        return None
    for method in ("tolist", "to_pylist", "to_list"):  # arrays; pyarrow; polars
        if hasattr(value, method):
            items = getattr(value, method)()
            return items if isinstance(items, list) else None
    return None


def printed_items(text: str) -> list[str] | None:
    """Return the items of a list that was written as text, such as ``['a', 'b']``, or None for any other text.

    Raises:
        DataError: The items are not separated by commas, as numpy prints them. The message has no place.
    """
    text = text.strip()
    if text in ("[]", "set()"):
        return []
    if len(text) < 3 or text[0] + text[-1] not in _BRACKETS:
        return None
    inner, position = text[1:-1], 0
    items: list[str] = []
    are_separate, was_item = True, False
    while position < len(inner):
        token = _LIST_TOKEN.match(inner, position)
        if token is None or (token[2] and not was_item):
            return None
        if token[1]:
            are_separate &= not was_item
            items.append(token[1])
        was_item = bool(token[1])
        position = token.end()
    if not items or (text[0] == "(" and items[0][0] not in "'\""):
        return None
    if not are_separate:
        raise DataError(f"the labels are {quoted(text, 40)}, a list without commas; save the labels as a list")
    return [_unquoted(item) for item in items]


def _unquoted(item: str) -> str:
    return re.sub(r"\\(.)", r"\1", item[1:-1], flags=re.DOTALL) if item[0] in "'\"" else item


def parse_flag(value: object) -> bool:
    """Return whether a cell states that a text has a label: 1, 0, true or false, also written as text.

    Raises:
        DataError: The value is neither. The message has no place.
    """
    if not is_missing(value) and (isinstance(value, str | bool | int | float | np.generic | Decimal)):
        text = str(value).strip().casefold()
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if (whole := _WHOLE_NUMBER.fullmatch(text)) and whole[1] in ("0", "1"):
            return whole[1] == "1"
    raise DataError(f"found {quoted(value, 40)}, expected 0 or 1")


LARGEST_WEIGHT = 1e30
"""Of a text, and of votes for a label."""


def parse_number(value: object, largest: float = LARGEST_WEIGHT) -> float:
    """Return a number of at least 0 that a cell holds, such as a weight or a probability.

    Args:
        value: The cell, of any type.
        largest: The largest value allowed.

    Raises:
        DataError: It is not a number from 0 to ``largest``. The message has no place and begins with what was found.
    """
    try:
        number = -1.0 if isinstance(value, bool) or is_missing(value) else float(str(value))
    except ValueError:
        number = -1.0
    if not 0 <= number <= largest:
        expected = "a number from 0 to 1" if largest == 1 else "a number of at least 0"
        raise DataError(f"{quoted(value, 40)}, expected {expected}")
    return number


def looks_multi_hot(parts: Sequence[object]) -> bool:
    """Return whether a list of labels holds flags only and one of them twice, which a list of labels never does."""
    found = {str(part).strip().casefold().removesuffix(".0") for part in parts}
    return len(parts) > len(found) and found <= {"0", "1", *_BOOLEANS}


def kind_of(labels: Iterable[str]) -> LabelKind:
    """Return the type that all labels have: text unless each is a whole number in 64 bits, or each is a boolean."""
    distinct = set(labels)
    if distinct and all(label.casefold() in _BOOLEANS for label in distinct):
        return "boolean"
    if distinct and all(_whole_number(label) is not None for label in distinct):
        return "integer"
    return "text"


def _whole_number(label: str) -> str | None:
    """Return a whole number as it is usually written, or None for any other label: ``01`` and ``+1`` are text."""
    found = _WHOLE_NUMBER.fullmatch(label)
    if found is None or found[1] == "-0" or abs(int(found[1])) > _LARGEST_INTEGER:
        return None
    return found[1]


def spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the one spelling of each label, by each spelling that occurs.

    Whole numbers lose ``.0`` and booleans become lower case if all labels are of that kind. Labels that differ by
    joiners only get the most frequent spelling.

    Args:
        counts: Number of rows by clean label.
    """
    kind = kind_of(counts)
    if kind == "boolean":
        return {label: label.casefold() for label in counts}
    if kind == "integer":
        return {label: _whole_number(label) or label for label in counts}
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[compared(label)].append(label)
    return {label: min(group, key=lambda each: (-counts[each], each)) for group in groups.values() for label in group}


class KnownLabels:
    """Finds the label of a model that a clean label means.

    Attributes:
        labels: The labels of the model.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self._kind = kind_of(labels)
        self._exact = frozenset(labels)
        self._known = {self._key(label): label for label in labels}

    def find(self, label: str) -> str:
        """Return the label of the model, or the label as it is if the model does not know it."""
        return label if label in self._exact else self._known.get(self._key(label), label)

    def _key(self, label: str) -> str:
        if self._kind == "boolean":
            return label.casefold()
        return (_whole_number(label) if self._kind == "integer" else None) or compared(label)

    def __contains__(self, label: object) -> bool:
        return label in self._exact


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return distinct labels in the order of a model's outputs: by value for whole numbers, by characters for text."""
    distinct = set(labels)
    return tuple(sorted(distinct, key=int) if kind_of(distinct) == "integer" else sorted(distinct))


def label_value(label: str, kind: LabelKind) -> LabelValue:
    """Return the value of a label: text, a whole number or a boolean."""
    if kind == "integer":
        return int(label)
    return label == "true" if kind == "boolean" else label


def kind_text(kind: LabelKind) -> str:
    """Return the type of labels in parentheses, or an empty string for text."""
    return "" if kind == "text" else f" ({kind})"


def label_text(value: LabelValue) -> str:
    """Return the text of a value, as files hold it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def extended_kind(kind: LabelKind, more: Sequence[str]) -> LabelKind:
    """Return the type of labels of a kind together with others."""
    return kind if not more or kind_of(more) == kind else "text"


def refuse_other_kind(labels: Iterable[str], kind: LabelKind) -> None:
    """Refuse labels that are not of a kind.

    Raises:
        ValueError: One is not; the message names it.
    """
    for label in labels:
        is_wrong = kind == "boolean" and label not in _BOOLEANS
        if is_wrong or (kind == "integer" and _whole_number(label) != label):
            raise ValueError(
                f"the label {quoted(label, 40)} is not {'an integer' if kind == 'integer' else 'a boolean'}"
            )


def warnings_about_missing(name: str, labels: Iterable[str]) -> list[str]:
    """Return a warning about labels that look like printed missing values, with the number of rows."""
    found = Counter(label for label in labels if label in PRINTED_MISSING)
    return [
        f"{name}: {count} row{'s have' if count > 1 else ' has'} the label {quoted(label)}, which is "
        "also how programs write "
        "a missing value; if it is one, leave the cells empty and add --drop-invalid"
        for label, count in sorted(found.items())
    ]


def are_decimal_numbers(labels: Iterable[str]) -> bool:
    """Return whether all labels are numbers and at least one of them is not whole: a target rather than a class."""
    distinct = [label for label in set(labels) if label not in PRINTED_MISSING]
    return all(_DECIMAL_NUMBER.fullmatch(label) for label in distinct) and any(
        not float(label).is_integer() for label in distinct
    )


def warnings_about_similar(name: str, labels: Iterable[str]) -> list[str]:
    """Return a warning for each group of labels that differ only by white space or case."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups["".join(label.split()).casefold()].append(label)
    return [
        f"{name}: the labels {' and '.join(map(quoted, sorted(group)))} differ only by white space or case; "
        "they are treated as different labels"
        for group in groups.values()
        if len(group) > 1
    ]


def listed(labels: Sequence[str], limit: int = _SHOWN) -> str:
    """Return the first labels, and how many more there are."""
    more = f" and {len(labels) - limit:,} more" if len(labels) > limit else ""
    return ", ".join(quoted(label, 40) for label in labels[:limit]) + more
