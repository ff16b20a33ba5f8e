from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from bothways.bundle.manifest import Architecture, Member
from bothways.bundle.weights import Weights
from bothways.runtime import sessions
from bothways.runtime.encoder import EncoderLayout, EncoderValues, Precision
from bothways.runtime.graph_builder import GraphBuilder
from bothways.runtime.sessions import WINDOW_TOKENS, EncoderSession, LanguageModelSession
from bothways.runtime.slots import SlotEngine
from bothways.text.reading import Direction, SpecialTokenPlacement, TokenizedText
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.training.models import weights_of
from tests.bundles import QRNNS, TinyClassifiers, TinyLanguageModels, make_language_models

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def session(torch_models: TinyClassifiers) -> EncoderSession:
    member = torch_models.members[0]
    return EncoderSession(member.architecture, weights_of(torch_models.models[member.direction], member, 3))


def start(session: EncoderSession, texts: int) -> tuple[list[Floats], Floats, NDArray[np.float64]]:
    width = session.layout.output_width
    states = [np.zeros((texts, width), dtype=np.float32) for width in session.layout.state_widths]
    return states, np.full((texts, width), -np.inf, dtype=np.float32), np.zeros((texts, width))


def ids_of(shape: tuple[int, ...], seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(2, 60, shape)


def torch_outputs(torch_models: TinyClassifiers, ids: NDArray[np.int64]) -> tuple[Floats, list[Floats]]:
    """Return torch's outputs of one text, (T, E), and its state after it, in the session's order."""
    encoder = torch_models.models[torch_models.members[0].direction].encoder
    with torch.no_grad():
        outputs, _, state = encoder(torch.from_numpy(ids)[None], encoder.zero_state(1))
    return outputs[0].numpy(), [part[0].numpy() for layer in state for part in layer.values()]


@pytest.mark.parametrize("tokens", [1, 2, 31, 32])
def test_one_window_returns_torchs_state_maximum_and_sum(
    session: EncoderSession, torch_models: TinyClassifiers, tokens: int
) -> None:
    ids = ids_of((tokens,), tokens)
    outputs, expected_states = torch_outputs(torch_models, ids)
    states, largest, total = session.advance(ids[:, None], np.array([tokens], dtype=np.int32), *start(session, 1))
    for ours, theirs in zip(states, expected_states, strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=1e-6)
    np.testing.assert_allclose(largest[0], outputs.max(axis=0), atol=1e-6)
    np.testing.assert_allclose(total[0], outputs.sum(axis=0), atol=1e-5)
    np.testing.assert_allclose(states[session.layout.output_state][0], outputs[-1], atol=1e-6)


def test_a_session_copies_its_weights(torch_models: TinyClassifiers) -> None:
    """The arrays belong to the caller, who may change or free them."""
    member = torch_models.members[0]
    weights = {n: array.copy() for n, array in weights_of(torch_models.models[member.direction], member, 3).items()}
    session = EncoderSession(member.architecture, weights)
    ids, lengths = ids_of((20, 2), 3), np.array([20, 20], dtype=np.int32)
    before = session.advance(ids, lengths, *start(session, 2))
    for array in weights.values():
        array[:] = 7
    after = session.advance(ids, lengths, *start(session, 2))
    for ours, theirs in zip([*after[0], after[1]], [*before[0], before[1]], strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(after[2], before[2])


def test_two_windows_return_what_one_returns(session: EncoderSession) -> None:
    ids = ids_of((40, 2), 1)
    whole = session.advance(ids, np.array([40, 40], dtype=np.int32), *start(session, 2))
    first = session.advance(ids[:25], np.array([25, 25], dtype=np.int32), *start(session, 2))
    second = session.advance(ids[25:], np.array([15, 15], dtype=np.int32), *first)
    for ours, theirs in zip([*second[0], second[1]], [*whole[0], whole[1]], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(second[2] / 40, whole[2] / 40, atol=1e-6)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=5), st.integers(1, 7))
def test_windows_read_at_once_return_the_bits_of_windows_read_one_by_one(
    session: EncoderSession, lengths: list[int], windows: int
) -> None:
    ids = ids_of((max(lengths), len(lengths)), sum(lengths))
    for text, length in enumerate(lengths):
        alone = slice(text, text + 1)
        found = []
        for step in (windows * WINDOW_TOKENS, WINDOW_TOKENS):
            at = start(session, 1)
            for begin in range(0, length, step):
                part = ids[begin : min(begin + step, length), alone]
                at = session.advance(part, np.array([len(part)], dtype=np.int32), *at)
            found.append([*(state.tobytes() for state in at[0]), at[1].tobytes(), at[2].tobytes()])
        assert found[0] == found[1]
    together = session.advance(ids, np.array(lengths, dtype=np.int32), *start(session, len(lengths)))
    for text, length in enumerate(lengths):
        alone = slice(text, text + 1)
        each = session.advance(ids[:length, alone], np.array([length], dtype=np.int32), *start(session, 1))
        assert together[2][alone].tobytes() == each[2].tobytes()


def test_ids_after_a_texts_end_never_change_a_result(session: EncoderSession) -> None:
    lengths = np.array([20, 7, 1], dtype=np.int32)
    ids = ids_of((20, 3), 2)
    other = ids.copy()
    for row, length in enumerate(lengths):
        other[length:, row] = 59 - other[length:, row] % 50
    assert not np.array_equal(ids, other)
    ours = session.advance(ids, lengths, *start(session, 3))
    theirs = session.advance(other, lengths, *start(session, 3))
    assert all(np.array_equal(a, b) for a, b in zip(ours[0], theirs[0], strict=True))
    assert np.array_equal(ours[1], theirs[1])
    assert np.array_equal(ours[2], theirs[2])
    for row, length in enumerate(lengths):
        states, largest, total = session.advance(
            ids[:length, row : row + 1], lengths[row : row + 1], *start(session, 1)
        )
        assert all(np.array_equal(a[row], b[0]) for a, b in zip(ours[0], states, strict=True))
        assert np.array_equal(ours[1][row], largest[0])
        assert np.array_equal(ours[2][row], total[0])


def test_outputs_that_are_all_negative_have_a_negative_maximum() -> None:
    """Computed by hand: the output gate is open and the cell gate strongly negative, so every output is below 0."""
    architecture = Architecture(vocabulary_size=2, width_embedding=1, width_hidden=1, layers=1)
    weights = {
        "encoder.embedding.weight": np.zeros((2, 1), dtype=np.float32),
        "encoder.layers.0.weight_ih": np.zeros((4, 1), dtype=np.float32),
        "encoder.layers.0.weight_hh": np.zeros((4, 1), dtype=np.float32),
        "encoder.layers.0.bias_ih": np.array([0.0, -100.0, -100.0, 100.0], dtype=np.float32),  # i, f, g, o
        "encoder.layers.0.bias_hh": np.zeros(4, dtype=np.float32),
    }
    session = EncoderSession(architecture, weights)
    states, largest, total = session.advance(
        np.zeros((5, 2), dtype=np.int64), np.array([3, 1], dtype=np.int32), *start(session, 2)
    )
    each = math.tanh(-0.5)  # half of the input gate times a cell input of -1, nothing remembered
    np.testing.assert_allclose(largest, [[each], [each]], rtol=1e-6)
    np.testing.assert_allclose(total, [[3 * each], [each]], rtol=1e-6)
    np.testing.assert_allclose(states[0], [[each], [each]], rtol=1e-6)
    np.testing.assert_allclose(states[1], [[-0.5], [-0.5]], rtol=1e-6)


@pytest.fixture(scope="module")
def qrnn_language_models(tiny_tokenizer: SubwordTokenizer) -> TinyLanguageModels:
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    return make_language_models(tiny_tokenizer, placements, QRNNS)


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("window", [1, 7, 128])
@pytest.mark.parametrize("models", ["torch_language_models", "qrnn_language_models"])
def test_the_loss_is_torchs_for_any_window(
    models: str, direction: Direction, window: int, request: pytest.FixtureRequest
) -> None:
    made: TinyLanguageModels = request.getfixturevalue(models)
    model = made.models[direction].eval()
    member = next(m for m in made.members if m.direction is direction)
    ids = ids_of((40,), 3)
    with torch.no_grad():
        logits, _ = model.logits(torch.from_numpy(ids)[None, :-1], model.encoder.zero_state(1))
        theirs = torch.nn.functional.cross_entropy(logits[0].double(), torch.from_numpy(ids)[1:]).item()
    session = LanguageModelSession(member.architecture, weights_of(model, member, 0))
    assert session.loss(ids.astype(np.int32), window) == pytest.approx(theirs, abs=1e-5)
    assert theirs > 1


def test_the_loss_of_two_tokens_equals_a_computation_by_hand() -> None:
    """With zero weights, the logits are the decoder's bias, 0 and ln 3, so the second token has probability 3/4."""
    architecture = Architecture(vocabulary_size=2, width_embedding=1, width_hidden=1, layers=1)
    shapes = {"weight_ih": (4, 1), "weight_hh": (4, 1), "bias_ih": (4,), "bias_hh": (4,)}
    weights = {f"encoder.layers.0.{name}": np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    weights["encoder.embedding.weight"] = np.zeros((2, 1), dtype=np.float32)
    weights["decoder.bias"] = np.array([0, math.log(3)], dtype=np.float32)
    session = LanguageModelSession(architecture, weights)
    assert session.loss(np.array([0, 1], dtype=np.int32)) == pytest.approx(math.log(4 / 3), abs=1e-6)
    assert session.loss(np.array([1, 0], dtype=np.int32)) == pytest.approx(math.log(4), abs=1e-6)


class SummingEncoder:
    """An encoder of another kind, with a single state: its output is the sum of all embeddings so far."""

    layout = EncoderLayout(state_names=("sum",), state_widths=(4,), output_state=0)
    batch_texts = 32

    def add(
        self,
        graph: GraphBuilder,
        weights: Weights,
        ids: str,
        lengths: str,
        states: Sequence[str] = (),
        precision: Precision = "float32",
    ) -> EncoderValues:
        assert precision == "float32"
        embedding, column = graph.constant(weights["embedding"]), graph.constant([1])
        sums = graph.add("CumSum", graph.add("Gather", embedding, ids), graph.constant(0))
        outputs = graph.add("Add", sums, states[0])
        last = graph.add("Sub", graph.add("Cast", lengths, to=TensorProto.INT64), graph.constant(1))
        texts = graph.add("Range", graph.constant(0), graph.add("Squeeze", graph.add("Shape", last)), graph.constant(1))
        columns = [graph.add("Unsqueeze", values, column) for values in (last, texts)]
        new_state = graph.add("GatherND", outputs, graph.add("Concat", *columns, axis=1))
        return EncoderValues(outputs, [graph.add("Unsqueeze", new_state, graph.constant([0]))], embedding)


def test_sessions_and_slots_know_an_encoder_by_its_layout_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "encoder_of", lambda _: SummingEncoder())
    architecture = Architecture(vocabulary_size=9, width_embedding=4, width_hidden=1, layers=1)
    embedding = np.random.default_rng(0).integers(-3, 4, (9, 4)).astype(np.float32)
    member = Member(
        direction=Direction.FORWARD,
        special_tokens=SpecialTokenPlacement.READING_ORDER,
        weights="forward.safetensors",
        architecture=architecture,
        widths_head=[1],
    )
    engine = SlotEngine([member], [EncoderSession(architecture, {"embedding": embedding})])
    texts = [np.random.default_rng(n).integers(0, 9, n).astype(np.int32) for n in (1, 5, 32, 33, 70, 1200)]
    tokenized = [TokenizedText(ids, np.arange(len(ids), dtype=np.int32), np.zeros_like(ids)) for ids in texts]
    for ids, (pooled,) in zip(texts, engine.run(tokenized), strict=True):
        sums = embedding[ids].cumsum(axis=0)  # whole numbers: float32 adds them exactly
        expected = np.concatenate([sums[-1], sums.max(axis=0), sums.mean(axis=0, dtype=np.float64)])
        np.testing.assert_allclose(pooled, expected, rtol=1e-6)
