"""Check the types of what callers pass to public functions, so that a mistake ends in one clear error.

::

    @checked(path=as_path, threads=optional(as_integer))
    def load(path, *, threads=None): ...

A check takes the name of an argument and its value, and returns the value that the function gets.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
import re
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from bothways.errors import ConfigError, quoted

Check = Callable[[str, object], object]
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(rf"(?=.)(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?")
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def checked(**checks: Check) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Return a decorator that checks arguments by their names before the function is called.

    Arguments that the caller leaves out are not checked.
    """

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        signature = inspect.signature(function)
        assert checks.keys() <= signature.parameters.keys()

        @functools.wraps(function)
        def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:  # arguments are missing or unknown: Python's own message says which
                return function(*args, **kwargs)
            for name in checks.keys() & bound.arguments.keys():
                bound.arguments[name] = checks[name](name, bound.arguments[name])
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


def optional(check: Check) -> Check:
    """Return a check that also accepts None."""
    return lambda name, value: None if value is None else check(name, value)


def as_text(name: str, value: object) -> str:
    """Return a string.

    Raises:
        ConfigError: It is another type, or contains half of a character, which no file can record.
    """
    if not isinstance(value, str):
        raise _wrong(name, value, "a string")
    if not _is_encodable(value):
        raise _wrong(name, value, "text that can be encoded in UTF-8")
    return str(value)


def as_names(name: str, value: object) -> object:
    """Return a string, or several, as they are.

    Raises:
        ConfigError: It is neither a string nor a list of strings, there is none, or one contains half of a character.
    """
    if isinstance(value, str):
        return as_text(name, value)
    is_list = isinstance(value, Iterable) and not isinstance(value, bytes | dict)
    found = list(value) if is_list and isinstance(value, Iterable) else []
    if not found or not all(isinstance(each, str) for each in found):
        raise _wrong(name, value, "a string or a list of strings")
    return [as_text(name, each) for each in found]


def as_integer(name: str, value: object) -> int:
    """Return a whole number, also one of numpy.

    Raises:
        ConfigError: It is another type, such as a string or a boolean.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise _wrong(name, value, "a whole number")
    return int(value)


def as_number(name: str, value: object) -> float:
    """Return a finite number, also one of numpy.

    Raises:
        ConfigError: It is another type, infinite or NaN.
    """
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(name, value, "a finite number")
    return number


def as_duration(name: str, value: object) -> str:
    """Return a duration such as ``10m`` as it is; ``seconds_of`` reads it.

    Raises:
        ConfigError: It is not a duration above 0 and of at most 1,000 hours.
    """
    if not isinstance(value, str) or not _DURATION.fullmatch(value) or not 0 < seconds_of(value) <= 3_600_000:
        raise _wrong(name, value, "a duration such as 90s, 10m or 1h30m")
    return value


def seconds_of(duration: str) -> float:
    """Return the seconds of a duration that was checked."""
    return sum(_SECONDS[unit] * float(number) for number, unit in re.findall(r"([0-9.]+)([hms])", duration))


def as_flag(name: str, value: object) -> bool:
    """Return True or False, also those of numpy.

    Raises:
        ConfigError: It is another type.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise _wrong(name, value, "True or False")
    return bool(value)


def as_path(name: str, value: object) -> str | os.PathLike[str]:
    """Return a path as it is.

    Raises:
        ConfigError: It is not a string or a ``Path``, or it is empty or contains a null character.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(text := os.fspath(value), str):
        raise _wrong(name, value, "a path, as a string or a Path")
    if not text or "\0" in text:
        raise _wrong(name, value, "a path")
    return value


def as_paths(name: str, value: object) -> list[str | os.PathLike[str]]:
    """Return a list of paths. A single path becomes a list.

    Raises:
        ConfigError: One of them is not a path.
    """
    if isinstance(value, str | os.PathLike):
        return [as_path(name, value)]
    if not isinstance(value, Iterable):
        raise _wrong(name, value, "a list of paths")
    return [as_path(name, each) for each in value]


def as_function(name: str, value: object) -> object:
    """Return a function as it is.

    Raises:
        ConfigError: It cannot be called.
    """
    if not callable(value):
        raise _wrong(name, value, "a function")
    return value


def one_of(*choices: str) -> Check:
    """Return a check for one of several strings."""

    def check(name: str, value: object) -> object:
        if not isinstance(value, str) or value not in choices:
            raise ConfigError(f"{name} is {quoted(value)}, expected {', '.join(choices[:-1])} or {choices[-1]}")
        return value

    return check


def _wrong(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"{name} is {quoted(value)} ({type(value).__name__}), expected {expected}")


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
