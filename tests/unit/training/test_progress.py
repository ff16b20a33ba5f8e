"""What a user sees while a run trains: bars and epochs in a terminal, bars in a notebook, few lines elsewhere (A8)."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bothways.terminal import SafeConsole
from bothways.text.reading import Direction
from bothways.training import progress
from bothways.training.progress import show, stages
from bothways.training.reports import EpochReport, ProgressReport, Report, StageReport, StepReport

STEPS_PER_EPOCH = 10


class Clock:
    """A clock that only moves when it is moved."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(progress, "time", ours)
    return ours


def stage(clock: Clock, name: str, epochs: int, step_s: float, both: bool = True) -> Iterator[Report]:
    """Yield the reports of a stage. Its third epoch is the best."""
    directions = list(Direction) if both else [Direction.FORWARD]
    for step in range(1, epochs * STEPS_PER_EPOCH + 1):
        clock.seconds += step_s
        epoch = 1 + (step - 1) // STEPS_PER_EPOCH
        for direction in directions:
            yield StepReport(name, direction, epoch, epochs, step, epochs * STEPS_PER_EPOCH, 0.5, 0.1, 0.5, 64)
            if step % STEPS_PER_EPOCH == 0:
                metrics = {"loss": 0.25 + abs(epoch - 3) / 8, "accuracy": 0.75}
                yield EpochReport(name, direction, epoch, epochs, step, metrics, 1.5, is_best=epoch <= 3)


def a_run(clock: Clock, step_s: float = 0.1) -> Iterator[Report]:
    yield StageReport("tokenizer")
    yield from (ProgressReport("tokens", done, 1000) for done in (500, 1000))
    yield from stage(clock, "language model", 3, step_s)
    yield from stage(clock, "classifier", 4, step_s)
    yield StageReport("classifier", "7 of 9 texts are short", is_warning=True)
    yield StageReport("bundle", "verifying it")
    yield StageReport("done", "m.bundle")


def lines_of(reports: Iterator[Report], **options: Any) -> list[str]:
    file = io.StringIO()
    assert show(reports, SafeConsole(file=file, width=200, **options)) == StageReport("done", "m.bundle")
    return file.getvalue().splitlines()


def test_a8_outside_a_terminal_each_stage_and_direction_has_one_line(clock: Clock) -> None:
    assert lines_of(a_run(clock)) == [
        "tokenizer",
        "forward language model, epoch 3/3: validation loss 0.25, accuracy 0.75 (3 s)",
        "backward language model, epoch 3/3: validation loss 0.25, accuracy 0.75 (3 s)",
        "warning: 7 of 9 texts are short",
        "forward classifier, epoch 4/4: validation loss 0.375, accuracy 0.75 (4 s); "
        "best in epoch 3: loss 0.25, accuracy 0.75",
        "backward classifier, epoch 4/4: validation loss 0.375, accuracy 0.75 (4 s); "
        "best in epoch 3: loss 0.25, accuracy 0.75",
        "bundle: verifying it",
        "done: m.bundle",
    ]


def test_a8_a_long_stage_prints_the_time_left_now_and_then(clock: Clock) -> None:
    lines = lines_of(a_run(clock, step_s=20.0))
    status = [line for line in lines if "left" in line]
    assert status[0] == "forward language model 7%, backward language model 3%: about 10 min left in this stage"
    assert 8 <= len(status) <= 24  # one a minute for 23 minutes
    slower = [line for line in lines_of(a_run(clock, step_s=2000.0)) if "left" in line]
    assert len(slower) <= 2 * 21 + 2  # hours have no more lines
    assert re.search(r": about 1\d h \d\d min left in this stage$", slower[3])


def test_a_terminal_has_bars_and_a_line_per_epoch(clock: Clock) -> None:
    text = "\n".join(lines_of(a_run(clock), force_terminal=True, color_system=None))
    assert "forward language model, epoch 1/3" in text
    assert "forward classifier, epoch 3/4: validation loss 0.25, accuracy 0.75 (2 s, best so far)" in text
    assert "ETA" in text
    assert "best in epoch" not in text


@pytest.mark.parametrize("has_widgets", [True, False])
def test_a8_a_notebook_has_bars_if_widgets_are_installed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, has_widgets: bool
) -> None:
    displayed: list[Any] = []

    class Output:
        def __enter__(self) -> Output:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def clear_output(self, wait: bool = False) -> None:
            pass

    fakes = {"IPython": ModuleType("IPython"), "IPython.display": ModuleType("IPython.display")}
    fakes["IPython.display"].display = displayed.append  # type: ignore[attr-defined]
    if has_widgets:
        fakes["ipywidgets"] = ModuleType("ipywidgets")
        fakes["ipywidgets"].Output = Output  # type: ignore[attr-defined]
        fakes["ipywidgets"].__spec__ = SimpleNamespace()  # type: ignore[assignment]
    for name, module in fakes.items():
        monkeypatch.setitem(sys.modules, name, module)
    lines_of(a_run(clock, step_s=20.0), force_jupyter=True)
    texts = [shown.text for shown in displayed if hasattr(shown, "text")]
    assert any(isinstance(shown, Output) for shown in displayed) == has_widgets
    assert any("━" in text for text in texts) == has_widgets
    assert any("left in this stage" in text for text in texts) != has_widgets
    assert any(text.startswith("forward classifier, epoch 4/4: validation loss 0.375") for text in texts)
    assert not any(text.startswith("forward classifier, epoch 3/4: ") for text in texts)


def test_nothing_is_shown_without_a_console(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(a_run(clock), None) == StageReport("done", "m.bundle")
    assert capsys.readouterr() == ("", "")


def shown_of_stages(clock: Clock, step_s: float, **options: Any) -> str:
    file = io.StringIO()
    with stages(SafeConsole(file=file, width=200, **options)) as on_progress:
        for stage_name in ("hashing texts", "fitting models"):
            for done in range(100):
                on_progress(stage_name, done, 100)
                clock.seconds += step_s
    return file.getvalue()


def test_stages_that_are_quick_print_nothing_outside_a_terminal_and_long_ones_the_time_left(clock: Clock) -> None:
    assert shown_of_stages(clock, step_s=0.05) == ""
    first, *more = shown_of_stages(clock, step_s=3.0).splitlines()
    assert first == "hashing texts 5%: about 5 min left in this stage"
    assert 8 <= len(more) <= 10  # one a minute for 10 minutes
    assert re.fullmatch(r"fitting models \d\d%: about \d+ (?:s|min) left in this stage", more[-1])


def test_stages_have_bars_in_a_terminal_which_are_removed_at_the_end(clock: Clock) -> None:
    text = shown_of_stages(clock, step_s=0.05, force_terminal=True, color_system=None)
    assert "hashing texts" in text
    assert "ETA" in text
    assert "left in this stage" not in text
    assert text.removesuffix("\x1b[?25h").endswith("\r\x1b[2K")
