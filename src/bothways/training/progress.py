"""Display the reports of a run.

A terminal gets a progress bar per direction and a line per epoch, a notebook the bars. Any other output, such as a log
file, gets a line per stage and direction when it ends, and in between at most about twenty with the time left.
"""

from __future__ import annotations

import collections
import importlib.util
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bothways.terminal import OnProgress, SafeConsole, ignore_progress
from bothways.text.reading import Direction
from bothways.training.reports import (
    CLASSIFIER_STAGE,
    LANGUAGE_MODEL_STAGE,
    TIME_STAGE,
    EpochReport,
    ProgressReport,
    Report,
    StageReport,
    StepReport,
)

_SMOOTHING = 0.95
_OF_ONE_DIRECTION = (LANGUAGE_MODEL_STAGE, CLASSIFIER_STAGE, TIME_STAGE)
"""Stages of messages of one direction, while the other one continues. Other messages end the stages of both."""
_FIRST_LINE_S = 15.0
_BETWEEN_LINES_S = 60.0
_LEAST_TO_KNOW_SPEED_S = 5.0
_LINES_PER_STAGE = 20
_BETWEEN_UPDATES_S = 0.1


def show(reports: Iterable[Report], console: SafeConsole | None) -> StageReport:
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


@contextmanager
def stages(console: SafeConsole | None) -> Iterator[OnProgress]:
    """Yield a function that displays how far a stage is. Another stage ends the one before it.

    Args:
        console: Where to display them. None displays nothing.
    """
    if console is None:
        yield ignore_progress
        return
    with _Display(console) as display:
        current, next_s = "", 0.0

        def on_progress(stage: str, done: int, total: int) -> None:
            nonlocal current, next_s
            now = time.monotonic()
            if stage != current or now >= next_s:
                current, next_s = stage, now + _BETWEEN_UPDATES_S
                display.show(ProgressReport(stage, done, total))

        try:
            yield on_progress
        finally:
            display.end()


class _Display:
    def __init__(self, console: SafeConsole) -> None:
        self._console = console
        self._has_epoch_lines = console.is_terminal
        # rich draws bars in a notebook with ipywidgets only
        in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        self._has_bars = console.is_terminal or in_notebook
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not self._has_bars,
        )
        self._stages: dict[Direction | None, _Stage] = {}
        self._last_line = time.monotonic() + _FIRST_LINE_S - _BETWEEN_LINES_S

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._progress.stop()

    def end(self) -> None:
        """Remove all bars."""
        for direction in [*self._stages]:
            self._end(direction)

    def show(self, report: Report) -> None:
        match report:
            case StepReport():
                self._end(None)
                stage = self._stage(report.direction, report.stage)
                status = stage.take_step(report)
                description = f"{report.direction} {report.stage}, epoch {report.epoch}/{report.epochs}"
                self._advance(stage, report.step, report.steps, description, status)
            case ProgressReport():
                self._advance(self._stage(None, report.stage), report.done, report.total, report.stage)
            case EpochReport():
                self._stage(report.direction, report.stage).take_epoch(report)
                if self._has_epoch_lines:
                    best = ", best so far" if report.is_best else ""
                    self._print(
                        f"{report.direction} {report.stage}, epoch {report.epoch}/{report.epochs}: validation "
                        f"{_metrics(report)} ({report.seconds:.0f} s{best})"
                    )
            case StageReport(is_warning=True):
                self._print(f"warning: {report.message}")
            case StageReport():
                if report.stage not in _OF_ONE_DIRECTION:
                    self.end()
                self._print(f"{report.stage}{': ' if report.message else ''}{report.message}")

    def _stage(self, direction: Direction | None, name: str) -> _Stage:
        """Return the stage of a direction, or begin another one. Directions may be in different stages."""
        stage = self._stages.get(direction)
        if stage is None or stage.name != name:
            self._end(direction)
            task = self._progress.add_task(name, total=None, status="")
            stage = self._stages[direction] = _Stage(name, direction, task)
        return stage

    def _advance(self, stage: _Stage, done: int, total: int, description: str, status: str = "") -> None:
        stage.advance(done, total)
        self._progress.update(stage.task, completed=done, total=total, description=description, status=status)
        now = time.monotonic()
        seconds = max(_BETWEEN_LINES_S, max(part.seconds_in_all for part in self._stages.values()) / _LINES_PER_STAGE)
        left = max(part.seconds_left for part in self._stages.values())
        if not self._has_bars and left >= 1 and now - self._last_line >= seconds:
            self._last_line = now
            parts = ", ".join(f"{part.title} {part.share:.0%}" for part in self._stages.values())
            self._print(f"{parts}: about {_duration(left)} left in this stage")

    def _end(self, direction: Direction | None) -> None:
        stage = self._stages.pop(direction, None)
        if stage is not None:
            self._progress.remove_task(stage.task)
            if not self._has_epoch_lines and stage.summary:
                self._print(stage.summary)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Stage:
    """A stage of one direction, or of both: its progress, its smoothed training loss and its epochs."""

    def __init__(self, name: str, direction: Direction | None, task: TaskID) -> None:
        self.name, self.task = name, task
        self.title = f"{direction} {name}" if direction is not None else name
        self._loss: float | None = None
        self._tokens = 0
        self._started = time.monotonic()
        self._done_before: int | None = None
        self._done, self._total = 0, 1
        self._last: EpochReport | None = None
        self._best: EpochReport | None = None

    def take_step(self, report: StepReport) -> str:
        """Return the text to show behind the bar after a step."""
        self._loss = report.loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * report.loss
        self._tokens += report.tokens
        speed = self._tokens / max(time.monotonic() - self._started, 1e-9)
        perplexity = f", perplexity {math.exp(min(self._loss, 50)):,.0f}" if "language" in report.stage else ""
        return f"loss {self._loss:.3f}{perplexity}, {speed:,.0f} tokens/s"

    def take_epoch(self, report: EpochReport) -> None:
        self._last = report
        if report.is_best:
            self._best = report

    def advance(self, done: int, total: int) -> None:
        if self._done_before is None:  # a resumed run does not begin at 0, and the first step shows no speed
            self._done_before, self._started = done, time.monotonic()
        self._done, self._total = done, total

    @property
    def share(self) -> float:
        return self._done / max(1, self._total)

    @property
    def seconds_left(self) -> float:
        """Time to the end at the speed so far. 0 while the speed is not known."""
        done_here = self._done - (self._done_before or 0)
        elapsed = time.monotonic() - self._started
        return elapsed / max(1, done_here) * (self._total - self._done) if elapsed >= _LEAST_TO_KNOW_SPEED_S else 0.0

    @property
    def seconds_in_all(self) -> float:
        return time.monotonic() - self._started + self.seconds_left

    @property
    def summary(self) -> str:
        """The line to print when the stage has ended; empty if no epoch was measured."""
        if self._last is None:
            return ""
        last, best = self._last, self._best
        duration = _duration(time.monotonic() - self._started)
        line = f"{self.title}, epoch {last.epoch}/{last.epochs}: validation {_metrics(last)} ({duration})"
        return f"{line}; best in epoch {best.epoch}: {_metrics(best)}" if best not in (None, last) else line


def _metrics(report: EpochReport) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in report.metrics.items())


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), round(seconds) // 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{hours} h {(minutes - 60 * hours):02} min"
