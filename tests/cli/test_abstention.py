"""Abstention on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

import bothways
from bothways.runtime.classifier import Classifier
from tests.processes import CommandServer

WORDS = ["the", "cat", "dog", "film", "LOVED", "it", "a", "terrible", "lovely", "mat", "sat", "plot", "on", "was"]


def write_held_out(path: Path, model: Classifier) -> list[str]:
    """Write texts with the labels that a model predicts, except where it is not confident."""
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(300)]
    labels, confidence = list(model.predict(texts)), model.predict_proba(texts).max(axis=1)
    for number in np.argsort(confidence)[:90]:
        labels[number] = "bad" if labels[number] != "bad" else "good"
    rows = ({"text": text, "label": label} for text, label in zip(texts, labels, strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return texts


def test_abstention_is_calibrated_and_used(
    cli: CommandServer, bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    careful, data, out = tmp_path / "careful.bundle", tmp_path / "held_out.jsonl", tmp_path / "out.csv"
    texts = write_held_out(data, model)
    arguments = ("abstention", bundle_path, data, "--out", careful, "--label", "label", "--risk", 0.1)
    finished = cli.run(*arguments)
    assert (finished.status, finished.err) == (0, "")
    found = bothways.load(careful).abstention
    assert found is not None
    assert found.label_sets is not None
    shown = finished.out.decode()
    assert shown.count("<- chosen") == 1
    assert f"Wrong answers: at most 10.0% with 98 % probability, {found.risk_of_all:.1%} without abstention" in shown
    sets = f"95.0% have the correct label, {found.label_sets.mean_size:.2f} labels per set on average"
    assert f"Label sets: {sets}" in shown
    assert f"Next: bothways predict {careful} FILE --abstain --out FILE" in shown
    described = " ".join(cli.run("info", careful).out.decode().replace("│", " ").split())
    assert f"at most 10.0% wrong answers, abstains below confidence {found.threshold:.4g}" in described

    source = tmp_path / "new.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts[:50])])
    finished = cli.run("predict", careful, source, "--abstain", "--out", out)
    assert finished.status == 0, finished.err
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = list(bothways.load(careful).stream(texts[:50]))
    reasons = [prediction.abstained or "" for prediction in expected]
    assert [row["predicted_abstained"] for row in rows] == reasons
    assert [row["predicted_label"] == "" for row in rows] == [bool(reason) for reason in reasons]
    counts = {reason: reasons.count(reason) for reason in ("out of domain", "low confidence")}
    listed = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    total = sum(counts.values())
    assert total
    assert f"the model abstains from {total} of 50 texts ({total / 50:.1%}): {listed}" in finished.err


def test_a_risk_that_cannot_be_shown_is_one_line(
    cli: CommandServer, bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    data = tmp_path / "held_out.jsonl"
    write_held_out(data, model)
    finished = cli.run("abstention", bundle_path, data, "--out", tmp_path / "o", "--label", "label", "--risk", 0.01)
    assert finished.status == 1
    assert "300 rows, too few to show a risk of 0.01. At least" in finished.error_line
    assert not (tmp_path / "o").exists()


def test_drift_is_shown(cli: CommandServer, bundle_path: Path, model: Classifier, tmp_path: Path) -> None:
    careful, data = tmp_path / "careful.bundle", tmp_path / "held_out.jsonl"
    texts = write_held_out(data, model)
    arguments = ("abstention", bundle_path, data, "--out", careful, "--label", "label", "--risk", 0.1)
    assert cli.run(*arguments).status == 0
    finished = cli.run("drift", careful, data)
    assert (finished.status, finished.err) == (0, "")
    found = bothways.drift(careful, texts)
    shown = " ".join(finished.out.decode().replace("│", " ").split())
    assert "300 texts compared with 300 of the calibration" in shown
    for name, each in (("out of domain", found.out_of_domain), ("mean confidence", found.confidence)):
        assert f"{name} {each.value:.1%} {each.reference:.1%} {each.p_value:.3f}" in shown
    assert f"{found.labels[0].label} {found.labels[0].value:.1%}" in shown
    assert json.loads(cli.run("drift", careful, data, "--json").out) == found.to_dict()
    finished = cli.run("drift", bundle_path, data)
    assert finished.status == 2
    assert "the model has no abstention" in finished.error_line
