"""Display the reports of a run on a terminal: a progress bar per direction and a line per epoch."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bothways.text.reading import Direction
from bothways.training.reports import EpochReport, ProgressReport, Report, StageReport, StepReport

_SMOOTHING = 0.95


def show(reports: Iterable[Report], console: Console | None) -> StageReport:
    """Consume all reports and display them.

    Args:
        reports: The reports of a run.
        console: Where to display them. None displays nothing.

    Returns:
        The last report.
    """
    last: Report = StageReport("start")
    if console is None:
        last = collections.deque(reports, maxlen=1)[0]
    else:
        with _Display(console) as display:
            for last in reports:
                display.show(last)
    assert isinstance(last, StageReport)
    return last


class _Display:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._bars: dict[Direction | None, _Bar] = {}

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._progress.stop()

    def show(self, report: Report) -> None:
        match report:
            case StepReport():
                bar = self._bar(report.direction, report.stage)
                description = f"{report.direction} {report.stage}, epoch {report.epoch}/{report.epochs}"
                status = bar.update(report)
                self._progress.update(
                    bar.task, completed=report.step, total=report.steps, description=description, status=status
                )
            case ProgressReport():
                bar = self._bar(None, report.stage)
                self._progress.update(bar.task, completed=report.done, total=report.total, description=report.stage)
            case EpochReport():
                metrics = ", ".join(f"{name} {value:.4g}" for name, value in report.metrics.items())
                best = ", best so far" if report.is_best else ""
                self._print(
                    f"{report.direction} {report.stage}, epoch {report.epoch}/{report.epochs}: validation {metrics}"
                    f" ({report.seconds:.0f} s{best})"
                )
            case StageReport(is_warning=True):
                self._print(f"warning: {report.message}")
            case StageReport():
                for direction in [*self._bars]:
                    self._remove_bar(direction)
                self._print(f"{report.stage}{': ' if report.message else ''}{report.message}")

    def _bar(self, direction: Direction | None, stage: str) -> _Bar:
        """Return the bar of a direction, or a new one if the stage changed. Parallel directions have one each."""
        bar = self._bars.get(direction)
        if bar is None or bar.stage != stage:
            self._remove_bar(direction)
            bar = self._bars[direction] = _Bar(self._progress.add_task("", total=None, status=""), stage)
        return bar

    def _remove_bar(self, direction: Direction | None) -> None:
        bar = self._bars.pop(direction, None)
        if bar is not None:
            self._progress.remove_task(bar.task)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Bar:
    """A progress bar of one stage, with the smoothed training loss and the speed."""

    def __init__(self, task: TaskID, stage: str) -> None:
        self.task, self.stage = task, stage
        self._loss: float | None = None
        self._tokens = 0
        self._started = time.monotonic()

    def update(self, report: StepReport) -> str:
        """Return the text to show behind the bar after a step."""
        self._loss = report.loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * report.loss
        self._tokens += report.tokens
        speed = self._tokens / max(time.monotonic() - self._started, 1e-9)
        perplexity = f", perplexity {math.exp(min(self._loss, 50)):,.0f}" if "language" in report.stage else ""
        return f"loss {self._loss:.3f}{perplexity}, {speed:,.0f} tokens/s"
