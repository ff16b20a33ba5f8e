"""Keep the files that a run needs to resume, and its metrics, in the folder ``OUT.run`` next to its output.

``metrics.jsonl`` has one JSON object per line and is kept (docs/training.md). The plan, the token ids and the
checkpoints are removed once the output exists, and if the run diverged. Durations and dates are recorded in the metrics
only, never in a bundle. A folder of that name that was not made by a training run is refused and left untouched.
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
from bothways.errors import (
    BothwaysError,
    ConfigError,
    DataError,
    NoBetterThanConstant,
    ParityFailed,
    TrainingDiverged,
    WorseThanBefore,
    path_text,
    quoted,
    shown,
)
from bothways.files import WRITE_ERRORS, refuse_existing, replace_file, writing_failed
from bothways.training.plan import PlanFolder
from bothways.training.reports import ProgressReport, Report, StageReport, StepReport, dump_report

METRICS_FILE = "metrics.jsonl"
MARKER_FILE = "bothways-run.json"
"""Distinguishes a folder made by a training run from a user's own folder of the same name."""
_FAILURE_FILE = "failure.json"
"""How the last run failed, if it diverged or its output was not published, and with which fingerprint."""
_LOCK_FILE = "lock"
_MOST_STEPS_RECORDED = 1000
"""Per stage and direction, about."""
_MAX_DIFFERENCES_SHOWN = 5

Fingerprint = Mapping[str, object]
"""Everything that determines the result of a run: data digests, settings, hyperparameters and versions, as JSON."""


def run_folder(out: Path) -> Path:
    """Return the folder of the run whose output is ``out``."""
    return out.with_name(f"{out.name}.run")


def recorded(out: Path, fingerprint: Fingerprint, reports: Iterable[Report]) -> Iterator[Report]:
    """Record the reports of a run in its folder and yield them.

    An interrupted run is reported by a warning before the run's own reports. Guarantee 7: it is resumed only if the
    fingerprint is the same, and then ends in the same bytes.

    Args:
        out: Output of the run. It must not exist yet.
        fingerprint: Everything that determines the result of the run.
        reports: The reports of the run. The run begins when the first of them is requested.

    Yields:
        The reports, each after it was recorded.

    Raises:
        OutputExists: ``out`` already exists.
        ConfigError: The parent folder of ``out`` does not exist, the run's folder was not made by a training run, it
            contains an unfinished run with a different fingerprint or of another version, or another process is using
            it.
        DataError: The metrics can't be written.
        TrainingDiverged: The run diverged, now or when it was last tried with the same fingerprint.
        BothwaysError: Any other error of the run. The message states what is kept.
    """
    refuse_existing(out)
    folder = run_folder(out)
    _make(folder, out)
    try:
        with filelock.FileLock(folder / _LOCK_FILE, timeout=0):
            yield from _resume_or_start(out, folder, fingerprint)
            with _kept_if_useful(folder, fingerprint):
                for report in reports:
                    if is_recorded(report):
                        _record(report, folder)
                    yield report
            _clear(folder)
    except filelock.Timeout:
        raise ConfigError(f"another process is training {out}: wait until it ends, or choose another --out") from None


@contextlib.contextmanager
def _kept_if_useful(folder: Path, fingerprint: Fingerprint) -> Iterator[None]:
    """Keep a run that fails if it can resume, and state that in the error. Remove what is of no use."""
    try:
        yield
    except TrainingDiverged as error:  # resuming would only fail in the same way again
        _clear(folder)
        _record_failure(folder, fingerprint, error)
        raise
    except (NoBetterThanConstant, WorseThanBefore) as error:  # the same settings may publish it, others start over
        _record_failure(folder, fingerprint, error)
        raise
    except BothwaysError as error:
        if not PlanFolder(folder).is_complete:
            _clear(folder)
            raise
        if isinstance(error, ParityFailed):  # another machine may verify the trained weights
            _record_failure(folder, fingerprint, error)
        raise type(error)(f"{error}. {_kept(folder)}") from None
    except OSError as error:
        if error.errno not in WRITE_ERRORS:
            raise
        place = Path(error.filename) if isinstance(error.filename, str) else folder
        problem = str(writing_failed(place, error, is_output=False))
        if not PlanFolder(folder).is_complete:
            _clear(folder)
            raise DataError(problem) from None
        raise DataError(f"{problem}. {_kept(folder)}") from None


def _kept(folder: Path) -> str:
    return (
        f"The unfinished run is kept in {path_text(folder)}: run the same command again to continue it, or remove that "
        "folder to start over"
    )


def _record_failure(folder: Path, fingerprint: Fingerprint, error: BothwaysError) -> None:
    content = {"error": type(error).__name__, "message": str(error), "fingerprint": fingerprint}
    with contextlib.suppress(DataError):  # on a full disk, the next run tries again
        replace_file(folder / _FAILURE_FILE, strict_json.dump(content).encode())


def _has_failed_with_other_settings(folder: Path, fingerprint: Fingerprint) -> bool:
    """Return whether the last run failed with other settings, so that this one starts over.

    Raises:
        TrainingDiverged: It diverged with the same settings.
    """
    try:
        failure = strict_json.parse((folder / _FAILURE_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    if not isinstance(failure, dict):
        return False
    differences = _differences(failure.get("fingerprint"), _as_json(fingerprint))
    if differences:  # another version may verify the trained weights
        is_same_run = all(difference.startswith(("bothways ", "torch ")) for difference in differences)
        return failure.get("error") == TrainingDiverged.__name__ or not is_same_run
    if failure.get("error") == TrainingDiverged.__name__:
        raise TrainingDiverged(
            f"{shown(failure.get('message'), 500)}. The last run with the same settings ended this way: change them, "
            f"or remove {path_text(folder)} to train again"
        )
    return False


def _as_json(fingerprint: Fingerprint) -> object:
    return strict_json.parse(strict_json.dump(fingerprint).encode())


def _make(folder: Path, out: Path) -> None:
    """Create and mark the folder of a run, or accept one that is already marked.

    Raises:
        ConfigError: The path exists and was not made by a training run, or its parent folder does not exist.
        DataError: The folder can't be written.
    """
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        if folder.is_symlink() or not folder.is_dir():
            raise ConfigError(
                f"{folder} exists and is not the folder of a training run: move it, or choose another --out"
            )
        marker = folder / MARKER_FILE
        if not os.path.lexists(marker):
            if any(folder.iterdir()):
                raise ConfigError(
                    f"{folder} exists and was not made by a training run: move it, or choose another --out"
                )
            marker.write_text(strict_json.dump({"output": out.name}) + "\n", encoding="utf-8")
    except OSError as error:
        raise writing_failed(folder, error, is_output=False) from None


def _resume_or_start(out: Path, folder: Path, fingerprint: Fingerprint) -> Iterator[Report]:
    """Remove the unfinished output of a killed run. Then resume that run, or prepare the folder for a new one.

    Raises:
        ConfigError: The folder contains an unfinished run with a different fingerprint or of another version.
        TrainingDiverged: The last run diverged with the same fingerprint.
    """
    remove_unfinished(out)
    plan = PlanFolder(folder)
    place = _last_place(folder)
    has_failed = _has_failed_with_other_settings(folder, fingerprint)
    if has_failed:
        _clear(folder)
    if plan.is_complete:
        try:
            before = plan.read_plan().fingerprint
        except ValueError:  # the plan of another version has other keys
            raise ConfigError(
                f"{folder} contains an unfinished run of another version of bothways: "
                f"finish it with that version, or remove {folder} to start over"
            ) from None
        differences = _differences(before, _as_json(fingerprint))
        if differences:
            raise ConfigError(
                f"{folder} contains an unfinished run with different settings "
                f"({'; '.join(differences[:_MAX_DIFFERENCES_SHOWN])}): "
                f"use the same settings to resume it, or remove {folder} to start over"
            )
        yield StageReport("start", f"an earlier run stopped {place}: resuming it", is_warning=True)
        return
    _clear(folder)
    try:
        (folder / METRICS_FILE).write_bytes(b"")
    except OSError as error:
        raise writing_failed(folder, error, is_output=False) from None
    if has_failed:
        yield StageReport("start", "an earlier run with other settings failed: starting over", is_warning=True)
    elif place is not None:
        message = f"an earlier run stopped {place} and left nothing to resume: starting over"
        yield StageReport("start", message, is_warning=True)


def _differences(before: object, now: object, place: str = "") -> list[str]:
    """Return a description of each difference between two JSON values, key by key."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            difference
            for key in keys
            for difference in _differences(before.get(key), now.get(key), f"{place}.{key}" if place else key)
        ]
    return [] if before == now else [f"{place} was {_short(before)}, now {_short(now)}"]


def _short(value: object) -> str:
    text = "not set" if value is None else strict_json.dump(value)
    return text if len(text) <= 60 else text[:12] + "..."


def _clear(folder: Path) -> None:
    """Remove the plan and the files it refers to. The metrics, the marker, the lock and any other files are kept."""
    PlanFolder(folder).remove()
    (folder / _FAILURE_FILE).unlink(missing_ok=True)


def is_recorded(report: Report) -> bool:
    """Return whether a report is one for ``metrics.jsonl``: about 1,000 steps per stage and direction, all epochs."""
    if isinstance(report, StepReport):
        return report.step % max(1, report.steps // _MOST_STEPS_RECORDED) == 0
    return not isinstance(report, ProgressReport)


def _record(report: Report, folder: Path) -> None:
    try:
        with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(dump_report(report, time_s=round(time.time(), 3)) + "\n")
    except OSError as error:
        raise writing_failed(folder, error, is_output=False) from None


def _last_place(folder: Path) -> str | None:
    """Return where a run stopped, as a phrase, or None if there was no run or it finished."""
    last: object = {}
    try:
        for line in (folder / METRICS_FILE).read_bytes().splitlines():
            last = strict_json.parse(line)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # the last line was cut short: use the line before
        pass
    if not isinstance(last, dict) or "stage" not in last:
        return "at the start"
    if last["stage"] == "done":
        return None
    place = f"in the stage {quoted(last['stage'])}"
    return f"{place} ({last['direction']}, epoch {last['epoch']})" if last.get("direction") else place
