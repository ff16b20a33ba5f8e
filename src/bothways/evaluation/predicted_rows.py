"""Turn rows with texts into rows of predictions: the one path of files, Arrow batches and engines.

In: groups of rows of any kind, each with its texts. Out: the same groups in the same order, each with the values of the
columns that a model adds. Groups are read ahead of their predictions, so that the model always has texts to read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from bothways.bundle.parity import ENSEMBLE
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.runtime.slots import PreparedText
from bothways.text.coverage import Unreadable, unreadable
from bothways.text.fields import Text

READ_COLUMN = "predicted_read"
Group = TypeVar("Group")


def output_columns(model: Classifier) -> dict[str, type]:
    """Return the columns that a model adds to rows, in their order, with the types of their values."""
    example = model.task.cells(np.full(model.task.outputs, 1 / model.task.outputs))
    columns = list(zip(model.task.columns(), map(type, example), strict=True))
    if model.early_exit is not None:
        columns.insert(-len(model.labels), (READ_COLUMN, str))
    return dict(columns)


def predicted_rows(
    model: Classifier,
    groups: Iterable[tuple[Group, Sequence[Text]]],
    *,
    abstain: bool,
    on_unreadable: Callable[[int, Unreadable], object] = lambda row, reason: None,
) -> Iterator[tuple[Group, list[list[object]]]]:
    """Yield each group with one list of values per text, in the order of ``output_columns``.

    Args:
        model: The model.
        groups: Groups of rows with their valid texts. A group may have none.
        abstain: Leave the decision empty for texts that the model cannot read.
        on_unreadable: Called with the number of each such text, from 0, and the reason.
    """
    waiting: deque[tuple[Group, int]] = deque()
    reasons: deque[Unreadable | None] = deque()

    def prepared() -> Iterator[PreparedText]:
        number = 0
        for group, texts in groups:
            waiting.append((group, len(texts)))
            for text in texts:
                tokens = model.prepare(text)
                reason = unreadable(text, tokens, model.tokenizer)
                reasons.append(reason)
                if reason is not None:
                    on_unreadable(number, reason)
                number += 1
                yield tokens

    rows: list[list[object]] = []

    def complete() -> Iterator[tuple[Group, list[list[object]]]]:
        """Yield the first groups while all their texts are predicted. Only the first of them can have some."""
        while waiting and waiting[0][1] == len(rows):
            yield waiting.popleft()[0], rows.copy()
            rows.clear()

    for prediction in model.predictions_of(prepared()):
        is_left_empty = abstain and reasons[0] is not None
        reasons.popleft()
        yield from complete()  # groups without texts that come before this one
        rows.append(_cells(model, prediction, is_left_empty=is_left_empty))
        yield from complete()
    yield from complete()


def _cells(model: Classifier, prediction: Prediction, *, is_left_empty: bool) -> list[object]:
    """Return the values of ``output_columns`` for one text, without the decision if it is left empty."""
    cells = model.task.cells(prediction.scores[ENSEMBLE])
    if is_left_empty:
        decision = len(cells) - len(model.labels)
        cells[:decision] = [None] * decision
    if model.early_exit is not None:
        cells.insert(-len(model.labels), prediction.read)
    return cells
