from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from bothways.errors import ConfigError, OutputExists
from bothways.text.reading import Direction
from bothways.training.reports import EpochReport, Report, StageReport, StepReport
from bothways.training.run_folder import MARKER_FILE, METRICS_FILE, recorded, run_folder


def step(number: int) -> StepReport:
    return StepReport("language model", Direction.FORWARD, 2, 3, number, 30, 0.5, 0.001, 64)


FINGERPRINT: dict[str, object] = {"seed": 0, "hyperparameters": {"classifier": {"learning_rate": 0.01}}}


EPOCH = EpochReport("classifier", Direction.BACKWARD, 2, 3, {"loss": 0.25, "accuracy": 0.75}, 1.5, is_best=True)


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
