"""Model cards: what they state, and that what varies between runs is in no bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bothways
from bothways.bundle.card import headline_text, write_card
from bothways.bundle.card_results import compute_text, evaluated_text, read_evaluated
from bothways.bundle.manifest import TrainingRecord
from bothways.bundle.read import read_manifest
from bothways.errors import DataError
from bothways.runtime.classifier import Classifier
from tests.bundles import LABELS, TinyClassifiers

VALIDATION = {
    "forward": {"accuracy": 0.8, "loss": 0.6},
    "ensemble": {"accuracy": 0.875, "macro_f1": 0.8123, "loss": 0.41, "calibration_error": 0.02},
}
INTERVALS = {"accuracy": [0.8, 0.93], "macro_f1": [0.75, 0.9]}
RECORD = TrainingRecord(
    bothways_version="1",
    seed=1,
    size="tiny",
    rows={"training": 320, "validation": 80},
    validation=VALIDATION,
    validation_intervals=INTERVALS,
)


def test_a_card_states_results_use_data_and_limits(torch_models: TinyClassifiers) -> None:
    card = write_card(torch_models.task, torch_models.members, RECORD)
    headline = "On 80 validation rows: accuracy 87.50% (95 % interval 80.00% to 93.00%), macro F1 0.8123 (95 % interval"
    assert headline in card
    assert [line for line in card.splitlines() if line.startswith("## ")] == [
        "## Intended use",
        "## Training",
        "## Metrics",
        "## Limitations",
    ]
    assert "| ensemble, 95 % interval | 0.8000 to 0.9300 |  |  | 0.7500 to 0.9000 |" in card
    assert "Rows: 320 training, 80 validation." in card
    assert "Energy was not measured." in card
    assert card == write_card(torch_models.task, torch_models.members, RECORD)


def test_a_card_states_how_many_training_rows_each_label_has(torch_models: TinyClassifiers) -> None:
    record = RECORD.model_copy(update={"label_rows": {"a|b\n`c`": 3, "good": 1_200, "bad": 0}})
    lines = write_card(torch_models.task, torch_models.members, record).splitlines()
    first = lines.index("| label | training rows |")
    assert lines[first + 2 : first + 6] == ["| good | 1,200 |", "| a\\|b \\`c\\` | 3 |", "| bad | 0 |", ""]
    many = record.model_copy(update={"label_rows": {f"label {number}": number for number in range(1_500)}})
    lines = write_card(torch_models.task, torch_models.members, many).splitlines()
    first = lines.index("| most frequent of 1,500 labels | training rows |")
    assert lines[first + 2] == "| label 1499 | 1,499 |"
    assert lines[first + 22] == ""
    assert "label_rows" not in TrainingRecord(bothways_version="1").model_dump()


def test_cards_without_metrics_claim_none(torch_models: TinyClassifiers) -> None:
    record = TrainingRecord(bothways_version="1")
    assert headline_text(record) == ""
    card = write_card(torch_models.task, torch_models.members, record)
    assert "## Metrics" not in card
    assert "95 %" not in card
    pack = write_card(None, torch_models.members, record)
    assert "Intended use" not in pack
    assert "`bothways train --pretrained`" in pack


def test_intervals_are_absent_from_manifests_without_them() -> None:
    assert "validation_intervals" not in TrainingRecord(bothways_version="1").model_dump()
    again = TrainingRecord.model_validate_json(RECORD.model_dump_json())
    assert again.validation_intervals == INTERVALS
    assert headline_text(again) == headline_text(RECORD)


def test_an_evaluation_is_that_of_the_bundle(
    model: Classifier, bundle_path: Path, mixed_bundle_path: Path, tmp_path: Path
) -> None:
    texts = [f"text {number}" for number in range(30)]
    evaluation = bothways.evaluate(model, (texts, [LABELS[number % 3] for number in range(30)]))
    (tmp_path / "e.json").write_text(json.dumps(evaluation.to_dict()))
    found = read_evaluated(tmp_path / "e.json", read_manifest(bundle_path).digest)
    low, high = evaluation.intervals["accuracy"]
    assert evaluated_text(found).startswith(
        f"**Evaluated on 30 rows of the table:** accuracy {evaluation.summary['ensemble']['accuracy']:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%}), macro F1"
    )
    with pytest.raises(DataError, match="is the evaluation of a bundle with digest"):
        read_evaluated(tmp_path / "e.json", read_manifest(mixed_bundle_path).digest)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"data": 1}', '{"summary": {"a": NaN}}'])
def test_other_files_are_no_evaluations(content: str, tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(DataError, match="is not an evaluation"):
        read_evaluated(tmp_path / "e.json", "0" * 64)
    with pytest.raises(DataError, match="can't be read"):
        read_evaluated(tmp_path / "missing.json", "0" * 64)


def test_the_duration_is_that_of_the_run_which_made_the_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "m.bundle"
    run = tmp_path / "m.bundle.run"
    run.mkdir()
    assert compute_text(bundle, RECORD) == ""
    lines: list[dict[str, object]] = [
        {"time_s": 1000.0, "report": "StageReport", "stage": "data", "facts": {}},
        {"time_s": 1600.0, "stage": "time", "facts": {"seconds": 5.0, "device": "cpu", "cores": 2}},
        {"time_s": 6400.0, "stage": "done", "facts": {"validation": VALIDATION}},
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"time_s": 1')
    text = compute_text(bundle, RECORD)
    assert text.startswith("**Training** took 1.50 hours on 2 CPU cores, from the first to the last entry")
    assert "Energy and emissions were not measured." in text
    assert compute_text(bundle, RECORD.model_copy(update={"validation": {}})) == ""
