"""Parse JSON strictly.

Unlike ``json.loads``, ``parse`` rejects encodings other than UTF-8, byte order marks, NaN and infinities, duplicate
keys, numbers that do not fit into 64 bits, and documents nested too deeply. Bundles, tables and HTTP requests use it.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import json
import math
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NoReturn

from bothways.errors import quoted, shown

LARGEST_INTEGER = 2**63
"""Integers must be smaller than this in absolute value."""
DEEPEST_NESTING: Final = 100
_LONG: Final = 1 << 17
"""Most lists and objects around a value."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # an incomplete one matches too, so it is linear
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class TooManyValues(ValueError):  # noqa: N818  (the name states what happened)
    """A document has more values than the caller accepts."""


def parse(data: bytes, *, most_values: int | None = None, allow_surrogates: bool = True) -> object:
    """Parse a JSON document, in time and memory proportional to its size.

    Args:
        data: The complete document in UTF-8.
        most_values: Most values, keys and elements included. None accepts any number.
        allow_surrogates: Whether an escape may stand for half of a character. If so, the caller checks the text.

    Returns:
        Plain Python values.

    Raises:
        TooManyValues: The document has more than ``most_values`` values.
        ValueError: The document is not strict JSON. The message describes the problem and its position.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise ValueError("it starts with a byte order mark: save it as UTF-8 without one")
    if most_values is not None or len(data) > 2 * DEEPEST_NESTING:  # shorter ones are not nested too deeply
        _check_structure(data, most_values)
    value = _parsed(data)
    if not allow_surrogates and _SURROGATE_ESCAPE.search(data):
        text = json.dumps(value, ensure_ascii=False)
        if _SURROGATE.search(text):
            raise ValueError("it contains a lone surrogate, which is half of a character")
    return value


def _parsed(data: bytes) -> object:
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
    pause = without_collection() if len(text) - position > _LONG else contextlib.nullcontext()
    try:
        with pause:
            return _DECODER.raw_decode(text, position)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except StopIteration:
        raise ValueError("a value is missing") from None


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Pause Python's search for garbage, which visits all values again and again while millions of them are created."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_structure(data: bytes, most_values: int | None) -> None:
    """Refuse a document that is nested too deeply or has too many values, before it is parsed.

    A value either follows a bracket or a comma, or is a key or its value.
    """
    values = 1 + sum(map(data.count, (b"[", b"{", b",", b":"))) if most_values is not None else 0
    opened = data.count(b"[") + data.count(b"{")
    if opened <= DEEPEST_NESTING and (most_values is None or values <= most_values):
        return
    structure = _STRING.sub(b"", data)
    if most_values is not None and 1 + sum(map(structure.count, (b"[", b"{", b",", b":"))) > most_values:
        raise TooManyValues(f"it has more than {most_values} values")
    brackets = structure.translate(None, _NO_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEEPEST_NESTING:
        raise ValueError(f"it is nested too deeply, expected at most {DEEPEST_NESTING} levels")


def dump(value: object) -> str:
    """Return a value as one line of JSON, which can be encoded in UTF-8. Equal values produce equal text.

    Half of a character, as in a path that is not UTF-8, becomes an escape, which ``parse`` reads back.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
    if text.isascii():
        return text
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {quoted(duplicate, 40)} occurs twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {shown(digits, 40)} is too large")
    return number


def _small_integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) >= LARGEST_INTEGER:
        raise ValueError(f"the integer {shown(digits, 40)} does not fit into 64 bits")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_constant=_refuse_constant,
    parse_float=_finite_float,
    parse_int=_small_integer,
)
