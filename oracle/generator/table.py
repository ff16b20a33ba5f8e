"""Describe a generated learner, and write its files and the predictions of the real fastai.

This module does not know fastai: `learners1.py` and `learners2.py` use it, each in a process of its own.

A learner becomes a directory with its files, `case.json` and `expected.jsonl`. `case.json` holds the fields of
`Learner`. Its imports have options of `bothways.import_fastai`, what is expected, and the cause of a refusal.
`expected.jsonl` has a line per text: `text`, `ids` as written (never reversed), and `scores` and `label` as
`learn.predict(text)` returns them. Texts of two columns also have `joined`, as fastai joins them. Language models have
a `loss`, encoders a `last_state` and a `mean_state`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import io
import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Expectation = Literal["exact", "refused", "either", "unknowable"]


@dataclass(frozen=True)
class Import:
    """One way to import a learner.

    Attributes:
        expect: ``exact``, ``refused``, ``either`` where both are right, or ``unknowable`` where the file does not show
            the difference and the user did not say it.
        cause: Pattern that the message of a refusal must contain, case-insensitive.
        options: Options of `bothways.import_fastai`. Values that name a file of the learner begin with ``file:``.
        scores: How the scores of `learn.predict` become those of the import: ``as predicted``, or ``softmax`` for raw
            scores.
        note: Why this is expected, for the table.
    """

    expect: Expectation = "exact"
    cause: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    scores: Literal["as predicted", "softmax", "sigmoid"] = "as predicted"
    note: str = ""


EXACT = (Import(),)


def refused(cause: str, note: str = "") -> tuple[Import, ...]:
    """Return the import of a learner that must be refused, with a pattern of the message."""
    return (Import("refused", cause, note=note),)


def either(cause: str = "", note: str = "") -> tuple[Import, ...]:
    """Return the import of a learner that may be exact or refused."""
    return (Import("either", cause, note=note),)


@dataclass(frozen=True)
class Learner:
    """One learner of the table.

    Attributes:
        name: Unique name, the directory.
        kind: Row of the table.
        finding: E1 to E6 for what was wrong or missing, or ``plain``.
        what: A description in one sentence.
        make: Returns what is written: files of the learner, predictions.
        imports: The ways to import it.
        direction: Direction in which it reads.
        in_sample: Whether the quick test includes it.
    """

    name: str
    kind: str
    finding: str
    what: str
    make: Callable[[Path], Made]
    imports: tuple[Import, ...] = EXACT
    direction: str = "forward"
    in_sample: bool = False


@dataclass
class Made:
    """What `Learner.make` wrote and what the real fastai predicts.

    Attributes:
        files: Names of files in the learner's directory, by what they hold: ``export``, ``weights``, ``vocabulary``.
        task: ``single-label``, ``multi-label``, ``regression``, ``language-model`` or ``encoder``.
        labels: Labels in the order of the scores.
        texts: Texts to predict.
        expect: Returns the line of a text, without the text.
    """

    files: dict[str, str]
    task: str
    labels: list[Any]
    texts: list[Any]
    expect: Callable[[Any], dict[str, Any]]


class SkippedError(Exception):
    """A learner that the real fastai can't make or predict with."""


def is_wanted(name: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns matches a name. No patterns match all names."""
    patterns = list(patterns)
    return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def generate(learners: Iterable[Learner], out: Path, fastai: str, patterns: list[str]) -> None:
    """Make the learners whose names match the patterns, or those of the quick test if they are ``--sample``."""
    names: set[str] = set()
    for learner in learners:
        assert learner.name not in names, learner.name
        names.add(learner.name)
        if learner.in_sample if patterns == ["--sample"] else is_wanted(learner.name, patterns):
            generate_one(learner, out, fastai)


def generate_one(learner: Learner, out: Path, fastai: str) -> None:
    """Make one learner. A directory exists only if it is complete."""
    folder, final = out / f".{learner.name}", out / learner.name
    for path in (folder, final):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # progress bars
            made = learner.make(folder)
            lines = list(expected_lines(made))
    except Exception:  # noqa: BLE001  one learner must not stop the others
        print(f"FAILED {learner.name}\n{traceback.format_exc(limit=-6)}", flush=True)
        shutil.rmtree(folder)
        return
    case = {name: value for name, value in asdict(learner).items() if name != "make"}
    case |= {"fastai": fastai, "files": made.files, "task": made.task, "labels": made.labels}
    (folder / "expected.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
    (folder / "case.json").write_text(json.dumps(case, indent=1, ensure_ascii=False, default=str) + "\n", "utf-8")
    folder.rename(final)
    errors = sum("error" in line for line in lines)
    print(f"{learner.name}: {len(lines)} texts, {errors} failed, {time.monotonic() - started:.1f} s", flush=True)


def expected_lines(made: Made) -> Iterator[dict[str, Any]]:
    """Yield the line of each text. A text on which fastai fails gets an ``error`` instead of scores."""
    lines = []
    for text in made.texts:
        try:
            lines.append({"text": text, **made.expect(text)})
        except Exception as error:  # noqa: BLE001  whatever fastai raises
            lines.append({"text": text, "error": f"{type(error).__name__}: {error}"[:300]})
    if made.texts and all("error" in line for line in lines):
        raise SkippedError(f"fastai can't predict with this learner: {lines[0]['error']}")
    yield from lines


def seed_of(name: str) -> int:
    """Return the seed of a learner's random weights."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 2**31
