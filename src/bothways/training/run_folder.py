"""Keep what a run needs to go on, and its metrics, beside its output; tell what an interrupted run left behind.

In: what was asked for, and reports. Out: ``OUT.run``: ``metrics.jsonl`` with one JSON object a line, which stays, and
until the output is there the plan, the texts' ids and the checkpoints. Durations and dates live in the
metrics, never in a bundle. A folder of that name that this program did not make is refused and left as it is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import filelock

from bothways import strict_json
from bothways.bundle.write import remove_unfinished
from bothways.errors import ConfigError, ParityFailed, TrainingError
from bothways.files import refuse_existing, writing_failed
from bothways.training.plan import PlanFolder
from bothways.training.reports import ProgressReport, Report, StageReport, StepReport, dump_report

METRICS_FILE = "metrics.jsonl"
MARKER_FILE = "bothways-run.json"
"""Tells a folder that this program made from one that a user has at the same place."""
_LOCK_FILE = "lock"
_STEPS_A_LINE = 10
_MOST_DIFFERENCES_TOLD = 5

Asked = Mapping[str, object]
"""All that decides what comes out of a run: digests of the data, settings, recipe, versions. As JSON holds it."""


def run_folder(out: Path) -> Path:
    """Return the folder of the run that writes ``out``."""
    return out.with_name(f"{out.name}.run")


def recorded(out: Path, fingerprint: Asked, reports: Iterable[Report]) -> Iterator[Report]:
    """Pass a run's reports on, after writing them down; tells first whether it goes on with an interrupted run.

    Guarantee 7: an interrupted run is only gone on with if the same was asked for; then it ends in the same bytes.

    Raises:
        OutputExists: Something is at ``out``.
        ConfigError: The folder that ``out`` should go to does not exist; what is at the place of the run's folder is
            not one; an interrupted run was asked for otherwise; or another process is at work on it.
        DataError: The metrics can't be written.
    """
    refuse_existing(out)
    folder = run_folder(out)
    _make(folder, out)
    try:
        with filelock.FileLock(folder / _LOCK_FILE, timeout=0):
            yield from _begun(out, folder, fingerprint)
            try:
                for report in reports:
                    if _is_written_down(report):
                        _write_down(report, folder)
                    yield report
            except ParityFailed:  # what was trained is kept: it may be proven elsewhere, or by a mended version
                raise
            except TrainingError:
                _clear(folder)  # it would only come to the same end again
                raise
            _clear(folder)
    except filelock.Timeout:
        raise ConfigError(f"another process is training {out}: wait for its end, or choose another --out") from None


def _make(folder: Path, out: Path) -> None:
    """Make the folder of a run and mark it as ours, or find it so marked.

    Raises:
        ConfigError: Something else is there.
        DataError: It can't be written.
    """
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        if folder.is_symlink() or not folder.is_dir():
            raise ConfigError(
                f"{folder} exists and is not a folder of a training run: move it, or choose another --out"
            )
        marker = folder / MARKER_FILE
        if not os.path.lexists(marker):
            if any(folder.iterdir()):
                raise ConfigError(
                    f"{folder} exists and was not made by a training run: move it, or choose another --out"
                )
            marker.write_text(strict_json.dump({"output": out.name}) + "\n", encoding="utf-8")
    except OSError as error:
        raise writing_failed(folder, error) from None


def _begun(out: Path, folder: Path, fingerprint: Asked) -> Iterator[Report]:
    """Remove what a killed run could not remove itself; go on with it, or begin anew."""
    remove_unfinished(out)
    plan = PlanFolder(folder)
    place = _last_place(folder)
    if plan.is_complete:
        differences = _differences(
            plan.read_plan().fingerprint, strict_json.parse(strict_json.dump(fingerprint).encode())
        )
        if differences:
            told = "; ".join(differences[:_MOST_DIFFERENCES_TOLD])
            raise ConfigError(
                f"{folder} holds an unfinished run for which something else was asked: {told}: "
                f"ask for the same to go on with it, or remove {folder} to start over"
            )
        yield StageReport("start", f"an earlier run stopped {place}: going on from there", is_warning=True)
        return
    _clear(folder)
    try:
        (folder / METRICS_FILE).write_bytes(b"")
    except OSError as error:
        raise writing_failed(folder, error) from None
    if place is not None:
        message = f"an earlier run stopped {place} and left no {out.name}; starting from the beginning"
        yield StageReport("start", message, is_warning=True)


def _differences(before: object, now: object, place: str = "") -> list[str]:
    """Tell where two JSON values differ, key by key."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            difference
            for key in keys
            for difference in _differences(before.get(key), now.get(key), f"{place}.{key}" if place else key)
        ]
    return [] if before == now else [f"{place} was {_short(before)}, now it is {_short(now)}"]


def _short(value: object) -> str:
    text = "not given" if value is None else strict_json.dump(value)
    return text if len(text) <= 60 else text[:12] + "..."


def _clear(folder: Path) -> None:
    """Remove the plan and all that it needs; metrics, marker and lock stay, and so does whatever is not ours."""
    PlanFolder(folder).remove()


def _is_written_down(report: Report) -> bool:
    if isinstance(report, StepReport):
        return report.step % _STEPS_A_LINE == 0
    return not isinstance(report, ProgressReport)


def _write_down(report: Report, folder: Path) -> None:
    try:
        with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(dump_report(report, time_s=round(time.time(), 3)) + "\n")
    except OSError as error:
        raise writing_failed(folder, error) from None


def _last_place(folder: Path) -> str | None:
    """Say where a run stopped; None if there was none, or it came to its end."""
    last: object = {}
    try:
        for line in (folder / METRICS_FILE).read_bytes().splitlines():
            last = strict_json.parse(line)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # a line that was cut short; the one before it is told
        pass
    if not isinstance(last, dict) or "stage" not in last:
        return "at its start"
    if last["stage"] == "done":
        return None
    place = f"in the stage {last['stage']!r}"
    return f"{place} ({last['direction']}, epoch {last['epoch']})" if last.get("direction") else place
