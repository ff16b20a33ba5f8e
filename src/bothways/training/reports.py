"""What a training run tells while it goes on, also from one process to another."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from bothways import strict_json
from bothways.text.reading import Direction


@dataclass(frozen=True)
class StepReport:
    """One optimizer step done.

    Attributes:
        stage: What is being trained, such as ``language model``.
        direction: Which way the model reads; None for stages of both.
        epoch: From 1.
        epochs: Of this stage; the last one may be a part.
        step: Steps of this stage done so far.
        steps: Of this stage, about.
        loss: Of this step, nats a token or a text.
        rate: Learning rate of the last layers.
        tokens: Read in this step, padding not counted.
    """

    stage: str
    direction: Direction | None
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rate: float
    tokens: int


@dataclass(frozen=True)
class EpochReport:
    """One epoch, or a good part of a very long one, done and validated.

    Attributes:
        measures: On the validation rows: ``loss`` (nats), and ``accuracy`` (0..1) or ``perplexity``.
        seconds: Time of the epoch, since the run was last started.
        is_best: Of a language model, which is kept at its best: whether this is the best epoch so far.
    """

    stage: str
    direction: Direction | None
    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds: float
    is_best: bool = False


@dataclass(frozen=True)
class StageReport:
    """A stage without steps has begun, or something should be known (a warning)."""

    stage: str
    message: str = ""
    is_warning: bool = False
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ProgressReport:
    """How far a stage without steps has come.

    Attributes:
        done: So far.
        total: In all.
    """

    stage: str
    done: int
    total: int


Report = StepReport | EpochReport | StageReport | ProgressReport
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (StepReport, EpochReport, StageReport, ProgressReport)}


def dump_report(report: Report, **more: object) -> str:
    """Return a report as one line of JSON, with some more keys."""
    return strict_json.dump({**more, "report": type(report).__name__, **dataclasses.asdict(report)})


def parse_report(line: bytes) -> Report:
    """Return the report that ``dump_report`` made a line of."""
    values = strict_json.parse(line)
    assert isinstance(values, dict)
    kind = _KINDS[values.pop("report")]
    if values.get("direction") is not None:
        values["direction"] = Direction(values["direction"])
    report: Report = kind(**values)
    return report
