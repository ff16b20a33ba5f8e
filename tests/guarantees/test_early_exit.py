"""Early exit: one direction where it is confident, and elsewhere the bits of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bothways
from bothways.bundle.manifest import LINEAR, MANIFEST_FILE, PARITY_FILE
from bothways.errors import BundleBroken, ConfigError, DataError, OutputExists
from bothways.evaluation.early_exit import calibrate_early_exit
from bothways.runtime.classifier import Classifier
from bothways.runtime.slots import SLOTS
from bothways.tasks.single_label import SingleLabel
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.subword_tokenizer import SubwordTokenizer
from tests.bundles import edit_manifest, make_classifiers, write_classifiers, write_with_early_exit

RNG = np.random.default_rng(0)
SENTENCES = "the cat sat on the mat, and the DOG ate it all up. what a lovely film; I hated it!"
WORDS = SENTENCES.split()
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(0, 90))) for _ in range(300)]
FIRST, OTHER = Direction.FORWARD, Direction.BACKWARD


@pytest.fixture(
    scope="module",
    params=[
        ("bundle_path", Direction.FORWARD),
        ("bundle_path", Direction.BACKWARD),
        ("qrnn_bundle_path", Direction.FORWARD),
        ("linear_bundle_path", Direction.BACKWARD),
    ],
    ids=["forward", "backward", "QRNN, forward", "linear, backward"],
)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Classifier]:
    """The same bundle without and with an early exit that is confident about half of the texts."""
    bundle, first = request.param
    bundle_path: Path = request.getfixturevalue(bundle)
    path = write_with_early_exit(bundle_path, tmp_path_factory.mktemp("early_exit") / "m.bundle", first, TEXTS)
    return bothways.load(bundle_path), bothways.load(path, early_exit=True)


def check(models: tuple[Classifier, Classifier], texts: list[str], lookahead: int) -> list[str]:
    """Compare each prediction with the rule, to the last bit. Return which directions read each text."""
    whole, quick = models
    assert quick.early_exit is not None
    first = quick.early_exit.first
    read = []
    for expected, found in zip(whole.stream(texts), quick.stream(texts, lookahead), strict=True):
        alone, others = expected.probabilities[first], set(expected.probabilities) & {LINEAR}
        if whole.manifest.linear is not None:
            alone = whole.task.mixed(alone, expected.probabilities[LINEAR], whole.manifest.linear.weight)
        alone = whole.task.with_temperature(alone, quick.early_exit.temperature)
        if alone.max() > quick.early_exit.threshold:
            assert found.read == first
            assert found.probabilities.keys() == {first, "ensemble"} | others
            assert found.probabilities["ensemble"].tolist() == alone.tolist()
            assert found.label == whole.labels[int(alone.argmax())]
        else:
            assert (found.read, found.label) == ("both", expected.label)
            assert found.probabilities.keys() == expected.probabilities.keys()
            for name, row in expected.probabilities.items():
                assert found.probabilities[name].tolist() == row.tolist()
        read.append(found.read)
    return read


@pytest.mark.parametrize("lookahead", [1, 7, SLOTS])
def test_each_text_is_read_by_the_rule_and_gets_the_same_bits_in_any_batch(
    models: tuple[Classifier, Classifier], lookahead: int
) -> None:
    read = check(models, TEXTS, lookahead)
    assert 100 < read.count("both") < 200


@given(texts=st.lists(st.text(alphabet="abc DEF!", max_size=80), max_size=9), lookahead=st.sampled_from([1, 2, SLOTS]))
def test_the_rule_holds_for_any_texts(models: tuple[Classifier, Classifier], texts: list[str], lookahead: int) -> None:
    check(models, texts, lookahead)


def test_rows_of_a_direction_that_did_not_read_are_nan(models: tuple[Classifier, Classifier]) -> None:
    _, quick = models
    found = quick.predict_proba_by_direction(TEXTS)
    other = next(name for name in found if quick.early_exit and name not in (quick.early_exit.first, "ensemble"))
    unread = np.array([prediction.read != "both" for prediction in quick.stream(TEXTS)])
    assert unread.any()
    assert np.isnan(found[other]).all(axis=1).tolist() == unread.tolist()
    assert not np.isnan(found["ensemble"]).any()


def test_both_directions_read_unless_early_exit_is_requested(models: tuple[Classifier, Classifier]) -> None:
    whole, _ = models
    assert {prediction.read for prediction in whole.stream(TEXTS[:20])} == {"both"}
    with pytest.raises(ConfigError, match="early exit needs the whole text"):
        models[1].open()


def test_each_text_of_an_endless_stream_is_returned_before_the_next_is_requested(
    models: tuple[Classifier, Classifier],
) -> None:
    requested = 0

    def endless() -> object:
        nonlocal requested
        while True:
            requested += 1
            yield TEXTS[requested % len(TEXTS)]

    for number, _ in zip(range(40), models[1].stream(endless(), lookahead=1), strict=False):  # type: ignore[arg-type]
        assert requested == number + 1


# Calibration.


@given(
    seed=st.integers(0, 10_000),
    largest_loss=st.sampled_from([0.001, 0.01, 0.05, 1.0]),
    count=st.sampled_from([50, 400]),
)
def test_no_more_rows_than_allowed_lose_their_correct_label(seed: int, largest_loss: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, count)
    logits = {way: rng.normal(0, 1, (count, 3)) + 1.2 * np.eye(3)[true] for way in Direction}
    rows = {way: np.exp(values) / np.exp(values).sum(axis=1, keepdims=True) for way, values in logits.items()}
    ensemble = sum(rows.values()) / 2
    task = SingleLabel(("a", "b", "c"))
    early_exit = calibrate_early_exit(rows, ensemble, true, largest_loss, task)

    calibrated = task.with_temperature(rows[early_exit.first], early_exit.temperature)
    is_confident = calibrated.max(axis=1) > early_exit.threshold
    correct_alone, correct_together = (found.argmax(axis=1) == true for found in (calibrated, ensemble))
    lost = correct_together & ~correct_alone & is_confident
    assert lost.sum() <= largest_loss * count
    assert early_exit.read_by_both == pytest.approx(1 - is_confident.mean())
    assert early_exit.accuracy == pytest.approx(np.where(is_confident, correct_alone, correct_together).mean())
    assert early_exit.accuracy_of_ensemble == pytest.approx(correct_together.mean())
    assert early_exit.accuracy >= early_exit.accuracy_of_ensemble - largest_loss - 1e-9
    lower = calibrated.max(axis=1) >= early_exit.threshold  # the next lower threshold would lose too many
    assert early_exit.threshold == 0 or (correct_together & ~correct_alone & lower).sum() > largest_loss * count
    assert [point.read_by_both for point in early_exit.curve] == sorted(
        point.read_by_both for point in early_exit.curve
    )
    if largest_loss == 1:
        assert early_exit.read_by_both == 0


class Columns(TypedDict):
    text: str
    label: str


def labeled(model: Classifier, path: Path, count: int) -> Path:
    texts = [f"{text} {number}" for number, text in enumerate(TEXTS * (1 + count // len(TEXTS)))][:count]
    rows = zip(texts, model.predict(texts), strict=True)
    path.write_text("".join(json.dumps({"t": text, "l": label}) + "\n" for text, label in rows))
    return path


def test_a_calibrated_bundle_saves_reading_and_is_still_verified(bundle_path: Path, tmp_path: Path) -> None:
    whole = bothways.load(bundle_path)
    data, columns = labeled(whole, tmp_path / "d.jsonl", 400), Columns(text="t", label="l")
    early_exit = bothways.fit_early_exit(bundle_path, data, out=tmp_path / "fast", largest_loss=0.01, **columns)
    assert (early_exit.rows, early_exit.accuracy_of_ensemble) == (400, 1)
    assert early_exit.accuracy >= 0.99
    assert 0 < early_exit.read_by_both < 1
    assert bothways.verify(tmp_path / "fast").passed
    quick = bothways.load(tmp_path / "fast", early_exit=True)
    assert quick.early_exit == early_exit
    assert quick.digest != whole.digest
    texts = [json.loads(line)["t"] for line in data.read_text().splitlines()]
    predictions = list(quick.stream(texts))
    assert np.mean([prediction.read == "both" for prediction in predictions]) == pytest.approx(early_exit.read_by_both)
    assert np.mean([p.label == label for p, label in zip(predictions, whole.predict(texts), strict=True)]) >= 0.99
    changed = (MANIFEST_FILE, PARITY_FILE)
    before = {file.name: file.read_bytes() for file in bundle_path.iterdir() if file.name not in changed}
    assert {name: (tmp_path / "fast" / name).read_bytes() for name in before} == before

    with pytest.raises(DataError, match=r"has 400 rows, too few to measure a loss of 0\.1 percentage points"):
        bothways.fit_early_exit(bundle_path, data, out=tmp_path / "x", **columns)
    with pytest.raises(OutputExists):
        bothways.fit_early_exit(bundle_path, data, out=tmp_path / "fast", **columns)
    with pytest.raises(ConfigError, match="the largest loss is 0"):
        bothways.fit_early_exit(bundle_path, data, out=tmp_path / "x", largest_loss=0, **columns)
    with pytest.raises(ConfigError, match="does not record its label column"):
        bothways.fit_early_exit(bundle_path, data, out=tmp_path / "x", text="t")
    with pytest.raises(ConfigError, match=r"the folder .*nowhere does not exist"):  # before any row is read
        bothways.fit_early_exit(bundle_path, tmp_path / "missing.csv", out=tmp_path / "nowhere" / "x", **columns)
    (tmp_path / "other.jsonl").write_text('{"t": "a", "l": "nobody"}\n')
    with pytest.raises(DataError, match="unknown label 'nobody'"):
        bothways.fit_early_exit(bundle_path, tmp_path / "other.jsonl", out=tmp_path / "x", largest_loss=1, **columns)


def test_bundles_without_early_exit_are_refused(
    tiny_tokenizer: SubwordTokenizer, multi_label_bundle_path: Path, bundle_path: Path, tmp_path: Path
) -> None:
    one_way = make_classifiers(tiny_tokenizer, {FIRST: SpecialTokenPlacement.READING_ORDER})
    write_classifiers(tmp_path / "one", one_way)
    for path, message in (
        (tmp_path / "one", "has one direction"),
        (multi_label_bundle_path, "early exit needs single-label classification"),
    ):
        with pytest.raises(ConfigError, match=message):
            bothways.fit_early_exit(path, tmp_path / "d.csv", out=tmp_path / "x")
    with pytest.raises(ConfigError, match="has no early exit; calibrate it on labeled rows with bothways early-exit"):
        bothways.load(bundle_path, early_exit=True)


def test_a_manifest_with_an_impossible_early_exit_is_broken(
    models: tuple[Classifier, Classifier], multi_label_bundle_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.bundle"
    path.mkdir()
    for file in multi_label_bundle_path.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    assert models[1].early_exit is not None
    fields = models[1].early_exit.model_dump(mode="json")
    edit_manifest(path, lambda manifest: manifest.update(early_exit=fields))
    with pytest.raises(BundleBroken, match="early exit needs two members and the task single-label"):
        bothways.load(path)
