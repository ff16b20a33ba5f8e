"""Processes that train one direction each: when one fails, the other ends with everything that belongs to it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bothways.errors import TrainingError
from bothways.text.reading import Direction
from bothways.training import directions
from bothways.training.reports import StageReport, dump_report

ENDLESS = "import sys\nwhile True: print(sys.argv[1])"
FAILING = f"print({dump_report(StageReport('x'))!r}); raise SystemExit('it is broken')"


def test_no_reader_outlives_the_processes_of_a_training_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is left would find its pipe closed, and Python would print the traceback of a thread."""

    def command(_: str, __: str, direction: str, ___: str) -> list[str]:
        code = ENDLESS if direction == "forward" else FAILING
        return [sys.executable, "-c", code, dump_report(StageReport("y"))]

    monkeypatch.setattr(directions, "module_command", command)
    members = [SimpleNamespace(direction=direction) for direction in Direction]
    plan: Any = SimpleNamespace(members=members, at_once=True, threads=1)
    before = set(threading.enumerate())
    with pytest.raises(TrainingError, match=r"the training process of the backward model failed .* it is broken"):
        for _ in directions.train_directions(tmp_path, plan):
            pass
    assert set(threading.enumerate()) == before
