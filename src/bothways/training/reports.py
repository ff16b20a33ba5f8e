"""What a training run tells while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from bothways.text.reading import Direction


@dataclass(frozen=True)
class StepReport:
    """One optimiser step done.

    Attributes:
        stage: What is being trained, such as ``language model``.
        direction: Which way the model reads; None for stages of both.
        epoch: From 1.
        epochs: Of this stage.
        step: Steps of this stage done so far.
        steps: Of this stage, about.
        loss: Of this step, nats a token or a text.
        rate: Learning rate of the last layers.
    """

    stage: str
    direction: Direction | None
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rate: float


@dataclass(frozen=True)
class EpochReport:
    """One epoch done and validated.

    Attributes:
        measures: On the validation rows: ``loss`` (nats), and ``accuracy`` (0..1) or ``perplexity``.
        is_best: Whether it is the best epoch of its model so far.
        seconds: Time of the epoch.
    """

    stage: str
    direction: Direction | None
    epoch: int
    epochs: int
    measures: dict[str, float]
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class StageReport:
    """A stage without steps has begun, or something should be known (a warning)."""

    stage: str
    message: str = ""
    is_warning: bool = False
    facts: dict[str, object] = field(default_factory=dict)


Report = StepReport | EpochReport | StageReport
