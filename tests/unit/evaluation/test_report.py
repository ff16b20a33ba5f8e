"""Reports: the numbers of an evaluation, exact tests, no text unless requested, and hostile labels stay text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

import bothways
from bothways.errors import ConfigError, OutputExists
from bothways.evaluation import evaluate
from bothways.evaluation.report.comparison import paired, sign_test
from bothways.evaluation.report.learning_curve import learning_curve
from bothways.runtime.classifier import Classifier
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import LabeledTexts, Task
from bothways.text.reading import Direction
from tests.bundles import LABELS, TOPICS, TinyClassifiers, write_classifiers, write_with_early_exit
from tests.console import run_bothways

TEXTS = [f"{word} {number}" for word in ("lovely", "HATED it", "zzz q", "so, dog!", "<b>") for number in range(12)]
HOSTILE = ["<script>alert(1)</script>", 'a" onload="x', "</style></title>\u202e&amp;"]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute intervals from 50 resamples, which is faster. Their number has no effect on anything tested here."""
    monkeypatch.setattr(evaluate, "RESAMPLES", 50)


class Page(HTMLParser):
    """The tags, ids and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"

    @property
    def ids(self) -> list[str | None]:
        return [value for name, value in self.attributes if name == "id"]


def labels_of(seed: int = 0) -> list[str]:
    return [str(label) for label in np.random.default_rng(seed).choice(LABELS, len(TEXTS))]


def rows_of(task: Task) -> list[object]:
    rng = np.random.default_rng(1)
    if task.labels and task.thresholds:
        return [[topic for topic in TOPICS if rng.random() < 0.4] for _ in TEXTS]
    if task.labels:
        return [*labels_of()]
    return [list(row) if len(row) > 1 else row[0] for row in rng.normal(2, 1, (len(TEXTS), task.outputs)).tolist()]


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_sign_test_is_the_exact_binomial_test(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert sign_test(better, worse) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_the_sign_test_of_many_rows_is_finite() -> None:
    assert sign_test(50_000, 50_000) == 1
    assert sign_test(50_300, 49_700) == pytest.approx(binomtest(50_300, 100_000).pvalue, rel=1e-6)
    assert sign_test(60_000, 40_000) < 1e-300


def test_pairs_are_counted_from_the_first_model_to_the_second() -> None:
    found = paired(np.array([1.0, 1, 0, 0, 1]), np.array([0.0, 1, 1, 0, 0]))
    assert (found.better, found.worse, found.equal) == (2, 1, 2)
    assert found.p_value == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["linear_model", "multi_label_model", "regression_model", "targets_model"])
def test_every_task_has_a_report_with_the_numbers_of_its_evaluation(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model: Classifier = request.getfixturevalue(name)
    data = (TEXTS, rows_of(model.task))
    found = bothways.report(model, data, out=tmp_path / "report.html", train=data, against=model)
    assert found.evaluation == bothways.evaluate(model, data)
    page = Page(tmp_path / "report.html")
    assert len(page.ids) == len(set(page.ids))
    assert {"members", "answers", "texts", "learning", "mistakes", "against"} <= set(page.ids)
    assert {"script", "img", "iframe", "object"}.isdisjoint(page.tags)
    assert not [value for key, value in page.attributes if key in ("src", "style") or key.startswith("on")]
    assert all(value.startswith(("#", "data:")) for key, value in page.attributes if key == "href" and value)
    assert found.against is not None
    assert found.against.rows.equal == len(TEXTS)
    assert all(each.interval == (0, 0) for each in found.against.differences.values())
    assert len(found.learning_curve) >= 3
    assert "60 texts are in the training rows and in this report, so the curve looks too good." in page.text
    assert json.loads(json.dumps(found.to_dict()))["evaluation"]["rows"] == 60
    assert not [text for text in TEXTS if text in page.text]


def test_members_are_compared_with_the_ensemble_row_by_row(linear_model: Classifier, tmp_path: Path) -> None:
    true = labels_of()
    found = bothways.report(linear_model, (TEXTS, true), out=tmp_path / "report.html")
    scores = linear_model.predict_proba_by_direction(TEXTS)
    numbers = np.array([LABELS.index(label) for label in true])
    right = {name: rows.argmax(axis=1) == numbers for name, rows in scores.items()}
    assert set(found.members) == {"forward", "backward", "linear"}
    for name, comparison in found.members.items():
        assert comparison.better == (right["ensemble"] & ~right[name]).sum()
        assert comparison.worse == (~right["ensemble"] & right[name]).sum()
    confidence = scores["ensemble"].max(axis=1)
    wrong = np.flatnonzero(~right["ensemble"])
    assert found.mistakes[0].row == wrong[np.argmax(confidence[wrong])] + 1
    assert found.mistakes[0].confidence == confidence[wrong].max()
    assert all(row.text is None for row in found.mistakes)


def test_texts_are_shown_on_request_only(model: Classifier, tmp_path: Path) -> None:
    texts = [f"{text} <script>alert(2)</script> secret" for text in TEXTS]
    bothways.report(model, (texts, labels_of()), out=tmp_path / "without.html", against=model)
    assert "secret" not in (tmp_path / "without.html").read_text()
    found = bothways.report(model, (texts, labels_of()), out=tmp_path / "with.html", with_texts=True)
    page = Page(tmp_path / "with.html")
    assert "secret" in page.text
    assert "script" not in page.tags
    assert found.mistakes[0].text in texts


def test_hostile_labels_stay_text(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    write_classifiers(tmp_path / "hostile.bundle", replace(torch_models, task=SingleLabel(tuple(HOSTILE))))
    labels = [HOSTILE[number % 3] for number in range(len(TEXTS))]
    bothways.report(
        tmp_path / "hostile.bundle", (TEXTS, labels), out=tmp_path / "r.html", against=tmp_path / "hostile.bundle"
    )
    page = Page(tmp_path / "r.html")
    assert "script" not in page.tags
    assert page.tags.count("style") == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\u202e" not in page.text
    assert HOSTILE[0] in page.text


def test_a_comparison_lists_the_rows_that_changed(model: Classifier, mixed_bundle_path: Path, tmp_path: Path) -> None:
    true = labels_of()
    other = bothways.load(mixed_bundle_path)
    found = bothways.report(model, (TEXTS, true), out=tmp_path / "r.html", against=mixed_bundle_path).against
    assert found is not None
    before, after = (np.array(each.predict(TEXTS)) == np.array(true) for each in (other, model))
    assert found.rows.better == (after & ~before).sum()
    assert found.rows.worse == (before & ~after).sum()
    assert {row.row for row in found.improved} == set(np.flatnonzero(after & ~before) + 1)
    assert {row.row for row in found.worsened} == set(np.flatnonzero(before & ~after) + 1)
    difference = found.differences["accuracy"]
    assert difference.after - difference.before == pytest.approx((after.sum() - before.sum()) / len(TEXTS))
    assert difference.interval[0] <= difference.after - difference.before <= difference.interval[1]
    assert (found.name, found.digest) == ("mixed.bundle", other.digest)


def test_bundles_of_different_kinds_are_not_compared(
    model: Classifier, multi_label_bundle_path: Path, fields_bundle_path: Path, tmp_path: Path
) -> None:
    data = (TEXTS, labels_of())
    with pytest.raises(ConfigError, match="another task: multi-label, but the model has single-label"):
        bothways.report(model, data, out=tmp_path / "r.html", against=multi_label_bundle_path)
    with pytest.raises(ConfigError, match="another number of text columns: 2, but the model has 1"):
        bothways.report(model, data, out=tmp_path / "r.html", against=fields_bundle_path)
    assert not (tmp_path / "r.html").exists()


def test_unknown_labels_are_refused_or_counted(model: Classifier, tmp_path: Path) -> None:
    labels = ["<new>", *labels_of()[1:]]
    with pytest.raises(bothways.DataError, match="unknown"):
        bothways.report(model, (TEXTS, labels), out=tmp_path / "r.html")
    data = (TEXTS, labels)
    found = bothways.report(model, data, out=tmp_path / "r.html", unknown_labels="count", against=model, train=data)
    assert found.evaluation.unknown == 1
    assert found.against is not None
    assert found.against.unknown == 1
    assert "1 rows have labels that the model does not know" in Page(tmp_path / "r.html").text


def test_early_exit_leaves_out_what_did_not_read_every_text(bundle_path: Path, tmp_path: Path) -> None:
    write_with_early_exit(bundle_path, tmp_path / "e.bundle", Direction.FORWARD, TEXTS)
    early = bothways.load(tmp_path / "e.bundle", early_exit=True)
    found = bothways.report(early, (TEXTS, labels_of()), out=tmp_path / "r.html")
    assert set(found.members) == {"forward"}


def test_an_existing_file_is_kept(model: Classifier, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(OutputExists):
        bothways.report(model, (TEXTS, labels_of()), out=tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "mine"


@pytest.mark.parametrize("task", [SingleLabel(("a", "b")), MultiLabel(("a", "b"), thresholds=(0.5, 0.5)), Regression()])
def test_a_learning_curve_rises_where_more_rows_help(task: Task) -> None:
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(200)]
    texts = [" ".join(rng.choice(words, 3)) for _ in range(400)]
    is_first = [sum(int(word[4:]) % 2 for word in text.split()) >= 2 for text in texts]
    labels: list[object] = (
        [("a",) if first else ("b",) for first in is_first] if task.labels else [*map(float, is_first)]
    )
    rows = LabeledTexts("rows", [*texts], labels)  # type: ignore[arg-type]
    targets = task.targets(rows)
    found = learning_curve(rows, targets, texts, targets, task)
    assert [point.rows for point in found] == [25, 50, 100, 200, 400]
    gain = found[-1].value - found[0].value
    assert gain > 0.1 if task.labels else gain < -0.1
    assert all(point.interval[0] <= point.value <= point.interval[1] for point in found)
    assert learning_curve(rows, targets, texts, targets, task) == found


def test_the_command_writes_the_page(bundle_path: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"text": text, "y": label}) for text, label in zip(TEXTS, labels_of(), strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    arguments = [str(bundle_path), str(tmp_path / "rows.jsonl"), "--label", "y", "--out", str(tmp_path / "r.html")]
    finished = run_bothways("report", *arguments, "--against", str(bundle_path))
    assert re.match(r"accuracy 0\.\d+ \(.* to .*\), .* on 60 rows of .*rows\.jsonl\n", finished.stdout)
    assert "Against tiny.bundle: 0 rows improved, 0 worsened, 60 unchanged" in finished.stdout
    assert "tiny.bundle on" in Page(tmp_path / "r.html").text
