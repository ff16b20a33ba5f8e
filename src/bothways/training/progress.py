"""Show a run's reports on a terminal: a bar with the stage and the time left, a line for each epoch."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bothways.training.reports import EpochReport, Report, StageReport, StepReport


def show(reports: Iterable[Report], console: Console | None) -> StageReport:
    """Go through all reports, showing them on a console if there is one, and give the last."""
    last: Report = StageReport("start")
    if console is None:
        last = collections.deque(reports, maxlen=1)[0]
    else:
        with _Display(console) as display:
            for last in reports:
                display.tell(last)
    assert isinstance(last, StageReport)
    return last


class _Display:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("loss {task.fields[loss]:.3f}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._stage: tuple[object, ...] = ()
        self._task: TaskID | None = None

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._progress.stop()

    def tell(self, report: Report) -> None:
        match report:
            case StepReport():
                if self._stage != (report.stage, report.direction):
                    self._stage = (report.stage, report.direction)
                    self._remove_bar()
                    self._task = self._progress.add_task("", total=report.steps, loss=report.loss)
                assert self._task is not None
                description = f"{report.direction} {report.stage}, epoch {report.epoch}/{report.epochs}"
                self._progress.update(
                    self._task, completed=report.step, total=report.steps, description=description, loss=report.loss
                )
            case EpochReport():
                measures = ", ".join(f"{name} {value:.4g}" for name, value in report.measures.items())
                best = "  best so far" if report.is_best else ""
                self._print(
                    f"{report.direction} {report.stage}, epoch {report.epoch}/{report.epochs}: validation {measures}"
                    f"  ({report.seconds:.0f} s){best}"
                )
            case StageReport(is_warning=True):
                self._print(f"warning: {report.message}")
            case StageReport():
                self._remove_bar()
                self._print(f"{report.stage}{': ' if report.message else ''}{report.message}")

    def _remove_bar(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
