"""Many files are scored by several processes as one by one, and killed processes leave no partial file."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bothways
from bothways.evaluation.shards import RECORDS, _Run
from bothways.runtime.classifier import Classifier
from tests.bundles import python_environment
from tests.processes import wait_for

ROWS = 300
SCORE = """
import sys, bothways
bothways.score_files(*sys.argv[1:4], workers=2)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five files with texts, in two folders."""
    for number, name in enumerate(["a.csv", "b.csv", "x/a.csv", "x/c.csv", "x/d.csv"]):
        write_rows(tmp_path / "in" / name, [f"{'lovely' if n % 3 else 'HATED'} film {n} {number}" for n in range(ROWS)])
    return tmp_path / "in"


def write_rows(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(texts)])


def contents(folder: Path) -> dict[str, bytes]:
    """Return the visible files, by name."""
    paths = (path for path in folder.rglob("*") if path.is_file() and RECORDS not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def expected(source: Path, model: Classifier, tmp_path: Path) -> dict[str, bytes]:
    """What each file becomes on its own."""
    for path in source.rglob("*.csv"):
        out = tmp_path / "expected" / path.relative_to(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        bothways.score(model, path, out)
    return contents(tmp_path / "expected")


def test_files_are_scored_as_one_by_one_and_once(
    source: Path, expected: dict[str, bytes], bundle_path: Path, tmp_path: Path
) -> None:
    out, pattern = tmp_path / "out", f"{source}/**/*.csv"
    reported: list[bothways.FilesProgress] = []
    found = bothways.score_files(bundle_path, pattern, out, workers=2, on_progress=reported.append)
    assert (found.files, found.skipped, found.rows) == (5, 0, 5 * ROWS)
    assert contents(out) == expected
    assert reported[-1] == bothways.FilesProgress(5, 5, 5 * ROWS, 1.0)
    shares = [progress.share for progress in reported]
    assert shares == sorted(shares)
    assert not list((out / RECORDS / "unfinished").rglob("*.csv*"))

    os.utime(source / "a.csv")  # changed, but not its content
    write_rows(source / "b.csv", ["a new text"])
    written = (out / "a.csv").stat().st_mtime_ns
    again = bothways.score_files(bundle_path, pattern, out, workers=1)
    assert (again.files, again.skipped, again.rows) == (5, 4, 4 * ROWS + 1)
    assert (out / "a.csv").stat().st_mtime_ns == written
    assert b"a new text" in (out / "b.csv").read_bytes()
    (out / "x" / "c.csv").unlink()
    assert bothways.score_files(bundle_path, pattern, out, workers=1).skipped == 4
    assert contents(out)["x/c.csv"] == expected["x/c.csv"]


def test_a_file_that_fails_does_not_stop_the_others(
    source: Path, expected: dict[str, bytes], bundle_path: Path, tmp_path: Path
) -> None:
    out, pattern = tmp_path / "out", f"{source}/**/*.csv"
    good = (source / "b.csv").read_bytes()
    (source / "b.csv").write_text("id,review\n1,no such column\n")
    with pytest.raises(bothways.DataError) as caught:
        bothways.score_files(bundle_path, pattern, out, workers=1)
    assert str(caught.value).startswith("1 of 5 files failed. The others are done. The same call continues. b.csv: ")
    assert "has no column 'text'" in str(caught.value)
    assert contents(out) == {name: content for name, content in expected.items() if name != "b.csv"}
    (source / "b.csv").write_bytes(good)
    assert bothways.score_files(bundle_path, pattern, out, workers=1).skipped == 4
    assert contents(out) == expected


def test_rows_left_out_are_listed_beside_each_file(source: Path, bundle_path: Path, tmp_path: Path) -> None:
    (source / "a.csv").write_text('{"text": null}\n{"text": "a film"}\n')
    (source / "a.csv").rename(source / "a.jsonl")
    out = tmp_path / "out"
    found = bothways.score_files(bundle_path, f"{source}/*.jsonl", out, workers=1, drop_invalid=True, abstain=True)
    assert found.rows == 1
    assert found.invalid.total() == 1
    (listed,) = map(json.loads, (out / "a.jsonl.invalid.jsonl").read_text().splitlines())
    assert "missing" in listed["reason"]
    (source / "a.jsonl").write_text('{"text": "corrected"}\n{"text": "a film"}\n')
    again = bothways.score_files(bundle_path, f"{source}/*.jsonl", out, workers=1, drop_invalid=True, abstain=True)
    assert again.rows == 2
    assert set(contents(out)) == {"a.jsonl"}, "a list of rows that are no longer left out would be wrong"


def test_a_folder_holds_predictions_of_one_bundle_with_one_set_of_options(
    source: Path, bundle_path: Path, linear_bundle_path: Path, tmp_path: Path
) -> None:
    out, pattern = tmp_path / "out", f"{source}/*.csv"
    bothways.score_files(bundle_path, pattern, out, workers=1)
    before = contents(out)
    for path, abstain in ((linear_bundle_path, False), (bundle_path, True)):
        with pytest.raises(bothways.ConfigError, match="of another bundle or with other options: choose another --out"):
            bothways.score_files(path, pattern, out, abstain=abstain)
    assert contents(out) == before


def test_files_of_the_user_are_never_replaced(source: Path, bundle_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.csv").write_text("mine")
    with pytest.raises(bothways.OutputExists, match=r"a\.csv exists and was not written by this command: move it"):
        bothways.score_files(bundle_path, f"{source}/*.csv", out, workers=1)
    assert (out / "a.csv").read_text() == "mine"
    assert (out / "b.csv").exists(), "the other file is done"


def test_the_output_is_never_an_input(source: Path, bundle_path: Path) -> None:
    pattern = f"{source}/**/*.csv"
    for skipped in (0, 5):
        found = bothways.score_files(bundle_path, pattern, source / "out", workers=1)
        assert (found.files, found.skipped) == (5, skipped)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"out": "-"}, bothways.ConfigError, "choose a folder for --out"),
        ({"workers": 0}, bothways.ConfigError, "workers is 0, expected 1 or more"),
        ({"source": "no/*.csv"}, bothways.DataError, "no file matches the pattern no/*.csv"),
        ({"bundle": "no.bundle"}, bothways.BundleMissing, "no.bundle"),
        ({"text": ["a", "b"]}, bothways.ConfigError, "2 text columns are named"),
    ],
)
def test_mistakes_are_reported_before_any_process_starts(
    options: dict[str, object],
    error: type[Exception],
    message: str,
    bundle_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"bundle": bundle_path, "source": "*.csv", "out": "out", **options}
    with pytest.raises(error) as caught:
        bothways.score_files(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


# Killed processes.


def test_another_process_scores_the_file_of_one_that_died(
    source: Path, expected: dict[str, bytes], bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    start = _Run.process

    @contextlib.contextmanager
    def starting(self: _Run):  # type: ignore[no-untyped-def]
        with start(self) as process:
            if len(killed) < 2:
                process.kill()
                killed.append(process.pid)
            yield process

    monkeypatch.setattr(_Run, "process", starting)
    out = tmp_path / "out"
    found = bothways.score_files(bundle_path, f"{source}/**/*.csv", out, workers=1)
    assert len(killed) == 2
    assert found.rows == 5 * ROWS
    assert contents(out) == expected


def test_a_file_that_kills_its_process_each_time_fails_alone(
    source: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = _Run.process

    @contextlib.contextmanager
    def starting(self: _Run):  # type: ignore[no-untyped-def]
        with start(self) as process:
            process.kill()
            yield process

    monkeypatch.setattr(_Run, "process", starting)
    with pytest.raises(bothways.BothwaysError, match=r"2 of 2 files failed. The same call continues. a.csv: 3 proc"):
        bothways.score_files(bundle_path, f"{source}/*.csv", tmp_path / "out", workers=1)


def started(bundle: Path, source: Path, out: Path) -> subprocess.Popen[bytes]:
    arguments = [str(bundle), f"{source}/**/*.csv", str(out)]
    return subprocess.Popen([sys.executable, "-c", SCORE, *arguments], env=python_environment())


def children_of(process_id: int) -> list[int]:
    """Return the processes that the threads of a process have started."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # a thread that ends meanwhile
        for thread in Path(f"/proc/{process_id}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def test_its_processes_end_with_a_killed_call(source: Path, bundle_path: Path, tmp_path: Path) -> None:
    with started(bundle_path, source, tmp_path / "out") as process:
        wait_for(lambda: len(children_of(process.pid)) == 2)
        children = children_of(process.pid)
        process.kill()
    wait_for(lambda: not any(Path(f"/proc/{child}/fd").exists() and has_files(child) for child in children))


def has_files(process_id: int) -> bool:
    """Return whether a process runs. One that has ended and was not waited for has no open files."""
    with contextlib.suppress(OSError):
        return bool(os.listdir(f"/proc/{process_id}/fd"))  # noqa: PTH208
    return False


@pytest.mark.slow
def test_killed_calls_leave_whole_files_only_and_the_last_one_completes_them(
    source: Path, expected: dict[str, bytes], bundle_path: Path, tmp_path: Path
) -> None:
    """The call and one of its processes are killed in turns, 24 times, after 0 to 3 more files are done."""
    rng, kills, partly, number = random.Random(0), 0, 0, 0
    while kills < 24:
        number += 1
        out = tmp_path / f"out-{number}"
        while True:
            new = kills % (len(expected) - 1)
            done = len(contents(out)) + new
            with started(bundle_path, source, out) as process:
                wait_for(lambda: process.poll() is not None or len(contents(out)) >= done, 300)  # noqa: B023
                try:
                    process.wait(timeout=rng.uniform(0.0, 0.05 if new else 3.0))
                except subprocess.TimeoutExpired:
                    kills += 1
                    victims = [process.pid, *(children_of(process.pid)[:1] if kills % 3 == 0 else [])]
                    os.kill(victims[-1], signal.SIGKILL)
                    if victims[-1] != process.pid:
                        assert process.wait() == 0, "another process takes the place of the killed one"
            found = contents(out)
            assert found == {name: expected[name] for name in found}
            partly += 0 < len(found) < len(expected)
            if process.returncode == 0:
                break
        assert found == expected
    assert partly > 3, "some calls were killed when some files were done"
