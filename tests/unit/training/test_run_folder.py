from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from bothways.errors import ConfigError, DataError, OutputExists, ParityFailed, TrainingDiverged
from bothways.text.reading import Direction
from bothways.training import plan as plans
from bothways.training.reports import EpochReport, Report, StageReport, StepReport
from bothways.training.run_folder import MARKER_FILE, METRICS_FILE, recorded, run_folder


def step(number: int) -> StepReport:
    return StepReport("language model", Direction.FORWARD, 2, 3, number, 10_000, 0.5, 0.001, 0.9, 64)


FINGERPRINT: dict[str, object] = {"seed": 0, "hyperparameters": {"classifier": {"learning_rate": 0.01}}}


EPOCH = EpochReport("classifier", Direction.BACKWARD, 2, 3, 40, {"loss": 0.25, "accuracy": 0.75}, 1.5, is_best=True)


def a_run(*, out: Path, ends: bool = True) -> Iterator[Report]:
    yield StageReport("tokenizer")
    yield from (step(number) for number in range(1, 26))
    yield EPOCH
    if ends:
        out.mkdir()
        yield StageReport("done", str(out))


def metrics_of(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_folder(out) / METRICS_FILE).read_bytes().splitlines()]


def warnings_of(reports: list[Report]) -> list[str]:
    return [report.message for report in reports if isinstance(report, StageReport) and report.is_warning]


def test_all_reports_are_yielded_and_recorded_in_the_run_folder(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    found = list(recorded(out, FINGERPRINT, a_run(out=out)))
    out.rmdir()
    assert found == list(a_run(out=out))
    assert run_folder(out) == tmp_path / "m.bundle.run"

    lines = metrics_of(out)
    kinds = ["StageReport", "StepReport", "StepReport", "EpochReport", "StageReport"]
    assert [line["report"] for line in lines] == kinds
    assert [line["step"] for line in lines if line["report"] == "StepReport"] == [10, 20]
    assert (
        lines[3].items()
        >= {
            "stage": "classifier",
            "direction": "backward",
            "epoch": 2,
            "epochs": 3,
            "metrics": {"loss": 0.25, "accuracy": 0.75},
            "is_best": True,
            "seconds": 1.5,
        }.items()
    )
    assert all(isinstance(line["time_s"], float) for line in lines)


def test_each_report_is_recorded_before_it_is_yielded(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    reports = recorded(out, FINGERPRINT, a_run(out=out))
    next(reports)
    assert len(metrics_of(out)) == 1


@pytest.mark.parametrize(
    ("reported", "place"),
    [
        (1, "in the stage 'tokenizer'"),
        (11, "in the stage 'language model' (forward, epoch 2)"),
        (27, "in the stage 'classifier' (backward, epoch 2)"),
    ],
)
def test_an_interrupted_run_is_reported_by_the_next(tmp_path: Path, reported: int, place: str) -> None:
    out = tmp_path / "m.bundle"
    interrupted = recorded(out, FINGERPRINT, a_run(out=out))
    assert len(list(islice(interrupted, reported))) == reported
    interrupted.close()  # type: ignore[attr-defined]

    assert warnings_of(list(recorded(out, FINGERPRINT, a_run(out=out)))) == [
        f"an earlier run stopped {place} and left nothing to resume: starting over"
    ]


@pytest.mark.parametrize("remains", [b"", b"no json", b'["a list"]\n', b'{"report": "StageReport"}\n', b"\xff\n"])
def test_a_run_without_a_readable_line_stopped_at_the_start(tmp_path: Path, remains: bytes) -> None:
    out = tmp_path / "m.bundle"
    run_folder(out).mkdir()
    (run_folder(out) / MARKER_FILE).touch()
    (run_folder(out) / METRICS_FILE).write_bytes(remains)
    (warning,) = warnings_of(list(recorded(out, FINGERPRINT, a_run(out=out))))
    assert warning.startswith("an earlier run stopped at the start and left nothing to resume")


def test_a_line_cut_short_does_not_hide_the_one_before(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    run_folder(out).mkdir()
    (run_folder(out) / MARKER_FILE).touch()
    (run_folder(out) / METRICS_FILE).write_text('{"stage": "tokenizer", "direction": null}\n{"stage": "lang')
    (warning,) = warnings_of(list(recorded(out, FINGERPRINT, a_run(out=out))))
    assert "stopped in the stage 'tokenizer' and" in warning


def test_a_finished_run_is_not_reported_as_interrupted(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    list(recorded(out, FINGERPRINT, a_run(out=out)))
    out.rename(tmp_path / "moved.bundle")
    assert warnings_of(list(recorded(out, FINGERPRINT, a_run(out=out)))) == []


def test_only_the_unfinished_output_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    ours, others = tmp_path / ".m.bundle.abcd_123.unfinished", tmp_path / ".n.bundle.abcd_123.unfinished"
    for folder in (ours, others):
        folder.mkdir()
        (folder / "bundle.json").touch()
    list(recorded(out, FINGERPRINT, a_run(out=out)))
    assert not ours.exists()
    assert others.exists()


def test_wildcards_in_a_name_are_literal(tmp_path: Path) -> None:
    ours, others = tmp_path / ".[mn]*.abcd_123.unfinished", tmp_path / ".m.bundle.abcd_123.unfinished"
    ours.mkdir()
    others.mkdir()
    list(recorded(tmp_path / "[mn]*", FINGERPRINT, a_run(out=tmp_path / "[mn]*")))
    assert not ours.exists()
    assert others.exists()


def test_an_existing_output_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    out.touch()
    with pytest.raises(OutputExists, match=r"m\.bundle exists: choose another --out, or remove it first$"):
        next(recorded(out, FINGERPRINT, a_run(out=out)))
    assert not run_folder(out).exists()


def test_a_missing_parent_folder_is_named(tmp_path: Path) -> None:
    out = tmp_path / "missing" / "m.bundle"
    with pytest.raises(ConfigError, match=r"^the folder .* does not exist: create it first$"):
        next(recorded(out, FINGERPRINT, a_run(out=out)))


def test_an_error_of_the_run_is_raised_unchanged(tmp_path: Path) -> None:
    def failing() -> Iterator[Report]:
        yield StageReport("tokenizer")
        raise FileNotFoundError(2, "No such file or directory", "something else")

    with pytest.raises(FileNotFoundError, match=r"something else"):
        list(recorded(tmp_path / "m.bundle", FINGERPRINT, failing()))


def failing_run(error: Exception, folder: Path | None = None) -> Iterator[Report]:
    """Yield a report and raise an error. With a folder, the run can resume."""
    yield StageReport("tokenizer")
    if folder is not None:
        (folder / "plan.json").write_text("{}")
    raise error


OTHER = {**FINGERPRINT, "hyperparameters": {"classifier": {"learning_rate": 0.001}}}


def test_b3_a_diverged_run_is_refused_with_the_same_settings_and_starts_over_with_others(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    with pytest.raises(TrainingDiverged, match=r"^it exploded$"):
        list(recorded(out, FINGERPRINT, failing_run(TrainingDiverged("it exploded"), run_folder(out))))
    assert not (run_folder(out) / "plan.json").exists()
    for _ in range(2):
        with pytest.raises(TrainingDiverged, match=r"^it exploded\. The last run with the same settings ended this "):
            list(recorded(out, FINGERPRINT, a_run(out=out)))
    assert warnings_of(list(recorded(out, OTHER, a_run(out=out)))) == [
        "an earlier run with other settings failed: starting over"
    ]
    out.rmdir()
    assert warnings_of(list(recorded(out, FINGERPRINT, a_run(out=out)))) == []  # it is the last run that counts


def test_b3_a_damaged_record_of_a_divergence_does_not_matter(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    with pytest.raises(TrainingDiverged):
        list(recorded(out, FINGERPRINT, failing_run(TrainingDiverged("it exploded"))))
    for remains in ("", "[]", '{"fingerprint": null}', "\xff"):
        (run_folder(out) / "failure.json").write_text(remains, encoding="latin-1")
        list(recorded(out, FINGERPRINT, a_run(out=out)))
        out.rmdir()


def test_b3_settings_may_change_after_a_failed_verification_but_another_version_may_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.bundle"
    plan = SimpleNamespace(fingerprint={**FINGERPRINT, "bothways": "1"})
    monkeypatch.setattr(plans.PlanFolder, "read_plan", lambda _: plan)

    def failing() -> None:
        with pytest.raises(
            ParityFailed, match=r"^wrong\. The unfinished run is kept in .*m\.bundle\.run: run the same "
        ):
            list(recorded(out, plan.fingerprint, failing_run(ParityFailed("wrong"), run_folder(out))))
        assert (run_folder(out) / "plan.json").exists()

    failing()
    with pytest.raises(ConfigError, match=r"\(bothways was \"1\", now \"2\"\): use the same settings to resume it"):
        list(recorded(out, {**FINGERPRINT, "bothways": "2"}, a_run(out=out)))
    found = warnings_of(list(recorded(out, OTHER, a_run(out=out))))
    assert found == ["an earlier run with other settings failed: starting over"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("can_resume", [False, True])
def test_c4_an_error_states_what_is_kept_of_the_run(tmp_path: Path, can_resume: bool, number: int) -> None:
    out = tmp_path / "m.bundle"
    full = OSError(number, "no room", "/tmp/scratch")
    reason = "no room" if number == errno.EIO else "the disk is full"
    for error in (full, DataError(f"/tmp/scratch can't be written: {reason}")):
        with pytest.raises(DataError) as caught:
            list(recorded(out, FINGERPRINT, failing_run(error, run_folder(out) if can_resume else None)))
        kept = (
            f". The unfinished run is kept in {run_folder(out)}: run the same command again to continue it, or remove "
            "that folder to start over"
        )
        assert str(caught.value) == f"/tmp/scratch can't be written: {reason}{kept if can_resume else ''}"
        assert (run_folder(out) / "plan.json").exists() == can_resume
        (run_folder(out) / "plan.json").unlink(missing_ok=True)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("is_link", [False, True])
def test_a_users_folder_at_the_place_of_the_run_is_refused_and_untouched(tmp_path: Path, is_link: bool) -> None:
    out = tmp_path / "m.bundle"
    theirs = tmp_path / "theirs" if is_link else run_folder(out)
    (theirs / "forward").mkdir(parents=True)
    for name in ("thesis.txt", "metrics.jsonl", "plan.json", "forward/00000001.checkpoint"):
        (theirs / name).write_text(name)
    if is_link:
        run_folder(out).symlink_to(theirs)
    before = content(theirs)
    with pytest.raises(ConfigError, match=r"m\.bundle\.run exists and .*: move it, or choose another --out$"):
        list(recorded(out, FINGERPRINT, a_run(out=out)))
    assert content(theirs) == before
    assert not out.exists()


def test_a_file_at_the_place_of_the_run_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    run_folder(out).write_text("mine")
    with pytest.raises(ConfigError, match=r"m\.bundle\.run exists and is not the folder of a training run"):
        list(recorded(out, FINGERPRINT, a_run(out=out)))
    assert run_folder(out).read_text() == "mine"


def test_a_users_files_in_the_run_folder_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    interrupted = recorded(out, FINGERPRINT, a_run(out=out))
    next(interrupted)
    interrupted.close()  # type: ignore[attr-defined]
    (run_folder(out) / "forward").mkdir()
    (run_folder(out) / "forward" / "notes.txt").write_text("mine")
    (run_folder(out) / "notes.txt").write_text("mine")
    list(recorded(out, FINGERPRINT, a_run(out=out)))
    assert {"notes.txt", "forward/notes.txt"} <= set(content(run_folder(out)))


def test_an_unfinished_run_of_another_version_is_refused_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "m.bundle"
    run_folder(out).mkdir()
    (run_folder(out) / MARKER_FILE).touch()
    (run_folder(out) / "plan.json").write_text('{"asked": {}, "recipe": {}}')
    message = (
        r"m\.bundle\.run contains an unfinished run of another version of bothways: finish it with that version, or"
    )
    with pytest.raises(ConfigError, match=message):
        list(recorded(out, FINGERPRINT, a_run(out=out)))
    assert (run_folder(out) / "plan.json").exists()


def test_unfinished_work_of_another_output_or_of_a_running_process_stays(tmp_path: Path) -> None:
    mine, foreign = tmp_path / ".m.abcd_123.unfinished", tmp_path / ".m.v2.abcd_123.unfinished"
    busy, linked = tmp_path / ".m.busy_123.unfinished", tmp_path / ".m.link_123.unfinished"
    for folder in (mine, foreign, busy):
        folder.mkdir()
        (folder / "bundle.json").touch()
    linked.symlink_to(foreign)
    descriptor = os.open(busy, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        list(recorded(tmp_path / "m", FINGERPRINT, a_run(out=tmp_path / "m")))
    finally:
        os.close(descriptor)
    assert not mine.exists()
    assert all((folder / "bundle.json").exists() for folder in (foreign, busy, linked))
