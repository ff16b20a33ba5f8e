"""The trainer's own numbers for a list of texts, kept in ``proof.jsonl`` so that anyone can replay them.

In: texts, tokens, and what the model in the trainer's memory says of them. Out: rows. Holds no text of a user: the
texts are a fixed list of nasty ones and words put together from the tokenizer's own pieces (docs/decisions/004).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from bothways import strict_json
from bothways.bundle.manifest import Kind, Manifest
from bothways.errors import BundleBroken
from bothways.text.tokenizer import Tokenizer

ENSEMBLE = "ensemble"
LARGEST_DIFFERENCE = 1e-5
"""How far a replayed probability may lie from the trainer's."""

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
    " ".join(map(str, range(600))),  # nothing repeats: longer than every window
)
_COMPOSED_TEXTS = 24
_LONGEST_COMPOSED_WORDS = 400


class ParityRow(BaseModel):
    """What the trainer's model said of one text.

    Attributes:
        text: The raw text.
        ids: Its tokens as written, before any reading order.
        probabilities: For a classifier: each label's probability, by direction and for the ensemble, the ensemble's
            with its calibration. They add up to 1 for single-label only. By label, so that labels in another order are
            noticed.
        loss: For a language model: the mean negative log-likelihood (nats a token) by direction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: str
    ids: list[int]
    probabilities: dict[str, dict[str, Annotated[FiniteFloat, Field(ge=0, le=1)]]] | None = None
    loss: dict[str, FiniteFloat] | None = None


def parity_texts(tokenizer: Tokenizer, seed: int) -> list[str]:
    """Return the texts that a proof is made of; the same for the same tokenizer and seed."""
    rng = random.Random(seed)  # noqa: S311  (no secret)
    ids = range(len(tokenizer))
    composed = []
    for number in range(_COMPOSED_TEXTS):
        longest = max(1, _LONGEST_COMPOSED_WORDS >> (number % 8))
        composed.append(tokenizer.decode(rng.choices(ids, k=rng.randint(1, longest))))
    return [*NASTY_TEXTS, *composed]


def proven_probabilities(rows: Iterable[ParityRow], name: str, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the trainer's numbers for a direction or the ensemble of a classifier, (N, C), columns as ``labels``."""
    return np.array([[(row.probabilities or {})[name][label] for label in labels] for row in rows])


def dump_parity_record(rows: list[ParityRow]) -> bytes:
    """Return the content of ``proof.jsonl``."""
    return "".join(strict_json.dump(row.model_dump(exclude_none=True)) + "\n" for row in rows).encode()


def parse_parity_record(data: bytes, manifest: Manifest, name: str) -> list[ParityRow]:
    """Return the rows of ``proof.jsonl``, checked against the manifest.

    Raises:
        BundleBroken: A line is not a row of such a proof, or there is none.
    """
    rows = []
    directions = set(map(str, manifest.directions))
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            strict_json.parse(line)
            row = ParityRow.model_validate_json(line)
        except ValidationError as error:
            raise BundleBroken(f"{name}, line {number}: {error.errors()[0]['msg']}") from None
        except ValueError as error:
            raise BundleBroken(f"{name}, line {number}: not strict JSON: {error}") from None
        found = row.probabilities if manifest.kind is Kind.CLASSIFIER else row.loss
        expected = directions | ({ENSEMBLE} if manifest.kind is Kind.CLASSIFIER else set())
        if found is None or set(found) != expected:
            raise BundleBroken(f"{name}, line {number}: expected numbers for {', '.join(sorted(expected))}")
        if row.probabilities and any(p.keys() != set(manifest.labels) for p in row.probabilities.values()):
            raise BundleBroken(f"{name}, line {number}: expected a probability for each label of the manifest")
        rows.append(row)
    if not rows:
        raise BundleBroken(f"{name} holds no row: nothing proves this bundle")
    return rows
