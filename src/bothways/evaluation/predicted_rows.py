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
from bothways.errors import ConfigError
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.runtime.slots import PreparedText
from bothways.tasks.labels import label_text
from bothways.text.coverage import Unreadable, unreadable
from bothways.text.fields import Text

READ_COLUMN = "predicted_read"
_JOINER = "|"
ABSTAINED_COLUMN, LABEL_SET_COLUMN = "predicted_abstained", "predicted_label_set"
Group = TypeVar("Group")


def output_columns(model: Classifier, *, abstain: bool = False) -> dict[str, type]:
    """Return the columns that a model adds to rows, in their order, with the types of their values.

    Args:
        model: The model.
        abstain: Whether it abstains. If that was calibrated, there are columns with the reason and the label set.

    Raises:
        ConfigError: The model abstains and was loaded with early exit, but its abstention was calibrated without.
    """
    if abstain and model.early_exit is not None and model.manifest.abstention is not None:
        raise ConfigError(
            "the abstention of this bundle was calibrated without early exit: leave --abstain or --early-exit out"
        )
    example = model.task.cells(np.full(model.task.outputs, 1 / model.task.outputs))
    columns = list(zip(model.task.columns(), map(type, example), strict=True))
    if model.early_exit is not None:
        columns.insert(-len(model.labels), (READ_COLUMN, str))
    if abstain:
        columns[-len(model.labels) : -len(model.labels)] = [(name, str) for name in abstention_columns(model)]
    return dict(columns)


def abstention_columns(model: Classifier) -> list[str]:
    """Return the columns of a model whose abstention was calibrated. They come before those of the probabilities."""
    if model.abstention is None:
        return []
    return [ABSTAINED_COLUMN, *([LABEL_SET_COLUMN] if model.abstention.label_sets is not None else [])]


def abstention_cells(prediction: Prediction) -> list[str]:
    """Return the values of ``abstention_columns``: the reason, empty if the model answers, and the label set."""
    cells = ["" if prediction.abstained is None else prediction.abstained]
    if prediction.label_set is not None:
        cells.append(_JOINER.join(map(label_text, prediction.label_set)))
    return cells


def predicted_rows(
    model: Classifier,
    groups: Iterable[tuple[Group, Sequence[Text]]],
    *,
    abstain: bool,
    on_unreadable: Callable[[int, Unreadable], object] = lambda row, reason: None,
    on_abstained: Callable[[int, str], object] = lambda row, reason: None,
) -> Iterator[tuple[Group, list[list[object]]]]:
    """Yield each group with one list of values per text, in the order of ``output_columns``.

    Args:
        model: The model.
        groups: Groups of rows with their valid texts. A group may have none.
        abstain: Leave the decision empty for texts that the model cannot read, and if its abstention was calibrated,
            for all texts from which it abstains.
        on_unreadable: Called with the number of each text that the model cannot read, from 0, and the reason.
        on_abstained: Called with the number of each other text from which it abstains, and the reason.
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

    for number, prediction in enumerate(model.predictions_of(prepared())):
        reason = reasons.popleft()
        if abstain and reason is None and prediction.abstained is not None:
            on_abstained(number, prediction.abstained)
        yield from complete()  # groups without texts that come before this one
        rows.append(_cells(model, prediction, abstain=abstain, is_unreadable=reason is not None))
        yield from complete()
    yield from complete()


def _cells(model: Classifier, prediction: Prediction, *, abstain: bool, is_unreadable: bool) -> list[object]:
    """Return the values of ``output_columns`` for one text, without the decision if the model abstains."""
    cells = model.task.cells(prediction.scores[ENSEMBLE])
    if abstain and (is_unreadable or prediction.abstained is not None):
        decision = len(cells) - len(model.labels)
        cells[:decision] = [None] * decision
    if model.early_exit is not None:
        cells.insert(-len(model.labels), prediction.read)
    if abstain and model.abstention is not None:
        cells[-len(model.labels) : -len(model.labels)] = abstention_cells(prediction)
    return cells
