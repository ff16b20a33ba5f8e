"""Run encoders and language models as ONNX Runtime sessions.

Input: an architecture and its weights. Output: a session that advances a batch of texts by windows of tokens. Sessions
know nothing of directions, slots or labels, and know an encoder only by its layout.

Letters: T tokens, W windows of them, B texts, V vocabulary, E width of the encoder's outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import Weights
from bothways.runtime.awd_lstm_graph import AwdLstmGraph
from bothways.runtime.cores import available_cores
from bothways.runtime.encoder import Encoder, EncoderLayout, Precision
from bothways.runtime.forks import Session
from bothways.runtime.graph_builder import GraphBuilder
from bothways.runtime.qrnn_graph import QrnnGraph
from bothways.text.tokenizer import PADDING_ID

WINDOW_TOKENS = 32
"""Number of tokens whose outputs are summed in float32. Windows start at the beginning of the text, regardless of how
many are read at once."""

_NO_ID = -1

_Carried = tuple[list[NDArray[np.float32]], NDArray[np.float32], NDArray[np.float64]]
"""States, largest and total, as ``EncoderSession.advance`` accepts and returns them."""


def encoder_of(architecture: Architecture) -> Encoder:
    """Return the encoder of an architecture."""
    return QrnnGraph(architecture) if architecture.kind == "qrnn" else AwdLstmGraph(architecture)


class EncoderSession:
    """Advance texts by windows: run the encoder with carried state, and update the running pooled values.

    Guarantee 2: a row's result does not depend on the other rows, to the last bit.
    Guarantee 6: reading a text in windows with carried state returns what reading the whole text at once returns.

    Attributes:
        layout: The state that the encoder carries.
        batch_texts: Largest number of texts to read at once.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        *,
        pools_padding: bool = True,
        threads: int | None = None,
        precision: Precision = "float32",
        weights_again: Callable[[], Weights] | None = None,
    ) -> None:
        """Build the graph.

        Args:
            architecture: Sizes of the encoder.
            weights: The member's arrays by tensor name.
            pools_padding: Whether a padding token that a user typed inside a text is pooled like any other token.
                Imported models do not pool it.
            threads: Number of threads. Defaults to one per core available to this process.
            precision: Precision of the layers' products.
            weights_again: Returns the same arrays, for a process that is forked later. Defaults to none.
        """
        encoder = encoder_of(architecture)
        self.layout: EncoderLayout = encoder.layout
        self.batch_texts: int = encoder.batch_texts
        build = partial(_build_window_session, architecture, pools_padding, threads or available_cores(), precision)
        session, self._has_edges = build(weights)
        again = None if weights_again is None else partial(_build_again, build, weights_again)
        self._session = Session(session, threads or available_cores(), again)

    def advance(
        self,
        ids: NDArray[np.int64],
        lengths: NDArray[np.int32],
        states: list[NDArray[np.float32]],
        largest: NDArray[np.float32],
        total: NDArray[np.float64],
    ) -> _Carried:
        """Read the next windows of each text.

        Args:
            ids: Token ids, (T, B), with any valid id after a text's end.
            lengths: Number of tokens of each text among them, (B,), each in 1..T.
            states: The carried state, one array (B, width) per entry of the layout, all 0 at the beginning of a text.
            largest: Running maximum of the outputs, (B, E), -inf at the beginning of a text.
            total: Running sum of the outputs, (B, E) float64, 0 at the beginning of a text.

        Returns:
            The states, largest and total after these tokens, in the same shapes.
        """
        feed: dict[str, NDArray[Any]] = {"ids": ids, "lengths": lengths, "largest": largest}
        feed |= {name: state[None] for name, state in zip(self.layout.state_names, states, strict=True)}
        results = self._session.run(feed)
        if self._has_edges and results.pop() > 0 and (len(lengths) > 1 or len(ids) > WINDOW_TOKENS):
            return self._advance_separately(ids, lengths, (states, largest, total))
        *new_states, new_largest, window_totals = results
        for window_total in window_totals:
            total = total + window_total  # in float64: a float32 sum drifts in a long text
        return [state[0] for state in new_states], new_largest, total

    def _advance_separately(self, ids: NDArray[np.int64], lengths: NDArray[np.int32], carried: _Carried) -> _Carried:
        """Read one text and one window at a time, so that nothing else can scale the activations."""
        states, largest, total = [state.copy() for state in carried[0]], carried[1].copy(), carried[2].copy()
        for text, length in enumerate(lengths):
            row = slice(text, text + 1)
            for start in range(0, length, WINDOW_TOKENS):
                window = ids[start : min(start + WINDOW_TOKENS, length), row]
                count = np.array([len(window)], dtype=np.int32)
                results = self.advance(window, count, [state[row] for state in states], largest[row], total[row])
                for state, new in zip(states, results[0], strict=True):
                    state[row] = new
                largest[row], total[row] = results[1:]
        return states, largest, total


class LanguageModelSession:
    """Compute the negative log-likelihood of each next token of one text, starting from a zero state."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        encoder = encoder_of(architecture)
        self._layout = encoder.layout
        graph = GraphBuilder("window")
        ids, lengths, states = _add_window_inputs(graph, self._layout)
        targets = graph.input("targets", ["T", "B", 1], TensorProto.INT64)
        encoded = encoder.add(graph, weights, ids, lengths, states)
        # In float32, the logits of the vocabulary and their softmax are off by up to 2e-5 nats, and verification
        # accepts half of that. Both are computed in float64. Where float32 overflows, training results in NaN: adding
        # the difference of the float32 logits to themselves (0 or NaN) makes the result NaN here, too.
        decoder = graph.add("Transpose", encoded.embedding, perm=[1, 0])
        float32_logits = graph.add("MatMul", encoded.outputs, decoder)
        overflow = graph.add("Sub", float32_logits, float32_logits)
        outputs_64, decoder_64, bias_64, overflow_64 = [
            graph.add("Cast", value, to=TensorProto.DOUBLE)
            for value in (encoded.outputs, decoder, graph.constant(weights["decoder.bias"]), overflow)
        ]
        products = graph.add("MatMul", outputs_64, decoder_64)
        logits = graph.add("Sum", products, bias_64, overflow_64)  # (T, B, V)
        log_probabilities = graph.add("LogSoftmax", logits, axis=-1)
        likelihoods = graph.add("GatherElements", log_probabilities, targets, axis=2)
        _add_state_outputs(graph, self._layout, encoded.states)
        graph.output(likelihoods, ["T", "B", 1], TensorProto.DOUBLE)
        self._session = graph.session()

    def loss(self, ids: NDArray[np.int32], window: int = 128) -> float:
        """Return the mean negative log-likelihood of a text's tokens after the first, in nats per token.

        Args:
            ids: Token ids in reading order, (T,), T ≥ 2.
            window: Number of tokens to read at a time, which bounds the memory for a long text.
        """
        states = [np.zeros((1, 1, width), dtype=np.float32) for width in self._layout.state_widths]
        total = 0.0
        for start in range(0, len(ids) - 1, window):
            stop = min(start + window, len(ids) - 1)
            feed: dict[str, NDArray[Any]] = {
                "ids": ids[start:stop, None].astype(np.int64),
                "lengths": np.array([stop - start], dtype=np.int32),
                "targets": ids[start + 1 : stop + 1, None, None].astype(np.int64),
            }
            feed |= dict(zip(self._layout.state_names, states, strict=True))
            *states, likelihoods = self._session.run(None, feed)
            total -= float(likelihoods.sum())
        return total / (len(ids) - 1)


_Build = Callable[[Weights], tuple[onnxruntime.InferenceSession, bool]]


def _build_window_session(
    architecture: Architecture, pools_padding: bool, threads: int, precision: Precision, weights: Weights
) -> tuple[onnxruntime.InferenceSession, bool]:
    """Return a session that reads windows, and whether its last output reports activations beyond their edges."""
    encoder = encoder_of(architecture)
    layout, width = encoder.layout, encoder.layout.output_width
    graph = GraphBuilder("window")
    ids, lengths, states = _add_window_inputs(graph, layout)
    largest = graph.input("largest", ["B", width])
    encoded = encoder.add(graph, weights, ids, lengths, states, precision)
    next_largest, window_totals = _add_pooling(graph, ids, lengths, encoded.outputs, largest, pools_padding)
    _add_state_outputs(graph, layout, encoded.states)
    graph.output(next_largest, ["B", width])
    graph.output(window_totals, ["W", "B", width])
    if encoded.beyond_edges is not None:
        graph.output(encoded.beyond_edges, [])
    return graph.session(threads), encoded.beyond_edges is not None


def _build_again(build: _Build, weights_again: Callable[[], Weights]) -> onnxruntime.InferenceSession:
    return build(weights_again())[0]


def _add_window_inputs(graph: GraphBuilder, layout: EncoderLayout) -> tuple[str, str, list[str]]:
    """Declare the inputs that every window graph has, and return the names of ids, lengths and states."""
    ids = graph.input("ids", ["T", "B"], TensorProto.INT64)
    lengths = graph.input("lengths", ["B"], TensorProto.INT32)
    shapes = zip(layout.state_names, layout.state_widths, strict=True)
    return ids, lengths, [graph.input(name, [1, "B", width]) for name, width in shapes]


def _add_state_outputs(graph: GraphBuilder, layout: EncoderLayout, states: list[str]) -> None:
    for state, width in zip(states, layout.state_widths, strict=True):
        graph.output(state, [1, "B", width])


def _add_pooling(
    graph: GraphBuilder, ids: str, lengths: str, outputs: str, largest: str, pools_padding: bool
) -> tuple[str, str]:
    """Add the pooling of a batch of windows.

    Returns:
        The names of the running maximum, (B, E), and of the sum of each window, (W, B, E).
    """
    axis_0, axis_1, axis_2 = graph.constant([0]), graph.constant([1]), graph.constant([2])
    zero, one, window_tokens = graph.constant(0), graph.constant(1), graph.constant(WINDOW_TOKENS)
    step_count = graph.add("Squeeze", graph.add("Shape", ids, start=0, end=1), axis_0)
    step_column = graph.add("Unsqueeze", graph.add("Range", zero, step_count, one), axis_1)  # (T, 1)
    is_text = graph.add("Less", step_column, graph.add("Cast", lengths, to=TensorProto.INT64))  # (T, B)
    is_padding = graph.add("Equal", ids, graph.constant(_NO_ID if pools_padding else PADDING_ID))  # (T, B)
    is_pooled = graph.add("And", is_text, graph.add("Not", is_padding))
    mask = graph.add("Unsqueeze", is_pooled, axis_2)  # (T, B, 1)
    candidates = graph.add("Where", mask, outputs, graph.constant(np.float32(-np.inf)))
    summands = graph.add("Where", mask, outputs, graph.constant(np.float32(0)))
    next_largest = graph.add("Max", largest, graph.add("ReduceMax", candidates, axis_0, keepdims=0))
    # The tokens of a window are added one after the other if they lie along the first axis. ONNX Runtime would undo a
    # transposition, and it sums along the other axes in another order.
    padded = graph.add("Pad", summands, graph.constant([0, WINDOW_TOKENS - 1]), "", axis_0)
    window_starts = graph.add("Range", zero, step_count, window_tokens)  # (W,)
    positions = graph.add("Add", graph.constant(np.arange(WINDOW_TOKENS)[:, None]), window_starts)  # (32, W)
    windows = graph.add("Gather", padded, positions)  # (32, W, B, E)
    return next_largest, graph.add("ReduceSum", windows, axis_0, keepdims=0)
