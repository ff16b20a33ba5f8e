"""int8 is only close to the trainer's numbers, but keeps all other guarantees to the last bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bothways
from bothways.bundle.manifest import Architecture, EncoderKind, Kind
from bothways.bundle.read import read_bundle
from bothways.bundle.weights import encoder_shapes
from bothways.errors import ConfigError, TextError
from bothways.runtime.classifier import Classifier
from bothways.runtime.encoder import PRECISIONS
from bothways.runtime.sessions import EncoderSession
from bothways.runtime.slots import SlotEngine
from bothways.runtime.verify import load_verified
from bothways.tasks.single_label import SingleLabel
from bothways.text.reading import Direction
from tests.bundles import edit_manifest, record_decisions, write_with_early_exit
from tests.guarantees.test_runtime import TEXTS, random_member, random_tokens

NAMES = ["forward", "backward", "ensemble"]


@pytest.fixture(scope="module")
def int8(bundle_path: Path) -> Classifier:
    return bothways.load(bundle_path, precision="int8")


@pytest.fixture(scope="module")
def each_int8(each_bundle_path: Path) -> Classifier:
    return bothways.load(each_bundle_path, precision="int8")


# Close to the trainer's numbers.


def test_probabilities_are_near_the_trainers(
    each_int8: Classifier, each_model: Classifier, each_bundle_path: Path
) -> None:
    texts = [*TEXTS, *(row.text for row in read_bundle(each_bundle_path, Kind.CLASSIFIER).parity_record)]
    exact, near = each_model.predict_proba_by_direction(texts), each_int8.predict_proba_by_direction(texts)
    for name in NAMES:
        difference = np.abs(exact[name] - near[name])
        assert 0 < difference.max() < 0.1
        assert difference.mean() < 0.02


def test_weights_that_all_have_the_largest_value_do_not_overflow() -> None:
    """With 8 bits, pairs of such products saturate on AVX2; computed by hand: every gate's sum is 400 times 1."""
    architecture = Architecture(vocabulary_size=2, width_embedding=400, width_hidden=400, layers=1)
    shape = (1600, 400)
    weights = {
        "encoder.embedding.weight": np.ones((2, 400), dtype=np.float32),
        "encoder.layers.0.weight_ih": np.full(shape, 0.001, dtype=np.float32),
        "encoder.layers.0.weight_hh": np.zeros(shape, dtype=np.float32),
        "encoder.layers.0.bias_ih": np.zeros(1600, dtype=np.float32),
        "encoder.layers.0.bias_hh": np.zeros(1600, dtype=np.float32),
    }
    found = []
    for precision in PRECISIONS:
        session = EncoderSession(architecture, weights, precision=precision)
        zeros = [np.zeros((1, 400), dtype=np.float32) for _ in range(2)]
        states, *_ = session.advance(
            np.zeros((1, 1), dtype=np.int64), np.array([1], dtype=np.int32), zeros, zeros[0], np.zeros((1, 400))
        )
        found.append(states[0])
    np.testing.assert_allclose(found[1], found[0], atol=0.005)


# The same bits.


@given(
    texts=st.lists(st.text(alphabet="abc DEF!", max_size=120), min_size=1, max_size=8),
    lookahead=st.sampled_from([1, 2, 512]),
)
def test_batching_never_changes_a_bit(each_int8: Classifier, texts: list[str], lookahead: int) -> None:
    for text, together in zip(texts, each_int8.stream(texts, lookahead), strict=True):
        (alone,) = each_int8.stream([text])
        for name in NAMES:
            assert together.probabilities[name].tolist() == alone.probabilities[name].tolist()


def test_batching_never_changes_a_bit_of_long_texts(each_int8: Classifier) -> None:
    texts = [*TEXTS, *(text[: len(text) // 2] for text in TEXTS)]
    together = each_int8.predict_proba_by_direction(texts)
    for i, text in enumerate(texts):
        alone = each_int8.predict_proba_by_direction([text])
        assert all(np.array_equal(alone[name][0], together[name][i]) for name in NAMES), i


@pytest.mark.parametrize("kind", get_args(EncoderKind))
@pytest.mark.parametrize("widths", [(3, 5), (17, 33), (128, 256)])
def test_no_width_no_batch_and_no_number_of_threads_changes_a_bit(widths: tuple[int, int], kind: EncoderKind) -> None:
    architecture = Architecture(
        vocabulary_size=50, width_embedding=widths[0], width_hidden=widths[1], layers=2, kind=kind
    )
    weights = _random_weights(architecture)
    rng = np.random.default_rng(1)
    texts = [random_tokens(rng, length, 50) for length in (1, 2, 31, 32, 33, 64, 65, 7, 300, 1100)]
    found = []
    for threads, at_once, in_flight in ((1, 1, 1), (1, 1, 3), (1, 2, 5), (2, 1, 8), (2, 2, 2), (5, 1, 4), (1, 5, 1)):
        session = EncoderSession(architecture, weights, threads=threads, precision="int8")
        engine = SlotEngine([random_member(architecture)], [session], at_once)
        found.append([pooled.tobytes() for (pooled,) in engine.run(texts, in_flight)])
    assert found[1:] == found[:1] * 6
    assert len(set(found[0])) == len(texts)


def test_no_text_sets_the_scale_of_the_other_texts() -> None:
    """Near 1, ONNX Runtime's functions are off by a last bit, and such a unit would scale the other texts' inputs."""
    session = _session_of_cells(forget=100)  # they stay what they are
    rng = np.random.default_rng(1)
    ids, lengths = rng.integers(0, 4, (8, 6)), np.full(6, 8, dtype=np.int32)
    states, largest, total = _start(session, 6, rng)
    states[1][2] = np.linspace(8, 9, 512)
    together, *_ = session.advance(ids, lengths, states, largest, total)
    for row in range(6):
        part = slice(row, row + 1)
        alone, *_ = session.advance(
            ids[:, part], lengths[part], [state[part] for state in states], largest[part], total[part]
        )
        assert [state[part].tobytes() for state in together] == [state.tobytes() for state in alone], row


def test_no_window_sets_the_scale_of_the_texts_other_windows() -> None:
    """Which windows are read at once depends on the other texts in the batch."""
    session = _session_of_cells(forget=4)  # what is large in the first window is not in the others
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 4, (80, 1))
    begun = _start(session, 1, rng)
    begun[0][1][0] = np.linspace(8, 9, 512)
    at_once = session.advance(ids, np.array([80], dtype=np.int32), *begun)
    in_turn = begun
    for window in (ids[:32], ids[32:64], ids[64:]):
        in_turn = session.advance(window, np.array([len(window)], dtype=np.int32), *in_turn)
    assert [state.tobytes() for state in at_once[0]] == [state.tobytes() for state in in_turn[0]]
    assert at_once[1].tobytes() == in_turn[1].tobytes()
    assert at_once[2].tobytes() == in_turn[2].tobytes()


def _session_of_cells(forget: float) -> EncoderSession:
    """Return one whose first layer's outputs depend on its cells alone, with output gates wide open.

    Cells between 8 and 9 give units that are further out than the edges on processors with AVX-512.
    """
    architecture = Architecture(vocabulary_size=4, width_embedding=8, width_hidden=512, layers=2)
    weights = _random_weights(architecture)
    for name in ("weight_ih", "weight_hh", "bias_hh"):
        weights[f"encoder.layers.0.{name}"][:] = 0
    gates = weights["encoder.layers.0.bias_ih"].reshape(4, -1)
    gates[:] = np.array([-100, forget, 0, 17.482065])[:, None]  # input, forget, cell, output
    return EncoderSession(architecture, weights, precision="int8")


def _start(session: EncoderSession, texts: int, rng: np.random.Generator) -> Any:
    states = [rng.uniform(-1, 1, (texts, width)).astype(np.float32) for width in session.layout.state_widths]
    return states, np.zeros((texts, 8), dtype=np.float32), np.zeros((texts, 8))


def _random_weights(architecture: Architecture) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = encoder_shapes(architecture)
    return {f"encoder.{name}": rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def test_a_text_in_parts_gets_the_prediction_of_the_whole_text(each_int8: Classifier) -> None:
    text = "The cat sat on the mat, and the DOG ate it all up. What a lovely film; I loved every minute of it! " * 3
    reader, rng = each_int8.open(), random.Random(0)
    start = 0
    while start < len(text):
        end = start + rng.randint(1, 30)
        found = reader.append(text[start:end])
        start = end
        assert found.tolist() == each_int8.predict_proba_by_direction([text[:start]])["forward"][0].tolist()
    (expected,) = each_int8.stream([text])
    assert reader.close().probabilities["ensemble"].tolist() == expected.probabilities["ensemble"].tolist()


def test_cores_are_divided_where_both_directions_read_and_the_number_is_even(
    bundle_path: Path, qrnn_bundle_path: Path, tmp_path: Path
) -> None:
    assert [bothways.load(p, threads=2).engine.threads for p in (bundle_path, qrnn_bundle_path)] == [1, 2]
    path = write_with_early_exit(
        bundle_path, tmp_path / "m.bundle", Direction.FORWARD, ["The cat sat.", "no", "dog", "it"]
    )
    for threads, early_exit, at_once in ((1, False, 1), (2, False, 2), (3, False, 1), (4, False, 2), (2, True, 1)):
        loaded = bothways.load(path, threads=threads, early_exit=early_exit, precision="int8")
        served, _ = load_verified(path, threads=threads, early_exit=early_exit, precision="int8")
        assert (loaded.engine.threads, served.engine.threads) == (at_once, at_once)
        assert (served.early_exit is not None) == early_exit


def test_early_exit_in_int8_follows_the_rule(bundle_path: Path, tmp_path: Path, int8: Classifier) -> None:
    path = tmp_path / "m.bundle"
    path.mkdir()
    for file in bundle_path.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    numbers = {"rows": 1, "read_by_both": 0.5, "accuracy": 1, "accuracy_of_ensemble": 1, "curve": []}
    texts = [*TEXTS, "a", "b c", "what a film", "no"]
    confidence = int8.predict_proba_by_direction(texts)["backward"].max(axis=1)
    middle = float(np.median(confidence))
    fields = {"first": "backward", "temperature": 1, "threshold": middle, "largest_loss": 0.1, **numbers}
    edit_manifest(path, lambda manifest: manifest.update(early_exit=fields))
    record_decisions(path)
    quick = bothways.load(path, early_exit=True, precision="int8")
    for lookahead in (1, 512):
        found = list(quick.stream(texts, lookahead))
        assert [p.read == "backward" for p in found] == (confidence > middle).tolist()
        for prediction, expected in zip(found, int8.stream(texts), strict=True):
            name = Direction.BACKWARD if prediction.read == "backward" else "ensemble"
            assert prediction.probabilities["ensemble"].tolist() == expected.probabilities[name].tolist()


# Streams.


def test_results_keep_the_order_and_texts_are_consumed_as_needed(int8: Classifier) -> None:
    consumed: list[int] = []

    def endless() -> Iterator[str]:
        number = 0
        while True:
            consumed.append(number)
            yield f"word{number} " * (number % 50)
            number += 1

    for number, prediction in zip(range(60), int8.stream(endless(), lookahead=1), strict=False):
        assert len(consumed) == number + 1
        (alone,) = int8.stream([f"word{number} " * (number % 50)])
        assert prediction.probabilities["ensemble"].tolist() == alone.probabilities["ensemble"].tolist()


def test_a_bad_text_ends_the_stream_with_its_error(int8: Classifier) -> None:
    with pytest.raises(TextError, match="text 2: "):
        list(int8.stream(["a", "b", None, "c"]))


def test_unknown_precisions_and_large_differences_are_rejected(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="unknown precision 'int4'; use float32 or int8"):
        bothways.load(bundle_path, precision="int4")  # type: ignore[arg-type]
    monkeypatch.setattr(SingleLabel, "max_int8_difference", 1e-6)
    with pytest.raises(ConfigError, match=r"int8 differs by .* from the trainer's"):
        bothways.load(bundle_path, precision="int8")
