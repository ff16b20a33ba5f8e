"""Abstention: the stated risk and coverage hold on other rows, and every prediction reports it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bothways
from bothways.bundle.manifest import Abstention
from bothways.bundle.parity import ENSEMBLE
from bothways.evaluation.abstention import (
    FLAGGED,
    Outcomes,
    binomial_cdf,
    calibrate_abstention,
)
from bothways.runtime.classifier import Classifier
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.single_label import SingleLabel

WORDS = ["the", "cat", "dog", "film", "LOVED", "it", "a", "terrible", "lovely", "mat", "sat", "plot", "on", "was"]
TASK = SingleLabel(("bad", "good", "so-so"))


def drawn(rng: np.random.Generator, count: int, sharpness: float) -> tuple[Any, Any, Any]:
    """Return probabilities, true classes drawn from other probabilities, and domain scores."""
    logits = rng.normal(0, sharpness, (count, 3))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    other = np.exp(0.6 * logits) / np.exp(0.6 * logits).sum(axis=1, keepdims=True)  # the model is overconfident
    true = (other.cumsum(axis=1) < rng.uniform(size=(count, 1))).sum(axis=1).clip(max=2)
    return scores, true, rng.chisquare(5, count) / 5


def calibrated(rng: np.random.Generator, count: int, risk: float, sharpness: float = 8) -> Abstention:
    scores, true, domain_score = drawn(rng, count, sharpness)
    outcomes = Outcomes.of(TASK, scores, true, domain_score, np.arange(count // 3))
    return calibrate_abstention(outcomes, risk, 0.1, "the rows")


@pytest.fixture(scope="module")
def world() -> tuple[Any, Any, Any]:
    """Enough rows for shares of them to be those of all rows."""
    return drawn(np.random.default_rng(99), 40_000, 8)


@pytest.mark.parametrize(("count", "risk"), [(300, 0.1), (1500, 0.05)])
def test_the_stated_risk_holds_in_95_of_100_calibrations(world: tuple[Any, Any, Any], count: int, risk: float) -> None:
    scores, true, domain_score = world
    held, covered, answered = 0, [], []
    for seed in range(100):
        try:
            found = calibrated(np.random.default_rng(seed), count, risk)
        except bothways.DataError:  # no promise is made
            held += 1
            continue
        is_answered = (scores.max(axis=1) >= found.threshold) & (domain_score <= found.domain.threshold)
        held += bool((scores.argmax(axis=1) != true)[is_answered].mean() <= risk)
        answered.append(is_answered.mean())
        assert found.label_sets is not None
        covered.append((scores[np.arange(len(true)), true] >= found.label_sets.threshold).mean())
    assert held >= 95
    assert len(answered) > 60  # mostly there is an answer
    assert np.mean(answered) > 0.4
    assert 0.89 < np.mean(covered) < 0.92  # 1 - alpha is 0.9


def test_few_texts_of_the_same_kind_are_out_of_domain(world: tuple[Any, Any, Any]) -> None:
    shares = [
        (world[2] > calibrated(np.random.default_rng(seed), 3000, 0.1).domain.threshold).mean() for seed in range(10)
    ]
    assert np.mean(shares) == pytest.approx(FLAGGED, abs=0.006)


@given(trials=st.integers(0, 300), share=st.floats(0, 1), probability=st.floats(0.001, 0.999))
def test_the_binomial_distribution_is_exact(trials: int, share: float, probability: float) -> None:
    successes = round(share * trials)
    expected = math.fsum(
        math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k) for k in range(successes + 1)
    )
    assert binomial_cdf(successes, trials, probability) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(seed=st.integers(0, 1000), count=st.integers(40, 200), alpha=st.floats(0.02, 0.5))
@settings(max_examples=30)
def test_label_sets_cover_the_rows_of_the_calibration(seed: int, count: int, alpha: float) -> None:
    """At least as many as promised, and not a whole label more than needed."""
    scores, true, domain_score = drawn(np.random.default_rng(seed), count, 2)
    outcomes = Outcomes.of(TASK, scores, true, domain_score, np.arange(count // 3))
    sets = calibrate_abstention(outcomes, 0.97, alpha, "the rows").label_sets
    assert sets is not None
    assert sets.covered >= min(1, math.ceil((count + 1) * (1 - alpha)) / count)
    of_row = [{n for n in range(3) if row[n] >= sets.threshold} | {int(row.argmax())} for row in scores]
    assert sets.mean_size == pytest.approx(np.mean(list(map(len, of_row))))
    assert sets.covered == pytest.approx(np.mean([y in found for y, found in zip(true, of_row, strict=True)]))


def test_a_risk_that_cannot_be_shown_is_refused_with_one_that_can() -> None:
    with pytest.raises(bothways.DataError) as caught:
        calibrated(np.random.default_rng(0), 400, 0.02, sharpness=0.5)
    assert "the rows: no threshold keeps the share of wrong answers below 0.02 with 98 % probability" in str(
        caught.value
    )
    reached = float(str(caught.value).split("A risk of ")[1].split()[0])
    assert calibrated(np.random.default_rng(0), 400, reached, sharpness=0.5).measured_risk <= reached


def test_errors_of_a_multi_label_model_are_errors_of_any_label() -> None:
    task = MultiLabel(("a", "b"), 1.0, (0.5, 0.3))
    scores = np.array([[0.9, 0.1], [0.9, 0.4], [0.2, 0.2]])
    assert task.row_errors(scores, np.array([[1, 0], [1, 0], [0, 0]])).tolist() == [0, 1, 0]
    assert task.confidence(scores) == pytest.approx([0.81, 0.36, 0.64])
    assert task.label_shares(scores) == pytest.approx([2 / 3, 1 / 3])
    assert task.true_probabilities(scores, np.array([[1, 0], [1, 0], [0, 0]])) is None


# Tiny bundles.


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(3)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def careful_path(bundle_path: Path, model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, with an abstention that was calibrated on rows of which most have the predicted label."""
    rows = texts(300)
    labels = list(model.predict(rows))
    confidence = model.predict_proba(rows).max(axis=1)
    for number in np.argsort(confidence)[:90]:
        labels[number] = "bad" if labels[number] != "bad" else "good"
    out = tmp_path_factory.mktemp("careful") / "careful.bundle"
    found = bothways.fit_abstention(bundle_path, (rows, labels), 0.1, out=out)
    assert 0.3 < found.answered < 0.9
    return out


@pytest.fixture(scope="module")
def careful(careful_path: Path) -> Classifier:
    return bothways.load(careful_path)


def test_predictions_report_abstention(careful: Classifier, model: Classifier) -> None:
    rows = [*texts(100), "", "12 345", "味道一般", "def f(x): return {x: [i**2 for i in range(10)]};" * 20]
    found, plain = list(careful.stream(rows)), list(model.stream(rows))
    abstention = careful.abstention
    assert abstention is not None
    assert abstention.label_sets is not None
    for mine, theirs in zip(found, plain, strict=True):
        assert (mine.label, mine.probability) == (theirs.label, theirs.probability)
        assert mine.domain_score is not None
        assert mine.probability is not None
        if mine.abstained not in {"empty", "only digits or punctuation", "mostly unknown"}:
            expected = "low confidence" if mine.probability < abstention.threshold else None
            assert mine.abstained == ("out of domain" if mine.domain_score > abstention.domain.threshold else expected)
        ranked = sorted(zip(-mine.scores[ENSEMBLE], mine.labels, strict=True), key=lambda pair: pair[0])
        wanted = [label for score, label in ranked if -score >= abstention.label_sets.threshold] or [ranked[0][1]]
        assert list(mine.label_set or ()) == wanted
        assert (theirs.abstained, theirs.label_set, theirs.domain_score) == (None, None, None)
        json.dumps(mine.to_dict(), allow_nan=False)
    assert [each.abstained for each in found[100:103]] == ["empty", "only digits or punctuation", "mostly unknown"]
    assert found[103].abstained == "out of domain"
    assert {None, "low confidence"} <= {each.abstained for each in found[:100]}


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=3))
@settings(max_examples=40)
def test_a_text_in_parts_has_the_same_abstention(careful: Classifier, text: str, cuts: list[int]) -> None:
    """Guarantee 6."""
    (whole,) = careful.stream([text])
    reader = careful.open()
    ends = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, end in itertools.pairwise(ends):
        reader.append(text[start:end])
    found = reader.close()
    assert (found.abstained, found.label_set, found.domain_score) == (
        whole.abstained,
        whole.label_set,
        whole.domain_score,
    )


def test_batching_never_changes_a_domain_score(careful: Classifier) -> None:
    """Guarantee 2."""
    rows = texts(40)
    together = [each.domain_score for each in careful.stream(rows)]
    assert together == [each.domain_score for text in rows for each in careful.stream([text])]


def test_score_leaves_decisions_empty(careful: Classifier, tmp_path: Path) -> None:
    rows = [*texts(60), ""]
    source, out, plain = tmp_path / "d.jsonl", tmp_path / "out.jsonl", tmp_path / "plain.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    abstained: list[tuple[int, str]] = []
    bothways.score(careful, source, out, abstain=True, on_abstained=lambda row, why: abstained.append((row, why)))
    found = [json.loads(line) for line in out.read_text().splitlines()]
    expected = list(careful.stream(rows))
    for row, prediction in zip(found, expected, strict=True):
        assert row["predicted_abstained"] == (prediction.abstained or "")
        assert row["predicted_label"] == (prediction.label if prediction.abstained is None else None)
        assert (row["predicted_probability"] is None) == (prediction.abstained is not None)
        assert row["predicted_label_set"] == "|".join(map(str, prediction.label_set or ()))
        assert row["probability_good"] == prediction.probabilities[ENSEMBLE][1]
    assert abstained == [
        (number, each.abstained)
        for number, each in enumerate(expected, start=1)
        if each.abstained not in {None, "empty"}
    ]
    bothways.score(careful, source, plain)
    assert set(json.loads(plain.read_text().splitlines()[0])) == set(found[0]) - {
        "predicted_abstained",
        "predicted_label_set",
    }


def test_early_exit_has_no_abstention(careful_path: Path, tmp_path: Path) -> None:
    rows = texts(200)
    labels = list(bothways.load(careful_path).predict(rows))
    fast = tmp_path / "fast.bundle"
    bothways.fit_early_exit(careful_path, (rows, labels), out=fast, largest_loss=0.1)
    both = bothways.load(fast)
    assert both.abstention == bothways.load(careful_path).abstention
    model = bothways.load(fast, early_exit=True)
    assert model.abstention is None
    source = tmp_path / "d.jsonl"
    source.write_text(json.dumps({"text": "a film"}) + "\n")
    with pytest.raises(bothways.ConfigError, match="without early exit: leave --abstain or"):
        bothways.score(model, source, tmp_path / "out.jsonl", abstain=True)
    bothways.score(model, source, tmp_path / "out.jsonl")


def test_impossible_calibrations_are_refused(bundle_path: Path, regression_bundle_path: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "out.bundle", texts(60)
    with pytest.raises(bothways.ConfigError, match="a regression model predicts a number"):
        bothways.fit_abstention(regression_bundle_path, (rows, [1.0] * 60), out=out)
    with pytest.raises(bothways.ConfigError, match=r"risk is 1.0, expected a share between 0 and 1"):
        bothways.fit_abstention(bundle_path, (rows, ["good"] * 60), 1.0, out=out)
    with pytest.raises(bothways.DataError, match=r"60 rows, too few to show a risk of 0.05. At least 116 are needed"):
        bothways.fit_abstention(bundle_path, (rows, ["good"] * 60), out=out)
    assert not out.exists()


def test_a_multi_label_model_abstains_without_label_sets(
    multi_label_bundle_path: Path, multi_label_model: Classifier, tmp_path: Path
) -> None:
    rows, out = texts(200), tmp_path / "out.bundle"
    labels = [";".join(found) for found in multi_label_model.predict(rows)]
    labels = [joined or "acting" for joined in labels]
    found = bothways.fit_abstention(multi_label_bundle_path, (rows, labels), 0.9, out=out)
    assert found.label_sets is None
    (prediction,) = bothways.load(out).stream(["a film"])
    assert (prediction.label_set, prediction.domain_score is None) == (None, False)
