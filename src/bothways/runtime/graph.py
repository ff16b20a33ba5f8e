"""Build ONNX graphs from a member's weights, in memory.

In: an architecture and arrays. Out: an ONNX Runtime session that advances a batch of texts by one window of tokens.
Does not know directions, slots or labels. Torch's exporter bakes sizes into LSTM graphs and a stored ONNX file could
hold anything, so the graph is written here, node by node.

Letters: T tokens of the window, B texts, V vocabulary, E embedding, H hidden, L layers.
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
"""In which weights are multiplied. int8: 7 bits for each gate's weights, activations in 8 bits by text and window."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_OPSET = 21
_QUANTIZED_OPERATORS = "com.microsoft"
_LARGEST_WEIGHT = 63
"""Of 7 bits: with 8, two products of a pair overflow the 16 bits in which AVX2 adds them (10 % error)."""
_IR_VERSION = 10
_LARGE_CONSTANT_BYTES = 4096
_NO_ID = -1


class EncoderSession:
    """Advances texts by one window: embedding and LSTM layers with carried state, and running pooled values.

    Law 2: a row's result does not depend on the other rows, to the last bit.
    Law 6: windows with carried state give what the whole text gives.
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
            precision: With int8 laws 2 and 6 hold for one text at a time only: its texts share their scales.
        """
        self.architecture = architecture
        self.state_widths = [width for _, width in architecture.layer_widths for _ in ("hidden", "cell")]
        inputs, outputs = _window_values(architecture)
        width = architecture.width_embedding
        nodes = [
            *encoder_nodes(architecture, precision=precision),
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
            helper.make_node("ReduceMax", ["candidates", "axis_0"], ["window_largest"], keepdims=0),
            helper.make_node("Max", ["largest", "window_largest"], ["next_largest"]),
            helper.make_node("ReduceSum", ["summands", "axis_0"], ["window_total"], keepdims=0),
            helper.make_node("Cast", ["window_total"], ["window_total_64"], to=TensorProto.DOUBLE),
            helper.make_node("Add", ["total", "window_total_64"], ["next_total"]),  # float32 drifts in a long text
        ]
        inputs += [_tensor("largest", ["B", width]), _tensor("total", ["B", width], TensorProto.DOUBLE)]
        outputs += [_tensor("next_largest", ["B", width]), _tensor("next_total", ["B", width], TensorProto.DOUBLE)]
        constants = {
            **encoder_constants(architecture, weights, precision=precision),
            "axis_0": np.array([0]),
            "axis_1": np.array([1]),
            "axis_2": np.array([2]),
            "zero": np.array(0),
            "one": np.array(1),
            "lowest": np.array(-np.inf, dtype=np.float32),
            "zero_float": np.array(0, dtype=np.float32),
            "padding": np.array(_NO_ID if pools_padding else PADDING_ID, dtype=np.int64),
        }
        self._session = session_of(nodes, inputs, outputs, constants, threads)
        self._names = [value.name for value in outputs]

    def advance(
        self,
        ids: NDArray[np.int64],
        lengths: NDArray[np.int32],
        states: list[NDArray[np.float32]],
        largest: NDArray[np.float32],
        total: NDArray[np.float64],
    ) -> tuple[list[NDArray[np.float32]], NDArray[np.float32], NDArray[np.float64]]:
        """Read one window of each text.

        Args:
            ids: (T, B), anything valid past a text's length.
            lengths: Real tokens of each text in this window, (B,), each in 1..T.
            states: Hidden and cell state of each layer, 2L arrays (B, H) or (B, E) for the last layer.
            largest: Running maximum of the outputs, (B, E), -inf at a text's start.
            total: Running sum of the outputs, (B, E) float64, 0 at a text's start.

        Returns:
            The states, largest and total after the window, shaped as they came.
        """
        feed: dict[str, NDArray[Any]] = {"ids": ids, "lengths": lengths, "largest": largest, "total": total}
        feed |= {name: state[None] for name, state in zip(_state_names(self.architecture), states, strict=True)}
        *new_states, new_largest, new_total = self._session.run(self._names, feed)
        return [state[0] for state in new_states], new_largest, new_total


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
        """Give the mean negative log-likelihood of a text's tokens after the first, in nats a token.

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
    """Give inputs and outputs that every graph of one window has: ids, lengths, and the carried state."""
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
    precision: Precision = "float32",
) -> list[Any]:
    """Give the nodes from ``ids``, (T, B), and lengths, (B,) int32, to ``outputs``, (T, B, E), 0 past a text's end.

    Args:
        architecture: The encoder's sizes.
        prefix: Of the name of every value but the lengths.
        lengths: The name of the lengths.
        carries_state: Whether states come and go as values of the graph; else texts begin here.
        precision: Of the layers' products.
    """
    nodes = [helper.make_node("Gather", [f"{prefix}embedding", f"{prefix}ids"], [f"{prefix}input_0"])]
    for layer, (_, width) in enumerate(architecture.layer_widths):
        is_top = layer == architecture.layers - 1
        weights = [f"{prefix}{name}_{layer}" for name in ("input", "weight_ih", "weight_hh", "bias")]
        states = [f"{prefix}{part}_{layer}" for part in ("hidden", "cell")] if carries_state else []
        new_states = [f"{prefix}next_{part}_{layer}" for part in ("hidden", "cell")] if carries_state else []
        sequence = f"{prefix}sequence_{layer}"
        inputs, operator = [*weights, lengths, *states], "LSTM"
        if precision == "int8":
            inputs += [""] * (8 - len(inputs))  # initial states, peepholes
            inputs += [f"{prefix}{name}_{layer}" for name in ("scale_ih", "zero_point", "scale_hh", "zero_point")]
            operator = "DynamicQuantizeLSTM"
        domain = _QUANTIZED_OPERATORS if precision == "int8" else None
        nodes += [
            helper.make_node(operator, inputs, [sequence, *new_states], domain=domain, hidden_size=width),
            helper.make_node(
                "Squeeze",
                [sequence, f"{prefix}axis_one"],
                [f"{prefix}outputs" if is_top else f"{prefix}input_{layer + 1}"],
            ),
        ]
    return nodes


def encoder_constants(
    architecture: Architecture, weights: Weights, prefix: str = "", precision: Precision = "float32"
) -> dict[str, NDArray[Any]]:
    """Give the constants that ``encoder_nodes`` wants."""
    constants: dict[str, NDArray[Any]] = {"embedding": weights["encoder.embedding.weight"], "axis_one": np.array([1])}
    for layer in range(architecture.layers):
        part = {name: weights[f"encoder.layers.{layer}.{name}"] for name in ("weight_ih", "weight_hh")}
        biases = [_in_onnx_gate_order(weights[f"encoder.layers.{layer}.{name}"]) for name in ("bias_ih", "bias_hh")]
        for name, array in part.items():
            ordered = _in_onnx_gate_order(array)
            if precision == "int8":
                quantized, constants[f"{name.replace('weight', 'scale')}_{layer}"] = _quantized(ordered)
                constants[f"{name}_{layer}"] = quantized
            else:
                constants[f"{name}_{layer}"] = ordered[None]
        if precision == "int8":
            constants[f"zero_point_{layer}"] = np.zeros((1, len(part["weight_ih"])), dtype=np.int8)
        constants[f"bias_{layer}"] = np.concatenate(biases)[None]
    return {f"{prefix}{name}": array for name, array in constants.items()}


def _quantized(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Give weights in 7 bits, as the quantized operator has them (1, inputs, gates), and each gate's scale."""
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
    """Give a session of a graph, with so many threads or one for each core that this process may use."""
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
    """Give a constant's declaration; its values come from memory, and the file named here is never read."""
    declared = TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    declared.external_data.add(key="location", value=name)
    return declared
