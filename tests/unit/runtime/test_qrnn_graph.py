"""The QRNN's graph against the same network in numpy, one token after the other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import encoder_shapes
from bothways.runtime import qrnn_graph
from bothways.runtime.encoder import PRECISIONS, Precision
from bothways.runtime.graph_builder import GraphBuilder
from bothways.runtime.qrnn_graph import QrnnGraph
from bothways.runtime.sessions import EncoderSession

Floats = NDArray[np.float32]
Carried = tuple[list[Floats], Floats, NDArray[np.float64]]
VARIANTS = list(itertools.product((1, 2), (True, False)))


def architecture_of(first_window: int, output_gate: bool, layers: int = 3) -> Architecture:
    return Architecture(
        vocabulary_size=50,
        width_embedding=17,
        width_hidden=33,
        layers=layers,
        kind="qrnn",
        first_window=first_window,
        output_gate=output_gate,
    )


def random_weights(architecture: Architecture, scale: float = 0.3) -> dict[str, Floats]:
    rng = np.random.default_rng(1)
    shapes = encoder_shapes(architecture)
    return {f"encoder.{name}": rng.normal(0, scale, shape).astype(np.float32) for name, shape in shapes.items()}


def numpy_states(architecture: Architecture, weights: dict[str, Floats], ids: NDArray[np.int64]) -> list[Floats]:
    """Return the state after a text in the session's order. The last entry has the outputs of all tokens, (T, E)."""
    embedded = values = weights["encoder.embedding.weight"][ids].astype(np.float64)
    states = []
    for layer, (_, width) in enumerate(architecture.layer_widths):
        if architecture.layer_windows[layer] == 2:
            values = np.hstack([np.vstack([np.zeros_like(values[:1]), values[:-1]]), values])
        weight, bias = (weights[f"encoder.layers.{layer}.{name}"] for name in ("weight", "bias"))
        gates = np.split(values @ weight.T + bias, 3 if architecture.output_gate else 2, axis=1)
        forget, cell, values = 1 / (1 + np.exp(-gates[1])), np.zeros(width), np.empty((len(ids), width))
        for token in range(len(ids)):
            cell = forget[token] * np.tanh(gates[0][token]) + (1 - forget[token]) * cell
            values[token] = cell / (1 + np.exp(-gates[2][token])) if architecture.output_gate else cell
        states.append(cell)
    return [*states, *([embedded[-1]] if architecture.first_window == 2 else []), values]


def advanced(
    session: EncoderSession, ids: NDArray[np.int64], lengths: list[int], carried: Carried | None = None
) -> Carried:
    """Read texts from where they are, or from their beginning."""
    width, texts = session.layout.output_width, len(lengths)
    begun: Carried = carried or (
        [np.zeros((texts, w), dtype=np.float32) for w in session.layout.state_widths],
        np.full((texts, width), -np.inf, dtype=np.float32),
        np.zeros((texts, width)),
    )
    return session.advance(ids, np.array(lengths, dtype=np.int32), *begun)


@pytest.mark.parametrize(("first_window", "output_gate"), VARIANTS)
def test_the_states_are_those_of_numpy(first_window: int, output_gate: bool) -> None:
    architecture = architecture_of(first_window, output_gate)
    weights = random_weights(architecture)
    ids, lengths = np.random.default_rng(2).integers(0, 50, (40, 4)), [40, 1, 33, 7]
    for precision, tolerance in zip(PRECISIONS, (1e-6, 0.05), strict=True):
        states, largest, total = advanced(EncoderSession(architecture, weights, precision=precision), ids, lengths)
        for text, length in enumerate(lengths):
            *expected, outputs = numpy_states(architecture, weights, ids[:length, text])
            for ours, theirs in zip(states, [*expected, outputs[-1]], strict=True):
                np.testing.assert_allclose(ours[text], theirs, atol=tolerance)
            np.testing.assert_allclose(largest[text], outputs.max(axis=0), atol=tolerance)
            np.testing.assert_allclose(total[text] / length, outputs.mean(axis=0), atol=tolerance)


def test_the_layout_names_what_is_carried() -> None:
    layout = QrnnGraph(architecture_of(2, True)).layout
    assert layout.state_names == ("cell_0", "cell_1", "cell_2", "input_0", "output")
    assert layout.state_widths == (33, 33, 17, 17, 17)
    assert (layout.output_state, layout.output_width) == (4, 17)
    assert QrnnGraph(architecture_of(1, False, layers=1)).layout.state_names == ("cell_0", "output")


@pytest.mark.parametrize(("low", "high"), [(-0.5, 1.5), (0.25, 0.5), (-3.0, -1.0), (0.0, 0.0), (-3e38, 3e38)])
def test_a_range_includes_zero_and_both_ends(low: float, high: float) -> None:
    found = qrnn_graph._range_of(np.array([[low, high]], dtype=np.float32))
    assert all(-0.51 <= value / float(found.scale) + int(found.zero) <= 255.51 for value in (low, 0, high))


def test_embeddings_near_the_smallest_float_have_a_range() -> None:
    """Their scale is rounded by up to a third, so that the number of 0 could exceed 8 bits."""
    assert qrnn_graph._range_of(np.array([[-5e-43, 0]], dtype=np.float32)).zero == 255


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("first_window", "output_gate"), [(1, True), (2, False)])
def test_no_other_text_and_no_cut_changes_a_bit(first_window: int, output_gate: bool, precision: Precision) -> None:
    architecture = architecture_of(first_window, output_gate)
    session = EncoderSession(architecture, random_weights(architecture), precision=precision)
    rng = np.random.default_rng(3)
    lengths = [70, 1, 2, 31, 32, 33, 64, 65, *rng.integers(1, 70, 20).tolist()]
    ids = rng.integers(0, 50, (70, len(lengths)))
    together = advanced(session, ids, lengths)
    for text, length in enumerate(lengths):
        alone = slice(text, text + 1)
        cuts = sorted({0, length, *rng.integers(0, length + 1, 3).tolist()})
        carried: Carried | None = None
        for start, stop in itertools.pairwise(cuts):
            carried = advanced(session, ids[start:stop, alone], [stop - start], carried)
        assert carried is not None
        for ours, theirs in zip([*together[0], together[1]], [*carried[0], carried[1]], strict=True):
            assert ours[alone].tobytes() == theirs.tobytes()
        whole = advanced(session, ids[:length, alone], [length])
        assert together[2][alone].tobytes() == whole[2].tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_number_of_rows_of_a_product_never_changes_a_bit(precision: Precision) -> None:
    """At the sizes of ULMFiT. Texts and tokens are the rows, so any number occurs."""
    architecture = Architecture(
        vocabulary_size=50, width_embedding=400, width_hidden=1152, layers=2, kind="qrnn", first_window=2
    )
    graph = GraphBuilder("rows")
    ids, lengths = graph.input("ids", ["T", "B"], TensorProto.INT64), graph.input("lengths", ["B"], TensorProto.INT32)
    weights = random_weights(architecture, scale=0.05)
    graph.output(QrnnGraph(architecture).add(graph, weights, ids, lengths, (), precision).outputs, ["T", "B", 400])
    session = graph.session(threads=1)
    tokens = np.random.default_rng(0).integers(0, 50, (1030, 1))

    def outputs(count: int) -> Floats:
        feed = {"ids": tokens[:count], "lengths": np.array([count], dtype=np.int32)}
        found: Floats = session.run(None, feed)[0]
        return found

    whole = outputs(len(tokens))
    for count in [*range(1, 34), 47, 48, 63, 64, 65, 96, 127, 128, 129, 255, 256, 257, 1024, 1025]:
        assert np.array_equal(outputs(count), whole[:count]), count
