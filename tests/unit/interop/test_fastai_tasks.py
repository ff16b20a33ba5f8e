"""What a learner predicts is found in its file or asked for, and becomes the task of the bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.errors import ConfigError, ForeignModelError
from bothways.interop import fastai_file, fastai_import, fastai_tokenizer
from bothways.interop.fastai_learner import learner_facts
from bothways.interop.learner_facts import Requested, TaskFacts
from bothways.interop.pickle_reader import GlobalName
from bothways.nn.classifier import ClassifierNetwork
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.task import Target, Task
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.text.word_tokenizer import WordTokenizer
from tests.bundles import TOPICS, TinyClassifiers, make_classifiers
from tests.unit.interop.exports import (
    a_list,
    an_object,
    v1_export,
    v2_export,
    vocabulary,
    with_numbers,
    with_several_labels,
)
from tests.unit.interop.foreign import fastai_state, save_vocabulary, save_weights, without_biases
from tests.words import WORDS, make_word_tokenizer

PLACEMENTS = dict.fromkeys(Direction, SpecialTokenPlacement.AS_WRITTEN)
TEXTS = ["", "The cat sat on the mat.", "a BAD dog, a good cat!", "cat dog " * 30]
NAMES = ["price", "stars"]
ABOVE_HALF = float(np.nextafter(np.float32(0.5), np.float32(1)))


@pytest.fixture(scope="module")
def tokenizer() -> WordTokenizer:
    return make_word_tokenizer("fastai-v1")


@pytest.fixture(scope="module")
def topics(tokenizer: WordTokenizer) -> TinyClassifiers:
    return make_classifiers(tokenizer, PLACEMENTS, task=MultiLabel(tuple(TOPICS), thresholds=(0.5,) * 4))


@pytest.fixture(scope="module")
def numbers(tokenizer: WordTokenizer) -> TinyClassifiers:
    """Models without biases, as those of v2, whose first output is a thousand times the second."""
    found = make_classifiers(tokenizer, PLACEMENTS, task=Regression((Target("price"), Target("stars"))))
    for model in map(without_biases, found.models.values()):
        with torch.no_grad():
            last = model.head.layers[-1]
            assert isinstance(last, nn.Linear)
            last.weight[0] *= 1000
    return found


def an_export(tiny: TinyClassifiers, version: int) -> Any:
    state = fastai_state(tiny.models[Direction.FORWARD], version)
    return (v1_export, v2_export)[version - 1](state, vocabulary(version, WORDS), TOPICS)


# What the file of a learner records.


def test_several_labels_are_assigned_as_predict_assigns_them(topics: TinyClassifiers) -> None:
    first = with_several_labels(an_export(topics, 1), TOPICS)
    assert learner_facts(first, "x").task == TaskFacts("multi-label", tuple(TOPICS), threshold=0.5)
    second = with_several_labels(an_export(topics, 2), TOPICS, threshold=0.5)
    assert learner_facts(second, "x").task == TaskFacts("multi-label", tuple(TOPICS), ABOVE_HALF, None, ";", "mood")
    flags = with_several_labels(an_export(topics, 2), TOPICS, columns=TOPICS)
    assert learner_facts(flags, "x").task == TaskFacts(
        "multi-label", tuple(TOPICS), ABOVE_HALF, label_columns=tuple(TOPICS)
    )


@pytest.mark.parametrize("version", [1, 2])
def test_another_threshold_of_a_metric_is_reported(topics: TinyClassifiers, version: int) -> None:
    """``learn.predict`` does not look at metrics, and neither does the bundle."""
    accuracy = GlobalName("fastai.metrics", ("accuracy_thresh", "accuracy_multi")[version - 1])
    partial = an_object("functools.partial", (accuracy, (), {"thresh": 0.2}, None), accuracy)
    average = an_object("fastai.learner.AvgMetric", {"func": partial})
    f1 = an_object("fastai.metrics.AccumMetric", {"func": GlobalName("sklearn.metrics", "f1_score"), "thresh": 0.5})
    export = with_several_labels(an_export(topics, version), TOPICS)
    fields = export if version == 1 else export.state
    fields.update({"metrics": [partial], "_metrics": a_list(average, f1)})
    facts = learner_facts(export, "x")
    assert facts.task is not None
    assert facts.task.threshold == pytest.approx(0.5)
    (remark,) = facts.remarks
    assert f"a probability of 0.5 on, and so does the bundle. Its metrics use 0.2 ({accuracy.path})" in remark
    assert remark.endswith("add --threshold 0.2 to decide so")
    assert learner_facts(export, "x", Requested(threshold=0.2)).remarks == []


def test_numbers_have_a_range_and_the_names_of_their_columns(numbers: TinyClassifiers) -> None:
    first = learner_facts(with_numbers(an_export(numbers, 1)), "x")
    assert first.task == TaskFacts("regression")
    assert "numbers are logarithms, as those of learn.predict" in first.remarks[0]
    one = learner_facts(with_numbers(an_export(numbers, 2), ["stars"], (1, 5.5)), "x")
    assert one.task == TaskFacts("regression", value_range=(1.0, 5.5), label_column="stars")
    several = learner_facts(with_numbers(an_export(numbers, 2), NAMES), "x")
    assert several.task == TaskFacts("regression", tuple(NAMES), label_columns=("price", "stars"))
    assert several.remarks == []


SOFTMAX = an_object("fastai.losses.CrossEntropyLossFlat", {"axis": -1})
REFUSED: dict[str, tuple[Callable[[TinyClassifiers], Any], str]] = {
    "a threshold of 1": (
        lambda t: with_several_labels(an_export(t, 2), TOPICS, threshold=1.0),
        "thresh is a float .*, expected a threshold of at least 0 and below 1",
    ),
    "a threshold that is no number": (
        lambda t: with_several_labels(an_export(t, 2), TOPICS, threshold="half"),
        "thresh is a str .*, expected a threshold",
    ),
    "a threshold beyond all floats": (
        lambda t: with_several_labels(an_export(t, 2), TOPICS, threshold=2**2000),
        "thresh is an int .*, expected a threshold",
    ),
    "a range beyond all floats": (
        lambda t: with_numbers(an_export(t, 2), value_range=(0, 2**2000)),
        "high is an int .*, expected a number",
    ),
    "several labels with a softmax": (
        lambda t: replaced(with_several_labels(an_export(t, 2), TOPICS), loss_func=SOFTMAX),
        "returns a softmax, expected a loss with fastai's sigmoid.*add --probabilities sigmoid",
    ),
    "numbers with a softmax": (
        lambda t: replaced(with_numbers(an_export(t, 2)), loss_func=SOFTMAX),
        "predicts numbers, but its loss is .*, expected a loss for numbers",
    ),
    "labels within a range": (
        lambda t: with_several_labels(with_numbers(an_export(t, 2), value_range=(0, 1)), TOPICS),
        r"is a classifier, but its head ends with a SigmoidRange \(y_range\)",
    ),
    "labels that are changed": (
        lambda t: with_numbers(an_export(t, 2), more=[an_object("__main__.Log", {})]),
        "changes its labels with __main__.Log",
    ),
    "numbers that are decoded": (
        lambda t: with_numbers(an_export(t, 2), before=[an_object("__main__.Log", {})]),
        "changes its labels with __main__.Log",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_predict_would_do_otherwise_is_refused(topics: TinyClassifiers, name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ForeignModelError, match=message):
        learner_facts(make(topics), "x")


def replaced(export: Any, **fields: object) -> Any:
    export.state.update(fields)
    return export


# Bundles.


@pytest.fixture(autouse=True)
def _without_spacy_and_processes(monkeypatch: pytest.MonkeyPatch, tokenizer: WordTokenizer) -> None:
    """Use small tables instead of spaCy's, and verify in this process."""
    monkeypatch.setattr(fastai_tokenizer, "tables_from_spacy", lambda *_: (tokenizer.document.tables, "0"))
    monkeypatch.setattr(fastai_import, "verify_in_fresh_process", verify)


def verify(folder: Path) -> None:
    assert bothways.verify(folder).passed


def saved(tiny: TinyClassifiers, folder: Path, version: int) -> list[Path]:
    save_vocabulary(folder / "itos.pkl", vocabulary(1, WORDS))
    return [save_weights(folder / f"{way}.pth", fastai_state(model, version)) for way, model in tiny.models.items()]


@torch.no_grad()
def torch_outputs(model: ClassifierNetwork, direction: Direction, tokenizer: WordTokenizer) -> Any:
    rows = []
    for text in TEXTS:
        ids = torch.from_numpy(read(tokenizer.tokenize(text), direction, PLACEMENTS[direction]).astype(np.int64))
        rows.append(model(ids[None], torch.tensor([len(ids)]))[0][0].double().numpy())
    return np.array(rows)


@pytest.mark.parametrize(("y_range", "version"), [(None, 1), ("none", 2), ((-1, 9.5), 2)])
def test_numbers_of_any_size_are_those_of_torch(
    numbers: TinyClassifiers, tokenizer: WordTokenizer, tmp_path: Path, y_range: Any, version: int
) -> None:
    paths = saved(numbers, tmp_path, version)
    bothways.import_fastai(*paths, out=tmp_path / "b", language="en", task="regression", labels=NAMES, y_range=y_range)
    model = bothways.load(tmp_path / "b")
    found = model.scores_by_direction(TEXTS)
    for direction, network in numbers.models.items():
        expected = torch_outputs(network, direction, tokenizer)
        if isinstance(y_range, tuple):
            expected = 10.5 * (np.tanh(expected / 2) + 1) / 2 - 1
        np.testing.assert_allclose(found[direction], expected, rtol=1e-5, atol=1e-5)
    assert np.array_equal(model.predict(TEXTS), (found["forward"] + found["backward"]) * 0.5)
    assert model.targets == ("price", "stars")
    price, stars = model.task.record().targets
    assert price.center == stars.center == 0
    if not isinstance(y_range, tuple):  # a power of 2 of the size of the outputs
        assert 500 < price.scale / stars.scale < 2000
        assert np.log2(price.scale) % 1 == np.log2(stars.scale) % 1 == 0
        record = read_bundle(tmp_path / "b", Kind.CLASSIFIER).parity_record
        values = np.array([[list(row.scores[way].values()) for way in found] for row in record if row.scores])
        spreads = values[:, :2].std(axis=0).max(axis=0)  # (texts, members and ensemble, targets)
        assert (np.array([price.scale, stars.scale]) * np.sqrt(2) >= spreads).all()
        bothways.load(tmp_path / "b", precision="int8")


def test_several_labels_are_those_of_torch(topics: TinyClassifiers, tokenizer: WordTokenizer, tmp_path: Path) -> None:
    paths = saved(topics, tmp_path, 1)
    bothways.import_fastai(*paths, out=tmp_path / "b", language="en", task="multi-label", labels=TOPICS, threshold=0.4)
    model = bothways.load(tmp_path / "b")
    found = model.predict_proba_by_direction(TEXTS)
    for direction, network in topics.models.items():
        expected = 1 / (1 + np.exp(-torch_outputs(network, direction, tokenizer)))
        np.testing.assert_allclose(found[direction], expected, rtol=0, atol=1e-5)
    labels = [tuple(np.array(TOPICS)[row >= 0.4].tolist()) for row in found["ensemble"]]
    assert model.predict(TEXTS).tolist() == labels
    assert len(set(labels)) > 1


def test_two_exports_share_a_bundle_only_if_they_predict_the_same(
    numbers: TinyClassifiers, topics: TinyClassifiers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports: dict[str, Any] = {
        "a": with_numbers(an_export(numbers, 2), NAMES),
        "b": with_numbers(an_export(numbers, 2), NAMES[::-1], is_backward=True),
        "range": with_numbers(an_export(numbers, 2), NAMES, (0, 1), is_backward=True),
        "names": with_numbers(an_export(numbers, 2), ["cost", "stars"], is_backward=True),
        "topics": with_several_labels(an_export(topics, 2), TOPICS),
        "others": with_several_labels(an_export(topics, 2), TOPICS, threshold=0.3, is_backward=True),
    }
    monkeypatch.setattr(fastai_file, "read_foreign_file", lambda path: exports[path.name])
    for name in exports:
        (tmp_path / name).touch()

    def both(first: str, second: str, **options: Any) -> Task:
        out = tmp_path / f"{first}-{second}.bundle"
        bothways.import_fastai(tmp_path / first, tmp_path / second, out=out, **options)
        return bothways.load(out).task

    assert both("a", "b").target_names == ("price", "stars")
    model = bothways.load(tmp_path / "a-b.bundle")
    assert model.manifest.training.label_columns == NAMES
    scores = model.scores_by_direction(TEXTS)
    alike = bothways.import_fastai(tmp_path / "b", out=tmp_path / "alone.bundle")
    assert alike.models[0].direction is Direction.BACKWARD
    np.testing.assert_allclose(  # the outputs of the second model are in the order of the first
        bothways.load(tmp_path / "alone.bundle").predict(TEXTS)[:, ::-1], scores["backward"], rtol=1e-12
    )
    with pytest.raises(ForeignModelError, match=r"a has the y_range none, but .*range has 0,1: expected"):
        both("a", "range")
    with pytest.raises(ForeignModelError, match=r"has the targets 'price', 'stars', but .*names has 'cost', 'stars'"):
        both("a", "names")
    with pytest.raises(ForeignModelError, match=r"topics is a multi-label text classifier, but .* a text regression"):
        both("topics", "b")
    with pytest.raises(
        ForeignModelError, match=r"from a probability of 0.5 on, but .* from 0.3 on: choose one with --t"
    ):
        both("topics", "others")
    assert both("topics", "others", threshold=0.25).thresholds == (0.25,) * 4


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "records only weights, not what they predict: add --task single-label, multi-label or regression"),
    ({"task": "multi-label"}, "has 2 classes without labels"),
    ({"task": "ranking"}, "unknown task 'ranking', expected single-label or multi-label or regression"),
    ({"task": "regression"}, r"does not record y_range, .*: add --y-range LOW,HIGH or --y-range none"),
    ({"task": "regression", "y_range": "5,1"}, "y_range is '5,1', expected the lowest and highest number: LOW,HIGH"),
    ({"task": "regression", "y_range": "a"}, "y_range is 'a', expected"),
    ({"task": "regression", "y_range": 5}, "y_range is 5, expected"),
    ({"task": "regression", "y_range": "none", "labels": ["a"]}, "has 2 targets, but 1 labels: 'a'"),
    ({"task": "regression", "y_range": "none", "labels": ["a", "a"]}, "the name of a target occurs twice"),
    ({"task": "regression", "y_range": "none", "threshold": 0.5}, "has no threshold: drop --threshold"),
    ({"task": "multi-label", "labels": NAMES, "threshold": 1.5}, "threshold is 1.5, expected a number between 0 and 1"),
    ({"task": "single-label", "labels": NAMES, "threshold": 0.5}, "has no threshold: drop --threshold"),
]


@pytest.mark.parametrize(
    ("options", "message"), OPTIONS, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_what_saved_weights_do_not_record_is_asked_for(
    numbers: TinyClassifiers, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    forward, _ = saved(numbers, tmp_path, 2)
    with pytest.raises((ConfigError, ForeignModelError), match=message):
        bothways.import_fastai(forward, out=tmp_path / "b", language="en", **options)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "option"),
    [({"task": "regression"}, "--task"), ({"y_range": "0,1"}, "--y-range"), ({"labels": ["x"]}, "--label")],
    ids=str,
)
def test_what_an_export_records_needs_no_option(
    topics: TinyClassifiers, tmp_path: Path, options: dict[str, Any], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = with_several_labels(an_export(topics, 2), TOPICS)
    monkeypatch.setattr(fastai_file, "read_foreign_file", lambda path: export)
    with pytest.raises(ConfigError, match=f"records another value than {option}: drop {option}"):
        bothways.import_fastai(tmp_path / "export.pkl", out=tmp_path / "b", **options)
