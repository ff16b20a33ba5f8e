"""The parity record of a bundle: texts with the numbers of the models in the trainer's memory.

In: texts, tokens and scores. Out: rows of ``parity.jsonl``, which anyone can replay, with the decisions that follow
from the scores. Contains no text of a user: the texts are a fixed list of difficult ones, and words composed of the
tokenizer's own pieces (docs/decisions/004).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from bothways import strict_json
from bothways.bundle.manifest import LINEAR, EarlyExit, Kind, LinearMember, Manifest, with_linear
from bothways.errors import BundleBroken, shown
from bothways.schema import Document, Entries, Faults, Items, validated
from bothways.tasks.labels import LabelValue
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Decision, Task
from bothways.text.fields import Text, columns_text
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
    # characters of all kinds, of which few tokenizers have a piece, and the typed names of two bytes
    "".join(map(chr, (*range(0xA1, 0x800, 65), *range(0x800, 0xD800, 4161), *range(0x10000, 0x110000, 65601)))),
    "<0xE4> <0x41>",
)
_FIELD_TYPED_BY_USER = "one xxfld two"
"""Another difficult text, for models with several text columns."""
_NEXT_FIELD = 7
"""How many texts the next field of a parity text is ahead, so that texts of different lengths meet."""
_COMPOSED_TEXTS = 24
_LONGEST_COMPOSED_WORDS = 400


_Probability = Annotated[FiniteFloat, Field(ge=0, le=1)]
_ByOutput = Entries[Entries[FiniteFloat]]
_Read = Literal["forward", "backward", "both", "linear"]


class RecordedDecision(Document):
    """What a classifier concludes from the scores of one text, in the type of its labels.

    Attributes:
        label: The most probable label.
        chosen: The labels assigned to the text.
    """

    label: LabelValue
    chosen: Items[LabelValue]


class RecordedEarlyExit(Document):
    """What a classifier with early exit does with one text.

    Attributes:
        read: The directions that read it, or ``linear`` if the linear member alone is enough.
        probabilities: Those of the direction that reads first, with those of a linear member, at its own temperature,
            by label.
        decision: What it concludes.
        linear: The probabilities of the linear member at its own temperature, by label; None unless early exit starts
            with it.
    """

    read: _Read
    probabilities: Entries[_Probability]
    decision: RecordedDecision
    linear: Entries[_Probability] | None = None


class ParityRow(Document):
    """What the trained models say of one text.

    Attributes:
        text: The raw text. For a model with several text columns: the text in each column. The texts are stored by
            column, so that a changed order of columns is noticed.
        ids: Its tokens as written, before any reading order.
        probabilities: For a classifier: the probability of each label, by direction, for the linear member if there is
            one, and for the calibrated ensemble. They are stored by label, so that a changed order of labels is
            noticed.
        values: For regression: the predicted value of each target, by direction, for the linear member if there is one,
            and for the ensemble. A single target is called ``value``.
        loss: For a language model: the mean negative log-likelihood (nats per token) by direction.
        decision: For classification: what follows from the ensemble's probabilities.
        early_exit: What early exit does; None if it was not calibrated.
    """

    text: str | Entries[str]
    ids: Items[int]
    probabilities: Entries[Entries[_Probability]] | None = None
    values: _ByOutput | None = None
    loss: Entries[FiniteFloat] | None = None
    decision: RecordedDecision | None = None
    early_exit: RecordedEarlyExit | None = None

    @classmethod
    def of_scores(
        cls, text: str | dict[str, str], ids: list[int], scores: Mapping[str, Scores], task: Task
    ) -> ParityRow:
        """Return the row of a text.

        Args:
            text: The raw text, or the text in each column (``by_column``).
            ids: Its tokens as written.
            scores: By direction and for the ensemble, each (C,).
            task: Names the outputs.
        """
        by_output = {
            name: dict(zip(task.output_names, vector.tolist(), strict=True)) for name, vector in scores.items()
        }
        return cls.model_validate({"text": text, "ids": ids, task.score_kind: by_output})

    def text_in(self, columns: Sequence[str]) -> Text:
        """Return the text that a model with these text columns reads."""
        return self.text if isinstance(self.text, str) else tuple(self.text[column] for column in columns)

    @property
    def scores(self) -> _ByOutput | None:
        """The scores by direction and output name; None for a language model."""
        return self.values if self.values is not None else self.probabilities


def by_column(text: Text, columns: Sequence[str]) -> str | dict[str, str]:
    """Return a text as a parity record stores it."""
    return text if isinstance(text, str) else dict(zip(columns, text, strict=True))


def parity_texts(tokenizer: Tokenizer, seed: int) -> list[str]:
    """Return the texts of a parity record, the same for the same tokenizer and seed."""
    rng = random.Random(seed)  # noqa: S311  (no secret)
    ids = [i for i in range(len(tokenizer)) if i not in tokenizer.byte_ids]  # bytes in any order are no characters
    composed = []
    for number in range(_COMPOSED_TEXTS):
        longest = max(1, _LONGEST_COMPOSED_WORDS >> (number % 8))
        composed.append(tokenizer.decode(rng.choices(ids, k=rng.randint(1, longest))))
    return [*NASTY_TEXTS, *composed]


def parity_texts_with_fields(tokenizer: Tokenizer, seed: int, fields: int) -> list[Text]:
    """Return the texts of a parity record for a classifier with this number of text columns.

    For one column they are ``parity_texts``. For several columns they are tuples of these texts.
    """
    texts = parity_texts(tokenizer, seed)
    if fields == 1:
        return [*texts]
    texts.append(_FIELD_TYPED_BY_USER)
    return [
        tuple(texts[(first + _NEXT_FIELD * field) % len(texts)] for field in range(fields))
        for first in range(len(texts))
    ]


def recorded_scores(rows: Iterable[ParityRow], name: str, task: Task) -> Scores:
    """Return the recorded scores of a direction or the ensemble, (N, C), with columns in the order of the outputs."""
    return np.array([_vector((row.scores or {})[name], task) for row in rows])


def recorded_first(rows: Iterable[ParityRow], task: Task) -> Scores:
    """Return the recorded probabilities, (N, C), by which early exit decides whether one direction is enough."""
    return np.array([_vector(row.early_exit.probabilities, task) for row in rows if row.early_exit is not None])


def recorded_linear(rows: Iterable[ParityRow], task: Task) -> Scores:
    """Return the recorded probabilities, (N, C), by which early exit decides whether the linear member is enough."""
    early_exits = [row.early_exit for row in rows if row.early_exit is not None]
    return np.array([_vector(early.linear, task) for early in early_exits if early.linear is not None])


def _vector(by_output: Mapping[str, float], task: Task) -> Scores:
    return np.array([by_output[output] for output in task.output_names])


def decision_of(decision: Decision) -> RecordedDecision | None:
    """Return a decision as a parity record holds it; None for regression, where the value is the decision."""
    if decision.label is None:
        return None
    return RecordedDecision(label=decision.label, chosen=list(decision.chosen))


def with_decisions(
    rows: Iterable[ParityRow], task: Task, early_exit: EarlyExit | None, linear: LinearMember | None = None
) -> list[ParityRow]:
    """Return the rows of a classifier with the decisions that follow from their scores.

    Args:
        rows: Rows with scores by direction and for the ensemble.
        task: Labels and thresholds.
        early_exit: That of the bundle, if it was calibrated.
        linear: The linear member, if the bundle has one.
    """
    result = []
    for row in rows:
        scores = row.scores or {}
        ensemble = _vector(scores[ENSEMBLE], task)
        early = None
        if early_exit is not None:
            of_linear = _vector(scores[LINEAR], task) if LINEAR in scores else None
            mixed = with_linear(task, linear, _vector(scores[early_exit.first], task), of_linear)
            first = task.with_temperature(mixed, early_exit.temperature)
            alone = None
            if early_exit.linear is not None:
                assert of_linear is not None
                alone = task.with_temperature(of_linear, early_exit.linear.temperature)
            early = _early_exit(alone, first, ensemble, task, early_exit)
        result.append(row.model_copy(update={"decision": decision_of(task.decide(ensemble)), "early_exit": early}))
    return result


def _early_exit(
    linear: Scores | None, first: Scores, ensemble: Scores, task: Task, early_exit: EarlyExit
) -> RecordedEarlyExit:
    """Return what early exit does with a text.

    Args:
        linear: Probabilities of the linear member at its temperature, (C,); None unless early exit starts with it.
        first: Probabilities of the direction that reads first, and of the linear member, at its temperature, (C,).
        ensemble: Probabilities of the ensemble, (C,).
        task: Labels.
        early_exit: That of the bundle.
    """
    read: _Read
    if linear is not None and early_exit.linear is not None and early_exit.linear.is_confident(linear):
        read, deciding = LINEAR, linear
    elif early_exit.is_confident(first):
        read, deciding = early_exit.first.value, first
    else:
        read, deciding = "both", ensemble
    decision = decision_of(task.decide(deciding))
    assert decision is not None
    return RecordedEarlyExit(
        read=read,
        probabilities=dict(zip(task.output_names, first.tolist(), strict=True)),
        decision=decision,
        linear=None if linear is None else dict(zip(task.output_names, linear.tolist(), strict=True)),
    )


def dump_parity_record(rows: list[ParityRow]) -> bytes:
    """Return the content of ``parity.jsonl``."""
    return "".join(strict_json.dump(row.model_dump(exclude_none=True)) + "\n" for row in rows).encode()


def parse_parity_record(data: bytes, manifest: Manifest, name: str) -> list[ParityRow]:
    """Return the rows of ``parity.jsonl``, checked against the manifest.

    The recorded decisions must follow from the recorded scores exactly, by the labels, thresholds and early exit of the
    manifest. Only numbers that are stored are compared, so that the result is the same on every machine.

    Raises:
        BundleBroken: A line is not a row of such a record, or there is none.
    """
    rows = []
    task = manifest.decisions if manifest.kind is Kind.CLASSIFIER else None
    columns = set(manifest.training.text_columns) if len(manifest.training.text_columns) > 1 else None
    for number, line in enumerate(data.splitlines(), start=1):
        where = f"{name}, line {number}"
        try:
            row = validated(ParityRow, strict_json.parse(line, allow_surrogates=False))
        except Faults as error:
            raise BundleBroken(f"{where}: {error}") from None
        except ValueError as error:
            raise BundleBroken(f"{where}: not strict JSON: {error}") from None
        if (set(row.text) if isinstance(row.text, dict) else None) != columns:
            expected = "a string" if columns is None else f"a text for each of {columns_text(sorted(columns))}"
            raise BundleBroken(f"{where}: the text is not {expected}")
        _check_scores(row, set(manifest.scored_by), task, where)
        if manifest.format > 1:
            _check_decisions(row, task, manifest.early_exit, where)
        rows.append(row)
    if not rows:
        raise BundleBroken(f"{name} has no rows, so this bundle cannot be verified")
    if manifest.format == 1 and task is not None:  # its rows have scores only
        return with_decisions(rows, task, manifest.early_exit)
    return rows


def _check_scores(row: ParityRow, names: set[str], task: Task | None, where: str) -> None:
    """Refuse a row without exactly the numbers that the bundle's models have.

    Args:
        row: To check.
        names: The directions of the members, and ``linear`` if there is a linear member.
        task: That of a classifier; None for language models.
        where: How errors name the row.

    Raises:
        BundleBroken: A number is missing, or there are others.
    """
    expected = names if task is None else names | {ENSEMBLE}
    kinds: dict[str, Mapping[str, object] | None] = {
        "probabilities": row.probabilities,
        "values": row.values,
        "loss": row.loss,
    }
    kind = "loss" if task is None else task.score_kind
    found = kinds.pop(kind)
    if found is None or set(found) != expected or any(other is not None for other in kinds.values()):
        raise BundleBroken(f"{where}: expected numbers for {', '.join(sorted(expected))} as {kind}, and no others")
    if task is not None and any(
        by_output.keys() != set(task.output_names) for by_output in (row.scores or {}).values()
    ):
        outputs = ", ".join(sorted(task.output_names))
        raise BundleBroken(f"{where}: expected {task.score_kind} for each output of the manifest: {shown(outputs)}")


def _check_decisions(row: ParityRow, task: Task | None, early_exit: EarlyExit | None, where: str) -> None:
    """Refuse a row whose decisions do not follow from its scores.

    Raises:
        BundleBroken: A decision is missing or another one.
    """
    decision, early = None, None
    if task is not None:
        ensemble = _vector((row.scores or {})[ENSEMBLE], task)
        decision = decision_of(task.decide(ensemble))
        if early_exit is not None:
            recorded, labels = row.early_exit, set(task.output_names)
            linear = None if recorded is None or early_exit.linear is None else recorded.linear
            if (
                recorded is None
                or recorded.probabilities.keys() != labels
                or (early_exit.linear is not None and (linear is None or linear.keys() != labels))
            ):
                raise BundleBroken(f"{where}: expected probabilities with early exit for each label of the manifest")
            alone = None if linear is None else _vector(linear, task)
            early = _early_exit(alone, _vector(recorded.probabilities, task), ensemble, task, early_exit)
    if _json(row.decision) != _json(decision):
        raise BundleBroken(f"{where}: the decision is not the one that follows from the scores and the manifest")
    if _json(row.early_exit) != _json(early):
        raise BundleBroken(f"{where}: the early exit is not the one that follows from the scores and the manifest")


def _json(part: Document | None) -> str:
    """Return a part as JSON, in which 1, true and "1" differ."""
    return "" if part is None else part.model_dump_json()
