"""Score labeled rows in one pass over their texts: the scores of each member, the targets and the lengths.

In: a model and labeled rows. Out: arrays, from which an evaluation and a report compute everything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.runtime.classifier import Classifier
from bothways.runtime.slots import PreparedText
from bothways.tasks.labels import in_order
from bothways.tasks.metrics import Scores
from bothways.tasks.task import LabeledTexts, Targets, Task
from bothways.text.validation import check_texts


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Labeled rows with the scores of a model.

    Attributes:
        rows: The rows.
        task: The task of the model, with the labels of the rows that it does not know behind its own.
        targets: Targets of the rows.
        scores: Scores of each direction, of ``linear`` if there is one, and last of ``ensemble``, each (N, C). With
            early exit, the rows of a direction that did not read a text are NaN.
        tokens: Number of tokens of each text, (N,).
        unknown: Number of rows with labels that the model does not know.
        digest: SHA-256 that identifies the bundle.
    """

    rows: LabeledTexts
    task: Task
    targets: Targets
    scores: dict[str, Scores]
    tokens: NDArray[np.int64]
    unknown: int
    digest: str

    @property
    def complete(self) -> dict[str, Scores]:
        """The scores of the members that read every text, and of the ensemble."""
        return {name: values for name, values in self.scores.items() if not np.isnan(values).any()}


def scored_rows(classifier: Classifier, rows: LabeledTexts) -> ScoredRows:
    """Return rows with the scores of a model. Each text is tokenized once and read once.

    Args:
        classifier: The model.
        rows: Labeled rows, read as those on which it was trained.
    """
    unknown = [classifier.task.unknown(each) for each in rows.labels]
    new = in_order(label for labels in unknown for label in labels)
    task = classifier.task.extended(new)
    tokens: list[int] = []

    def prepared() -> Iterator[PreparedText]:
        for text in check_texts(rows.texts, classifier.text_columns):
            found = classifier.prepare(text)
            tokens.append(len(found.ids))
            yield found

    scores = classifier.gathered(classifier.predictions_of(prepared()))
    # No model predicts an unknown label, so its probability is 0.
    zeros = np.zeros((len(rows), len(new)))
    return ScoredRows(
        rows=rows,
        task=task,
        targets=task.targets(rows),
        scores={name: np.hstack([values, zeros]) for name, values in scores.items()},
        tokens=np.array(tokens, dtype=np.int64),
        unknown=sum(map(bool, unknown)),
        digest=classifier.digest,
    )
