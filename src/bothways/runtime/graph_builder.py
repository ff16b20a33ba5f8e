"""Build an ONNX graph node by node, and turn it into a model or an inference session.

Torch's exporter fixes sizes in LSTM graphs, and a stored ONNX file could contain anything. So every graph of this
package is built in memory from a bundle's weights: those that predict here and the one that ``export_onnx`` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from bothways.runtime.cores import available_cores

QUANTIZED_OPERATORS = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""

_SESSION_OPSET = 21
_SESSION_IR_VERSION = 10
_LARGE_CONSTANT_BYTES = 4096


class GraphBuilder:
    """Nodes in the order in which they run, with the graph's constants, inputs and outputs.

    A value is known by its name: every method that creates a value returns its name, and nodes take names as inputs.
    """

    def __init__(self, name: str, prefix: str = "") -> None:
        """Start an empty graph.

        Args:
            name: Name of the graph.
            prefix: Prefix of the names of values. The body of a loop needs one, because it shares the names of the
                graph around it.
        """
        self._name, self._prefix = name, prefix
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: dict[str, NDArray[Any]] = {}

    @property
    def constant_bytes(self) -> int:
        """Total size of the constants in bytes."""
        return sum(array.nbytes for array in self._constants.values())

    def input(self, name: str, shape: list[int | str], element: int = TensorProto.FLOAT) -> str:
        """Declare an input of the graph and return its name.

        Args:
            name: Name by which the input is fed.
            shape: Size of each axis. A string names a size that varies.
            element: Element type, a member of ``TensorProto.DataType``. Defaults to float32.
        """
        self._inputs.append(helper.make_tensor_value_info(self._prefix + name, element, shape))
        return self._prefix + name

    def output(self, value: str, shape: list[int | str], element: int = TensorProto.FLOAT) -> None:
        """Declare a value of the graph as its next output.

        Args:
            value: Name of the value.
            shape: Size of each axis. A string names a size that varies.
            element: Element type, a member of ``TensorProto.DataType``. Defaults to float32.
        """
        self._outputs.append(helper.make_tensor_value_info(value, element, shape))

    def constant(self, array: ArrayLike) -> str:
        """Add a constant and return its name."""
        name = f"{self._prefix}constant_{len(self._constants)}"
        self._constants[name] = np.asarray(array)
        return name

    def add(self, operator: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node with one output and return the output's name.

        Args:
            operator: ONNX operator type.
            inputs: Names of the input values. An empty string omits an optional input.
            out: Name of the output. Defaults to a new name.
            attributes: The operator's attributes.
        """
        name = out or f"{self._prefix}{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def add_multiple(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names.

        Args:
            operator: ONNX operator type.
            inputs: Names of the input values. An empty string omits an optional input.
            outputs: Number of outputs to name, from the operator's first.
            attributes: The operator's attributes.
        """
        names = [f"{self._prefix}{operator}_{len(self._nodes)}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def add_scan(self, body: GraphBuilder, states: Sequence[str], sequences: Sequence[str]) -> list[str]:
        """Add a loop over the first axis of some arrays, and return the names of its results.

        Args:
            body: One round of the loop. Its inputs are the states and then one element of each sequence, its outputs
                the next states and then the elements of the results.
            states: Names of the values before the first round.
            sequences: Names of the arrays that the loop runs over.

        Returns:
            The states after the last round, then the results, whose first axis is that of the sequences.
        """
        constants = [_tensor(name, array) for name, array in body._constants.items()]
        graph = helper.make_graph(body._nodes, body._name, body._inputs, body._outputs, constants)
        return self.add_multiple(
            "Scan", *states, *sequences, outputs=len(body._outputs), body=graph, num_scan_inputs=len(sequences)
        )

    def model(self, *, opset: int, ir_version: int, metadata: Mapping[str, str] | None = None) -> ModelProto:
        """Return a model of standard operators that contains all constants.

        Args:
            opset: Version of the standard operators.
            ir_version: Version of the ONNX file format.
            metadata: Text to store in the model by key. Defaults to none.
        """
        constants = [_tensor(name, array) for name, array in self._constants.items()]
        model = self._model_of(constants, [helper.make_opsetid("", opset)], ir_version)
        helper.set_model_props(model, dict(metadata or {}))
        return model

    def session(self, threads: int | None = None) -> onnxruntime.InferenceSession:
        """Return an inference session of the graph, whose ``run(None, …)`` returns the outputs as declared.

        Args:
            threads: Number of threads. Defaults to one per core available to this process.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.log_severity_level = 3
        # The memory arena allocates up to twice the memory that is requested and keeps it.
        options.enable_cpu_mem_arena = False
        # Threads spin between two products. After a run they must stop, so that the other direction can use the cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        large = {
            name: np.ascontiguousarray(array)
            for name, array in self._constants.items()
            if array.nbytes >= _LARGE_CONSTANT_BYTES
        }
        # Weights inside the serialized graph would be copied five times on the way, and some of the copies kept.
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in large.values()]
        options.add_external_initializers(list(large), values)
        constants = [
            _external_tensor(name, large[name]) if name in large else _tensor(name, array)
            for name, array in self._constants.items()
        ]
        opsets = [helper.make_opsetid("", _SESSION_OPSET), helper.make_opsetid(QUANTIZED_OPERATORS, 1)]
        model = self._model_of(constants, opsets, _SESSION_IR_VERSION)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def _model_of(self, constants: list[TensorProto], opsets: list[Any], ir_version: int) -> ModelProto:
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, constants)
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="bothways")


def _tensor(name: str, array: NDArray[Any]) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def _external_tensor(name: str, array: NDArray[Any]) -> TensorProto:
    """Declare a constant whose values come from memory: the file that is named here is never read."""
    declared = TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    declared.external_data.add(key="location", value=name)
    return declared
