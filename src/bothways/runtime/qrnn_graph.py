"""Add a QRNN encoder to an ONNX graph: an embedding and stacked quasi-recurrent layers, in float32 or int8.

The gates of a layer depend on its inputs alone, so that one product computes a gate for all tokens of a step. Only the
cell is pooled token by token, and its units are independent of each other (arXiv 1611.01576):

    cell_t = cell_{t-1} + forget_t * (candidate_t - cell_{t-1})
    output_t = gate_t * cell_t

Letters: T tokens, B texts, E width of the embedding, H width of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import Weights
from bothways.runtime.encoder import EncoderLayout, EncoderValues, Precision
from bothways.runtime.graph_builder import QUANTIZED_OPERATORS, GraphBuilder
from bothways.runtime.quantization import quantized

_ACTIVATIONS = ("Tanh", "Sigmoid", "Sigmoid")
"""Activations of the gates, in the order of their weights: candidate, forget gate, output gate."""


@dataclass(frozen=True)
class _Range:
    """How the inputs of a layer become whole numbers from 0 to 255.

    Both are constants, so that the bits of a text do not depend on the other texts.

    Attributes:
        scale: Difference of two neighboring numbers.
        zero: The number of 0.
    """

    scale: np.float32
    zero: np.uint8


_OUTPUTS = _Range(np.float32(1 / 127), np.uint8(128))
"""The outputs of a layer are between -1 and 1."""


class QrnnGraph:
    """The QRNN of an architecture, which carries the cell of each layer.

    Attributes:
        layout: The cell of each layer, first layer first. Then, if the first layer reads two tokens at a time, the
            embedding of the last token. Last, the output, which is written and never read.
    """

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture
        widths = [width for _, width in architecture.layer_widths]
        names = [f"cell_{layer}" for layer in range(architecture.layers)]
        if architecture.first_window == 2:
            names.append("input_0")
            widths.append(architecture.width_embedding)
        self.layout = EncoderLayout((*names, "output"), (*widths, architecture.width_embedding), len(names))

    @property
    def batch_texts(self) -> int:
        """8 texts of 32 tokens are 256 rows of a product. More rows are no faster (docs/LOG.md)."""
        return 8

    def is_compute_bound(self, _: Precision) -> bool:
        """Return True: the weights are fetched once for a whole window."""
        return True

    def add(
        self,
        graph: GraphBuilder,
        weights: Weights,
        ids: str,
        lengths: str,
        states: Sequence[str] = (),
        precision: Precision = "float32",
    ) -> EncoderValues:
        """Add the encoder to a graph, as ``Encoder`` describes it."""
        matrix = weights["encoder.embedding.weight"]
        embedding = graph.constant(matrix)
        embedded = sequence = graph.add("Gather", embedding, ids)  # (T, B, E)
        layers = self._architecture.layers
        begun = [*states] or [_zeros(graph, ids, width) for width in self.layout.state_widths[:-1]]
        new_values: list[str] = []
        for layer, width in enumerate(self.layout.state_widths[:layers]):
            if self._architecture.layer_windows[layer] == 2:
                sequence = _with_token_before(graph, sequence, begun[layers])
            weight, bias = (weights[f"encoder.layers.{layer}.{name}"] for name in ("weight", "bias"))
            gates = weight.reshape(-1, width, weight.shape[1]), bias.reshape(-1, width)
            if precision == "int8":
                products = _int8_products(graph, sequence, *gates, _OUTPUTS if layer else _range_of(matrix))
            else:
                products = _float32_products(graph, sequence, ids, *gates)
            values = [graph.add(activation, v) for activation, v in zip(_ACTIVATIONS, products, strict=False)]
            cells = _pooled(graph, values[0], values[1], begun[layer], width)
            sequence = graph.add("Mul", values[2], cells) if self._architecture.output_gate else cells
            new_values.append(cells)
        if not states:
            return EncoderValues(sequence, [], embedding)
        new_values += [embedded] * (self._architecture.first_window == 2) + [sequence]
        ends = _ends(graph, lengths)
        axis_0 = graph.constant([0])
        new_states = [graph.add("Unsqueeze", graph.add("GatherND", v, ends), axis_0) for v in new_values]
        return EncoderValues(sequence, new_states, embedding)


def _zeros(graph: GraphBuilder, ids: str, width: int) -> str:
    """Return the state at the beginning of each text, (1, B, width)."""
    texts = graph.add("Shape", ids, start=1)
    shape = graph.add("Concat", graph.constant([1]), texts, graph.constant([width]), axis=0)
    return graph.add("Expand", graph.constant(np.float32(0)), shape)


def _ends(graph: GraphBuilder, lengths: str) -> str:
    """Return the place of each text's last token, (B, 2): the token and the text."""
    axis_1 = graph.constant([1])
    last = graph.add("Sub", graph.add("Cast", lengths, to=TensorProto.INT64), graph.constant(1))
    count = graph.add("Squeeze", graph.add("Shape", lengths))
    texts = graph.add("Range", graph.constant(0), count, graph.constant(1))
    return graph.add("Concat", *(graph.add("Unsqueeze", part, axis_1) for part in (last, texts)), axis=1)


def _with_token_before(graph: GraphBuilder, sequence: str, before: str) -> str:
    """Return the embedding of the token before each token and its own, (T, B, 2E).

    Args:
        graph: Graph to extend.
        sequence: Name of the embedded tokens, (T, B, E).
        before: Name of the embedding of the token before the first one, (1, B, E).
    """
    axis_0 = graph.constant([0])
    all_but_last = graph.add("Slice", sequence, axis_0, graph.constant([-1]), axis_0)
    return graph.add("Concat", graph.add("Concat", before, all_but_last, axis=0), sequence, axis=2)


def _float32_products(
    graph: GraphBuilder, sequence: str, ids: str, weights: NDArray[np.float32], biases: NDArray[np.float32]
) -> list[str]:
    """Return the gates of a layer before their activations, each (T, B, H).

    Args:
        graph: Graph to extend.
        sequence: Name of the layer's inputs, (T, B, inputs).
        ids: Name of the token ids, (T, B).
        weights: Weights of each gate, (gates, H, inputs).
        biases: Biases of each gate, (gates, H).
    """
    rows = graph.add("Reshape", sequence, graph.constant([-1, weights.shape[2]]))
    shape = graph.add("Concat", graph.add("Shape", ids), graph.constant([weights.shape[1]]), axis=0)
    products = [
        graph.add("Gemm", rows, graph.constant(np.ascontiguousarray(weight.T)), graph.constant(bias))
        for weight, bias in zip(weights, biases, strict=True)
    ]
    return [graph.add("Reshape", product, shape) for product in products]


def _int8_products(
    graph: GraphBuilder,
    sequence: str,
    weights: NDArray[np.float32],
    biases: NDArray[np.float32],
    inputs: _Range,
) -> list[str]:
    """Return what ``_float32_products`` returns, computed in int8. Sums of whole numbers are exact."""
    scale, zero = graph.constant(inputs.scale), graph.constant(inputs.zero)
    rounded = graph.add("QuantizeLinear", sequence, scale, zero)
    products = []
    for weight, bias in zip(weights, biases, strict=True):
        whole, scales = quantized(weight)
        products.append(
            graph.add(
                "MatMulIntegerToFloat",
                *(rounded, graph.constant(whole), scale, graph.constant(scales), zero, "", graph.constant(bias)),
                domain=QUANTIZED_OPERATORS,
            )
        )
    return products


def _range_of(matrix: NDArray[np.float32]) -> _Range:
    """Return the range of the embeddings and 0."""
    low, high = min(0.0, float(matrix.min())), max(0.0, float(matrix.max()))
    scale = np.float32((high - low) / 255) or np.float32(1)
    return _Range(scale, np.uint8(min(255, round(-low / float(scale)))))


def _pooled(graph: GraphBuilder, candidate: str, forget: str, cell: str, width: int) -> str:
    """Return the cells after each token, (T, B, H).

    One token is pooled after the other, so the bits do not depend on where a window begins.

    Args:
        graph: Graph to extend.
        candidate: Name of the candidates, (T, B, H).
        forget: Name of the forget gates, (T, B, H).
        cell: Name of the cell before the first token, (1, B, H).
        width: H.
    """
    body = GraphBuilder("pooling", prefix=f"{forget}/")
    before = body.input("cell", ["B", width])
    change = body.add("Sub", body.input("candidate", ["B", width]), before)
    after = body.add("Add", before, body.add("Mul", body.input("forget", ["B", width]), change))
    body.output(after, ["B", width])
    body.output(body.add("Identity", after), ["B", width])
    _, cells = graph.add_scan(body, [graph.add("Squeeze", cell, graph.constant([0]))], [candidate, forget])
    return cells
