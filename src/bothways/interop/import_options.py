"""Check what a caller of an import requests, and bring it into the form in which it is passed on.

Input: options, as text or values. Output: ``Requested``.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar, get_args

from bothways.errors import ConfigError, quoted
from bothways.interop.learner_facts import Requested, ValueRange
from bothways.interop.sentencepiece_file import read_piece_file
from bothways.tasks.task import TaskName
from bothways.text.fastai_cleaning import RULES
from bothways.text.splitters import WordsBy

_Name = TypeVar("_Name", bound=str)


def requested_of(
    probabilities: str | None = None,
    rules: Sequence[str] | None = None,
    sentencepiece: str | os.PathLike[str] | None = None,
    task: str | None = None,
    labels: Sequence[str] = (),
    threshold: float | None = None,
    y_range: object = None,
    tokenizer: str | None = None,
    language: str | None = None,
) -> Requested:
    """Return what a caller requests. The arguments are those of ``import_fastai``.

    Raises:
        ConfigError: A value is unknown or out of range.
        ForeignModelError: The SentencePiece model can't be read.
    """
    if threshold is not None and not 0 < threshold < 1:
        raise ConfigError(f"threshold is {threshold:g}, expected a number between 0 and 1")
    known = {name for by_name in RULES.values() for name in by_name}
    if unknown := [rule for rule in rules or () if rule not in known]:
        raise ConfigError(f"unknown rule {quoted(unknown[0])}, expected rules of fastai: {', '.join(sorted(known))}")
    return Requested(
        probabilities=_one_of("probabilities", probabilities, "softmax", "sigmoid"),
        rules=None if rules is None else tuple(rules),
        sentencepiece=None if sentencepiece is None else read_piece_file(Path(sentencepiece)),
        task=_one_of("task", task, *get_args(TaskName)),
        labels=tuple(labels),
        threshold=threshold,
        y_range=_range_of(y_range),
        words_by=_one_of("tokenizer", tokenizer, *get_args(WordsBy)),
        language=language,
    )


def _one_of(name: str, value: str | None, *known: _Name) -> _Name | None:
    if value is None:
        return None
    for each in known:
        if each == value:
            return each
    raise ConfigError(f"unknown {name} {quoted(value)}, expected {' or '.join(known)}")


def _range_of(value: object) -> ValueRange | Literal["none"] | None:
    """Return a range that is given as text, such as ``0,5`` or ``none``, or as a tuple of two numbers."""
    if value is None or value == "none":
        return None if value is None else "none"
    numbers: list[float] = []
    with contextlib.suppress(TypeError, ValueError):
        numbers = list(map(float, value.split(",") if isinstance(value, str) else value))  # type: ignore[call-overload]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)) or not numbers[0] < numbers[1]:
        raise ConfigError(f"y_range is {quoted(value, 40)}, expected the lowest and highest number: LOW,HIGH or none")
    return numbers[0], numbers[1]
