"""Early exit: one direction or the linear member where it is confident, and elsewhere the bits of both."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import bothways
from bothways.bundle.manifest import LINEAR, MANIFEST_FILE, PARITY_FILE, EarlyExit
from bothways.errors import BundleBroken, ConfigError, DataError, DeadlinePassed, OutputExists
from bothways.evaluation import score as scoring
from bothways.evaluation.early_exit import calibrate_early_exit
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.runtime.slots import SLOTS, TokenCounts
from bothways.serve.batching import Batcher
from bothways.serve.schedule import PendingRequest
from bothways.tasks.metrics import Scores
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
        ("bundle_path", Direction.FORWARD, False),
        ("bundle_path", Direction.BACKWARD, False),
        ("qrnn_bundle_path", Direction.FORWARD, False),
        ("linear_bundle_path", Direction.BACKWARD, False),
        ("linear_bundle_path", Direction.FORWARD, True),
    ],
    ids=["forward", "backward", "QRNN, forward", "linear, backward", "linear first, forward"],
)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Classifier]:
    """The same bundle without and with an early exit that is confident about half of the texts."""
    bundle, first, starts_with_linear = request.param
    bundle_path: Path = request.getfixturevalue(bundle)
    path = tmp_path_factory.mktemp("early_exit") / "m.bundle"
    write_with_early_exit(bundle_path, path, first, TEXTS, starts_with_linear=starts_with_linear)
    return bothways.load(bundle_path), bothways.load(path, early_exit=True)


@pytest.fixture(scope="module")
def linear_first(linear_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A model whose early exit starts with the linear member."""
    path = tmp_path_factory.mktemp("linear_first") / "m.bundle"
    write_with_early_exit(linear_bundle_path, path, Direction.BACKWARD, TEXTS, starts_with_linear=True)
    return bothways.load(path, early_exit=True)


def linear_alone(quick: Classifier, whole: Prediction) -> Scores:
    """Return the probabilities by which early exit decides whether the linear member is enough."""
    assert quick.early_exit is not None
    assert quick.early_exit.linear is not None
    return quick.task.with_temperature(whole.probabilities[LINEAR], quick.early_exit.linear.temperature)


def is_linear_enough(quick: Classifier, whole: Prediction) -> bool:
    assert quick.early_exit is not None
    alone = quick.early_exit.linear
    return alone is not None and linear_alone(quick, whole).max() > alone.threshold


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
        if is_linear_enough(quick, expected):
            assert (found.read, set(found.probabilities)) == (LINEAR, {LINEAR, "ensemble"})
            assert found.probabilities[LINEAR].tolist() == expected.probabilities[LINEAR].tolist()
            assert found.probabilities["ensemble"].tolist() == linear_alone(quick, expected).tolist()
            assert found.label == whole.labels[int(linear_alone(quick, expected).argmax())]
        elif alone.max() > quick.early_exit.threshold:
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
    assert models[1].early_exit is not None
    if models[1].early_exit.linear is None:
        assert 100 < read.count("both") < 200
    else:
        assert 100 < read.count(LINEAR) < 200
        assert min(read.count("both"), read.count("forward")) > 30


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
    skipped = np.array([prediction.read == LINEAR for prediction in quick.stream(TEXTS)])
    assert quick.early_exit is not None
    assert np.isnan(found[quick.early_exit.first]).all(axis=1).tolist() == skipped.tolist()


# Texts that no direction reads.


def same(found: Prediction, expected: Prediction) -> bool:
    """Return whether two predictions have the same bits."""
    return found.to_dict() == expected.to_dict()


@given(data=st.data())
def test_texts_between_unread_ones_are_preempted_resumed_and_evicted_without_changing_a_bit(
    linear_first: Classifier, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=9))
    expected = list(linear_first.stream(chosen))
    counts, found, preempted, evicted = TokenCounts(), {}, set[int](), set[int]()
    with closing(linear_first.slots(len(chosen), counts)) as slots:
        for number, text in enumerate(map(linear_first.prepare, chosen)):
            unread = linear_first.engine.without_reading(text)
            assert (unread is not None) == (expected[number].read == LINEAR)
            if unread is not None:
                found[number] = linear_first.prediction(unread)
                continue
            slots.admit(number, text)
            if data.draw(st.booleans()):
                found |= {done: linear_first.prediction(read) for done, read in slots.step()}
        while len(slots) or preempted:
            waiting = set(range(len(chosen))) - found.keys() - evicted
            for number in sorted(preempted):
                if data.draw(st.booleans()) or not len(slots):
                    slots.resume(number)
                    preempted.remove(number)
            found |= {done: linear_first.prediction(read) for done, read in slots.step()}
            waiting -= found.keys()
            for number in sorted(waiting - preempted):
                action = data.draw(st.sampled_from(["read", "read", "preempt", "evict"]))
                if action == "preempt":
                    slots.preempt([number])
                    preempted.add(number)
                elif action == "evict":
                    slots.evict([number])
                    evicted.add(number)
    assert found.keys() | evicted == set(range(len(chosen)))
    assert all(same(found[number], expected[number]) for number in found)


def test_a_server_answers_unread_texts_at_once_and_all_in_order(linear_first: Classifier) -> None:
    expected = list(linear_first.stream(TEXTS))
    unread = [number for number, prediction in enumerate(expected) if prediction.read == LINEAR]
    with closing(Batcher(linear_first, 1_000_000)) as batcher:
        pending = []
        for start in range(0, len(TEXTS), 7):
            prepared = [linear_first.prepare(text) for text in TEXTS[start : start + 7]]
            pending.append(batcher.submit(prepared, time.monotonic() + 60))
        found = [prediction for request in pending for prediction in request.answer.result(60)]
        assert all(map(same, found, expected))
        read = batcher.token_counts.real
        prepared = [linear_first.prepare(TEXTS[number]) for number in unread]
        lengths = [len(text) for text in prepared]
        with batcher.reserve(lengths, time.monotonic() + 60) as reserved:
            request = batcher.submit(prepared, time.monotonic() + 60, reserved)
        assert request.answer.done()  # not even a step of the thread was waited for
        assert all(same(prediction, expected[n]) for prediction, n in zip(request.answer.result(), unread, strict=True))
        assert (batcher.tokens, batcher.texts_in_progress, batcher.token_counts.real) == (0, 0, read)
        late = PendingRequest(0)
        late.answer.set_exception(DeadlinePassed("too late"))
        assert batcher.submit(prepared, 0, late) is late  # its deadline passed while it was tokenized


def test_only_tokens_that_are_read_are_counted(linear_first: Classifier) -> None:
    counts = TokenCounts()
    prepared = [linear_first.prepare(text) for text in TEXTS]
    found = list(linear_first.predictions_of(prepared, counts=counts))
    times = [{LINEAR: 0, "both": 2}.get(prediction.read, 1) for prediction in found]
    assert counts.real == sum(len(text) * n for text, n in zip(prepared, times, strict=True))


def test_a_stream_of_unread_texts_is_consumed_no_further_than_its_lookahead(linear_first: Classifier) -> None:
    unread = [text for text, found in zip(TEXTS, linear_first.stream(TEXTS), strict=True) if found.read == LINEAR]
    read = next(text for text, found in zip(TEXTS, linear_first.stream(TEXTS), strict=True) if found.read != LINEAR)
    requested = 0

    def endless() -> Iterator[str]:
        nonlocal requested
        while True:
            requested += 1
            yield read if requested % 10 == 1 else unread[requested % len(unread)]

    for number, _ in zip(range(100), linear_first.stream(endless(), lookahead=7), strict=False):
        assert requested <= number + 1 + 3 * 7  # a text takes up to 3 windows, some twice, and others meanwhile none


def test_scoring_is_killed_and_continued_with_unread_texts(
    linear_first: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHECKPOINT_S", 0)
    source, out, whole = tmp_path / "d.jsonl", tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    texts = TEXTS * 4
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    bothways.score(linear_first, source, whole)
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [row["predicted_read"] for row in rows] == [found.read for found in linear_first.stream(texts)]
    assert {row["predicted_read"] for row in rows} == {LINEAR, "backward", "both"}

    def kill(done: int) -> None:
        if done >= 512:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bothways.score(linear_first, source, out, on_progress=kill)
    assert json.loads((tmp_path / "out.jsonl.part.json").read_bytes())["rows"] == 512
    bothways.score(linear_first, source, out)
    assert out.read_bytes() == whole.read_bytes()


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


def random_scores(rng: np.random.Generator, true: NDArray[np.intp], strength: float) -> Scores:
    """Return probabilities of three classes, which are right more often the greater ``strength`` is."""
    values = rng.normal(0, 1, (len(true), 3)) + strength * np.eye(3)[true]
    return np.asarray(np.exp(values) / np.exp(values).sum(axis=1, keepdims=True))


def check_linear_start(
    found: EarlyExit, rows: Mapping[Direction, Scores], ensemble: Scores, linear: Scores, true: NDArray[np.intp]
) -> int:
    """Apply the rule row by row, compare what it reports, and return how many rows lose their correct label."""
    task = SingleLabel(("a", "b", "c"))
    lost, both, alone, correct = 0, 0, 0, 0
    for number, label in enumerate(true.tolist()):
        start = None if found.linear is None else task.with_temperature(linear[number], found.linear.temperature)
        first = task.with_temperature(rows[found.first][number], found.temperature)
        if start is not None and found.linear is not None and found.linear.is_confident(start):
            predicted, alone = int(start.argmax()), alone + 1
        elif found.is_confident(first):
            predicted = int(first.argmax())
        else:
            predicted, both = int(ensemble[number].argmax()), both + 1
        correct += predicted == label
        lost += predicted != label and int(ensemble[number].argmax()) == label
    assert found.read_by_both == pytest.approx(both / len(true))
    assert found.accuracy == pytest.approx(correct / len(true))
    assert (0 if found.linear is None else found.linear.read_by_linear) == pytest.approx(alone / len(true))
    return lost


def cost(found: EarlyExit) -> float:
    """Return the number of times that directions read a row, on average."""
    return 1 + found.read_by_both - (0 if found.linear is None else found.linear.read_by_linear)


@given(
    seed=st.integers(0, 10_000),
    largest_loss=st.sampled_from([0.001, 0.01, 0.05, 1.0]),
    count=st.sampled_from([1, 2, 50, 400]),
    strength=st.sampled_from([0.0, 1.0, 3.0, 30.0]),
    decimals=st.sampled_from([1, 16]),
)
def test_linear_member_and_direction_together_lose_no_more_than_allowed(
    seed: int, largest_loss: float, count: int, strength: float, decimals: int
) -> None:
    """With one decimal, many rows have the same confidence: that of the threshold."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, count)
    rows = {way: random_scores(rng, true, 1.2) for way in Direction}
    linear = np.maximum(random_scores(rng, true, strength).round(decimals), 1e-6)
    linear /= linear.sum(axis=1, keepdims=True)
    ensemble, task = np.mean(list(rows.values()), axis=0), SingleLabel(("a", "b", "c"))
    before = calibrate_early_exit(rows, ensemble, true, largest_loss, task)
    found = calibrate_early_exit(rows, ensemble, true, largest_loss, task, linear)
    assert check_linear_start(found, rows, ensemble, linear, true) <= largest_loss * count
    assert cost(found) <= cost(before) + 1e-12
    if found.linear is None:
        assert found == before
    else:
        assert cost(found) < cost(before)
    assert EarlyExit.model_validate_json(found.model_dump_json(), strict=True) == found


def test_a_perfect_linear_member_answers_all_and_a_useless_one_nothing() -> None:
    rng, task = np.random.default_rng(3), SingleLabel(("a", "b", "c"))
    true = rng.integers(0, 3, 2000)
    rows = {way: random_scores(rng, true, 2.0) for way in Direction}
    ensemble = np.mean(list(rows.values()), axis=0)
    perfect = 0.98 * np.eye(3)[true] + 0.02 / 3
    found = calibrate_early_exit(rows, ensemble, true, 0.001, task, perfect)
    assert found.linear is not None
    assert (found.linear.read_by_linear, found.read_by_both, found.accuracy) == (1, 0, 1)
    wrong = 0.98 * np.eye(3)[(true + 1) % 3] + 0.02 / 3
    uniform = np.full((2000, 3), 1 / 3)
    without = calibrate_early_exit(rows, ensemble, true, 0.001, task)
    for useless in (wrong, uniform):
        found = calibrate_early_exit(rows, ensemble, true, 0.001, task, useless)
        assert found == without
        assert "linear" not in found.model_dump(mode="json")


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


def test_a_calibrated_bundle_starts_with_its_linear_member(linear_bundle_path: Path, tmp_path: Path) -> None:
    """A linear member that always agrees with the ensemble is enough for many rows."""
    whole, out = bothways.load(linear_bundle_path), tmp_path / "fast"
    data = labeled(whole, tmp_path / "d.jsonl", 400)
    found = bothways.fit_early_exit(linear_bundle_path, data, out=out, largest_loss=0.05, text="t", label="l")
    assert found.linear is not None
    assert 0 < found.linear.read_by_linear < 1
    assert bothways.verify(out).passed
    quick = bothways.load(out, early_exit=True)
    assert quick.early_exit == found
    texts = [json.loads(line)["t"] for line in data.read_text().splitlines()]
    predictions = list(quick.stream(texts))
    assert np.mean([prediction.read == LINEAR for prediction in predictions]) == found.linear.read_by_linear
    assert np.mean([prediction.read == "both" for prediction in predictions]) == pytest.approx(found.read_by_both)
    lost = sum(p.label != label for p, label in zip(predictions, whole.predict(texts), strict=True))
    assert lost <= 0.05 * 400


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
