"""Keep a run's metrics beside its output, and tell what an interrupted run left behind.

In: reports. Out: ``OUT.run/metrics.jsonl``, one JSON object a line. Durations and dates live here, never in a bundle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from bothways import strict_json
from bothways.bundle.write import UNFINISHED_SUFFIX
from bothways.data.files import refuse_existing, writing_failed
from bothways.training.reports import Report, StageReport, StepReport

METRICS_FILE = "metrics.jsonl"
_STEPS_A_LINE = 10


def run_folder(out: Path) -> Path:
    """Give the folder of the run that writes ``out``."""
    return out.with_name(f"{out.name}.run")


def recorded(out: Path, reports: Iterable[Report]) -> Iterator[Report]:
    """Pass a run's reports on, after writing them down; tells first what an interrupted run left behind.

    Raises:
        OutputExists: Something is at ``out``.
        ConfigError: The folder that ``out`` should go to does not exist.
        DataError: The metrics can't be written.
    """
    refuse_existing(out)
    yield from _clear_remains(out)
    folder = run_folder(out)
    try:
        folder.mkdir(exist_ok=True)
        (folder / METRICS_FILE).write_bytes(b"")
    except OSError as error:
        raise writing_failed(folder, error) from None
    for report in reports:
        if not isinstance(report, StepReport) or report.step % _STEPS_A_LINE == 0:
            _write_down(report, folder)
        yield report


def _write_down(report: Report, folder: Path) -> None:
    line = {"time_s": round(time.time(), 3), "report": type(report).__name__, **dataclasses.asdict(report)}
    try:
        with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(strict_json.dump(line) + "\n")
    except OSError as error:
        raise writing_failed(folder, error) from None


def _clear_remains(out: Path) -> Iterator[Report]:
    """Remove what a killed run could not remove itself, and say where an unfinished one stopped."""
    for leftover in out.parent.glob(f".{glob.escape(out.name)}.*{UNFINISHED_SUFFIX}"):
        shutil.rmtree(leftover, ignore_errors=True)
    metrics = run_folder(out) / METRICS_FILE
    if metrics.exists():
        place = _last_place(metrics)
        if place is not None:
            message = f"an earlier run stopped {place} and left no {out.name}; starting from the beginning"
            yield StageReport("start", message, is_warning=True)


def _last_place(metrics: Path) -> str | None:
    """Say where a run stopped; None if it came to its end, and its output was taken away since."""
    last: object = {}
    with contextlib.suppress(OSError, ValueError):
        for line in metrics.read_bytes().splitlines():
            last = strict_json.parse(line)
    if not isinstance(last, dict) or "stage" not in last:
        return "at its start"
    if last["stage"] == "done":
        return None
    place = f"in the stage {last['stage']!r}"
    return f"{place} ({last['direction']}, epoch {last['epoch']})" if last.get("direction") else place
