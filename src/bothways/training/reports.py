"""Progress reports of a training run, which also travel between processes as lines of JSON."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Literal, get_args

from pydantic import TypeAdapter

from bothways import strict_json
from bothways.text.reading import Direction

LANGUAGE_MODEL_STAGE: Literal["language model"] = "language model"
CLASSIFIER_STAGE: Literal["classifier"] = "classifier"
TIME_STAGE = "time"


@dataclass(frozen=True)
class StepReport:
    """One optimizer step was taken.

    Attributes:
        stage: Name of the stage, such as ``language model``.
        direction: Reading direction of the model. None in stages that concern both directions.
        epoch: Number of the epoch, from 1.
        epochs: Number of epochs of the stage. The last one may be incomplete.
        step: Number of steps of the stage taken so far.
        steps: Approximate number of steps of the stage.
        loss: Training loss of the step, in nats per token or per text.
        learning_rate: Learning rate of the top layer group.
        gradient_norm: Total norm of the gradients before clipping.
        tokens: Number of tokens read in the step, without padding.
    """

    stage: str
    direction: Direction | None
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int


@dataclass(frozen=True)
class EpochReport:
    """An epoch, or part of a very long one, ended with an evaluation on the validation set.

    Attributes:
        stage: Name of the stage.
        direction: Reading direction of the model.
        epoch: Number of the epoch, from 1.
        epochs: Number of epochs of the stage.
        step: Number of steps of the stage taken so far.
        metrics: Validation metrics: ``loss`` in nats, and for example ``accuracy`` (0..1) or ``perplexity``.
        seconds: Duration since the last evaluation or, if later, the start of the process.
        is_best: Whether the model is the best so far. Language models keep their best weights, classifiers their last
            ones unless ``keep`` is ``best``.
    """

    stage: str
    direction: Direction | None
    epoch: int
    epochs: int
    step: int
    metrics: dict[str, float]
    seconds: float
    is_best: bool = False


@dataclass(frozen=True)
class StageReport:
    """A stage without steps began, or a warning was raised.

    Attributes:
        stage: Name of the stage.
        message: Details for the user.
        is_warning: Whether the message is a warning.
        facts: Further values for ``metrics.jsonl``, as JSON.
    """

    stage: str
    message: str = ""
    is_warning: bool = False
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ProgressReport:
    """Progress of a stage without steps.

    Attributes:
        stage: Name of the stage.
        done: Number of texts processed so far.
        total: Number of texts in total.
    """

    stage: str
    done: int
    total: int


Report = StepReport | EpochReport | StageReport | ProgressReport
_KINDS: dict[str, type[Report]] = {kind.__name__: kind for kind in get_args(Report)}


def dump_report(report: Report, **more: object) -> str:
    """Return a report as one line of JSON, with the keys of ``more`` before its own."""
    return strict_json.dump({**more, "report": type(report).__name__, **dataclasses.asdict(report)})


def parse_report(line: bytes) -> Report:
    """Return the report in a line that ``dump_report`` made without further keys."""
    values = strict_json.parse(line)
    assert isinstance(values, dict)
    return _adapter(values.pop("report")).validate_python(values)


@functools.cache
def _adapter(kind: str) -> TypeAdapter[Report]:
    return TypeAdapter(_KINDS[kind])
