"""Parse JSON strictly.

Unlike ``json.loads``, ``parse`` rejects encodings other than UTF-8, byte order marks, NaN and infinities, duplicate
keys, numbers that do not fit into 64 bits, and documents nested too deeply. Bundles, tables and HTTP requests use it.
"""

from __future__ import annotations

import codecs
import json
import math
from typing import NoReturn

LARGEST_INTEGER = 2**63
"""Integers must be smaller than this in absolute value."""


def parse(data: bytes) -> object:
    """Parse a JSON document.

    Args:
        data: The complete document in UTF-8.

    Returns:
        Plain Python values.

    Raises:
        ValueError: The document is not strict JSON. The message describes the problem and its position.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise ValueError("it starts with a byte order mark: save it as UTF-8 without one")
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_at(text: str, position: int) -> tuple[object, int]:
    """Parse the JSON value that begins at a position of a text.

    Args:
        text: JSON values and anything else.
        position: Where the value begins.

    Returns:
        Plain Python values, and the position after the value.

    Raises:
        ValueError: There is no complete strict JSON value at the position.
    """
    try:
        return _DECODER.raw_decode(text, position)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except StopIteration:
        raise ValueError("a value is missing") from None


def dump(value: object) -> str:
    """Return a value as one line of JSON. Equal values produce equal text."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {duplicate[:40]!r} occurs twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:40]} is too large")
    return number


def _small_integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) >= LARGEST_INTEGER:
        raise ValueError(f"the integer {digits[:40]} does not fit into 64 bits")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_constant=_refuse_constant,
    parse_float=_finite_float,
    parse_int=_small_integer,
)
