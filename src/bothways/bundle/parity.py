"""The parity record of a bundle: texts with the numbers of the models in the trainer's memory.

In: texts, tokens and scores. Out: rows of ``proof.jsonl``, which anyone can replay. Contains no text of a user: the
texts are a fixed list of difficult ones, and words composed of the tokenizer's own pieces (docs/decisions/004).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
from pydantic import Field, FiniteFloat

from bothways import strict_json
from bothways.bundle.manifest import Kind, Manifest
from bothways.errors import BundleBroken, shown
from bothways.schema import Document, Entries, Faults, Items, validated
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Task
from bothways.text.tokenizer import Tokenizer

ENSEMBLE = "ensemble"
LARGEST_DIFFERENCE = 1e-5
"""The largest allowed difference between a replayed number and the recorded one."""

NASTY_TEXTS = (
    "",
    " \t\n ",
    "\x00",
    "a",
    "I",
    "xxbos xxpad xxunk xxmaj xxup xxrep-3",
    "HELLO World!!! sooooooo very very very (Nice)",
    "&lt;b&gt;5 &amp; 6&lt;/b&gt;<br />1000",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪",
    "שלום עולם مرحبا بالعالم",
    "日本語のテキスト 中文 한국어",
    "e\u0301\u0323\u0301 Ä ß İ ﬁ",
    "\ufeff\ufffe\u200d\u202e▁",
    "a" * 5000,
    "word " * 700,
    " ".join(map(str, range(600))),  # no repetition: longer than every window
)
_COMPOSED_TEXTS = 24
_LONGEST_COMPOSED_WORDS = 400


_ByOutput = Entries[Entries[FiniteFloat]]


class ParityRow(Document):
    """What the trained models say of one text.

    Attributes:
        text: The raw text.
        ids: Its tokens as written, before any reading order.
        probabilities: For a classifier: the probability of each label, by direction and for the calibrated ensemble.
            They are stored by label, so that a changed order of labels is noticed.
        values: For regression: the predicted value, by direction and for the ensemble, under the name ``value``.
        loss: For a language model: the mean negative log-likelihood (nats per token) by direction.
    """

    text: str
    ids: Items[int]
    probabilities: Entries[Entries[Annotated[FiniteFloat, Field(ge=0, le=1)]]] | None = None
    values: _ByOutput | None = None
    loss: Entries[FiniteFloat] | None = None

    @classmethod
    def of_scores(cls, text: str, ids: list[int], scores: Mapping[str, Scores], task: Task) -> ParityRow:
        """Return the row of a text.

        Args:
            text: The raw text.
            ids: Its tokens as written.
            scores: By direction and for the ensemble, each (C,).
            task: Names the outputs.
        """
        by_output = {
            name: dict(zip(task.output_names, vector.tolist(), strict=True)) for name, vector in scores.items()
        }
        return cls.model_validate({"text": text, "ids": ids, task.score_kind: by_output})

    @property
    def scores(self) -> _ByOutput | None:
        """The scores by direction and output name; None for a language model."""
        return self.values if self.values is not None else self.probabilities


def parity_texts(tokenizer: Tokenizer, seed: int) -> list[str]:
    """Return the texts of a parity record, the same for the same tokenizer and seed."""
    rng = random.Random(seed)  # noqa: S311  (no secret)
    ids = range(len(tokenizer))
    composed = []
    for number in range(_COMPOSED_TEXTS):
        longest = max(1, _LONGEST_COMPOSED_WORDS >> (number % 8))
        composed.append(tokenizer.decode(rng.choices(ids, k=rng.randint(1, longest))))
    return [*NASTY_TEXTS, *composed]


def recorded_scores(rows: Iterable[ParityRow], name: str, task: Task) -> Scores:
    """Return the recorded scores of a direction or the ensemble, (N, C), with columns in the order of the outputs."""
    return np.array([[(row.scores or {})[name][output] for output in task.output_names] for row in rows])


def dump_parity_record(rows: list[ParityRow]) -> bytes:
    """Return the content of ``proof.jsonl``."""
    return "".join(strict_json.dump(row.model_dump(exclude_none=True)) + "\n" for row in rows).encode()


def parse_parity_record(data: bytes, manifest: Manifest, name: str) -> list[ParityRow]:
    """Return the rows of ``proof.jsonl``, checked against the manifest.

    Raises:
        BundleBroken: A line is not a row of such a record, or there is none.
    """
    rows = []
    directions = set(map(str, manifest.directions))
    task = manifest.decisions if manifest.kind is Kind.CLASSIFIER else None
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            row = validated(ParityRow, strict_json.parse(line, allow_surrogates=False))
        except Faults as error:
            raise BundleBroken(f"{name}, line {number}: {error}") from None
        except ValueError as error:
            raise BundleBroken(f"{name}, line {number}: not strict JSON: {error}") from None
        _check_row(row, directions, task, f"{name}, line {number}")
        rows.append(row)
    if not rows:
        raise BundleBroken(f"{name} has no rows, so this bundle cannot be verified")
    return rows


def _check_row(row: ParityRow, directions: set[str], task: Task | None, where: str) -> None:
    """Refuse a row without exactly the numbers that the bundle's models have.

    Args:
        row: To check.
        directions: Those of the members.
        task: That of a classifier; None for language models.
        where: How errors name the row.

    Raises:
        BundleBroken: A number is missing, or there are others.
    """
    expected = directions if task is None else directions | {ENSEMBLE}
    kinds: dict[str, Mapping[str, object] | None] = {"probabilities": row.probabilities, "values": row.values}
    found = row.loss if task is None else kinds[task.score_kind]
    if found is None or set(found) != expected:
        raise BundleBroken(f"{where}: expected numbers for {', '.join(sorted(expected))}")
    if task is not None and any(
        by_output.keys() != set(task.output_names) for by_output in (row.scores or {}).values()
    ):
        names = ", ".join(sorted(task.output_names))
        raise BundleBroken(f"{where}: expected {task.score_kind} for each output of the manifest: {shown(names)}")
