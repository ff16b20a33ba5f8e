"""Every single change of a bundle: each JSON value, tensor, line and key, and bytes at random places."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from bothways.bundle.manifest import PARITY_FILE

OTHER_WORDS = {
    "forward": "backward",
    "backward": "forward",
    "both": "forward",
    "linear": "both",
    "reading-order": "as-written",
    "as-written": "reading-order",
    "single-label": "multi-label",
    "multi-label": "single-label",
    "text": "integer",
    "integer": "text",
    "fastai-v2": "fastai-v1",
    "unigram": "bpe",
}
"""Values of the format that could stand for each other."""


@dataclass(frozen=True)
class Change:
    """One change of one file.

    Attributes:
        file: Name of the file.
        place: Where it is, such as ``members.0.architecture.layers``.
        kind: What is done there.
        content: Returns the new content of the file.
    """

    file: str
    place: str
    kind: str
    content: Callable[[], bytes]

    def __str__(self) -> str:
        return f"{self.file} {self.place}: {self.kind}"


def changes_of(bundle: Path, rng: random.Random) -> Iterator[Change]:
    """Yield every change of a field of a bundle, and changes of bytes at random places."""
    for path in sorted(bundle.iterdir()):
        data = path.read_bytes()
        if path.suffix == ".safetensors":
            yield from _changes_of_weights(path)
        elif path.name == PARITY_FILE:
            yield from _changes_of_lines(path.name, data)
        elif path.suffix == ".json":
            yield from _changes_of_document(path.name, json.loads(data), "", lambda value: json.dumps(value).encode())
        for _ in range(30):
            place = rng.randrange(len(data))
            yield Change(path.name, f"byte {place}", "flipped", _bytes(data, place, rng.randrange(8)))
        yield Change(path.name, "end", "cut", lambda data=data: data[:-2])  # type: ignore[misc]
        yield Change(path.name, "end", "space added", lambda data=data: data + b" ")  # type: ignore[misc]


def _bytes(data: bytes, place: int, bit: int) -> Callable[[], bytes]:
    return lambda: data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def _changes_of_weights(path: Path) -> Iterator[Change]:
    arrays = load(path.read_bytes())
    for name in sorted(arrays):
        for kind, change in (("tiny", _next_number), ("large", lambda x: x + 3)):

            def content(name: str = name, change: Callable[[Any], Any] = change) -> bytes:
                changed = {other: array.copy() for other, array in arrays.items()}
                flat = changed[name].reshape(-1)
                place = len(flat) // 2
                flat[place] = change(flat[place])
                return bytes(save(changed))

            yield Change(path.name, name, kind, content)


def _next_number(value: Any) -> Any:
    return value + 1 if value.dtype == np.uint32 else np.nextafter(value, value.dtype.type(9))


def _changes_of_lines(name: str, data: bytes) -> Iterator[Change]:
    lines = data.splitlines()

    def joined(rows: list[bytes]) -> bytes:
        return b"".join(row + b"\n" for row in rows)

    for number, line in enumerate(lines):
        others = lines[:number], lines[number + 1 :]
        yield Change(name, f"line {number}", "removed", lambda others=others: joined([*others[0], *others[1]]))  # type: ignore[misc]
        if number > 1:
            continue  # what is true of the fields of one line is true of all
        yield from _changes_of_document(
            name,
            json.loads(line),
            f"line {number}.",
            lambda value, others=others: joined([*others[0], json.dumps(value).encode(), *others[1]]),  # type: ignore[misc]
        )
    yield Change(name, "line 1", "repeated", lambda: joined([*lines, lines[0]]))
    yield Change(name, "line 1", "swapped", lambda: joined([lines[1], lines[0], *lines[2:]]))


def _changes_of_document(
    name: str, document: Any, prefix: str, dump: Callable[[Any], bytes], longest_list: int = 12
) -> Iterator[Change]:
    """Yield a change of each value in a JSON document. Of long lists only some items are taken."""

    def changed(place: tuple[str | int, ...], value: object) -> bytes:
        result = copy.deepcopy(document)
        if not place:
            return dump(value)
        holder = result
        for part in place[:-1]:
            holder = holder[part]
        holder[place[-1]] = value
        return dump(result)

    def walk(value: Any, place: tuple[str | int, ...]) -> Iterator[Change]:
        for kind, other in _other_values(value):
            where = prefix + ".".join(map(str, place))
            yield Change(name, where, kind, lambda place=place, other=other: changed(place, other))  # type: ignore[misc]
        if isinstance(value, dict):
            for key in value:
                yield from walk(value[key], (*place, key))
        elif isinstance(value, list):
            step = math.ceil(len(value) / longest_list) or 1
            for number in range(0, len(value), step):
                yield from walk(value[number], (*place, number))

    yield from walk(document, ())


def _other_values(value: Any) -> Iterator[tuple[str, object]]:
    """Yield other values in the place of a JSON value, each with a name."""
    match value:
        case bool():
            yield "negated", not value
        case None:
            yield "1", 1
            yield "a text", "x"
            yield "a list", []
        case int():
            yield from (("one more", value + 1), ("one less", value - 1), ("large", value * 1000 + 7), ("as text", "1"))
        case float():
            yield from (("tiny", math.nextafter(value, 9)), ("a bit", value * 1.01 + 1e-3), ("large", value * 1000 + 7))
            yield from (("negative", -value - 1e-9), ("one half", 0.5000001), ("null", None))
        case str():
            yield from (("longer", f"{value}x"), ("shorter", value[:-1]), ("other case", value.swapcase() + "\u00df"))
            if value in OTHER_WORDS:
                yield "another word", OTHER_WORDS[value]
        case list():
            yield "one more", [*value, value[-1] if value else 1]
            if value:
                yield "one less", value[:-1]
            if len(value) > 1 and value[0] != value[-1]:
                yield "swapped", [value[-1], *value[1:-1], value[0]]
        case dict():
            yield "another key", {**value, "surplus": 1}
            for key in list(value)[:40]:
                yield f"without {key}", {other: item for other, item in value.items() if other != key}
            keys = list(value)
            if len(keys) > 1 and value[keys[0]] != value[keys[1]]:
                yield "swapped", {**value, keys[0]: value[keys[1]], keys[1]: value[keys[0]]}
                yield "renamed", {(f"{key}x" if key == keys[0] else key): item for key, item in value.items()}
