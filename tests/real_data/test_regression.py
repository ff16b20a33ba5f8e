"""Train a regression on real texts, and compare it with ridge regression on TF-IDF features.

The target is a valence score derived from GoEmotions' labels: the number of positive emotions of a comment minus the
number of negative ones. It is stated here as what it is: derived from labels, not rated by people.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline

import bothways
from tests.console import run_bothways

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("BOTHWAYS_DATA" not in os.environ, reason="BOTHWAYS_DATA is not set: no real data sets"),
]

POSITIVE = {
    "admiration",
    "amusement",
    "approval",
    "caring",
    "desire",
    "excitement",
    "gratitude",
    "joy",
    "love",
    "optimism",
    "pride",
    "relief",
}
NEGATIVE = {
    "anger",
    "annoyance",
    "disappointment",
    "disapproval",
    "disgust",
    "embarrassment",
    "fear",
    "grief",
    "nervousness",
    "remorse",
    "sadness",
}
TRAINING_ROWS, TEST_ROWS = 6_000, 2_000


def valence_rows(part: str, count: int) -> list[tuple[str, float]]:
    path = Path(os.environ["BOTHWAYS_DATA"]) / "goemotions" / f"{part}.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(row["text"], set(row["labels"].split("|"))) for row in csv.DictReader(file)]
    return [(text, float(len(labels & POSITIVE) - len(labels & NEGATIVE))) for text, labels in rows[:count]]


def write_rows(path: Path, rows: list[tuple[str, float]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "valence"), *rows])
    return path


def test_valence_is_predicted_better_than_by_ridge_regression_on_every_surface(tmp_path: Path) -> None:
    train, test = valence_rows("train", TRAINING_ROWS), valence_rows("test", TEST_ROWS)
    train_file, test_file = write_rows(tmp_path / "train.csv", train), write_rows(tmp_path / "test.csv", test)
    bundle, scored = tmp_path / "valence.bundle", tmp_path / "scored.csv"
    columns = ["--text", "text", "--label", "valence"]
    options = [*columns, "--task", "regression", "--out", str(bundle)]
    finished = run_bothways("train", str(train_file), *options, timeout_s=1500)
    assert finished.returncode == 0, finished.stderr
    assert bothways.verify(bundle).passed

    evaluated = run_bothways("evaluate", str(bundle), str(test_file), "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads(evaluated.stdout)["summary"]["ensemble"]
    texts, true = [text for text, _ in test], np.array([value for _, value in test])
    baseline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), RidgeCV(alphas=(0.3, 1, 3, 10)))
    baseline.fit([text for text, _ in train], [value for _, value in train])
    theirs = float(1 - ((baseline.predict(texts) - true) ** 2).sum() / ((true - true.mean()) ** 2).sum())
    print(f"\nvalence on {len(test)} test rows: {found}; R² of ridge regression on TF-IDF {theirs:.3f}")
    assert found["r2"] > theirs + 0.05

    finished = run_bothways("predict", str(bundle), str(test_file), "--out", str(scored))
    assert finished.returncode == 0, finished.stderr
    with scored.open(newline="", encoding="utf-8") as file:
        values = [float(row["predicted_value"]) for row in csv.DictReader(file)]
    assert values == bothways.load(bundle).predict(texts).tolist()
    assert found["rmse"] == pytest.approx(float(np.sqrt(((np.array(values) - true) ** 2).mean())))
