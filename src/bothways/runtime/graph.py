"""Build ONNX graphs from a member's weights, in memory.

In: an architecture and arrays. Out: an ONNX Runtime session that advances a batch of texts by windows of tokens.
Does not know directions, slots or labels. Torch's exporter bakes sizes into LSTM graphs and a stored ONNX file could
hold anything, so the graph is written here, node by node.

Letters: T tokens that are read, W windows of them, B texts, V vocabulary, E embedding, H hidden, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import Weights
from bothways.runtime.cores import available_cores
from bothways.text.tokenizer import PADDING_ID

Precision = Literal["float32", "int8"]
"""In which weights are multiplied. int8: 7 bits for each gate's weights, 8 bits for activations."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

WINDOW_TOKENS = 32
"""Tokens whose outputs are added up in float32. A text's windows begin where it does, however many are read at once."""

_OPSET = 21
_QUANTIZED_OPERATORS = "com.microsoft"
_LARGEST_WEIGHT = 63
"""Of 7 bits: with 8, two products of a pair overflow the 16 bits in which AVX2 adds them (10 % error)."""
_EDGES = 2
_SATURATED = 100
"""As a gate's input or a cell's value: its sigmoid is 0 or 1, its hyperbolic tangent -1 or 1."""
_IR_VERSION = 10
_LARGE_CONSTANT_BYTES = 4096
_NO_ID = -1

_Carried = tuple[list[NDArray[np.float32]], NDArray[np.float32], NDArray[np.float64]]
"""States, largest and total, as ``EncoderSession.advance`` takes and gives them."""


class EncoderSession:
    """Advances texts by windows: embedding and LSTM layers with carried state, and running pooled values.

    Guarantee 2: a row's result does not depend on the other rows, to the last bit.
    Guarantee 6: windows with carried state give what the whole text gives.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        *,
        pools_padding: bool = True,
        threads: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        """Build the graph.

        Args:
            architecture: The encoder's sizes.
            weights: Its arrays.
            pools_padding: Whether a padding token within a text, which somebody typed, is pooled like any other;
                imported models don't.
            threads: To compute with; else one for each core that this process may use.
            precision: Of the layers' products.
        """
        self.architecture = architecture
        self.state_widths = [width for _, width in architecture.layer_widths for _ in ("hidden", "cell")]
        inputs, outputs = _window_values(architecture)
        width = architecture.width_embedding
        is_int8 = precision == "int8"
        nodes = [
            *(_int8_encoder_nodes(architecture) if is_int8 else encoder_nodes(architecture)),
            helper.make_node("Shape", ["ids"], ["steps"], start=0, end=1),
            helper.make_node("Squeeze", ["steps", "axis_0"], ["step_count"]),
            helper.make_node("Range", ["zero", "step_count", "one"], ["step_numbers"]),
            helper.make_node("Unsqueeze", ["step_numbers", "axis_1"], ["step_column"]),  # (T, 1)
            helper.make_node("Cast", ["lengths"], ["lengths_64"], to=TensorProto.INT64),
            helper.make_node("Less", ["step_column", "lengths_64"], ["is_text"]),  # (T, B)
            helper.make_node("Equal", ["ids", "padding"], ["is_padding"]),  # (T, B)
            helper.make_node("Not", ["is_padding"], ["is_token"]),
            helper.make_node("And", ["is_text", "is_token"], ["is_pooled"]),
            helper.make_node("Unsqueeze", ["is_pooled", "axis_2"], ["is_pooled_3d"]),
            helper.make_node("Where", ["is_pooled_3d", "outputs", "lowest"], ["candidates"]),
            helper.make_node("Where", ["is_pooled_3d", "outputs", "zero_float"], ["summands"]),
            helper.make_node("ReduceMax", ["candidates", "axis_0"], ["read_largest"], keepdims=0),
            helper.make_node("Max", ["largest", "read_largest"], ["next_largest"]),
            # A window's tokens are added one after the other if they lie along the first axis. A transposed axis
            # would be turned back by ONNX Runtime, which adds up along others in another order.
            helper.make_node("Pad", ["summands", "up_to_a_window", "", "axis_0"], ["padded_summands"]),
            helper.make_node("Range", ["zero", "step_count", "window_tokens"], ["window_starts"]),  # (W,)
            helper.make_node("Add", ["tokens_in_window", "window_starts"], ["tokens_of_windows"]),  # (32, W)
            helper.make_node("Gather", ["padded_summands", "tokens_of_windows"], ["windows"]),  # (32, W, B, E)
            helper.make_node("ReduceSum", ["windows", "axis_0"], ["window_totals"], keepdims=0),
        ]
        inputs.append(_tensor("largest", ["B", width]))
        outputs += [_tensor("next_largest", ["B", width]), _tensor("window_totals", ["W", "B", width])]
        constants = {
            **(_int8_encoder_constants if is_int8 else encoder_constants)(architecture, weights),
            "axis_0": np.array([0]),
            "axis_1": np.array([1]),
            "axis_2": np.array([2]),
            "zero": np.array(0),
            "one": np.array(1),
            "window_tokens": np.array(WINDOW_TOKENS),
            "tokens_in_window": np.arange(WINDOW_TOKENS)[:, None],
            "up_to_a_window": np.array([0, WINDOW_TOKENS - 1]),
            "lowest": np.array(-np.inf, dtype=np.float32),
            "zero_float": np.array(0, dtype=np.float32),
            "padding": np.array(_NO_ID if pools_padding else PADDING_ID, dtype=np.int64),
        }
        if is_int8:
            outputs.append(_tensor("beyond_edges", []))
        self._session = session_of(nodes, inputs, outputs, constants, threads)
        self._names = [value.name for value in outputs]
        self._has_edges = is_int8

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
            ids: (T, B), anything valid past a text's length.
            lengths: Real tokens of each text among them, (B,), each in 1..T.
            states: Hidden and cell state of each layer, 2L arrays (B, H) or (B, E) for the last layer.
            largest: Running maximum of the outputs, (B, E), -inf at a text's start.
            total: Running sum of the outputs, (B, E) float64, 0 at a text's start.

        Returns:
            The states, largest and total after these tokens, shaped as they came.
        """
        feed: dict[str, NDArray[Any]] = {"ids": ids, "lengths": lengths, "largest": largest}
        feed |= {name: state[None] for name, state in zip(_state_names(self.architecture), states, strict=True)}
        found = self._session.run(self._names, feed)
        if self._has_edges and found.pop() > 0 and (len(lengths) > 1 or len(ids) > WINDOW_TOKENS):
            return self._advance_apart(ids, lengths, (states, largest, total))
        *new_states, new_largest, window_totals = found
        for window_total in window_totals:
            total = total + window_total  # in float64: float32 drifts in a long text
        return [state[0] for state in new_states], new_largest, total

    def _advance_apart(self, ids: NDArray[np.int64], lengths: NDArray[np.int32], carried: _Carried) -> _Carried:
        """Read each text by itself and each window of it, where nothing else can scale its activations."""
        states, largest, total = [state.copy() for state in carried[0]], carried[1].copy(), carried[2].copy()
        for text, length in enumerate(lengths):
            row = slice(text, text + 1)
            for start in range(0, length, WINDOW_TOKENS):
                window = ids[start : min(start + WINDOW_TOKENS, length), row]
                count = np.array([len(window)], dtype=np.int32)
                found = self.advance(window, count, [state[row] for state in states], largest[row], total[row])
                for state, new in zip(states, found[0], strict=True):
                    state[row] = new
                largest[row], total[row] = found[1:]
        return states, largest, total


class LanguageModelSession:
    """Gives the negative log-likelihood of each next token of one text, from a zero state."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        self._architecture = architecture
        inputs, outputs = _window_values(architecture)
        nodes = [
            *encoder_nodes(architecture),
            # In float32, the scores of all pieces and their softmax are off by up to 2e-5 nats, and a proof allows half
            # of it: both are in float64. Where float32 overflows, the trainer has no number, and there is none here.
            helper.make_node("Transpose", ["embedding"], ["decoder"], perm=[1, 0]),
            helper.make_node("MatMul", ["outputs", "decoder"], ["rough_scores"]),
            helper.make_node("Sub", ["rough_scores", "rough_scores"], ["overflow"]),  # zero or no number
            *(
                helper.make_node("Cast", [name], [f"{name}_float64"], to=TensorProto.DOUBLE)
                for name in ("outputs", "decoder", "decoder_bias", "overflow")
            ),
            helper.make_node("MatMul", ["outputs_float64", "decoder_float64"], ["products"]),
            helper.make_node("Sum", ["products", "decoder_bias_float64", "overflow_float64"], ["logits"]),  # (T, B, V)
            helper.make_node("LogSoftmax", ["logits"], ["log_probabilities"], axis=-1),
            helper.make_node("GatherElements", ["log_probabilities", "targets"], ["likelihoods"], axis=2),
        ]
        inputs.append(_tensor("targets", ["T", "B", 1], TensorProto.INT64))
        outputs.append(_tensor("likelihoods", ["T", "B", 1], TensorProto.DOUBLE))
        constants = {
            **encoder_constants(architecture, weights),
            "decoder_bias": weights["decoder.bias"],
        }
        self._session = session_of(nodes, inputs, outputs, constants)
        self._names = [value.name for value in outputs]

    def loss(self, ids: NDArray[np.int32], window: int = 128) -> float:
        """Return the mean negative log-likelihood of a text's tokens after the first, in nats a token.

        Args:
            ids: In the order in which the model reads, (T,), T ≥ 2.
            window: Tokens read at a time; bounds the memory for a long text.
        """
        names = _state_names(self._architecture)
        widths = [width for _, width in self._architecture.layer_widths for _ in range(2)]
        states = [np.zeros((1, 1, width), dtype=np.float32) for width in widths]
        total = 0.0
        for start in range(0, len(ids) - 1, window):
            stop = min(start + window, len(ids) - 1)
            feed: dict[str, NDArray[Any]] = {
                "ids": ids[start:stop, None].astype(np.int64),
                "lengths": np.array([stop - start], dtype=np.int32),
                "targets": ids[start + 1 : stop + 1, None, None].astype(np.int64),
            }
            *states, likelihoods = self._session.run(self._names, feed | dict(zip(names, states, strict=True)))
            total -= float(likelihoods.sum())
        return total / (len(ids) - 1)


def _state_names(architecture: Architecture) -> list[str]:
    return [f"{part}_{layer}" for layer in range(architecture.layers) for part in ("hidden", "cell")]


def _window_values(architecture: Architecture) -> tuple[list[Any], list[Any]]:
    """Return inputs and outputs that every graph of windows has: ids, lengths, and the carried state."""
    inputs = [_tensor("ids", ["T", "B"], TensorProto.INT64), _tensor("lengths", ["B"], TensorProto.INT32)]
    names = _state_names(architecture)
    widths = [width for _, width in architecture.layer_widths for _ in range(2)]
    states = [_tensor(name, [1, "B", width]) for name, width in zip(names, widths, strict=True)]
    new_states = [_tensor(f"next_{name}", [1, "B", width]) for name, width in zip(names, widths, strict=True)]
    return inputs + states, new_states


def encoder_nodes(
    architecture: Architecture,
    prefix: str = "",
    *,
    lengths: str = "lengths",
    carries_state: bool = True,
) -> list[Any]:
    """Return the nodes from ``ids``, (T, B), and lengths, (B,) int32, to ``outputs``, (T, B, E), 0 past a text's end.

    Args:
        architecture: The encoder's sizes.
        prefix: Of the name of every value but the lengths.
        lengths: The name of the lengths.
        carries_state: Whether states come and go as values of the graph; else texts begin here.
    """
    nodes = [helper.make_node("Gather", [f"{prefix}embedding", f"{prefix}ids"], [f"{prefix}input_0"])]
    for layer, (_, width) in enumerate(architecture.layer_widths):
        is_top = layer == architecture.layers - 1
        weights = [f"{prefix}{name}_{layer}" for name in ("input", "weight_ih", "weight_hh", "bias")]
        states = [f"{prefix}{part}_{layer}" for part in ("hidden", "cell")] if carries_state else []
        new_states = [f"{prefix}next_{part}_{layer}" for part in ("hidden", "cell")] if carries_state else []
        sequence = f"{prefix}sequence_{layer}"
        nodes += [
            helper.make_node("LSTM", [*weights, lengths, *states], [sequence, *new_states], hidden_size=width),
            helper.make_node(
                "Squeeze",
                [sequence, f"{prefix}axis_one"],
                [f"{prefix}outputs" if is_top else f"{prefix}input_{layer + 1}"],
            ),
        ]
    return nodes


def _int8_encoder_nodes(architecture: Architecture) -> list[Any]:
    """Return the nodes that ``encoder_nodes`` gives, with products in int8, and those to ``beyond_edges``, a scalar.

    The operator scales activations by the largest and smallest of all it is given, be they of other texts. So every
    layer has two more units, the edges, that are always at the ends of what a unit can be, and the scale is a constant.
    But next to 1, sigmoid and hyperbolic tangent are off by a last bit or two: ``beyond_edges`` is above 0 where a unit
    is further out than the edges are.
    """
    nodes = [
        helper.make_node("Gather", ["embedding", "ids"], ["input_0"]),
        helper.make_node("Shape", ["ids"], ["texts"], start=1),
        helper.make_node("Concat", ["axis_one", "texts", "edge_count"], ["edges_shape"], axis=0),  # (1, B, 2)
        helper.make_node("Expand", ["edge_hidden", "edges_shape"], ["edges_hidden"]),
        helper.make_node("Expand", ["edge_cell", "edges_shape"], ["edges_cell"]),
    ]
    for layer, (_, width) in enumerate(architecture.layer_widths):
        width_name, wide = f"width_{layer}", f"input_{layer + 1}"
        inputs = [f"{name}_{layer}" for name in ("input", "weight_ih", "weight_hh", "bias")]
        inputs += ["lengths", f"wide_hidden_{layer}", f"wide_cell_{layer}", ""]  # no peepholes
        inputs += [f"{name}_{layer}" for name in ("scale_ih", "zero_point", "scale_hh", "zero_point")]
        outputs = [f"{name}_{layer}" for name in ("sequence", "wide_next_hidden", "wide_next_cell")]
        operator: dict[str, Any] = {"domain": _QUANTIZED_OPERATORS, "hidden_size": width + _EDGES}
        nodes += [
            helper.make_node("Clip", [f"hidden_{layer}", "minus_one", "plus_one"], [f"clipped_hidden_{layer}"]),
            helper.make_node("Concat", [f"clipped_hidden_{layer}", "edges_hidden"], [f"wide_hidden_{layer}"], axis=2),
            helper.make_node("Concat", [f"cell_{layer}", "edges_cell"], [f"wide_cell_{layer}"], axis=2),
            helper.make_node("DynamicQuantizeLSTM", inputs, outputs, **operator),
            *(
                helper.make_node("Slice", [f"wide_{name}_{layer}", "start", width_name, "axis_2"], [f"{name}_{layer}"])
                for name in ("next_hidden", "next_cell")
            ),
            helper.make_node("Squeeze", [outputs[0], "axis_one"], [wide]),  # (T, B, H + 2)
            helper.make_node("Abs", [wide], [f"sizes_{layer}"]),
            helper.make_node("ReduceMax", [f"sizes_{layer}"], [f"largest_{layer}"], keepdims=0),
            helper.make_node("Gather", [f"wide_next_hidden_{layer}", width_name], [f"edge_of_each_{layer}"], axis=2),
            helper.make_node("ReduceMax", [f"edge_of_each_{layer}"], [f"edge_{layer}"], keepdims=0),
            helper.make_node("Sub", [f"largest_{layer}", f"edge_{layer}"], [f"beyond_edge_{layer}"]),
        ]
    return [
        *nodes,
        helper.make_node("Slice", [wide, "start", width_name, "axis_2"], ["outputs"]),
        helper.make_node("Max", [f"beyond_edge_{layer}" for layer in range(architecture.layers)], ["beyond_edges"]),
    ]


def encoder_constants(architecture: Architecture, weights: Weights, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Return the constants that ``encoder_nodes`` wants."""
    constants: dict[str, NDArray[Any]] = {"embedding": weights["encoder.embedding.weight"], "axis_one": np.array([1])}
    for layer in range(architecture.layers):
        part = {
            name: _in_onnx_gate_order(weights[f"encoder.layers.{layer}.{name}"])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        constants |= {f"{name}_{layer}": part[name][None] for name in ("weight_ih", "weight_hh")}
        constants[f"bias_{layer}"] = np.concatenate([part["bias_ih"], part["bias_hh"]])[None]
    return {f"{prefix}{name}": array for name, array in constants.items()}


def _int8_encoder_constants(architecture: Architecture, weights: Weights) -> dict[str, NDArray[Any]]:
    """Return the constants that ``_int8_encoder_nodes`` wants, but for ``axis_2``, which the session has."""
    embedding = weights["encoder.embedding.weight"]
    ends = np.array([embedding.max(), embedding.min()])
    constants: dict[str, NDArray[Any]] = {
        "embedding": np.concatenate([embedding, np.broadcast_to(ends, (len(embedding), _EDGES))], axis=1),
        "axis_one": np.array([1]),
        "start": np.array([0]),
        "minus_one": np.array(-1, dtype=np.float32),
        "plus_one": np.array(1, dtype=np.float32),
        "edge_count": np.array([_EDGES]),
        "edge_hidden": np.array([[[1, -1]]], dtype=np.float32),
        "edge_cell": np.array([[[_SATURATED, -_SATURATED]]], dtype=np.float32),
    }
    for layer, (_, width) in enumerate(architecture.layer_widths):
        part = {name: weights[f"encoder.layers.{layer}.{name}"] for name in ("weight_ih", "weight_hh")}
        for name, array in part.items():
            constants[f"{name}_{layer}"], constants[f"{name.replace('weight', 'scale')}_{layer}"] = _quantized(
                _with_edges(array)
            )
        biases = [_with_edges(weights[f"encoder.layers.{layer}.{name}"]) for name in ("bias_ih", "bias_hh")]
        # input, output, forget and cell gate of the edges: nothing comes in, nothing is forgotten, all goes out
        gates = np.array([-_SATURATED, _SATURATED, _SATURATED, 0])
        biases[0].reshape(4, -1)[:, width:] = gates[:, None]
        constants[f"bias_{layer}"] = np.concatenate(biases)[None]
        constants[f"zero_point_{layer}"] = np.zeros((1, 4 * (width + _EDGES)), dtype=np.int8)
        constants[f"width_{layer}"] = np.array([width])
    return constants


def _with_edges(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return gates in ONNX's order, with the edges' units, whose weights and biases are 0, after the others'."""
    gates = _in_onnx_gate_order(stacked).reshape(4, -1, *stacked.shape[1:])
    padded = np.pad(gates, [(0, 0), (0, _EDGES), *[(0, _EDGES)] * (stacked.ndim - 1)])
    return np.ascontiguousarray(padded.reshape(-1, *padded.shape[2:]))


def _quantized(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return weights in 7 bits, as the quantized operator has them (1, inputs, gates), and each gate's scale."""
    scale = np.abs(weight).max(axis=1) / _LARGEST_WEIGHT
    scale[scale == 0] = 1
    return np.rint(weight / scale[:, None]).astype(np.int8).T[None], scale[None].astype(np.float32)


def _in_onnx_gate_order(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorder stacked gates from torch's input, forget, cell, output to ONNX's input, output, forget, cell."""
    gate_in, gate_forget, gate_cell, gate_out = np.split(stacked, 4)
    return np.concatenate([gate_in, gate_out, gate_forget, gate_cell])


def _tensor(name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def session_of(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: Mapping[str, NDArray[Any]],
    threads: int | None = None,
) -> onnxruntime.InferenceSession:
    """Return a session of a graph, with so many threads or one for each core that this process may use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # which takes up to twice of what it is asked for, and keeps it
    # Between two products its threads wait busily; after a window they must not, on the cores of the other direction.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    large = {
        name: np.ascontiguousarray(array) for name, array in constants.items() if array.nbytes >= _LARGE_CONSTANT_BYTES
    }
    # Written into the graph, weights would be copied five times on their way, and some of the copies kept.
    options.add_external_initializers(list(large), list(map(onnxruntime.OrtValue.ortvalue_from_numpy, large.values())))
    initializers = [
        _promised(name, large[name]) if name in large else numpy_helper.from_array(np.ascontiguousarray(array), name)
        for name, array in constants.items()
    ]
    graph = helper.make_graph(nodes, "window", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_QUANTIZED_OPERATORS, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _promised(name: str, array: NDArray[Any]) -> TensorProto:
    """Return a constant's declaration; its values come from memory, and the file named here is never read."""
    declared = TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    declared.external_data.add(key="location", value=name)
    return declared
