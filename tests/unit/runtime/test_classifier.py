from __future__ import annotations

import math
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
import torch

import bothways
from bothways.bundle.manifest import Architecture, Kind
from bothways.bundle.read import read_bundle
from bothways.bundle.weights import Weights
from bothways.errors import BundleBroken, ConfigError, DirectionError, TextError
from bothways.runtime import classifier
from bothways.runtime.classifier import Classifier
from bothways.runtime.head import Head
from bothways.runtime.language_model import LanguageModel
from bothways.runtime.sessions import EncoderSession
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Task
from bothways.text.reading import Direction
from bothways.training.models import weights_of
from tests.bundles import (
    LABELS,
    THRESHOLDS,
    TOPICS,
    TinyClassifiers,
    TinyLanguageModels,
    edit_manifest,
    edit_weights,
    record_decisions,
)

TASKS: list[Task] = [SingleLabel(), MultiLabel()]
TOPIC_TEXTS = [f"{word} {number}" for word in ("lovely", "HATED", "zzz q", "dog!", "") for number in range(20)]
TEXTS = ["what a lovely film", "", "I HATED every minute of it!!!", "the dog ate the cat " * 9]


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "copy.bundle"))


class OwnIterable:
    def __iter__(self) -> Iterator[str]:
        return iter(TEXTS)


KINDS_OF_INPUT: list[Callable[[], Iterable[object]]] = [
    lambda: TEXTS,
    lambda: tuple(TEXTS),
    lambda: (text for text in TEXTS),
    lambda: np.array(TEXTS),
    lambda: np.array(TEXTS, dtype=object),
    lambda: pandas.Series(TEXTS, index=[9, 8, 7, 6]),
    lambda: pyarrow.array(TEXTS).to_pylist(),
    lambda: dict.fromkeys(TEXTS).keys(),
    OwnIterable,
]
NAMES_OF_INPUT = ["list", "tuple", "generator", "array of str", "array of objects", "Series", "arrow", "keys", "own"]


@pytest.mark.parametrize("make", KINDS_OF_INPUT, ids=NAMES_OF_INPUT)
def test_every_iterable_of_texts_gives_the_same(model: Classifier, make: Callable[[], Iterable[object]]) -> None:
    expected = model.predict_proba_by_direction(TEXTS)
    assert np.array_equal(model.predict_proba(make()), expected["ensemble"])
    assert model.predict(make()).tolist() == [LABELS[row.argmax()] for row in expected["ensemble"]]
    for name, rows in model.predict_proba_by_direction(make()).items():
        assert np.array_equal(rows, expected[name])


def test_shapes_and_types_are_those_promised(model: Classifier) -> None:
    labels = model.predict(TEXTS)
    assert labels.shape == (4,)
    assert labels.dtype == object
    assert {type(label) for label in labels} == {str}
    by_direction = model.predict_proba_by_direction(TEXTS)
    assert list(by_direction) == ["forward", "backward", "ensemble"]
    for rows in by_direction.values():
        assert rows.shape == (4, 3)
        assert rows.dtype == np.float64
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-12)


def test_no_text_gives_no_row(model: Classifier) -> None:
    assert model.predict([]).shape == (0,)
    assert model.predict([]).dtype == object
    assert model.predict_proba([]).shape == (0, 3)
    assert {name: rows.shape for name, rows in model.predict_proba_by_direction(iter([])).items()} == {
        "forward": (0, 3),
        "backward": (0, 3),
        "ensemble": (0, 3),
    }
    assert list(model.stream([])) == []


def test_texts_of_one_tokenization_may_still_differ_in_their_class(model: Classifier) -> None:
    texts = [f"{word} {number}" for word in ("lovely", "HATED", "zzz q", "dog!") for number in range(40)]
    assert len(set(model.predict(texts))) > 1  # or none of these tests would see a swapped label


def test_a_prediction_has_everything_of_its_text(model: Classifier) -> None:
    (prediction,) = model.stream(TEXTS[:1])
    ensemble = prediction.probabilities["ensemble"]
    assert prediction.labels == tuple(LABELS) == model.labels
    assert prediction.label == LABELS[int(ensemble.argmax())]
    assert prediction.chosen == (prediction.label,)
    assert prediction.probability == ensemble.max()
    assert type(prediction.probability) is float
    np.testing.assert_allclose(
        ensemble, (prediction.probabilities["forward"] + prediction.probabilities["backward"]) / 2, rtol=1e-15
    )


@pytest.mark.parametrize("text", ["one text", b"one text", np.str_("one text")])
@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_proba_by_direction", "stream"])
def test_a_lone_string_is_not_read_letter_by_letter(model: Classifier, method: str, text: Any) -> None:
    with pytest.raises(TextError, match=r"got a single string, expected a list of texts\. Use predict\(\[text\]\)"):
        getattr(model, method)(text)


@pytest.mark.parametrize("value", [None, 3, float("nan"), b"bytes", ["nested"], pandas.NA, "\ud800"])
def test_a_text_that_is_none_is_named_by_its_number(model: Classifier, value: object) -> None:
    with pytest.raises(TextError, match=r"^text 2[ :]"):
        model.predict(["a", "b", value])


def test_texts_before_a_broken_one_are_answered_with_a_lookahead_of_one(model: Classifier) -> None:
    stream = model.stream(["a", "b", None], lookahead=1)
    assert [next(stream).labels, next(stream).labels] == [tuple(LABELS)] * 2
    with pytest.raises(TextError, match="text 2"):
        next(stream)


@pytest.mark.parametrize("lookahead", [0, -1])
def test_a_lookahead_below_one_is_refused_at_once(model: Classifier, lookahead: int) -> None:
    with pytest.raises(ConfigError, match=f"lookahead is {lookahead}, expected 1 or more"):
        model.stream(["a"], lookahead=lookahead)


def test_one_answer_comes_before_the_next_text_is_asked_for(model: Classifier) -> None:
    asked: list[int] = []

    def questions() -> Iterator[str]:
        for number in range(5):
            asked.append(number)
            yield f"question {number}"

    for given, _ in enumerate(model.stream(questions(), lookahead=1)):
        assert asked == list(range(given + 1))


def test_the_temperature_of_the_manifest_is_used(copy: Path, model: Classifier) -> None:
    edit_manifest(copy, lambda fields: fields["calibration"].update(temperature=2.0))
    warm = bothways.load(copy).predict_proba_by_direction(TEXTS)
    cold = model.predict_proba_by_direction(TEXTS)
    roots = np.sqrt(cold["ensemble"])
    np.testing.assert_allclose(warm["ensemble"], roots / roots.sum(axis=1, keepdims=True), rtol=1e-12)
    assert np.abs(warm["ensemble"] - cold["ensemble"]).max() > 0.01
    assert np.array_equal(warm["backward"], cold["backward"])  # members are not calibrated, only their mean
    assert not bothways.verify(copy).passed


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1000.0])
def test_extreme_temperatures_give_probabilities(temperature: float) -> None:
    rows = SingleLabel().with_temperature(np.array([0.0, 0.25, 0.75]), temperature)
    assert math.isclose(rows.sum(), 1)
    assert rows[0] == 0
    assert rows[2] > rows[1]


def test_temperature_one_leaves_every_bit() -> None:
    row = np.array([0.1, 0.2, 0.7])
    assert SingleLabel().with_temperature(row, 1) is row


def test_temperature_one_half_squares() -> None:
    calibrated = SingleLabel().with_temperature(np.array([0.2, 0.8]), 0.5)
    np.testing.assert_allclose(calibrated, np.array([0.04, 0.64]) / 0.68, rtol=1e-12)


def test_rows_are_calibrated_one_by_one() -> None:
    rows = np.array([[0.2, 0.8, 0.0], [0.5, 0.25, 0.25]])
    for task in TASKS:
        expected = [task.with_temperature(row, 1.7) for row in rows]
        assert np.array_equal(task.with_temperature(rows, 1.7), expected)


@pytest.mark.parametrize("temperature", [5e-324, 1e-3, 1.7, 1000.0])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_extreme_probabilities_stay_probabilities(temperature: float, task: Task) -> None:
    for given in ([0.0, 1e-320, 0.25, 0.75], [0.0, 0.5, 1.0], [0.0, 1.0]):
        rows = task.with_temperature(np.array(given), temperature)
        assert np.isfinite(rows).all()
        assert (np.diff(rows) >= 0).all()
        assert rows[0] == 0
        assert 0 < rows[-1] <= 1
        assert rows[-1] > 0.5 or task.name == "single-label"


def test_a_labels_log_odds_are_divided_by_the_temperature() -> None:
    rows = MultiLabel().with_temperature(np.array([0.2, 0.5, 0.8]), 0.5)
    np.testing.assert_allclose(rows, [0.04 / 0.68, 0.5, 0.64 / 0.68], rtol=1e-12)
    assert rows.sum() != 1


def test_a_calibrated_label_next_to_certain_does_not_hang_on_the_last_bit() -> None:
    """1 and the float below it lie a factor of infinity apart in their odds: two machines may disagree on them."""
    nearest, certain = MultiLabel().with_temperature(np.array([1 - 2**-53, 1.0]), 4.0)
    assert abs(nearest - certain) < 1e-9


def test_unequal_weights_of_the_members_are_used(copy: Path, model: Classifier) -> None:
    edit_manifest(copy, lambda fields: fields["combination"].update(weights=[0.25, 0.75]))
    rows = bothways.load(copy).predict_proba_by_direction(TEXTS)
    np.testing.assert_allclose(rows["ensemble"], 0.25 * rows["forward"] + 0.75 * rows["backward"], rtol=1e-14)
    assert np.abs(rows["ensemble"] - model.predict_proba(TEXTS)).max() > 1e-3


def test_on_a_tie_the_first_label_wins(copy: Path) -> None:
    def level(arrays: dict[str, Any]) -> None:
        arrays["head.layers.1.weight"] *= 0
        arrays["head.layers.1.bias"] *= 0

    for name in ("forward.safetensors", "backward.safetensors"):
        edit_weights(copy, name, level)
    model = bothways.load(copy)
    assert model.predict_proba(["a"]).tolist() == [[1 / 3] * 3]
    assert model.predict(TEXTS).tolist() == [LABELS[0]] * 4


@pytest.mark.parametrize("direction", list(Direction))
def test_the_folded_head_is_torchs_head(torch_models: TinyClassifiers, direction: Direction) -> None:
    torch_model = torch_models.models[direction]
    member = next(m for m in torch_models.members if m.direction is direction)
    norms = [norm for norm in torch_model.head.norms if isinstance(norm, torch.nn.BatchNorm1d)]
    assert len(norms) == 2
    for norm in norms:  # statistics that do nothing would prove nothing
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.running_mean.abs().max() > 0.01
        assert (norm.running_var - 1).abs().max() > 0.01
    ours = Head(weights_of(torch_model, member, 3), layers=2)
    pooled = torch.randn(50, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        head = deepcopy(torch_model.eval().head).double()  # as ours computes
        theirs = head(pooled.double()).numpy()
    for row, expected in zip(pooled.numpy(), theirs, strict=True):
        np.testing.assert_allclose(ours.logits(row), expected, rtol=0, atol=1e-10)


# Any number of labels


def test_a_text_is_given_every_label_that_reaches_its_threshold(multi_label_model: Classifier) -> None:
    predictions = list(multi_label_model.stream(TOPIC_TEXTS))
    for p in predictions:
        ensemble = p.probabilities["ensemble"]
        expected = [label for label, value, at in zip(TOPICS, ensemble, THRESHOLDS, strict=True) if value >= at]
        assert p.chosen == tuple(expected)
        assert p.label == TOPICS[int(ensemble.argmax())]
        assert p.probability == ensemble.max()
        assert p.labels == tuple(TOPICS)
    assert {len(p.chosen) for p in predictions} >= {0, 1, 2}
    assert any(p.label not in p.chosen for p in predictions)  # the most probable label need not be chosen


def test_predict_gives_tuples_even_where_all_have_one_length(multi_label_model: Classifier) -> None:
    for count in (0, 1, 2):
        text = next(text for text in TOPIC_TEXTS if len(multi_label_model.predict([text])[0]) == count)
        found = multi_label_model.predict([text, text])
        assert found.shape == (2,)
        assert found.dtype == object
        assert [type(chosen) for chosen in found] == [tuple, tuple]
        assert [len(chosen) for chosen in found] == [count, count]
    assert multi_label_model.predict([]).shape == (0,)


def test_a_threshold_is_reached_by_a_probability_that_equals_it(multi_label_bundle_path: Path, tmp_path: Path) -> None:
    exact = bothways.load(multi_label_bundle_path).predict_proba(["a"])[0].tolist()
    copy = Path(shutil.copytree(multi_label_bundle_path, tmp_path / "copy.bundle"))
    edit_manifest(copy, lambda fields: fields.update(thresholds=exact))
    record_decisions(copy)
    assert bothways.load(copy).predict(["a"])[0] == tuple(TOPICS)
    above = [np.nextafter(value, 1) for value in exact]
    edit_manifest(copy, lambda fields: fields.update(thresholds=above))
    record_decisions(copy)
    assert bothways.load(copy).predict(["a"])[0] == ()
    assert bothways.verify(copy).passed


def test_probabilities_of_labels_need_not_add_up_to_one(multi_label_model: Classifier) -> None:
    for rows in multi_label_model.predict_proba_by_direction(TEXTS).values():
        assert (rows.sum(axis=1) > 1.5).all()


def test_logits_without_measure_are_certain_and_warn_of_nothing(multi_label_bundle_path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(multi_label_bundle_path, tmp_path / "copy.bundle"))

    def blow_up(arrays: dict[str, Any]) -> None:
        arrays["head.layers.1.weight"] *= 0
        arrays["head.layers.1.bias"][:] = [1e30, -1e30, 3e38, -3e38]

    for name in ("forward.safetensors", "backward.safetensors"):
        edit_weights(copy, name, blow_up)
    (prediction,) = bothways.load(copy).stream(["a"])
    assert prediction.probabilities["forward"].tolist() == [1, 0, 1, 0]
    assert prediction.probabilities["ensemble"] == pytest.approx([1, 0, 1, 0], abs=1e-6)
    assert prediction.chosen == ("acting", "plot")


def test_members_keep_the_order_of_the_bundle(mixed_bundle_path: Path) -> None:
    model = bothways.load(str(mixed_bundle_path))
    assert model.directions == ["backward", "forward"]
    assert list(model.predict_proba_by_direction(["a"])) == ["backward", "forward", "ensemble"]


def test_the_digest_tells_bundles_apart(bundle_path: Path, mixed_bundle_path: Path, model: Classifier) -> None:
    assert bothways.load(bundle_path).digest == model.digest
    assert bothways.load(mixed_bundle_path).digest != model.digest
    assert len(model.digest) == 64


def test_a_members_weights_are_let_go_before_the_next_are_packed(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading would else need the memory of all members twice."""
    arrays: list[weakref.ref[Any]] = []
    held: list[int] = []

    class Watched(EncoderSession):
        def __init__(self, architecture: Architecture, weights: Weights, **options: Any) -> None:
            held.append(sum(array() is not None for array in arrays))
            arrays.extend(weakref.ref(array) for array in weights.values())
            super().__init__(architecture, weights, **options)

    monkeypatch.setattr(classifier, "EncoderSession", Watched)
    bothways.load(bundle_path)
    assert held == [0, 0]


def test_a_pack_can_not_classify(pack_path: Path) -> None:
    with pytest.raises(BundleBroken, match="is a language-model, expected a classifier"):
        bothways.load(pack_path)


@pytest.mark.parametrize("direction", list(Direction))
def test_a_language_model_has_torchs_loss(
    pack_path: Path, torch_language_models: TinyLanguageModels, direction: Direction
) -> None:
    model = LanguageModel(read_bundle(pack_path, Kind.LANGUAGE_MODEL))
    rows = [row for row in torch_language_models.parity_record if len(row.ids) > 1]
    assert len(rows) > 20
    for row in rows:
        assert row.loss is not None
        assert isinstance(row.text, str)
        assert model.loss(row.text, direction) == pytest.approx(row.loss[str(direction)], abs=1e-5)
    assert model.loss("", direction) == 0.0


def test_a_language_model_of_the_other_direction_is_refused_with_both_names(
    tiny_tokenizer: Any, tmp_path: Path, pack_path: Path
) -> None:
    one_way = Path(shutil.copytree(pack_path, tmp_path / "forward.pack"))
    (one_way / "backward.safetensors").unlink()

    def keep_forward(fields: dict[str, Any]) -> None:
        fields["members"] = [member for member in fields["members"] if member["direction"] == "forward"]
        del fields["files"]["backward.safetensors"]

    edit_manifest(one_way, keep_forward)
    rows = [line for line in (one_way / "parity.jsonl").read_text().splitlines() if line]
    assert rows
    with pytest.raises(BundleBroken, match="expected numbers for forward"):
        read_bundle(one_way, Kind.LANGUAGE_MODEL)  # the proof speaks of both
    model = LanguageModel(read_bundle(pack_path, Kind.LANGUAGE_MODEL))
    model._manifest = model._manifest.model_copy(update={"members": model._manifest.members[:1]})
    with pytest.raises(DirectionError, match="reads forward, but direction backward was requested"):
        model.loss("a b", Direction.BACKWARD)
