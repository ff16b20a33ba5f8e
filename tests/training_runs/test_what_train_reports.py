"""B1 and B4: what a training says about its data, its time and its result, and which model it does not publish."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import bothways
from bothways import NoBetterThanConstant
from bothways.bundle.card import headline_text
from bothways.bundle.card_results import compute_text
from tests.processes import CommandServer
from tests.training_runs.conftest import some_rows, write_rows

OTHERS = ["the", "film", "was", "a", "story", "with", "some", "people", "in", "it", "and", "then"]


def silent_rows(count: int = 120) -> list[tuple[str, str]]:
    """Return rows whose labels nothing in the texts tells: seven of eight are ham."""
    rng = random.Random(0)
    return [(" ".join(rng.choices(OTHERS, k=7)), "spam" if number % 8 == 0 else "ham") for number in range(count)]


def train(data: Any, out: Path, config: Path, **options: Any) -> bothways.Classifier:
    options = {"text": "text", "label": "label", "pretrained": "none", "directions": "forward", **options}
    return bothways.train(data, out=out, config=config, progress=False, **options)


def reports(out: Path, stage: str | None = None) -> list[dict[str, Any]]:
    """Return the reports of a stage, or of all, that are recorded in the run's folder."""
    lines = (out.with_name(f"{out.name}.run") / "metrics.jsonl").read_bytes().splitlines()
    return [report for report in map(json.loads, lines) if stage is None or report["stage"] == stage]


def test_b1_train_begins_with_the_data_and_ends_with_the_result(
    tmp_path: Path, config: Path, trainer: CommandServer
) -> None:
    config.write_text(config.read_text().replace("epochs = 3", "epochs = 12"))
    out = tmp_path / "m.bundle"
    rows = [*some_rows(80), *((f"nothing much {number}", "rare") for number in range(3))]
    finished = trainer.run(
        *("train", write_rows(tmp_path / "d.csv", rows), "--valid", write_rows(tmp_path / "v.csv", some_rows(30, 9))),
        *("--text", "text", "--label", "label", "--out", out, "--config", config, "--pretrained", "none"),
    )
    assert finished.status == 0, finished.err
    lines = finished.err.splitlines()
    assert lines[0] == "data: 83 training, 30 validation rows; 3 classes; rarest 'rare' with 3 training rows"
    assert [line.split() for line in lines[1:5]] == [
        ["class", "training", "validation"],
        ["'bad'", "40", "15"],
        ["'good'", "40", "15"],
        ["'rare'", "3", "0"],
    ]
    assert lines[5] == "warning: class 'rare' without validation rows: not validated"
    assert lines[6] == "start: from scratch, size small"
    assert any(line.startswith("lengths: ") and "tokens per text (median)" in line for line in lines)
    assert any(line.startswith("time: about ") and line.endswith(" to train on this machine") for line in lines)

    (result, warning) = reports(out, "result")
    assert warning["message"].startswith("only 30 validation rows, so the metrics are uncertain: accuracy ")
    recorded = bothways.load(out).manifest.training.validation
    for name, metrics in result["facts"]["metrics"].items():
        for metric in ("accuracy", "macro_f1"):
            assert recorded[name][metric] == pytest.approx(metrics[metric])
    classes = {each["label"]: each for each in result["facts"]["classes"]}
    assert (classes["good"]["support"], classes["rare"]["support"]) == (15, 0)
    shown = finished.err[finished.err.index("result: on 30 validation rows") :].splitlines()
    assert shown[1].split() == ["accuracy", "macro", "F1"]
    assert [line.split()[0] for line in shown[2:5]] == ["forward", "backward", "ensemble"]
    assert ["'rare'", "–"] in [line.split()[:2] for line in shown]
    assert b"metrics on 30 validation rows" in finished.out
    assert b"macro F1" in finished.out
    (time_report,) = reports(out, "time")
    assert time_report["facts"]["seconds"] > 0
    training = bothways.load(out).manifest.training
    assert list(training.validation_intervals) == ["accuracy", "macro_f1"]
    low, high = training.validation_intervals["accuracy"]
    assert low <= training.validation["ensemble"]["accuracy"] <= high
    assert headline_text(training) in (out / "README.md").read_text()
    assert compute_text(out, training).startswith("**Training** took 0.")
    assert f"on {time_report['facts']['cores']} CPU cores" in compute_text(out, training)


def test_b4_a_model_no_better_than_the_largest_class_is_published_on_request_only(tmp_path: Path, config: Path) -> None:
    data, out = write_rows(tmp_path / "d.csv", silent_rows()), tmp_path / "m.bundle"
    with pytest.raises(NoBetterThanConstant) as caught:
        train(data, out, config)
    message = str(caught.value)
    assert message.startswith("on 12 validation rows the model is no better than one answer for every text: its accura")
    for part in ("always answering 'ham' has 8", "It is not published. Add rows", "--force"):
        assert part in message
    assert not out.exists()
    unpredicted = [report["message"] for report in reports(out, "result") if report["is_warning"]]
    assert unpredicted[0] == "class 'spam' never predicted on the validation rows"
    trained = [report for report in reports(out) if report["report"] == "EpochReport"]
    assert trained

    with pytest.raises(NoBetterThanConstant):  # at once, as nothing has changed
        train(data, out, config)
    model = train(data, out, config, force=True)
    assert [report for report in reports(out) if report["report"] == "EpochReport"] == trained
    assert reports(out, "result")[-1]["message"].startswith("on 12 validation rows the model is no better than one ")
    assert model.manifest.training.validation["ensemble"]["macro_f1"] < 0.5
    assert bothways.verify(out).passed

    other = tmp_path / "other.bundle"
    with pytest.raises(NoBetterThanConstant):
        train(data, other, config)
    with pytest.raises(NoBetterThanConstant):  # other settings start over instead of asking to remove a folder
        train(data, other, config, seed=1)
    assert sum(report["report"] == "EpochReport" for report in reports(other)) == len(trained)


def test_b4_a_regression_that_predicts_the_mean_is_not_published(tmp_path: Path, config: Path) -> None:
    rng = random.Random(1)
    rows = [(text, str(rng.gauss(0, 1))) for text, _ in silent_rows(60)]
    opposite = [(text, str(-float(value))) for text, value in rows[:30]]
    config.write_text(config.read_text().replace("epochs = 3", "epochs = 30"))
    data, valid = write_rows(tmp_path / "d.csv", rows), write_rows(tmp_path / "v.csv", opposite)
    with pytest.raises(NoBetterThanConstant, match=r"its RMSE is .* and always answering the training mean -?0\."):
        train(data, tmp_path / "m.bundle", config, task="regression", valid=valid)
    assert reports(tmp_path / "m.bundle", "data")[0]["message"].startswith("60 training, 30 validation rows; targets -")
