"""Send the metrics of a run to TensorBoard or Weights & Biases, through their own libraries.

In: the reports of a run. Out: the same reports, and an event file per direction or a run of wandb. A library is
imported only if it was requested. A library that fails is reported once and left out: it never stops a training.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from bothways.errors import ConfigError, DependencyMissing, path_text, quoted, shown
from bothways.training.reports import EpochReport, Report, StageReport, StepReport
from bothways.training.run_folder import is_recorded, run_folder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter
    from wandb import Run

Kind = Literal["tensorboard", "wandb"]
_NAMES: dict[Kind, str] = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases"}
_LONGEST_END_S = 60.0
"""Time for wandb to upload what is left when the training has ended."""


@dataclass(frozen=True)
class LogTarget:
    """Where to send metrics.

    Attributes:
        kind: The library.
        place: A folder for TensorBoard, a project for Weights & Biases; empty for the default.
    """

    kind: Kind
    place: str = ""


class _RunLog(Protocol):
    def begin(self) -> str:
        """Open the log, and return where to find it."""

    def write(self, report: StepReport | EpochReport) -> None:
        """Log the metrics of a step or an epoch."""

    def end(self, failed: bool) -> None:
        """Close the log."""


def parse_log_targets(values: str | Sequence[str]) -> list[LogTarget]:
    """Return the targets that ``tensorboard``, ``tensorboard:FOLDER``, ``wandb`` and ``wandb:PROJECT`` name.

    Raises:
        ConfigError: A value names another library.
        DependencyMissing: A library is not installed.
    """
    targets = []
    for value in [values] if isinstance(values, str) else values:
        kind, _, place = str(value).partition(":")
        if kind not in _NAMES:
            raise ConfigError(f"--log-to {quoted(value)}: expected tensorboard[:FOLDER] or wandb[:PROJECT]")
        if importlib.util.find_spec(kind) is None:
            raise DependencyMissing(f"--log-to {kind} needs {_NAMES[kind]}: pip install 'bothways[{kind}]'")
        targets.append(LogTarget(kind, place))
    return targets


def logged(
    reports: Iterable[Report], targets: Sequence[LogTarget], out: Path, config: Mapping[str, object]
) -> Iterator[Report]:
    """Yield the reports of a run, and send its metrics to each target.

    Args:
        reports: The reports of a run.
        targets: Where to send metrics.
        out: Output of the run, after which it is named.
        config: Settings of the run, for targets that show them.

    Yields:
        The reports, and one more per target that states where its metrics are or that it failed.
    """
    logs = _Logs({target: _new_log(target, out, config) for target in targets})
    failed = True
    try:
        for number, report in enumerate(reports):
            if number == 0:  # the run has begun: no other process trains this output
                yield from logs.begin()
            if isinstance(report, StepReport | EpochReport) and is_recorded(report):
                yield from logs.write(report)
            yield report
        failed = False
    finally:
        problems = logs.end(failed)
    yield from problems


class _Logs:
    """The logs of a run. One that fails is left out."""

    def __init__(self, logs: dict[LogTarget, _RunLog]) -> None:
        self._logs = logs

    def begin(self) -> list[Report]:
        places: dict[LogTarget, str] = {}

        def begin(target: LogTarget, log: _RunLog) -> None:
            places[target] = log.begin()

        problems = self._each(begin)
        return [*(StageReport(_NAMES[target.kind], place) for target, place in places.items()), *problems]

    def write(self, report: StepReport | EpochReport) -> list[Report]:
        return self._each(lambda _, log: log.write(report))

    def end(self, failed: bool) -> list[Report]:
        return self._each(lambda _, log: log.end(failed))

    def _each(self, action: Callable[[LogTarget, _RunLog], None]) -> list[Report]:
        """Do something with each log, and return a warning for each one that fails."""
        problems: list[Report] = []
        for target, log in [*self._logs.items()]:
            try:
                action(target, log)
            except Exception as error:  # noqa: BLE001  (of a library: training continues without it)
                del self._logs[target]
                problem = f"{type(error).__name__}: {error}"
                message = f"{_NAMES[target.kind]} failed, and training continues without it: {shown(problem, 500)}"
                problems.append(StageReport(_NAMES[target.kind], message, is_warning=True))
        return problems


def _new_log(target: LogTarget, out: Path, config: Mapping[str, object]) -> _RunLog:
    if target.kind == "tensorboard":
        folder = Path(target.place) / out.name if target.place else run_folder(out) / "tensorboard"
        return _TensorBoard(folder)
    return _WeightsAndBiases(target.place or "bothways", out.name, config)


def _metrics(report: StepReport | EpochReport) -> dict[str, float]:
    """Return the numbers of a report by name, such as ``training_loss`` and ``validation_accuracy``."""
    if isinstance(report, StepReport):
        return {
            "training_loss": report.loss,
            "learning_rate": report.learning_rate,
            "gradient_norm": report.gradient_norm,
        }
    return {f"validation_{name}": value for name, value in report.metrics.items()}


class _TensorBoard:
    """An event file per direction, so that both directions share the charts of a stage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def begin(self) -> str:
        import torch.utils.tensorboard  # noqa: F401, PLC0415  (an extra)

        self._folder.mkdir(parents=True, exist_ok=True)
        return f"tensorboard --logdir {path_text(self._folder)}"

    def write(self, report: StepReport | EpochReport) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (an extra)

        name = str(report.direction)
        if name not in self._writers:
            self._writers[name] = SummaryWriter(str(self._folder / name))
        for metric, value in _metrics(report).items():
            tag = f"{report.stage.replace(' ', '_')}/{metric}"
            self._writers[name].add_scalar(tag, value, report.step)

    def end(self, failed: bool) -> None:
        for writer in self._writers.values():
            writer.close()


class _WeightsAndBiases:
    """A run of wandb. Each stage and direction has its own step."""

    def __init__(self, project: str, name: str, config: Mapping[str, object]) -> None:
        self._project, self._name, self._config = project, name, config
        self._run: Run | None = None
        self._prefixes: set[str] = set()

    def begin(self) -> str:
        import wandb  # noqa: PLC0415  (an extra)

        self._run = wandb.init(
            project=self._project,
            name=path_text(self._name),
            config=dict(self._config),
            reinit="create_new",  # leaves a run that the user's own program has begun alone
            settings=wandb.Settings(console="off", silent=True, finish_timeout=_LONGEST_END_S),
        )
        if self._run.offline:
            return f"offline, upload it later with: wandb sync {path_text(Path(self._run.dir).parent)}"
        return str(self._run.url)

    def write(self, report: StepReport | EpochReport) -> None:
        run = cast("Run", self._run)
        prefix = f"{report.direction}/{report.stage.replace(' ', '_')}"
        if prefix not in self._prefixes:
            self._prefixes.add(prefix)
            run.define_metric(f"{prefix}/step")
            run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/step")
        run.log({f"{prefix}/step": report.step, **{f"{prefix}/{name}": v for name, v in _metrics(report).items()}})

    def end(self, failed: bool) -> None:
        if self._run is not None:
            self._run.finish(exit_code=int(failed))
