"""A2 to A4, A8: what users pass as training data reaches the bundle and comes back from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bothways
from bothways.errors import ConfigError, DataError
from bothways.training.plan import PlanFolder, SplitName

WORDS = {1: "awful", 2: "middling", 10: "superb"}
CONFIG_DICT = {
    "encoder": {"embedding_size": 16, "hidden_size": 24, "layers": 1},
    "tokenizer": {"vocabulary_size": 200},
    "language_model": {"epochs": 0},
    "classifier": {
        "epochs": 20,
        "unfreezing_epochs": 0,
        "batch_size": 8,
        "learning_rate": 0.02,
        "head_dropout": 0.0,
        "dropout_multiplier": 0.0,
    },
}
OPTIONS = {"pretrained": "none", "size": "tiny", "directions": "forward", "progress": False, "config": CONFIG_DICT}


def frame_of_stars(count: int = 48) -> pd.DataFrame:
    stars = [list(WORDS)[number % 3] for number in range(count)]
    texts = [f"the film {number} was {WORDS[star]} {WORDS[star]} {WORDS[star]}" for number, star in enumerate(stars)]
    return pd.DataFrame({"text": texts, "stars": stars})


def test_predictions_equal_the_column_of_whole_numbers(tmp_path: Path) -> None:
    """A3, A8: two lists in, 48 of 48 right, and column 2 of the probabilities belongs to label 10."""
    frame = frame_of_stars()
    model = bothways.train(frame["text"], frame["stars"], out=tmp_path / "m.bundle", **OPTIONS)  # type: ignore[arg-type]
    assert model.labels == (1, 2, 10)
    assert int((model.predict(frame["text"]) == frame["stars"]).sum()) == 48
    assert model.predict_proba(frame["text"][frame["stars"] == 10]).argmax(axis=1).tolist() == [2] * 16
    (prediction,) = model.stream([f"the film was {'superb ' * 3}"])
    assert (prediction.label, type(prediction.label), prediction.chosen) == (10, int, (10,))
    manifest = json.loads((tmp_path / "m.bundle" / "bundle.json").read_text())
    assert (manifest["labels"], manifest["label_kind"]) == (["1", "2", "10"], "integer")
    assert manifest["training"]["text_columns"] == ["text"]
    counts = manifest["training"]["label_rows"]
    assert list(counts) == ["1", "2", "10"]
    assert sum(counts.values()) == manifest["training"]["rows"]["training"]
    assert model.training_shares is not None
    assert model.training_shares.sum() == pytest.approx(1)
    found = bothways.evaluate(model, (frame["text"], frame["stars"].astype(str)))
    assert (found.labels, found.summary["ensemble"]["accuracy"]) == ((1, 2, 10), 1.0)


def test_columns_weights_and_invalid_rows_are_recorded(tmp_path: Path) -> None:
    """A4: one 0/1 column per label, row weights, and rows that were left out."""
    frame = frame_of_stars()
    frame["good"], frame["bad"] = (frame["stars"] == 10) * 1, (frame["stars"] == 1) * 1
    frame["importance"] = [0.0, 1.0, 2.5, 4.0] * 12
    frame.loc[[5, 7], "bad"] = [-1, 3]
    frame.loc[9, "importance"] = np.nan
    frame.to_csv(tmp_path / "d.csv", index=False)
    arguments = {"text": "text", "labels": ["good", "bad"], "weight": "importance", "out": tmp_path / "m.bundle"}
    with pytest.raises(DataError, match="3 of 48 rows are invalid: label 'bad': found '-1', expected 0 or 1"):
        bothways.train(tmp_path / "d.csv", **arguments, **OPTIONS)  # type: ignore[arg-type]
    model = bothways.train(tmp_path / "d.csv", **arguments, drop_invalid=True, force=True, **OPTIONS)  # type: ignore[arg-type]
    assert model.labels == ("good", "bad")
    record = model.manifest.training
    assert (record.label_column, record.label_columns, record.weight_column) == (None, ["good", "bad"], "importance")
    assert (record.rows["invalid"], record.rows["training"] + record.rows["validation"]) == (3, 45)
    lines = (tmp_path / "m.bundle.invalid.jsonl").read_text().splitlines()
    assert [json.loads(line)["place"] for line in lines] == ["row 6 (line 7)", "row 8 (line 9)", "row 10 (line 11)"]
    evaluation = bothways.evaluate(model, tmp_path / "d.csv", drop_invalid=True)  # the columns are recorded
    assert (evaluation.rows, len(evaluation.invalid), evaluation.labels) == (46, 2, ("good", "bad"))


def test_weights_are_a_part_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A4: a run resumes only with the same weights, and texts of weight 0 are not trained on."""
    frame = frame_of_stars().assign(w=[0, 1, 2] * 16)
    arguments = {"text": "text", "label": "stars", "out": tmp_path / "m.bundle", **OPTIONS}
    with monkeypatch.context() as patched:
        patched.setattr("bothways.training.pipeline.train_directions", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bothways.train(frame, weight="w", **arguments)  # type: ignore[arg-type]
    files = PlanFolder(tmp_path / "m.bundle.run")
    weights = files.weights(SplitName.TRAINING)
    assert weights is not None
    assert sorted(set(weights.tolist())) == [0, 1, 2]
    assert len(weights) == len(files.numbers(SplitName.TRAINING))
    for other in (frame, frame.assign(w=[0, 1, 3] * 16)):
        with pytest.raises(ConfigError, match="an unfinished run with different settings"):
            bothways.train(other, weight="w" if other is not frame else None, **arguments)  # type: ignore[arg-type]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_decimal_labels_ask_for_a_task(tmp_path: Path) -> None:
    """A7: a target is not a class unless the user says so."""
    table = {"t": [f"text {n}" for n in range(6)], "y": [1.5, 2.5, 3.0] * 2}
    with pytest.raises(DataError, match=r"the labels are numbers such as '1\.5', '2\.5', '3'; add --task regression"):
        bothways.train(table, text="t", label="y", out=tmp_path / "m.bundle", **OPTIONS)  # type: ignore[arg-type]
