"""Take facts from a foreign value one by one, each by its name, with the type and the range that are expected of it.

Input: an inert value of ``pickle_reader``, of any shape. Output: plain values of the expected types, or a
``ForeignModelError`` that names the field. No function here calls ``str``, ``repr`` or ``==`` on a foreign container:
the same list can be part of another one many times, so its text can be longer than any memory. For the same reason
every walk is charged to the ``Work`` of its file, which has a limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bothways.errors import ForeignModelError, shown
from bothways.interop.pickle_reader import GlobalName, Record

LONGEST_TEXT: Final = 10_000
"""Characters in a fact. The longest facts are words of a vocabulary."""
LONGEST_NAME: Final = 200
"""Characters in the name of a tensor or module."""
_PASSES: Final = 3
_LEAST_WORK: Final = 100_000
_LONGEST_SHOWN: Final = 40
_LARGEST_LABEL: Final = 2**63


class Missing:
    """The type of ``MISSING``."""


MISSING: Final = Missing()
"""The value of a field that the file does not have."""


@dataclass
class Work:
    """The work that a file may still cause. Reading a model visits each of its values a few times at most.

    Attributes:
        source: Name of the file in error messages.
        left: Number of visits to a value that are left.
    """

    source: str
    left: int = _LEAST_WORK

    @classmethod
    def on(cls, value: object, source: str) -> Work:
        """Return work in proportion to the number of different values that can be reached from a value."""
        counter = cls(source, 2**62)
        for _ in counter.everything_below(value):
            pass
        return cls(source, _LEAST_WORK + _PASSES * (2**62 - counter.left))

    def charge(self, visits: int) -> None:
        """Count visits.

        Raises:
            ForeignModelError: There were too many.
        """
        self.left -= visits
        if self.left < 0:
            raise ForeignModelError(
                f"{self.source} repeats its parts so often that reading them would take too long, expected a model "
                "that fastai saved"
            )

    def everything_below(self, value: object) -> Iterator[Record | GlobalName]:
        """Yield every record and name that can be reached, each once. Values may share parts and contain themselves."""
        seen: set[int] = set()
        waiting = [value]
        while waiting:
            found = waiting.pop()
            if isinstance(found, str | bytes | int | float | np.ndarray) or found is None or id(found) in seen:
                continue
            seen.add(id(found))
            before = len(waiting)
            if isinstance(found, Record):
                yield found
                waiting += [found.state, found.function, *found.arguments, *found.keywords.values(), *found.items]
                waiting += [part for pair in found.pairs for part in pair]
            elif isinstance(found, GlobalName):
                yield found
            elif isinstance(found, Mapping):
                waiting += found.keys()
                waiting += found.values()
            elif isinstance(found, list | tuple | set | frozenset):
                waiting += found
            self.charge(len(waiting) - before + 1)


@dataclass(frozen=True)
class Fact:
    """A foreign value and the name by which errors call it.

    Attributes:
        value: The value, or ``MISSING``.
        name: Its place, such as ``data.x_proc.tokenizer.lang``. Empty for the whole file.
        work: The work that the file may still cause.
    """

    value: object
    name: str
    work: Work = field(repr=False)

    def refusal(self, expected: str) -> ForeignModelError:
        """Return the error to raise if the value is not what is expected."""
        subject = f"{self.work.source}: {self.name} is" if self.name else f"{self.work.source} contains"
        return ForeignModelError(f"{subject} {described(self.value)}, expected {expected}: it can't be imported")

    @property
    def is_missing(self) -> bool:
        """Whether the file has no value here, or None."""
        return self.value is MISSING or self.value is None

    @property
    def class_name(self) -> str:
        """Last part of the name of a class or function, or the type of any other value."""
        return class_name(self.value)

    def part(self, key: str) -> Fact:
        """Return a field of an object, or the value of a key.

        Raises:
            ForeignModelError: The value has no fields.
        """
        state = self.value.state if isinstance(self.value, Record) else self.value
        if not isinstance(state, dict):
            raise self.refusal("an object of fastai")
        return Fact(state.get(key, MISSING), f"{self.name}.{key}" if self.name else key, self.work)

    def parts(self, most: int) -> list[Fact]:
        """Return the items of a list, tuple, array or fastcore ``L``. Empty for any other value.

        Raises:
            ForeignModelError: There are more than ``most``.
        """
        return [Fact(item, self.name, self.work) for item in self._items(most)]

    def records(self, most: int) -> list[Fact]:
        """Return the items that are objects. Empty if the value is not a list.

        Raises:
            ForeignModelError: The list has more than ``most`` items.
        """
        return [part for part in self.parts(most) if isinstance(part.value, Record)]

    def flag(self, *, default: bool) -> bool:
        """Return a boolean, or the default if there is none.

        Raises:
            ForeignModelError: The value is not a boolean.
        """
        if self.value is MISSING:
            return default
        if isinstance(self.value, int) and self.value in (0, 1):
            return bool(self.value)
        raise self.refusal("True or False")

    def integer(self, least: int, most: int) -> int:
        """Return an integer within bounds.

        Raises:
            ForeignModelError: The value is not an integer, or out of bounds.
        """
        if type(self.value) is int and least <= self.value <= most:
            return self.value
        raise self.refusal(f"an integer from {least} to {most}")

    def text(self, *, longest: int = LONGEST_TEXT) -> str:
        """Return a text of at least one character that can be written as UTF-8.

        Raises:
            ForeignModelError: The value is not such a text.
        """
        if isinstance(self.value, str) and 0 < len(self.value) <= longest and is_encodable(self.value):
            return self.value
        raise self.refusal(f"a text of 1 to {longest} characters")

    def texts(self, *, most: int, may_be_empty: bool = False) -> list[str]:
        """Return the texts of a list, in order.

        Args:
            most: Largest number of texts.
            may_be_empty: Whether a text may have no characters.

        Raises:
            ForeignModelError: The value is not a list of texts, or one of them is too long or can't be written as
                UTF-8.
        """
        found: list[str] = []
        for number, item in enumerate(self._items(most)):
            if (
                not isinstance(item, str)
                or not (may_be_empty or item)
                or len(item) > LONGEST_TEXT
                or not is_encodable(item)
            ):
                wanted = f"a text of {0 if may_be_empty else 1} to {LONGEST_TEXT} characters"
                raise Fact(item, f"{self.name}[{number}]", self.work).refusal(wanted)
            found.append(item)
        return found

    def labels(self, *, most: int, longest: int) -> list[str]:
        """Return the labels of a list as texts. A label can be a text, a number or a boolean.

        Raises:
            ForeignModelError: The value is not a list of different labels.
        """
        found: dict[str, None] = {}
        for number, item in enumerate(self._items(most)):
            fact = Fact(item, f"{self.name}[{number}]", self.work)
            is_number = isinstance(item, int | float) and abs(item) <= _LARGEST_LABEL  # False for NaN
            label = str(item) if is_number else fact.text(longest=longest)
            if label in found:
                raise fact.refusal("a label that occurs only once")
            found[label] = None
        return list(found)

    def _items(self, most: int) -> list[object] | tuple[object, ...]:
        value = self.value
        for _ in range(4):
            if not isinstance(value, Record):
                break
            value = value.state["items"] if isinstance(value.state, dict) and "items" in value.state else value.items
        if isinstance(value, np.ndarray) and value.ndim == 1:
            self._check_length(len(value), most)
            value = value.tolist()
        if not isinstance(value, list | tuple):
            return ()
        self._check_length(len(value), most)
        return value

    def _check_length(self, length: int, most: int) -> None:
        if length > most:
            raise self.refusal(f"at most {most} items")
        self.work.charge(length)


def class_name(value: object) -> str:
    """Return the last part of the name of a class or function, or the type of any other value."""
    if isinstance(value, Record | GlobalName):
        return shown(value.name.rpartition(".")[2]) or "an object of unknown kind"
    return type(value).__name__


def described(value: object) -> str:
    """Return what a value is, in a few words, whatever it contains."""
    if value is MISSING or value is None:
        return "None" if value is None else "missing"
    if isinstance(value, Record | GlobalName):
        return f"a {shown(value.name) or 'record'}"
    kind = type(value).__name__
    match value:
        case np.ndarray():
            more = f" of shape {value.shape}"
        case dict() | list() | tuple():
            first = ", ".join(_brief(item) for item, _ in zip(value, range(3), strict=False))
            more = f" of {len(value)} ({first} ...)"
            if not value:
                return f"an empty {kind}"
        case str() | int() | float():
            more = f" ({_brief(value)})"
        case _:
            more = ""
    return f"{'an' if kind == 'int' else 'a'} {kind}{more}"


def _brief(value: object) -> str:
    if isinstance(value, str):
        return shown(value[:_LONGEST_SHOWN])
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, bool | int | float | None):
        return str(value)
    return class_name(value)


def is_encodable(text: str) -> bool:
    """Return whether a text can be written as UTF-8: it contains no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
