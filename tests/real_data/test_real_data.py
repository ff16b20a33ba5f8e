"""Train on real data sets as a user would, and compare the result with linear baselines.

BOTHWAYS_DATA is the folder of the data sets. They are not part of this repository.
"""

import csv
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from benchmarks.explanations import areas_of
from benchmarks.resampled_abstention import resampled
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import bothways
import bothways.evaluation.score
from bothways.data.dialect import Dialect
from bothways.evaluation.inputs import read_rows as read_labeled_rows
from tests.console import run_bothways

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("BOTHWAYS_DATA" not in os.environ, reason="BOTHWAYS_DATA is not set: no real data sets"),
]


@dataclass(frozen=True)
class Trained:
    """A bundle trained with the command line, and the results on its test set."""

    bundle: Path
    test_file: Path
    texts: list[str]
    errors: dict[str, float]
    minutes: float
    texts_per_second: float


def read_rows(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def train_and_evaluate(folder: Path, train: list[tuple[str, str]], test: list[tuple[str, str]]) -> Trained:
    bundle, train_file = folder / "model.bundle", write_rows(folder / "train.csv", train)
    test_file = write_rows(folder / "test.csv", test)
    started = time.monotonic()
    options = ["--text", "text", "--label", "label", "--out", str(bundle)]
    finished = run_bothways("train", str(train_file), *options, timeout_s=1500)
    minutes = (time.monotonic() - started) / 60
    assert finished.returncode == 0, finished.stderr

    model = bothways.load(bundle)
    texts, labels = [text for text, _ in test], np.array([label for _, label in test])
    started = time.monotonic()
    probabilities = model.predict_proba_by_direction(texts)
    speed = len(texts) / (time.monotonic() - started)
    found = {name: np.array(model.labels)[rows.argmax(axis=1)] for name, rows in probabilities.items()}
    for name, longest in (("TF-IDF", 1), ("TF-IDF of 1-2 words", 2)):
        baseline = make_pipeline(TfidfVectorizer(ngram_range=(1, longest)), LogisticRegression(max_iter=1000))
        baseline.fit([text for text, _ in train], [label for _, label in train])
        found[name] = baseline.predict(texts)
    errors = {name: float((values != labels).mean()) for name, values in found.items()}
    return Trained(bundle, test_file, texts, errors, minutes, speed)


def print_result(name: str, trained: Trained) -> None:
    errors = ", ".join(f"{model} {error:.2%}" for model, error in trained.errors.items())
    print(f"\n{name}: errors {errors}; {trained.minutes:.1f} min to train; {trained.texts_per_second:.0f} texts/s")


@pytest.fixture(scope="module")
def sms(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    rows = read_rows(Path(os.environ["BOTHWAYS_DATA"]) / "sms_spam" / "sms.csv")
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    cut = len(rows) * 8 // 10
    train, test = [rows[i] for i in order[:cut]], [rows[i] for i in order[cut:]]
    return train_and_evaluate(tmp_path_factory.mktemp("sms"), train, test)


@pytest.fixture(scope="module")
def trec(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = Path(os.environ["BOTHWAYS_DATA"]) / "trec6"
    train, test = read_rows(folder / "train.csv"), read_rows(folder / "test.csv")
    return train_and_evaluate(tmp_path_factory.mktemp("trec"), train, test)


def check_all_interfaces(trained: Trained) -> None:
    """The bundle is verified, and the command line and Python return the same bits (guarantee 8)."""
    verification = bothways.verify(trained.bundle)
    assert verification.passed
    assert verification.differences.keys() == {"forward", "backward", "ensemble"}

    scored = trained.bundle.with_name("scored.csv")
    finished = run_bothways("predict", str(trained.bundle), str(trained.test_file), "--out", str(scored))
    assert finished.returncode == 0, finished.stderr
    model = bothways.load(trained.bundle)
    ours = model.predict_proba(trained.texts)
    with scored.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    theirs = np.array([[float(row[f"probability_{label}"]) for label in model.labels] for row in rows])
    assert np.array_equal(ours, theirs)
    assert [row["text"] for row in rows] == trained.texts
    assert [row["predicted_label"] for row in rows] == model.predict(trained.texts).tolist()


def test_sms_spam_has_fewer_errors_than_linear_baselines(sms: Trained) -> None:
    print_result("SMS Spam", sms)
    assert sms.errors["ensemble"] < min(sms.errors["TF-IDF"], sms.errors["TF-IDF of 1-2 words"])


def test_the_sms_bundle_returns_the_same_results_everywhere(sms: Trained) -> None:
    check_all_interfaces(sms)


def test_trec_has_fewer_errors_than_linear_baselines(trec: Trained) -> None:
    print_result("TREC-6", trec)
    assert trec.errors["ensemble"] < min(trec.errors["TF-IDF"], trec.errors["TF-IDF of 1-2 words"])
    assert trec.errors["ensemble"] < 0.10  # TF-IDF of words and characters, chosen: 10.4 to 11.2 % (docs/benchmarks.md)


def test_the_trec_bundle_returns_the_same_results_everywhere(trec: Trained) -> None:
    check_all_interfaces(trec)


def test_the_promise_of_abstention_holds_in_95_of_100_resamplings(trec: Trained) -> None:
    """Each time a random half of the test rows calibrates, and the other half tests."""
    model = bothways.load(trec.bundle)
    rows = read_labeled_rows(model.manifest, str(trec.test_file), None, None, Dialect())
    scores = model.predict_proba(rows.texts)
    for risk in (0.05, 0.1):
        found = resampled(model.task, scores, model.task.targets(rows), risk)
        print(f"\nTREC-6, risk {risk}: {found}")
        assert found["refused"] + found["held within sampling error"] >= 95
        assert found["refused"] < 50
        assert found["mean covered"] > 0.94  # 1 - alpha is 0.95


def test_texts_of_another_kind_are_flagged(trec: Trained, tmp_path: Path) -> None:
    folder, careful = Path(os.environ["BOTHWAYS_DATA"]), tmp_path / "careful.bundle"
    bothways.fit_abstention(trec.bundle, trec.test_file, 0.1, out=careful)
    model = bothways.load(careful)
    source = Path(bothways.evaluation.score.__file__).read_text(encoding="utf-8")
    others = {
        "empty": ["", " \n"],
        "German": [text for text, _ in read_rows(folder / "germeval2018" / "test.csv")[:100]],
        "Chinese": [text for text, _ in read_rows(folder / "waimai" / "test.csv")[:100]],
        "code": [part for part in source.split("\n\n") if len(part) > 60],
    }
    for name, texts in others.items():
        flagged = [prediction.abstained not in {None, "low confidence"} for prediction in model.stream(texts)]
        print(f"\n{name}: {np.mean(flagged):.1%} of {len(texts)} texts are flagged")
        assert np.mean(flagged) > 0.9, name
    same = [prediction.abstained not in {None, "low confidence"} for prediction in model.stream(trec.texts)]
    assert np.mean(same) < 0.05


def test_a_report_has_the_metrics_of_the_evaluation_and_names_real_mistakes(trec: Trained, tmp_path: Path) -> None:
    train = Path(os.environ["BOTHWAYS_DATA"]) / "trec6" / "train.csv"
    page = tmp_path / "report.html"
    found = bothways.report(trec.bundle, trec.test_file, out=page, train=train, with_texts=True)
    accuracy = 1 - trec.errors["ensemble"]
    assert found.evaluation.summary["ensemble"]["accuracy"] == pytest.approx(accuracy)
    assert f"{accuracy:.1%}" in page.read_text(encoding="utf-8")
    predicted = bothways.load(trec.bundle).predict(trec.texts).tolist()
    assert found.mistakes
    for mistake in found.mistakes:
        assert mistake.true != predicted[mistake.row - 1]
        assert trec.texts[mistake.row - 1].startswith((mistake.text or "?").rstrip("…"))
    linear = [point.value for point in found.learning_curve]
    print(f"\nlearning curve of a linear model: {linear}")
    assert linear[-1] > linear[0]


def test_explained_words_decide_more_than_random_ones(trec: Trained) -> None:
    model, rng = bothways.load(trec.bundle), np.random.default_rng(0)
    texts = [text for text in trec.texts if len(text.split()) >= 5][:40]
    areas = np.array([areas_of(model, text, rng)["ensemble"] for text in texts]).mean(axis=0)
    print(f"\ndeletion AUC {areas[0]:.3f} (random {areas[1]:.3f}), insertion {areas[2]:.3f} ({areas[3]:.3f})")
    assert areas[0] < areas[1] - 0.1
    assert areas[2] > areas[3] + 0.1


def test_other_texts_drift_and_questions_do_not(trec: Trained, tmp_path: Path) -> None:
    """Every second question of the test calibrates, and the others are compared with them."""
    folder, careful = Path(os.environ["BOTHWAYS_DATA"]), tmp_path / "careful.bundle"
    test = read_rows(trec.test_file)
    bothways.fit_abstention(trec.bundle, write_rows(tmp_path / "half.csv", test[::2]), 0.15, out=careful)
    same = bothways.drift(careful, [text for text, _ in test[1::2]])
    assert min(each.p_value for each in (same.out_of_domain, same.confidence, same.label_distance)) > 0.001
    assert same.training_distance is not None
    with (folder / "clinc150" / "oos_test.csv").open(newline="", encoding="utf-8") as file:
        others = [row["text"] for row in csv.DictReader(file)][:100]
    found = bothways.drift(careful, others)
    print(f"\nout of domain: {same.out_of_domain.value:.1%} of questions, {found.out_of_domain.value:.1%} of requests")
    assert found.out_of_domain.value > 0.5
    assert found.out_of_domain.p_value < 0.001


def test_texts_to_label_next_are_less_certain_and_differ(trec: Trained) -> None:
    model = bothways.load(trec.bundle)
    chosen = bothways.label_next(model, trec.texts, number=50)
    confidence = model.predict_proba(trec.texts).max(axis=1)
    rows = [each.row - 1 for each in chosen]
    assert len({trec.texts[row] for row in rows}) == 50
    print(f"\nmean confidence {confidence[rows].mean():.2f} of the chosen, {confidence.mean():.2f} of all")
    assert confidence[rows].mean() < confidence.mean() - 0.05
