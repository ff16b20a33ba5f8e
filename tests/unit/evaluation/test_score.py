"""Files of any size are scored, continued after a kill, and end in the same bytes."""

from __future__ import annotations

import csv
import fcntl
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bothways
from bothways.bundle.parity import ENSEMBLE
from bothways.data.tables import open_table
from bothways.evaluation import partial_output
from bothways.evaluation import score as scoring
from bothways.runtime.classifier import Classifier
from bothways.text.reading import Direction
from tests.bundles import LABELS, TOPICS, python_environment, run_python, write_with_early_exit
from tests.processes import wait_for

ROWS = 1500  # chunks have 256


def texts(count: int = ROWS) -> list[str]:
    return [f"the {'lovely' if number % 3 else 'HATED'} film\nnumber {number}" for number in range(count)]


def write_rows(path: Path, rows: list[str]) -> Path:
    if path.suffix in (".jsonl",):
        path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(rows)))
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        csv.writer(file, delimiter=delimiter).writerows([("id", "text"), *enumerate(rows)])
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Columns.


def test_the_columns_are_those_of_the_task(
    model: Classifier,
    multi_label_model: Classifier,
    regression_model: Classifier,
    targets_model: Classifier,
    tmp_path: Path,
) -> None:
    source = write_rows(tmp_path / "d.csv", texts(5))
    expected = {
        model: ["predicted_label", "predicted_probability", *(f"probability_{label}" for label in LABELS)],
        multi_label_model: ["predicted_labels", *(f"probability_{topic}" for topic in TOPICS)],
        regression_model: ["predicted_value"],
        targets_model: ["predicted_price", "predicted_stars"],
    }
    for number, (each, columns) in enumerate(expected.items()):
        out = tmp_path / f"{number}.csv"
        assert bothways.score(each, source, out) == 5
        with out.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert header == ["id", "text", *columns]
        predictions = list(each.stream(texts(5)))
        scores = [prediction.scores[ENSEMBLE] for prediction in predictions]
        assert [row[2:] for row in rows] == [[str(cell) for cell in each.task.cells(vector)] for vector in scores]


def test_the_directions_that_read_are_reported_with_early_exit(bundle_path: Path, tmp_path: Path) -> None:
    path = write_with_early_exit(bundle_path, tmp_path / "m.bundle", Direction.FORWARD, texts(40))
    fast = bothways.load(path, early_exit=True)
    source = write_rows(tmp_path / "d.jsonl", texts(40))
    bothways.score(fast, source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(rows[0])[2:5] == ["predicted_label", "predicted_probability", "predicted_read"]
    assert [row["predicted_read"] for row in rows] == [prediction.read for prediction in fast.stream(texts(40))]
    assert {row["predicted_read"] for row in rows} == {"forward", "both"}


def test_a_path_is_a_model_too_and_progress_is_reported(bundle_path: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "d.csv", texts(600))
    reported: list[int] = []
    assert bothways.score(bundle_path, source, tmp_path / "out.csv", on_progress=reported.append) == 600
    assert reported == [256, 512, 600]
    assert names(tmp_path) == {"d.csv", "out.csv"}


# Killed processes.

_DRIVER = """
import json, os, shutil, signal, sys
from pathlib import Path
import bothways
from bothways.evaluation import score as scoring, valid_texts

bundle, source, folder = sys.argv[1:]
scoring.CHECKPOINT_S = 0  # a checkpoint after each chunk
model = bothways.load(bundle, threads=1)
texts_read = 0

def count_texts(function):
    def call(*arguments):
        global texts_read
        texts_read += 1
        return function(*arguments)
    return call

def kill_before(number):
    events = 0
    def killing(function):
        def call(*arguments, **options):
            nonlocal events
            events += 1
            if events == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call
    os.fsync = killing(os.fsync)
    Path.rename, Path.unlink = killing(Path.rename), killing(Path.unlink)

def run_in_child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.wait4(pid, 0)[1])

valid_texts.parse_text = count_texts(valid_texts.parse_text)
number, status = 0, None
while status != 0:  # until there are fewer events than that
    number += 1
    out = Path(folder, f"{number}{Path(source).suffix}")

    def killed():
        kill_before(number)
        scoring.score(model, source, out)

    def again():
        scoring.score(model, source, out)
        Path(folder, f"{number}.texts").write_text(str(texts_read))

    status = run_in_child(killed)
    assert status in (0, -signal.SIGKILL), status
    if not out.exists():
        assert run_in_child(again) == 0
        assert not list(Path(folder).glob(f"{number}.*part*")), number
"""


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_process_that_is_killed_at_any_event_continues_to_the_same_bytes(
    bundle_path: Path, model: Classifier, tmp_path: Path, suffix: str
) -> None:
    """The events are all flushes to the disk, renames and removals, of the content and of the journal."""
    source = write_rows(tmp_path / f"d{suffix}", texts(700))  # 3 chunks
    bothways.score(model, source, tmp_path / f"whole{suffix}")
    folder = tmp_path / "runs"
    folder.mkdir()
    finished = run_python(_DRIVER, str(bundle_path), str(source), str(folder))
    assert finished.returncode == 0, finished.stderr
    found = [path.read_bytes() for path in folder.glob(f"*{suffix}")]
    assert len(found) > 15
    assert set(found) == {(tmp_path / f"whole{suffix}").read_bytes()}
    texts_read = {int(path.read_text()) for path in folder.glob("*.texts")}
    assert texts_read == {700, 700 - 256, 700 - 512, 0}  # by the chunks that were complete


def test_a_process_that_is_killed_at_any_time_continues_to_the_same_bytes(
    bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "d.csv", texts(6_000))
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    bothways.score(model, source, whole)
    code = (
        "import sys, bothways; from bothways.evaluation import score as scoring; scoring.CHECKPOINT_S = 0.01\n"
        "bothways.score(*sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, str(bundle_path), str(source), str(out)]
    kills = 0
    for least_rows in (1, 1_500, 3_000, 4_500):
        running = subprocess.Popen(command, env=python_environment())
        journal = tmp_path / "out.csv.part.json"

        def is_far_enough(journal: Path = journal, least: int = least_rows) -> bool:
            return out.exists() or (journal.exists() and json.loads(journal.read_bytes())["rows"] >= least)

        wait_for(is_far_enough)
        running.kill()
        kills += running.wait() == -signal.SIGKILL
    assert kills >= 2
    if not out.exists():
        subprocess.run(command, env=python_environment(), check=True)
    assert out.read_bytes() == whole.read_bytes()


# What is continued, and what starts over.


class Killed(BaseException):
    """Stands for a kill inside this process: nothing of this package catches it."""


def interrupted(model: Classifier, source: Path, out: Path, rows: int, **options: Any) -> None:
    """Score until so many rows are recorded, and stop as a killed process does."""

    def stop(done: int) -> None:
        if done >= rows:
            raise Killed

    with pytest.raises(Killed):
        bothways.score(model, source, out, on_progress=stop, **options)
    assert names(out.parent) >= {f"{out.name}.part", f"{out.name}.part.json"}
    assert json.loads(out.with_name(f"{out.name}.part.json").read_bytes())["rows"] >= rows


@pytest.fixture(autouse=True)
def checkpoint_after_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHECKPOINT_S", 0)


def first_reported(model: Classifier, source: Path, out: Path, **options: Any) -> int:
    """Return the number of rows after the first chunk of a run."""
    reported: list[int] = []
    bothways.score(model, source, out, on_progress=reported.append, **options)
    return reported[0]


def test_an_equal_call_continues(model: Classifier, tmp_path: Path) -> None:
    source, out = write_rows(tmp_path / "d.csv", texts()), tmp_path / "out.csv"
    interrupted(model, source, out, 512)
    assert first_reported(model, source, out) == 768


def touch(source: Path) -> None:
    os.utime(source, ns=(1, 1))


def append(source: Path) -> None:
    with source.open("a") as file:
        file.write("1500,one more\n")


@pytest.mark.parametrize("change", [touch, append])
def test_another_input_starts_over(model: Classifier, tmp_path: Path, change: Callable[[Path], None]) -> None:
    source, out = write_rows(tmp_path / "d.csv", texts()), tmp_path / "out.csv"
    interrupted(model, source, out, 512)
    change(source)
    assert first_reported(model, source, out) == 256
    whole = tmp_path / "whole.csv"
    bothways.score(model, source, whole)
    assert out.read_bytes() == whole.read_bytes()


def test_another_model_or_column_starts_over(
    model: Classifier, mixed_bundle_path: Path, bundle_path: Path, tmp_path: Path
) -> None:
    source, whole = write_rows(tmp_path / "d.csv", texts()), tmp_path / "whole.csv"
    others = [bothways.load(mixed_bundle_path), bothways.load(bundle_path, precision="int8")]
    for number, other in enumerate(others):
        out = tmp_path / f"{number}.csv"
        interrupted(model, source, out, 512)
        assert first_reported(other, source, out) == 256
        whole.unlink(missing_ok=True)
        bothways.score(other, source, whole)
        assert out.read_bytes() == whole.read_bytes()
    interrupted(model, source, tmp_path / "c.csv", 512)
    assert first_reported(model, source, tmp_path / "c.csv", text="id") == 256


def test_a_part_that_lost_bytes_starts_over(model: Classifier, tmp_path: Path) -> None:
    source, out = write_rows(tmp_path / "d.csv", texts()), tmp_path / "out.csv"
    interrupted(model, source, out, 512)
    os.truncate(tmp_path / "out.csv.part", 100)
    assert first_reported(model, source, out) == 256


@pytest.mark.parametrize("suffix", [".parquet", ".csv.gz"])
def test_parquet_and_compressed_files_start_over(model: Classifier, tmp_path: Path, suffix: str) -> None:
    source, out = tmp_path / f"d{suffix}", tmp_path / f"out{suffix}"
    if suffix == ".parquet":
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.table({"text": texts()}), source)
    else:
        source.write_bytes(gzip.compress(write_rows(tmp_path / "plain.csv", texts()).read_bytes()))
    before = names(tmp_path)
    with pytest.raises(Killed):
        bothways.score(model, source, out, on_progress=lambda _: (_ for _ in ()).throw(Killed))
    assert names(tmp_path) == before
    assert first_reported(model, source, out) == 256


# Files of others, and errors.


@pytest.mark.parametrize("name", ["out.csv.part", "out.csv.part.json"])
def test_files_of_the_user_are_never_touched(model: Classifier, tmp_path: Path, name: str) -> None:
    source = write_rows(tmp_path / "d.csv", texts(5))
    (tmp_path / name).write_text('{"precious": true}')
    with pytest.raises(bothways.OutputExists, match=rf"{name} exists and does not belong to an interrupted run"):
        bothways.score(model, source, tmp_path / "out.csv")
    assert names(tmp_path) == {"d.csv", name}
    assert (tmp_path / name).read_text() == '{"precious": true}'


def test_a_link_in_place_of_the_part_is_not_followed(model: Classifier, tmp_path: Path) -> None:
    source, out = write_rows(tmp_path / "d.csv", texts()), tmp_path / "out.csv"
    interrupted(model, source, out, 512)
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out.csv.part").unlink()
    (tmp_path / "out.csv.part").symlink_to(tmp_path / "precious")
    with pytest.raises(bothways.DataError, match="can't be written"):
        bothways.score(model, source, out)
    assert (tmp_path / "precious").read_text() == "precious"


def test_two_processes_never_write_the_same_file(model: Classifier, tmp_path: Path) -> None:
    source, out = write_rows(tmp_path / "d.csv", texts()), tmp_path / "out.csv"
    interrupted(model, source, out, 512)
    part = (tmp_path / "out.csv.part").read_bytes()
    with (tmp_path / "out.csv.part").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(bothways.ConfigError, match=r"another process is writing .*out\.csv"):
            bothways.score(model, source, out)
    assert (tmp_path / "out.csv.part").read_bytes() == part
    assert first_reported(model, source, out) == 768


def test_a_bad_row_leaves_nothing_also_after_an_interrupt(model: Classifier, tmp_path: Path) -> None:
    source, out = tmp_path / "d.jsonl", tmp_path / "out.jsonl"
    rows = [json.dumps({"text": text}) for text in texts(4_000)]
    rows[3_990] = '{"text": 5}'
    source.write_text("\n".join(rows))
    with pytest.raises(Killed):
        bothways.score(model, source, out, on_progress=lambda _: (_ for _ in ()).throw(Killed))
    with pytest.raises(bothways.DataError, match=r"d\.jsonl, line 3991, column 'text'"):
        bothways.score(model, source, out)
    assert names(tmp_path) == {"d.jsonl"}


def test_outputs_that_cannot_be_are_refused_before_anything_is_written(model: Classifier, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "d.csv", texts(5))
    (tmp_path / "there.csv").write_text("precious")
    for out, error, message in (
        (tmp_path / "there.csv", bothways.OutputExists, "exists"),
        (source, bothways.ConfigError, "is the input itself"),
        (tmp_path / "out.jsonl", bothways.ConfigError, "the input is csv"),
        (tmp_path / "none" / "out.csv", bothways.ConfigError, "does not exist"),
    ):
        with pytest.raises(error, match=message):
            bothways.score(model, source, out)
    with pytest.raises(bothways.DataError, match="has no column 'body'"):
        bothways.score(model, source, tmp_path / "out.csv", text="body")
    assert names(tmp_path) == {"d.csv", "there.csv"}


def test_what_appears_under_the_final_name_is_kept(model: Classifier, tmp_path: Path) -> None:
    source, out = write_rows(tmp_path / "d.csv", texts(5)), tmp_path / "out.csv"
    with pytest.raises(bothways.OutputExists):
        bothways.score(model, source, out, on_progress=lambda _: out.write_text("precious"))
    assert out.read_text() == "precious"
    assert names(tmp_path) == {"d.csv", "out.csv"}


def test_the_file_has_the_usual_permissions(model: Classifier, tmp_path: Path) -> None:
    source, usual = write_rows(tmp_path / "d.csv", texts(5)), tmp_path / "usual"
    usual.touch()
    bothways.score(model, source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").stat().st_mode == usual.stat().st_mode


def test_checkpoints_are_some_seconds_apart(model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHECKPOINT_S", 5.0)
    now = iter(range(0, 1000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    written: list[int] = []
    write_journal = partial_output._write_journal

    def recorded(target: Path, journal: partial_output._Journal) -> None:
        written.append(journal.rows)
        write_journal(target, journal)

    monkeypatch.setattr(partial_output, "_write_journal", recorded)
    bothways.score(model, write_rows(tmp_path / "d.csv", texts(256 * 8)), tmp_path / "out.csv")
    assert written == [0, 0, 768, 1536]  # the first two before any row


# B5: texts that a model cannot read.

UNREADABLE = ["a lovely film", "", "12 345", "味道一般", "the film", " \t "]
REASONS = [(2, "empty"), (3, "only digits or punctuation"), (4, "mostly unknown"), (6, "empty")]


def test_b5_texts_that_a_model_cannot_read_are_reported_with_their_row(model: Classifier, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "d.csv", UNREADABLE * 100)
    found: list[tuple[int, str]] = []
    plain, other = tmp_path / "plain.csv", tmp_path / "other.csv"
    bothways.score(model, source, plain, on_unreadable=lambda row, reason: found.append((row, str(reason))))
    assert found == [(6 * n + row, reason) for n in range(100) for row, reason in REASONS]
    bothways.score(model, source, other)
    assert plain.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_b5_a_model_abstains_on_request(request: pytest.FixtureRequest, tmp_path: Path, suffix: str, kind: str) -> None:
    fixture = {"single-label": "model", "multi-label": "multi_label_model", "regression": "regression_model"}[kind]
    model = request.getfixturevalue(fixture)
    polars = pytest.importorskip("polars")
    read = {".csv": polars.read_csv, ".jsonl": polars.read_ndjson, ".parquet": polars.read_parquet}[suffix]
    options = {} if suffix == ".parquet" else {"infer_schema_length": None}
    table = polars.DataFrame({"text": [*UNREADABLE[1:4] * 100, *UNREADABLE]})  # a first chunk without a prediction
    source, out, whole = (tmp_path / f"{name}{suffix}" for name in ("d", "out", "whole"))
    {".csv": table.write_csv, ".jsonl": table.write_ndjson, ".parquet": table.write_parquet}[suffix](source)
    assert bothways.score(model, source, out, abstain=True) == 306
    bothways.score(model, source, whole)
    left, full = read(out, **options).to_dicts(), read(whole, **options).to_dicts()
    decided = [name for name in full[0] if name.startswith("predicted_")]
    for number, (mine, theirs) in enumerate(zip(left, full, strict=True)):
        is_left_empty = number < 300 or number - 299 in dict(REASONS)
        for name, value in theirs.items():
            if name in decided:
                assert (mine[name] is None) if is_left_empty else str(mine[name]) == str(value)
            elif name != "text":
                assert mine[name] == value


# Invalid rows.


def test_all_invalid_texts_are_reported_at_once(model: Classifier, tmp_path: Path) -> None:
    """A4: also those behind the first chunk with one."""
    rows: list[dict[str, object]] = [{"text": text} for text in texts(600)]
    rows[300], rows[301], rows[599] = {"text": None}, {"text": 5}, {"text": None}
    source = tmp_path / "d.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(bothways.DataError) as caught:
        bothways.score(model, source, tmp_path / "out.jsonl")
    assert str(caught.value) == (
        f"{source}: 3 of 600 rows are invalid: column 'text': the text is missing (null); remove the row, or write an "
        "empty text (line 301, line 600); column 'text': the text is int 5, expected a string (line 302). Correct "
        "them, or leave them out with --drop-invalid"
    )
    assert names(tmp_path) == {"d.jsonl"}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_invalid_texts_can_be_left_out_and_are_listed(model: Classifier, tmp_path: Path, suffix: str) -> None:
    """A4: counted and listed beside the output."""
    rows: list[str | None] = [*texts(600)]
    rows[0] = rows[300] = None
    source, out = tmp_path / f"d{suffix}", tmp_path / f"out{suffix}"
    frame = pd.DataFrame({"id": range(600), "text": rows})
    if suffix == ".parquet":
        frame.to_parquet(source)
    else:
        frame.to_json(source, orient="records", lines=True)
    found: list[str] = []
    count = bothways.score(model, source, out, drop_invalid=True, on_invalid=lambda row: found.append(row.place))
    written = pd.read_parquet(out) if suffix == ".parquet" else pd.read_json(out, lines=True)
    assert count == len(written) == 598
    assert written["id"].tolist() == [number for number in range(600) if number not in (0, 300)]
    assert written["predicted_label"].tolist() == model.predict(written["text"]).tolist()
    lines = (tmp_path / f"out{suffix}.invalid.jsonl").read_text().splitlines()
    assert [json.loads(line)["values"]["id"] for line in lines] == [0, 300]
    assert [json.loads(line)["place"] for line in lines] == found
    with pytest.raises(bothways.OutputExists, match="invalid"):
        bothways.score(model, source, tmp_path / f"out{suffix}", drop_invalid=True)


def test_a_killed_run_that_leaves_rows_out_continues_to_the_same_bytes(
    model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A4: the list of invalid rows is complete after a resumption too."""
    monkeypatch.setattr(scoring, "CHECKPOINT_S", 0)
    rows: list[str | None] = [*texts(256 * 4)]
    for number in (0, 1, 255, 256, 600, 1000):
        rows[number] = None
    source = tmp_path / "d.jsonl"
    source.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(rows)))
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    bothways.score(model, source, whole, drop_invalid=True)

    def stop(done: int) -> None:
        if done > 500:
            raise Killed

    with pytest.raises(Killed):
        bothways.score(model, source, out, drop_invalid=True, on_progress=stop)
    assert not (tmp_path / "out.jsonl.invalid.jsonl").exists()
    reported: list[int] = []
    bothways.score(model, source, out, drop_invalid=True, on_progress=reported.append)
    assert reported[0] > 500
    assert out.read_bytes() == whole.read_bytes()
    assert (tmp_path / "out.jsonl.invalid.jsonl").read_bytes() == (tmp_path / "whole.jsonl.invalid.jsonl").read_bytes()


# Dialects and formats.


@pytest.mark.parametrize(
    "dialect",
    [
        {"delimiter": ";", "encoding": "utf-16"},
        {"delimiter": "tab", "quotes": "none"},
        {"header": False, "text": "2"},
    ],
    ids=str,
)
def test_a5_the_output_has_the_dialect_of_the_input_also_after_a_kill(
    model: Classifier, tmp_path: Path, dialect: dict[str, Any]
) -> None:
    delimiter = {"tab": "\t"}.get(dialect.get("delimiter", ","), dialect.get("delimiter", ","))
    rows = [f'{number}{delimiter}the "lovely" film {number}' for number in range(600)]
    header = [f"id{delimiter}text"] if dialect.get("header", True) else []
    encoding = dialect.get("encoding", "utf-8")
    source, out, whole = tmp_path / "d.csv", tmp_path / "out.csv", tmp_path / "whole.csv"
    source.write_text("\n".join([*header, *rows, ""]), encoding=encoding)
    interrupted(model, source, out, 256, **dialect)
    assert first_reported(model, source, out, **dialect) == 512
    bothways.score(model, source, whole, **dialect)
    assert out.read_bytes() == whole.read_bytes()
    again = [line.split(delimiter) for line in out.read_text(encoding=encoding).splitlines()]
    assert [row[0] for row in again[len(header) :]] == [str(number) for number in range(600)]
    assert {len(row) for row in again} == {4 + len(LABELS)}
    assert header == [delimiter.join(row[:2]) for row in again[: len(header)]]


@pytest.mark.parametrize("suffix", [".json", ".feather", ".xlsx", ".csv.zip"])
def test_a5_every_format_is_scored_in_order(model: Classifier, tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"n": range(300), "text": texts(300)})
    source, out = tmp_path / f"d{suffix}", tmp_path / f"out{suffix}"
    match suffix:
        case ".json":
            frame.to_json(source, orient="records")
        case ".feather":
            frame.to_feather(source)
        case ".xlsx":
            frame.to_excel(source, index=False)
        case _:
            frame.to_csv(source, index=False)
    assert bothways.score(model, source, out) == 300
    with open_table(out) as table:
        chunks = list(table.chunks())
    assert [int(str(value)) for chunk in chunks for value in chunk.column("n")] == list(range(300))
    labels = [value for chunk in chunks for value in chunk.column("predicted_label")]
    assert labels == [prediction.label for prediction in model.stream(texts(300))]
