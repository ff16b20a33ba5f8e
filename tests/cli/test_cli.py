"""The command line as users see it: inputs, outputs, and the response to every mistake."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from sklearn import metrics

import bothways
from tests.bundles import replace_file
from tests.cli.conftest import CONFIG, LABELS, Workplace, cells, expected_calibration_error, some_rows, titled_cells
from tests.processes import ENVIRONMENT, CommandServer, Finished, wait_for

COMMANDS = [
    "train",
    "predict",
    "evaluate",
    "report",
    "audit",
    "label-next",
    "explain",
    "serve",
    "verify",
    "sign",
    "info",
    "push",
    "packs",
    "bench",
    "early-exit",
    "abstention",
    "drift",
    "distill",
    "update",
    "tune",
    "lr-find",
    "pretrain",
]
COMMANDS += ["import-fastai", "direction", "export-onnx"]
ADDED = ["predicted_label", "predicted_probability", *(f"probability_{label}" for label in LABELS)]


def expected_rows(bundle: Path, texts: list[str]) -> list[list[object]]:
    found = bothways.load(bundle).stream(texts)
    return [[p.label, p.probability, *p.probabilities["ensemble"].tolist()] for p in found]


def texts_of(rows: list[tuple[str, str, str]]) -> list[str]:
    return [text for _, text, _ in rows]


# Help.


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(cli: CommandServer, command: str) -> None:
    finished = cli.run(command, "--help")
    assert (finished.status, finished.err) == (0, "")
    assert f"Example: bothways {command} " in " ".join(finished.out.decode().split())


def test_all_commands_are_listed(cli: CommandServer) -> None:
    finished = cli.run("--help")
    assert finished.status == 0
    assert [line.split()[0] for line in finished.out.decode().split("Commands:")[1].splitlines() if line] == COMMANDS


def test_the_version_is_printed(cli: CommandServer) -> None:
    assert cli.run("--version").out.decode() == f"bothways {bothways.__version__}\n"


def test_it_also_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "bothways", "info", "nowhere"]
    finished = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr == b"bothways: error: bundle not found: nowhere\n"


# Predicting.


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zst", ".tsv", ".tab.bz2", ".CSV.xz"])
def test_predicting_a_delimited_file_keeps_all_and_adds_columns(
    cli: CommandServer, place: Workplace, tmp_path: Path, suffix: str
) -> None:
    delimiter = "," if ".csv" in suffix.lower() else "\t"
    rows = [("id", "review", "note, with\ttab"), *((n, text, "NA") for n, text, _ in some_rows(300))]
    content = io.StringIO()
    csv.writer(content, delimiter=delimiter).writerows(rows)
    data, out = tmp_path / f"d{suffix}", tmp_path / f"out{suffix}"
    data.write_bytes(compressed(content.getvalue().encode(), suffix))

    finished = cli.run("predict", place.bundle, data, "--out", out)
    assert finished.status == 0, finished.err
    assert finished.error_line == f"300 rows written to {out}"
    found = list(csv.reader(io.StringIO(decompressed(out.read_bytes(), suffix).decode()), delimiter=delimiter))
    assert found[0] == [*rows[0], *ADDED]
    assert [row[:3] for row in found[1:]] == [list(row) for row in rows[1:]]
    numbers = [[row[3], *map(float, row[4:])] for row in found[1:]]
    assert numbers == expected_rows(place.bundle, texts_of(some_rows(300)))  # guarantee 8, to the last bit


def compressed(content: bytes, suffix: str) -> bytes:
    kinds: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    if suffix.endswith(".zst"):
        return bytes(pa.compress(content, "zstd", asbytes=True))
    return kinds.get(Path(suffix).suffix, bytes)(content)


def decompressed(content: bytes, suffix: str) -> bytes:
    kinds: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.decompress,
        ".bz2": bz2.decompress,
        ".xz": lzma.decompress,
    }
    if suffix.endswith(".zst"):
        return bytes(pa.CompressedInputStream(pa.BufferReader(content), "zstd").read())
    return kinds.get(Path(suffix).suffix, bytes)(content)


def test_predicting_json_lines_keeps_all_and_adds_keys(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    data, out = tmp_path / "d.jsonl", tmp_path / "out.jsonl"
    rows: list[dict[str, Any]] = [
        {"id": n, "review": text, "more": [1, None, {"x": 0.1}]} for n, text, _ in some_rows()
    ]
    rows[5]["rare"] = True
    rows[7] = {"review": "ééé 😀", "id": None}
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert cli.run("predict", place.bundle, data, "--out", out).status == 0
    found = [json.loads(line) for line in out.read_bytes().splitlines()]
    expected = expected_rows(place.bundle, [row["review"] for row in rows])
    assert found == [{**row, **dict(zip(ADDED, new, strict=True))} for row, new in zip(rows, expected, strict=True)]
    assert [list(row) for row in found] == [[*row, *ADDED] for row in rows]


def test_predicting_parquet_keeps_types_and_adds_columns(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    data, out = tmp_path / "d.parquet", tmp_path / "out.parquet"
    texts = texts_of(some_rows(600))
    table = pa.table(
        {
            "n": pa.array([None, *range(599)], pa.int32()),
            "review": pa.array(texts, pa.large_string()),
            "when": pa.array(range(600), pa.timestamp("us", "UTC")),
            "tags": [["a", None]] * 600,
        }
    )
    parquet.write_table(table, data, row_group_size=250)

    assert cli.run("predict", place.bundle, data, "--out", out).status == 0
    found = parquet.read_table(out)
    assert found.select(table.column_names).equals(table)
    assert found.column_names == [*table.column_names, *ADDED]
    assert [str(found.schema.field(name).type) for name in ADDED] == ["string", *["double"] * (1 + len(LABELS))]
    assert [list(row.values()) for row in found.select(ADDED).to_pylist()] == expected_rows(place.bundle, texts)


def test_an_empty_row_group_in_the_middle_loses_nothing(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    data, out = tmp_path / "d.parquet", tmp_path / "out.parquet"
    table = pa.table({"review": ["one", "two", "three"]})
    with parquet.ParquetWriter(data, table.schema) as writer:
        for part in (table[:0], table[:2], table[:0], table[2:], table[:0]):
            writer.write_table(part)
    finished = cli.run("predict", place.bundle, data, "--out", out)
    assert finished.status == 0, finished.err
    assert parquet.read_table(out).column("review").to_pylist() == ["one", "two", "three"]


def test_from_standard_input_to_standard_output(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("predict", place.bundle, "-", "--out", "-", stdin=place.data.read_bytes())
    assert (finished.status, finished.err) == (0, "")
    found = list(csv.reader(io.StringIO(finished.out.decode())))
    assert found[0] == ["id", "review", "stars", *ADDED]
    assert [row[2] for row in found[1:]] == [label for _, _, label in some_rows()]


def test_standard_input_may_be_json_lines(cli: CommandServer, place: Workplace) -> None:
    line = json.dumps({"review": "fine"}).encode()
    finished = cli.run("predict", place.bundle, "-", "--format", "jsonl", "--out", "-", stdin=line)
    assert list(json.loads(finished.out)) == ["review", *ADDED]


def test_another_column_may_hold_the_texts(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("predict", place.bundle, "-", "--out", "-", "--text", "body", stdin=b"body,review\nfine,awful\n")
    (row,) = csv.DictReader(io.StringIO(finished.out.decode()))
    assert [float(row[f"probability_{label}"]) for label in LABELS] == expected_rows(place.bundle, ["fine"])[0][2:]


@pytest.mark.parametrize("header", [b"id,review\n", b"id,review"])
def test_a_header_alone_gives_a_header_alone(cli: CommandServer, place: Workplace, header: bytes) -> None:
    finished = cli.run("predict", place.bundle, "-", "--out", "-", stdin=header)
    assert (finished.status, finished.err) == (0, "")
    assert finished.out.decode() == ",".join(["id", "review", *ADDED]) + "\n"


def test_an_empty_parquet_file_gives_one_with_all_columns(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    data, out = tmp_path / "d.parquet", tmp_path / "out.parquet"
    parquet.write_table(pa.table({"review": pa.array([], pa.string())}), data)
    assert cli.run("predict", place.bundle, data, "--out", out).status == 0
    found = parquet.read_table(out)
    assert (found.column_names, found.num_rows) == (["review", *ADDED], 0)


def test_a_text_may_be_empty(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("predict", place.bundle, "-", "--out", "-", stdin=b'id,review\n1,""\n')
    (row,) = csv.DictReader(io.StringIO(finished.out.decode()))
    assert row["predicted_label"] in LABELS


def test_memory_does_not_grow_with_the_file(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    peaks = []
    for rows in (3_000, 30_000):
        data, out = tmp_path / f"{rows}.csv", tmp_path / f"{rows}.out.csv"
        data.write_text("id,review\n" + "".join(f"{n},a fine film\n" for n in range(rows)))
        finished = cli.run("predict", place.bundle, data, "--out", out)
        assert finished.error_line == f"{rows} rows written to {out}"
        assert out.read_bytes().count(b"\n") == rows + 1
        peaks.append(finished.peak_kib)
    assert peaks[1] - peaks[0] < 30 * 1024


def test_a_bad_row_in_the_middle_is_named_and_leaves_no_output(
    cli: CommandServer, place: Workplace, tmp_path: Path
) -> None:
    data = tmp_path / "d.jsonl"
    lines = ['{"review": "fine"}'] * 2000
    lines[699] = '{"review": "half \\ud83d of it"}'
    data.write_text("\n".join(lines))
    finished = cli.run("predict", place.bundle, data, "--out", tmp_path / "out.jsonl")
    assert finished.status == 1
    assert finished.error_line == (
        f"bothways: error: {data}, line 700, column 'review': the text contains a lone surrogate (U+D83D) at "
        "character 6. It is half of a character: repair the text where it was decoded. "
        "Correct it, or leave it out with --drop-invalid"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]


def test_a_full_disk_is_reported_and_leaves_no_output(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    finished = cli.run("predict", place.bundle, place.data, "--out", out, largest_file=1000)
    assert finished.status == 1
    assert finished.error_line == f"bothways: error: {out} can't be written: File too large. No partial output remains"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_command_is_continued_by_the_same_command(
    cli: CommandServer, place: Workplace, tmp_path: Path, signal_number: signal.Signals
) -> None:
    data, out, whole = tmp_path / "d.csv", tmp_path / "out.csv", tmp_path / "whole.csv"
    data.write_text("id,review\n" + "".join(f"{n},{'a fine film ' * 20}\n" for n in range(6_000)))
    journal = tmp_path / "out.csv.part.json"
    often = {"bothways.evaluation.score.CHECKPOINT_S": 0.0}

    def interrupt(pid: int, _: Path) -> None:
        wait_for(lambda: journal.exists() and json.loads(journal.read_bytes())["rows"] > 1000)
        os.kill(pid, signal_number)

    finished = cli.run("predict", place.bundle, data, "--out", out, constants=often, meanwhile=interrupt)
    if signal_number is signal.SIGINT:
        assert finished.status == 130
        assert finished.error_line == "bothways: interrupted: run the same command again to continue"
    else:
        assert finished.status == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {"d.csv", "out.csv.part", "out.csv.part.json"}
    assert json.loads(journal.read_bytes())["rows"] < 6_000

    finished = cli.run("predict", place.bundle, data, "--out", out)
    assert finished.error_line == f"6000 rows written to {out}"
    cli.run("predict", place.bundle, data, "--out", whole)
    assert out.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"d.csv", "out.csv", "whole.csv"}


@pytest.mark.parametrize("rows", [1, 5_000])
def test_a_reader_that_leaves_early_is_no_error(place: Workplace, tmp_path: Path, rows: int) -> None:
    data = tmp_path / "d.csv"
    data.write_text("review\n" + "a fine film\n" * rows)
    command = [sys.executable, "-m", "bothways", "predict", str(place.bundle), str(data), "--out", "-"]
    running = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stderr is not None
    if rows > 1:
        assert running.stdout.readline().startswith(b"review,predicted_label,")
    running.stdout.close()
    assert running.stderr.read() == b""
    running.stderr.close()
    assert running.wait() == 141


# Evaluating.


def test_metrics_are_those_of_scikit_learn(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    rows = [(n, text, LABELS[(number // 2) % 3]) for number, (n, text, _) in enumerate(some_rows(90))]  # mostly wrong
    data = tmp_path / "d.csv"
    with data.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "review", "stars"), *rows])
    finished = cli.run("evaluate", place.bundle, data)
    assert (finished.status, finished.err) == (0, "")
    assert finished.out.decode().startswith(f"90 rows of {data}\n")

    found, model = titled_cells(finished.out), bothways.load(place.bundle)
    true = [label for _, _, label in rows]
    for name, probabilities in model.predict_proba_by_direction(texts_of(rows)).items():
        predicted = [LABELS[best] for best in probabilities.argmax(axis=1)]
        macro = metrics.f1_score(true, predicted, labels=LABELS, average="macro", zero_division=0)
        numbers = np.array([LABELS.index(label) for label in true])
        loss = metrics.log_loss(numbers, probabilities, labels=[0, 1, 2])
        auc = metrics.roc_auc_score(numbers, probabilities, multi_class="ovr")
        error = expected_calibration_error(probabilities.max(axis=1), np.array(predicted) == np.array(true))
        assert found[name]["accuracy"] == f"{metrics.accuracy_score(true, predicted):.2%}"
        assert [found[name][title] for title in ("macro F1", "log loss", "ROC-AUC", "ECE")] == [
            f"{value:.4f}" for value in (macro, loss, auc, error)
        ]
        assert error > 0.01
    evaluation = bothways.evaluate(place.bundle, data)
    low, high = evaluation.intervals["accuracy"]
    assert found["95 % interval"]["accuracy"] == f"{low:.2%} to {high:.2%}"
    assert found["95 % interval"]["log loss"] == ""

    theirs = metrics.precision_recall_fscore_support(true, predicted, labels=LABELS, zero_division=0)
    matrix = metrics.confusion_matrix(true, predicted, labels=LABELS)
    for position, (label, precision, recall, f1, count) in enumerate(zip(LABELS, *theirs, strict=True)):
        wrong = [0 if other == position else int(matrix[position, other]) for other in range(3)]
        confused = f"{LABELS[wrong.index(max(wrong))]} ({max(wrong)})" if max(wrong) else ""
        shown = f"{precision:.1%}" if label in predicted else "–"  # undefined for a label that is never predicted
        cells_of_label = [shown, f"{recall:.1%}", f"{f1:.3f}", str(count), str(predicted.count(label))]
        assert list(found[label].values()) == [*cells_of_label, confused]


def test_a_class_that_neither_occurs_nor_is_predicted_has_no_metrics(
    cli: CommandServer, place: Workplace, tmp_path: Path
) -> None:
    data = tmp_path / "d.csv"
    data.write_text("body,y\nlovely film,01\n", encoding="utf-8")
    finished = cli.run("evaluate", place.bundle, data, "--text", "body", "--label", "y")
    assert finished.status == 0, finished.err
    found = cells(finished.out)
    predicted = str(bothways.load(place.bundle).predict(["lovely film"])[0])
    for label in LABELS:
        if label not in ("01", predicted):
            assert found[label][:5] == ["–", "–", "–", "0", "0"]
    assert found["01"][3] == "1"


def test_an_evaluation_is_also_json(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    out = tmp_path / "evaluation.json"
    finished = cli.run("evaluate", place.bundle, place.data, "--json", "--out", out)
    assert (finished.status, finished.err) == (0, "")
    expected = bothways.evaluate(place.bundle, place.data).to_dict()
    assert json.loads(finished.out) == json.loads(out.read_bytes()) == expected
    quiet = cli.run("evaluate", place.bundle, place.data, "--out", out)
    assert (quiet.status, quiet.out) == (2, b"")
    assert f"{out} exists" in quiet.error_line


# Verifying and looking.


def test_verify_shows_the_largest_difference_of_each_direction(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("verify", place.bundle)
    assert (finished.status, finished.err) == (0, "")
    found = cells(finished.out)
    for name in ("forward", "backward", "ensemble"):
        difference, allowed = found[name]
        assert 0 <= float(difference) <= 1e-5
        assert allowed == "1e-05"
    assert finished.out.decode().endswith("Passed: the tokens and the numbers are those of the trainer.\n")


def copy_of(bundle: Path, folder: Path) -> Path:
    copy = folder / "copy.bundle"
    copy.mkdir()
    for path in bundle.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize("name", ["forward.safetensors", "tokenizer.json", "parity.jsonl", "README.md"])
def test_a_tampered_bundle_fails(cli: CommandServer, place: Workplace, tmp_path: Path, name: str) -> None:
    copy = copy_of(place.bundle, tmp_path)
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    finished = cli.run("verify", copy)
    assert (finished.status, finished.out) == (1, b"")
    assert finished.error_line.startswith(f"bothways: error: {copy / name} is not the file that its manifest records")


def test_numbers_that_are_not_the_trainers_fail(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    copy = copy_of(place.bundle, tmp_path)
    rows = [json.loads(line) for line in (copy / "parity.jsonl").read_bytes().splitlines()]
    first, *others = rows[3]["probabilities"]["backward"]
    rows[3]["probabilities"]["backward"] = {first: 1.0, **dict.fromkeys(others, 0.0)}
    replace_file(copy, "parity.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    finished = cli.run("verify", copy)
    assert finished.status == 1
    assert "FAILED: backward differs by " in finished.out.decode()
    assert float(cells(finished.out)["backward"][0]) > 0.1
    assert float(cells(finished.out)["forward"][0]) <= 1e-5


def test_info_shows_what_a_bundle_contains(cli: CommandServer, place: Workplace) -> None:
    finished = cli.run("info", place.bundle)
    assert (finished.status, finished.err) == (0, "")
    assert finished.out.decode().splitlines()[0] == str(place.bundle)
    found = cells(finished.out)
    assert found["kind"] == ["text classifier, format 2"]
    assert found["task"] == ["single-label"]
    assert "thresholds" not in found
    assert float(found["temperature"][0].removesuffix(", not calibrated")) > 0
    assert found["labels"] == [", ".join(LABELS)]
    assert found["digest"] == [bothways.load(place.bundle).digest]
    assert found["columns"] == ["text 'review', label 'stars'"]
    assert found["rows"] == ["54 training, 6 validation, 0 unlabeled"]
    assert found["backward model"][0].startswith("AWD-LSTM 8/12/2, vocabulary ")
    assert found["trained"] == [f"bothways {bothways.__version__}, size small, seed 0"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_show_a_label_is_no_reason_to_fail(place: Workplace, encoding: str) -> None:
    for command in (["info", place.bundle], ["evaluate", place.bundle, place.data], ["verify", place.bundle]):
        finished = subprocess.run(
            [sys.executable, "-m", "bothways", *map(str, command)],
            env={**ENVIRONMENT, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert (finished.returncode, finished.stderr) == (0, b"")
        assert "[red]" in finished.stdout.decode(encoding) or command[0] == "verify"


def test_pretraining_names_the_next_command(
    cli: CommandServer, cli_with_torch: CommandServer, place: Workplace, tmp_path: Path
) -> None:
    pack = tmp_path / "a.pack"
    options = ("--text", "review", "--directions", "forward", "--config", place.folder / "c.toml")
    finished = cli_with_torch.run("pretrain", place.data, "--out", pack, *options)
    assert finished.status == 0, finished.err
    assert f"--pretrained {pack}" in finished.out.decode()
    assert "language-model pack, format 2" in cells(cli.run("info", pack).out)["kind"]
    verified = cli.run("verify", pack)
    assert verified.status == 0
    assert float(cells(verified.out)["forward"][0]) <= 1e-5

    refused = cli.run("predict", pack, place.data, "--out", "-")
    assert refused.status == 1
    assert refused.error_line == f"bothways: error: {pack} is a language-model, expected a classifier"


# Mistakes.

TRAIN = ("--text", "review", "--label", "stars", "--pretrained", "none")
BAD_DATA, WRONG_USE = 1, 2


def files_for_mistakes(folder: Path) -> None:
    (folder / "other.csv").write_text("review,stars\nfine,five\n")
    (folder / "semicolons.csv").write_text("review;stars\nfine;01\n")
    (folder / "empty.csv").touch()
    (folder / "header.csv").write_text("review,stars\n")
    (folder / "latin1.csv").write_bytes("review,stars\nfine,01\nnaïve,01\n".encode("latin-1"))
    (folder / "scored.csv").write_text("review,predicted_label\nfine,01\n")
    (folder / "one.csv").write_text("review,stars\na,01\nb,01\n")
    (folder / "there.csv").write_text("precious")
    (folder / "typo.toml").write_text('[classifer]\nepochs = 3\n[encoder]\nlayers = "two"\n')
    (folder / "bad.toml").write_text("[encoder")
    (folder / "d.xlsx").write_bytes(b"PK")
    (folder / "broken.parquet").write_bytes(b"PAR1 and no more")
    (folder / "folder").mkdir()


MISTAKES: dict[str, tuple[tuple[object, ...], int, str]] = {
    "missing data": (("train", "nope.csv", *TRAIN, "--out", "o"), BAD_DATA, "file not found: nope.csv"),
    "data is a folder": (("train", "folder.csv/..", *TRAIN, "--out", "o"), WRONG_USE, "unknown file format"),
    "wrong text column": (
        ("train", "d.csv", "--text", "reviw", "--label", "stars", "--out", "o"),
        BAD_DATA,
        "d.csv has no column 'reviw'. It has 'id', 'review', 'stars'. Choose a column with --text",
    ),
    "wrong label column": (
        ("train", "d.csv", "--text", "review", "--label", "star", "--out", "o"),
        BAD_DATA,
        "d.csv has no column 'star'. It has 'id', 'review', 'stars'. Choose a column with --label",
    ),
    "semicolons": (("train", "semicolons.csv", *TRAIN, "--out", "o"), BAD_DATA, "separated by semicolons"),
    "one class": (("train", "one.csv", *TRAIN, "--out", "o"), BAD_DATA, "all 2 rows have the label '01'"),
    "not utf-8": (
        ("train", "latin1.csv", *TRAIN, "--out", "o"),
        BAD_DATA,
        "latin1.csv, row 2 (line 3), column 'review': not valid UTF-8",
    ),
    "empty": (("train", "empty.csv", *TRAIN, "--out", "o"), BAD_DATA, "empty.csv is empty"),
    "header only": (("train", "header.csv", *TRAIN, "--out", "o"), BAD_DATA, "header.csv has no row"),
    "no spreadsheet": (("train", "d.xlsx", *TRAIN, "--out", "o"), BAD_DATA, "d.xlsx is not a valid Excel file"),
    "existing output": (
        ("train", "d.csv", *TRAIN, "--out", "m.bundle"),
        WRONG_USE,
        "m.bundle exists: choose another --out, or remove it first",
    ),
    "output in a missing folder": (
        ("train", "d.csv", *TRAIN, "--out", "nope/o"),
        WRONG_USE,
        "the folder nope does not exist: create it first",
    ),
    "typos in a config": (
        ("train", "d.csv", *TRAIN, "--out", "o", "--config", "typo.toml"),
        WRONG_USE,
        "typo.toml has 2 errors: ",
    ),
    "a config that is none": (
        ("train", "d.csv", *TRAIN, "--out", "o", "--config", "bad.toml"),
        WRONG_USE,
        "bad.toml is not valid TOML",
    ),
    "missing config": (
        ("train", "d.csv", *TRAIN, "--out", "o", "--config", "nope.toml"),
        WRONG_USE,
        "nope.toml can't be read: No such file or directory",
    ),
    "missing pack": (
        ("train", "d.csv", *TRAIN, "--out", "o", "--pretrained", "nope.pack"),
        BAD_DATA,
        "pack not found: nope.pack. Pass a path, hf://USER/NAME or one of en-small",
    ),
    "missing corpus": (("pretrain", "nope.txt", "--out", "o"), BAD_DATA, "file not found: nope.txt"),
    "missing bundle": (("predict", "nope", "d.csv", "--out", "o.csv"), BAD_DATA, "bundle not found: nope"),
    "a file as bundle": (
        ("predict", "d.csv", "d.csv", "--out", "o.csv"),
        BAD_DATA,
        "d.csv is not a bundle: a bundle is a directory with a file bundle.json",
    ),
    "a folder as bundle": (("info", "folder"), BAD_DATA, "folder is not a bundle: it contains no bundle.json"),
    "nothing to verify": (("verify", "folder"), BAD_DATA, "folder is not a bundle"),
    "nothing to measure": (("bench", "folder"), BAD_DATA, "folder is not a bundle"),
    "nothing to export": (("export-onnx", "folder", "--out", "m.onnx"), BAD_DATA, "folder is not a bundle"),
    "an export over a file": (("export-onnx", "m.bundle", "--out", "d.csv"), WRONG_USE, "d.csv"),
    "the output is the input": (
        ("predict", "m.bundle", "d.csv", "--out", "d.csv"),
        WRONG_USE,
        "d.csv is the input itself: choose another --out",
    ),
    "the output is the input in other words": (
        ("predict", "m.bundle", "d.csv", "--out", "./d.csv"),
        WRONG_USE,
        "d.csv exists: choose another --out",
    ),
    "existing table": (
        ("predict", "m.bundle", "d.csv", "--out", "there.csv"),
        WRONG_USE,
        "there.csv exists: choose another --out",
    ),
    "table in a missing folder": (
        ("predict", "m.bundle", "d.csv", "--out", "nope/o.csv"),
        WRONG_USE,
        "the folder nope does not exist",
    ),
    "another format": (
        ("predict", "m.bundle", "d.csv", "--out", "o.jsonl"),
        WRONG_USE,
        "o.jsonl is a jsonl file, but the input is csv. Use the same format for --out",
    ),
    "parquet through a pipe": (
        ("predict", "m.bundle", "-", "--format", "parquet", "--out", "o.parquet"),
        BAD_DATA,
        "standard input is not a valid Parquet file",
    ),
    "broken parquet": (
        ("predict", "m.bundle", "broken.parquet", "--out", "o.parquet"),
        BAD_DATA,
        "broken.parquet is not a valid Parquet file",
    ),
    "no text column": (
        ("predict", "m.bundle", "d.csv", "--out", "o.csv", "--text", "body"),
        BAD_DATA,
        "d.csv has no column 'body'",
    ),
    "the recorded column is not there": (
        ("predict", "m.bundle", "semicolons.csv", "--out", "o.csv"),
        BAD_DATA,
        "semicolons.csv has no column 'review'",
    ),
    "scored already": (
        ("predict", "m.bundle", "scored.csv", "--out", "o.csv"),
        BAD_DATA,
        "scored.csv already has a column 'predicted_label'",
    ),
    "nothing to predict": (("predict", "m.bundle", "empty.csv", "--out", "o.csv"), BAD_DATA, "empty.csv is empty"),
    "nothing on standard input": (("predict", "m.bundle", "-", "--out", "o.csv"), BAD_DATA, "standard input is empty"),
    "bad bytes to predict": (
        ("predict", "m.bundle", "latin1.csv", "--out", "o.csv"),
        BAD_DATA,
        "latin1.csv, row 2 (line 3), column 'review': not valid UTF-8",
    ),
    "unknown label": (
        ("evaluate", "m.bundle", "other.csv"),
        BAD_DATA,
        "other.csv, row 1 (line 2), column 'stars': unknown label 'five'; the model has '01', '[red]', 'né'",
    ),
    "nothing to evaluate": (("evaluate", "m.bundle", "header.csv"), BAD_DATA, "header.csv has no row"),
    "no such label column": (
        ("evaluate", "m.bundle", "d.csv", "--label", "y"),
        BAD_DATA,
        "d.csv has no column 'y'",
    ),
}


@pytest.fixture(scope="module")
def mistakes_folder(place: Workplace) -> Path:
    files_for_mistakes(place.folder)
    return place.folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_one_line(
    cli: CommandServer, cli_with_torch: CommandServer, mistakes_folder: Path, mistake: str
) -> None:
    arguments, status, message = MISTAKES[mistake]
    server = cli_with_torch if arguments[0] in ("train", "pretrain") else cli
    before = {path.name for path in mistakes_folder.iterdir()}
    finished = server.run(*arguments, folder=mistakes_folder)
    assert finished.error_line.startswith("bothways: error: ")
    assert message in finished.error_line
    assert (finished.status, finished.out) == (status, b"")
    assert {path.name for path in mistakes_folder.iterdir()} == before
    assert (mistakes_folder / "there.csv").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian",), "No such command 'trian'"),
        (("train", "d.csv"), "Missing option"),
        (("train", "d.csv", *TRAIN), "Missing option '--out'"),
        (("train", *TRAIN, "--out", "o"), "Missing argument"),
        (("train", "d.csv", *TRAIN, "--out", "o", "--size", "huge"), "'huge' is not one of 'tiny', 'small', 'base'"),
        (("train", "d.csv", *TRAIN, "--out", "o", "--seed", "x"), "Invalid value for '--seed'"),
        (("train", "d.csv", *TRAIN, "--out", "o", "--seed", "-1"), "Invalid value for '--seed'"),
        (("train", "d.csv", *TRAIN, "--out", "o", "--epochs", "3"), "No such option"),
        (("predict", "m.bundle", "d.csv", "--out", "o.csv", "--format", "xls"), "'xls' is not one of"),
        (("predict", "m.bundle", "d.csv", "e.csv", "--out", "o.csv"), "unexpected extra argument"),
        (("verify",), "Missing argument"),
    ],
)
def test_wrong_use_shows_how_it_is_used(
    cli: CommandServer, mistakes_folder: Path, arguments: tuple[object, ...], message: str
) -> None:
    finished = cli.run(*arguments, folder=mistakes_folder)
    assert (finished.status, finished.out) == (2, b"")
    assert finished.err.startswith("Usage: ")
    assert message in finished.err
    assert "Traceback" not in finished.err
    assert "│" not in finished.err  # no boxes


@pytest.mark.parametrize(
    "arguments",
    [("train", "d.csv", *TRAIN, "--out", "o"), ("pretrain", "d.csv", "--text", "review", "--out", "o")],
)
def test_without_torch_training_names_the_extra(
    cli: CommandServer, mistakes_folder: Path, arguments: tuple[object, ...]
) -> None:
    finished = cli.run(*arguments, folder=mistakes_folder, blocked=("torch",))
    assert finished.status == 1
    assert finished.error_line == "bothways: error: training needs torch: pip install 'bothways[train]'"


def test_without_pyarrow_parquet_names_the_extra(cli: CommandServer, mistakes_folder: Path) -> None:
    arguments = ("predict", "m.bundle", "broken.parquet", "--out", "o.parquet")
    finished = cli.run(*arguments, folder=mistakes_folder, blocked=("pyarrow",))
    assert finished.status == 1
    assert finished.error_line == "bothways: error: Parquet files need pyarrow: pip install 'bothways[parquet]'"


def test_predicting_needs_no_torch(cli: CommandServer, place: Workplace) -> None:
    blocked = ("torch", "spacy", "sentencepiece")
    finished = cli.run("predict", place.bundle, place.data, "--out", "-", blocked=blocked)
    assert (finished.status, finished.err) == (0, "")


def test_a_bug_is_reported_in_one_line(cli: CommandServer, place: Workplace) -> None:
    blocked = ("bothways.text.validation", "bothways.runtime.verify", "onnxruntime", "bothways.training.run_folder")
    columns = ("--text", "review", "--label", "stars")
    out = place.folder / "fault.bundle"
    finished = cli.run("train", place.data, *columns, "--pretrained", "none", "--out", out, blocked=blocked)
    assert finished.status == 70
    assert finished.error_line.startswith("bothways: internal error: ModuleNotFoundError: ")
    assert "This is a bug in bothways: please report it" in finished.error_line


def test_warnings_and_epochs_go_to_standard_error(cli_with_torch: CommandServer, tmp_path: Path) -> None:
    data = tmp_path / "d.csv"
    rows = [*some_rows(), ("x", "lovely", "NÉ"), ("y", "a fine", "NÉ"), ("z", "a fine", "01")]
    with data.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "review", "stars"), *rows])
    (tmp_path / "c.toml").write_text(CONFIG)
    options = ("--config", tmp_path / "c.toml", "--directions", "forward", "--out", tmp_path / "m.bundle", "--force")
    finished: Finished = cli_with_torch.run("train", data, *TRAIN, *options)
    assert finished.status == 0, finished.err
    lines = finished.err.splitlines()
    assert lines[0] == "data: 55 training, 8 validation rows; 4 classes; rarest 'NÉ' with 1 training row"
    warning = f"warning: {data}: the labels 'NÉ' and 'né' differ only by white space or case; "
    at = lines.index(f"{warning}they are treated as different labels")
    assert lines[at + 1] == f"warning: {data}: 1 duplicate texts with conflicting labels"
    assert lines.index("tokenizer") > at
    assert sum(line.startswith("forward classifier, epoch ") for line in lines) == 1
    assert finished.out.decode().startswith(f"{tmp_path / 'm.bundle'}: metrics on 8 validation rows\n")


def test_b5_predict_states_how_many_texts_the_model_cannot_read(
    cli: CommandServer, place: Workplace, tmp_path: Path
) -> None:
    source, out = tmp_path / "d.csv", tmp_path / "out.csv"
    source.write_text('id,review\n1,the film\n2,""\n3,12 345\n4,a lovely story\n', encoding="utf-8")
    finished = cli.run("predict", place.bundle, source, "--out", tmp_path / "whole.csv")
    assert finished.status == 0
    assert finished.err.splitlines()[-1] == (
        "warning: the model cannot read 2 of 4 texts (50.0%): 1 empty, 1 only digits or punctuation. "
        "Their predictions mean little"
    )
    finished = cli.run("predict", place.bundle, source, "--out", out, "--abstain")
    assert finished.status == 0
    assert finished.err.splitlines()[-1].endswith("Their predictions were left empty")
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted_label"] == row["predicted_probability"] == "" for row in rows] == [False, True, True, False]
    assert all(row["probability_né"] for row in rows)


def test_b1_evaluate_says_how_uncertain_the_metrics_of_few_rows_are(
    cli: CommandServer, place: Workplace, tmp_path: Path
) -> None:
    (tmp_path / "d.csv").write_text("review,stars\n" + "the film,01\n" * 6, encoding="utf-8")
    finished = cli.run("evaluate", place.bundle, tmp_path / "d.csv")
    assert finished.status == 0, finished.err
    assert "warning: only 6 rows, so the metrics are uncertain: accuracy " in finished.out.decode()
    recall = {name: row[1] for name, row in cells(finished.out).items() if name in ("01", "né")}
    assert recall["né"] == "–"
