"""What a request may choose: how many labels to report, and the thresholds of a multi-label model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bothways.errors import ConfigError, RequestInvalid
from bothways.runtime.classifier import Classifier
from bothways.schema import Entries
from bothways.serve.protocols.protocol import Schema
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Task

_Threshold = Annotated[float, Field(ge=0, le=1, strict=True)]


class Choices(Schema):
    """What every protocol lets a request choose, where the protocol has a place for it."""

    top_k: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Also return this many labels, most probable first."""
    threshold: _Threshold | None = None
    """Threshold of all labels of a multi-label model. Defaults to those chosen in training."""
    thresholds: Entries[_Threshold] | None = None
    """Thresholds of some labels of a multi-label model, by label. Precede `threshold`."""

    def task_of(self, model: Classifier) -> Task:
        """Return the task of a model with the thresholds of this request.

        Raises:
            RequestInvalid: The model has no labels to choose from or no thresholds, or a label is unknown.
        """
        if self.top_k is not None and not model.labels:
            raise RequestInvalid("top_k is not supported: the model predicts a number and has no labels")
        if self.threshold is None and self.thresholds is None:
            return model.task
        try:
            return model.task.with_thresholds(self.thresholds or {}, self.threshold)
        except ConfigError as error:
            raise RequestInvalid(str(error)) from None


def ranked(scores: Scores) -> list[int]:
    """Return the positions of scores, (C,), from the highest to the lowest. Equal ones keep their order."""
    return sorted(range(len(scores)), key=lambda position: -scores[position])
