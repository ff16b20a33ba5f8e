"""Add an AWD-LSTM encoder to an ONNX graph: an embedding and stacked LSTM layers, in float32 or int8.

Without dropout, an AWD-LSTM is a plain LSTM: what regularizes it exists in training only (``nn/lstm.py``).

Letters: T tokens, B texts, V vocabulary, E width of the embedding, H width of a layer, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import Weights
from bothways.runtime.encoder import EncoderLayout, EncoderValues, Precision
from bothways.runtime.graph_builder import QUANTIZED_OPERATORS, GraphBuilder
from bothways.runtime.quantization import quantized

_EDGES = 2
"""Number of edge units that the int8 encoder adds to each layer."""
_SATURATED = 100
"""A gate input or cell value at which the sigmoid is 0 or 1 and the hyperbolic tangent is -1 or 1."""


class AwdLstmGraph:
    """The AWD-LSTM of an architecture, which carries the hidden and the cell state of each layer.

    Attributes:
        layout: The hidden and cell state of each layer, first layer first. The output is the last layer's hidden state.
    """

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture
        self.layout = EncoderLayout(
            state_names=tuple(f"{part}_{n}" for n in range(architecture.layers) for part in ("hidden", "cell")),
            state_widths=tuple(width for _, width in architecture.layer_widths for _ in ("hidden", "cell")),
            output_state=2 * (architecture.layers - 1),
        )

    @property
    def batch_texts(self) -> int:
        """32 texts share the weights that each token fetches."""
        return 32

    def is_compute_bound(self, precision: Precision) -> bool:
        """Return whether the precision is int8: in float32, each token fetches all recurrent weights again."""
        return precision == "int8"

    def add(
        self,
        graph: GraphBuilder,
        weights: Weights,
        ids: str,
        lengths: str,
        states: Sequence[str] = (),
        precision: Precision = "float32",
    ) -> EncoderValues:
        """Add the encoder to a graph, as ``Encoder`` describes it. int8 needs the carried state."""
        if precision == "int8":
            return self._add_int8(graph, weights, ids, lengths, states)
        axis_1 = graph.constant([1])
        embedding = graph.constant(weights["encoder.embedding.weight"])
        sequence = graph.add("Gather", embedding, ids)
        new_states: list[str] = []
        for layer, (_, width) in enumerate(self._architecture.layer_widths):
            part = {
                name: _in_onnx_gate_order(weights[f"encoder.layers.{layer}.{name}"])
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            outputs, *layer_states = graph.add_multiple(
                "LSTM",
                sequence,
                graph.constant(part["weight_ih"][None]),
                graph.constant(part["weight_hh"][None]),
                graph.constant(np.concatenate([part["bias_ih"], part["bias_hh"]])[None]),
                lengths,
                *states[2 * layer : 2 * layer + 2],
                outputs=3 if states else 1,
                hidden_size=width,
            )
            new_states += layer_states
            sequence = graph.add("Squeeze", outputs, axis_1)  # (T, 1 direction, B, H) to (T, B, H)
        return EncoderValues(sequence, new_states, embedding)

    def _add_int8(
        self, graph: GraphBuilder, weights: Weights, ids: str, lengths: str, states: Sequence[str]
    ) -> EncoderValues:
        """Add the encoder with products in int8.

        The quantized operator scales its activations by the largest and smallest value of the whole batch, so one text
        could change the bits of another. Therefore each layer gets two more units, the edges. Their values are always
        the largest and the smallest that any unit can have, which makes the scale a constant. But near 1, sigmoid and
        hyperbolic tangent are off by a last bit or two: ``beyond_edges`` is above 0 where a unit exceeds the edges.
        """
        start, axis_1, axis_2 = graph.constant([0]), graph.constant([1]), graph.constant([2])
        embedding = graph.constant(_with_edge_columns(weights["encoder.embedding.weight"]))
        sequence = graph.add("Gather", embedding, ids)
        texts = graph.add("Shape", ids, start=1)
        edges_shape = graph.add("Concat", axis_1, texts, graph.constant([_EDGES]), axis=0)  # (1, B, 2)
        edges = np.array([[[1, -1]]], dtype=np.float32)
        hidden_edges = graph.add("Expand", graph.constant(edges), edges_shape)
        cell_edges = graph.add("Expand", graph.constant(_SATURATED * edges), edges_shape)
        minus_one, plus_one = graph.constant(np.float32(-1)), graph.constant(np.float32(1))
        new_states: list[str] = []
        excesses: list[str] = []
        for layer, (_, width) in enumerate(self._architecture.layer_widths):
            end = graph.constant([width])
            hidden, cell = states[2 * layer : 2 * layer + 2]
            products, scales = _int8_constants(graph, weights, layer, width)
            clipped = graph.add("Clip", hidden, minus_one, plus_one)
            wide_states = [
                graph.add("Concat", clipped, hidden_edges, axis=2),
                graph.add("Concat", cell, cell_edges, axis=2),
            ]
            no_peepholes = ""
            wide_sequence, *new_wide_states = graph.add_multiple(
                "DynamicQuantizeLSTM",
                *(sequence, *products, lengths, *wide_states, no_peepholes, *scales),
                outputs=3,
                domain=QUANTIZED_OPERATORS,
                hidden_size=width + _EDGES,
            )
            new_states += [graph.add("Slice", state, start, end, axis_2) for state in new_wide_states]
            sequence = graph.add("Squeeze", wide_sequence, axis_1)  # (T, B, H + 2)
            largest = graph.add("ReduceMax", graph.add("Abs", sequence), keepdims=0)
            edge_of_each = graph.add("Gather", new_wide_states[0], end, axis=2)
            excesses.append(graph.add("Sub", largest, graph.add("ReduceMax", edge_of_each, keepdims=0)))
        output_end = graph.constant([self.layout.output_width])
        outputs = graph.add("Slice", sequence, start, output_end, axis_2)
        return EncoderValues(outputs, new_states, embedding, graph.add("Max", *excesses))


def _int8_constants(
    graph: GraphBuilder, weights: Weights, layer: int, width: int
) -> tuple[tuple[str, str, str], tuple[str, str, str, str]]:
    """Add the constants of one quantized layer and return their names.

    Returns:
        The input weights, recurrent weights and bias, then the scale and zero point of both weights.
    """
    (weight_ih, scale_ih), (weight_hh, scale_hh) = [
        quantized(_with_edges(weights[f"encoder.layers.{layer}.{name}"])) for name in ("weight_ih", "weight_hh")
    ]
    bias_ih, bias_hh = [_with_edges(weights[f"encoder.layers.{layer}.{name}"]) for name in ("bias_ih", "bias_hh")]
    # Input, output, forget and cell gate of the edges: take no input, output everything, forget nothing.
    gates = np.array([-_SATURATED, _SATURATED, _SATURATED, 0])
    bias_ih.reshape(4, -1)[:, width:] = gates[:, None]
    bias = graph.constant(np.concatenate([bias_ih, bias_hh])[None])
    zero_point = graph.constant(np.zeros((1, 4 * (width + _EDGES)), dtype=np.int8))
    products = graph.constant(weight_ih[None]), graph.constant(weight_hh[None]), bias
    return products, (graph.constant(scale_ih[None]), zero_point, graph.constant(scale_hh[None]), zero_point)


def _with_edge_columns(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Append the edges to each embedding: the largest and the smallest value of the matrix."""
    ends = np.array([embedding.max(), embedding.min()])
    return np.concatenate([embedding, np.broadcast_to(ends, (len(embedding), _EDGES))], axis=1)


def _with_edges(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return gates in ONNX's order, with the edge units appended to each gate; their weights and biases are 0."""
    gates = _in_onnx_gate_order(stacked).reshape(4, -1, *stacked.shape[1:])
    padded = np.pad(gates, [(0, 0), (0, _EDGES), *[(0, _EDGES)] * (stacked.ndim - 1)])
    return np.ascontiguousarray(padded.reshape(-1, *padded.shape[2:]))


def _in_onnx_gate_order(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorder stacked gates from torch's input, forget, cell, output to ONNX's input, output, forget, cell."""
    gate_in, gate_forget, gate_cell, gate_out = np.split(stacked, 4)
    return np.concatenate([gate_in, gate_out, gate_forget, gate_cell])
