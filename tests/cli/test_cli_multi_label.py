"""The command line with a multi-label bundle."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from sklearn import metrics

from bothways.runtime.classifier import Classifier
from tests.bundles import THRESHOLDS, TOPICS, edit_manifest, record_decisions
from tests.cli.conftest import cells, expected_calibration_error, titled_cells
from tests.processes import CommandServer

TEXTS = [f"{word} {number}" for word in ("lovely", "HATED it", "zzz q", "so, dog!", "") for number in range(12)]
ADDED = ["predicted_labels", *(f"probability_{label}" for label in TOPICS)]


@pytest.fixture
def copy(multi_label_bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(multi_label_bundle_path, tmp_path / "copy.bundle"))


def write_csv(path: Path, header: list[str], *rows: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


# Predictions.


def test_all_chosen_labels_are_in_one_column(
    cli: CommandServer, multi_label_bundle_path: Path, multi_label_model: Classifier, tmp_path: Path
) -> None:
    data = write_csv(tmp_path / "d.csv", ["id", "text"], *([str(n), text] for n, text in enumerate(TEXTS)))
    finished = cli.run("predict", multi_label_bundle_path, data, "--out", tmp_path / "out.csv")
    assert finished.status == 0, finished.err
    found = read_csv((tmp_path / "out.csv").read_bytes())
    assert list(found[0]) == ["id", "text", *ADDED]
    predictions = list(multi_label_model.stream(TEXTS))
    assert {len(p.chosen) for p in predictions} >= {0, 1, 2}
    for row, p in zip(found, predictions, strict=True):
        assert row["predicted_labels"] == ";".join(map(str, p.chosen))  # the separator that the bundle records
        assert [float(row[name]) for name in ADDED[1:]] == p.probabilities["ensemble"].tolist()


def test_where_no_separator_is_recorded_a_bar_separates(
    cli: CommandServer, copy: Path, multi_label_model: Classifier
) -> None:
    edit_manifest(copy, lambda fields: fields["training"].update(label_separator=None))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    finished = cli.run("predict", copy, "-", "--format", "jsonl", "--out", "-", stdin=lines.encode())
    assert finished.status == 0, finished.err
    rows = [json.loads(line) for line in finished.out.splitlines()]
    assert [row["predicted_labels"] for row in rows] == ["|".join(c) for c in multi_label_model.predict(TEXTS)]


def test_texts_without_any_label_are_text_in_parquet_too(cli: CommandServer, copy: Path, tmp_path: Path) -> None:
    edit_manifest(copy, lambda fields: fields.update(thresholds=[0.999] * 4))
    record_decisions(copy)
    parquet.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "d.parquet")
    finished = cli.run("predict", copy, tmp_path / "d.parquet", "--out", tmp_path / "out.parquet")
    assert finished.status == 0, finished.err
    found = parquet.read_table(tmp_path / "out.parquet")
    assert found.column_names == ["text", *ADDED]
    assert found.column("predicted_labels").to_pylist() == ["", ""]


def test_a_table_scored_already_is_refused(cli: CommandServer, multi_label_bundle_path: Path) -> None:
    stdin = b"text,predicted_labels\na,x\n"
    finished = cli.run("predict", multi_label_bundle_path, "-", "--out", "-", stdin=stdin)
    assert finished.status == 1
    assert "already has a column 'predicted_labels'. Rename or drop it first" in finished.error_line


def test_the_help_lists_the_columns_of_every_task(cli: CommandServer) -> None:
    shown = " ".join(cli.run("predict", "--help").out.decode().split())
    assert "Single-label: predicted_label, predicted_probability and one probability_LABEL per label." in shown
    assert "Multi-label: predicted_labels, " in shown
    assert "Regression: predicted_value." in shown


# Evaluations.


def test_metrics_are_those_of_scikit_learn(
    cli: CommandServer, multi_label_bundle_path: Path, multi_label_model: Classifier, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    true = rng.random((len(TEXTS), 4)) < [0.5, 0.3, 0.6, 0]
    joined = ["; ".join(np.array(TOPICS)[row]) for row in true]
    assert "" in joined
    data = write_csv(tmp_path / "d.csv", ["text", "topics"], *map(list, zip(TEXTS, joined, strict=True)))
    finished = cli.run("evaluate", multi_label_bundle_path, data)
    assert (finished.status, finished.err) == (0, "")
    assert finished.out.decode().startswith(f"{len(TEXTS)} rows of {data}\n")

    found = titled_cells(finished.out)
    by_direction = multi_label_model.predict_proba_by_direction(TEXTS)
    assert list(by_direction) == ["forward", "backward", "ensemble"]
    for name, probabilities in by_direction.items():
        chosen = probabilities >= np.array(THRESHOLDS)
        macro = metrics.f1_score(true, chosen, average="macro", zero_division=0)
        micro = metrics.f1_score(true, chosen, average="micro")
        subset = metrics.accuracy_score(true, chosen)
        error = expected_calibration_error(probabilities.ravel(), true.ravel())
        assert [found[name][title] for title in ("macro F1", "micro F1", "subset accuracy", "ECE")] == [
            *(f"{macro:.4f}", f"{micro:.4f}", f"{subset:.2%}", f"{error:.4f}")
        ]
    theirs = metrics.precision_recall_fscore_support(true, chosen, zero_division=0)
    for label, precision, recall, f1, count in zip(TOPICS, *theirs, strict=True):
        predicted = str(chosen[:, TOPICS.index(label)].sum())
        assert list(found[label].values()) == [
            *(f"{precision:.1%}", f"{recall:.1%}" if count else "–", f"{f1:.3f}", str(count), predicted)
        ]
    assert found["price"]["rows"] == "0"


def test_what_was_predicted_evaluates_as_perfect(
    cli: CommandServer, multi_label_bundle_path: Path, tmp_path: Path
) -> None:
    """The labels that predict writes are read back by evaluate, also where there are none."""
    data = write_csv(tmp_path / "d.csv", ["text"], *([text] for text in TEXTS if text))
    assert cli.run("predict", multi_label_bundle_path, data, "--out", tmp_path / "out.csv").status == 0
    finished = cli.run("evaluate", multi_label_bundle_path, tmp_path / "out.csv", "--label", "predicted_labels")
    assert finished.status == 0, finished.err
    assert cells(finished.out)["ensemble"][:3] == ["1.0000", "1.0000", "100.00%"]
    assert cells(finished.out)["forward"][2] != "100.00%"


def test_lists_of_labels_evaluate_like_strings(
    cli: CommandServer, multi_label_bundle_path: Path, tmp_path: Path
) -> None:
    labels = [["plot", "music"], [], ["acting"]]
    lists, strings = tmp_path / "lists.jsonl", tmp_path / "strings.jsonl"
    lists.write_text("".join(json.dumps({"text": "a", "topics": each}) + "\n" for each in labels))
    strings.write_text("".join(json.dumps({"text": "a", "topics": ";".join(each)}) + "\n" for each in labels))
    first, second = (cli.run("evaluate", multi_label_bundle_path, path).out for path in (lists, strings))
    assert cells(first) == cells(second)
    assert cells(first)["plot"][3] == "1"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("plot;sets", "unknown label 'sets'; the model has 'acting', 'music', 'plot', 'price'; --unknown-"),
        ("plot|music", "unknown label 'plot|music'; the model has 'acting', 'music', 'plot', 'price'; --unknown-"),
    ],
)
def test_an_unknown_label_is_named(
    cli: CommandServer, multi_label_bundle_path: Path, tmp_path: Path, labels: str, message: str
) -> None:
    write_csv(tmp_path / "d.csv", ["text", "topics"], ["a", "plot"], ["b", labels])
    finished = cli.run("evaluate", multi_label_bundle_path, "d.csv", folder=tmp_path)
    assert (finished.status, finished.out) == (1, b"")
    assert finished.error_line.startswith(f"bothways: error: d.csv, row 2 (line 3), column 'topics': {message}")


# Info.


def test_info_shows_thresholds_and_temperature(cli: CommandServer, multi_label_bundle_path: Path) -> None:
    finished = cli.run("info", multi_label_bundle_path)
    assert (finished.status, finished.err) == (0, "")
    found = cells(finished.out)
    assert found["task"] == ["multi-label"]
    assert found["thresholds"] == ["0.42 to 0.53, by label"]
    assert found["temperature"] == ["1.7"]
    assert found["columns"] == ["text 'text', label 'topics' separated by ';'"]


def test_info_shows_one_threshold_and_no_calibration(cli: CommandServer, copy: Path) -> None:
    edit_manifest(copy, lambda m: m.update(thresholds=[0.5] * 4, calibration={"temperature": 1}))
    found = cells(cli.run("info", copy).out)
    assert found["thresholds"] == ["0.5"]
    assert found["temperature"] == ["1, not calibrated"]


def test_info_of_a_pack_has_neither(cli: CommandServer, pack_path: Path) -> None:
    found = cells(cli.run("info", pack_path).out)
    assert found["task"] == ["next-token"]
    assert not {"thresholds", "temperature", "labels"} & found.keys()


def test_verify_replays_a_multi_label_bundle(cli: CommandServer, multi_label_bundle_path: Path) -> None:
    finished = cli.run("verify", multi_label_bundle_path)
    assert (finished.status, finished.err) == (0, "")
    assert all(float(cells(finished.out)[name][0]) <= 1e-5 for name in ("forward", "backward", "ensemble"))


def test_rows_that_cannot_be_used_are_counted_or_left_out(
    cli: CommandServer, multi_label_bundle_path: Path, tmp_path: Path
) -> None:
    """A4: evaluate and predict go on without them on request, and say how many there were."""
    rows = [{"text": "a", "topics": "plot"}, {"text": "b", "topics": "plot;sets"}, {"text": None, "topics": "music"}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluate = ("evaluate", multi_label_bundle_path, "d.jsonl")
    finished = cli.run(*evaluate, folder=tmp_path)
    assert (finished.status, finished.out) == (1, b"")
    assert "2 of 3 rows are invalid: column 'topics': unknown label 'sets'" in finished.error_line
    assert "(line 2); column 'text': the text is missing" in finished.error_line
    out = cli.run(*evaluate, "--drop-invalid", folder=tmp_path).out.decode()
    assert "Invalid rows left out: 2. column 'topics': unknown label 'sets'" in out
    out = cli.run(*evaluate, "--drop-invalid", "--unknown-labels", "count", "--json", folder=tmp_path).out.decode()
    found = json.loads(out)
    assert (found["rows"], found["unknown"], [row["place"] for row in found["invalid"]]) == (2, 1, ["line 3"])

    predict = ("predict", multi_label_bundle_path, "d.jsonl", "--out", "o.jsonl")
    assert "line 3, column 'text': the text is missing" in cli.run(*predict, folder=tmp_path).error_line
    finished = cli.run(*predict, "--drop-invalid", folder=tmp_path)
    assert finished.status == 0
    assert "warning: invalid rows left out: 1, listed in o.jsonl.invalid.jsonl." in finished.err
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 2
    (line,) = (tmp_path / "o.jsonl.invalid.jsonl").read_text().splitlines()
    assert json.loads(line)["values"] == {"text": None, "topics": "music"}
