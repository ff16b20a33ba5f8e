from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, checker

from bothways.runtime.graph_builder import GraphBuilder


def affine_graph(width: int) -> GraphBuilder:
    """Return the graph of ``x * 2 + 1`` for a vector."""
    graph = GraphBuilder("affine")
    doubled = graph.add("Mul", graph.input("x", [width]), graph.constant(np.full(width, 2, dtype=np.float32)))
    graph.output(graph.add("Add", doubled, graph.constant(np.float32(1)), out="y"), [width])
    return graph


def test_a_session_computes_with_small_and_large_constants() -> None:
    for width in (3, 5000):  # a constant of 5000 numbers is not serialized
        (result,) = affine_graph(width).session().run(None, {"x": np.arange(width, dtype=np.float32)})
        assert result.tolist() == (2 * np.arange(width) + 1).tolist()


def test_a_model_contains_its_constants_and_metadata() -> None:
    graph = affine_graph(5000)
    assert graph.constant_bytes == 4 * 5001
    model = graph.model(opset=17, ir_version=8, metadata={"labels": "[]"})
    checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"labels": "[]"}
    (result,) = session.run(["y"], {"x": np.zeros(5000, dtype=np.float32)})
    assert result.tolist() == [1.0] * 5000


def test_outputs_come_in_the_order_of_their_declaration() -> None:
    graph = GraphBuilder("two")
    values, positions = graph.add_multiple("TopK", graph.input("x", [3]), graph.constant([1]), outputs=2)
    graph.output(positions, [1], TensorProto.INT64)
    graph.output(values, [1])
    found = graph.session(threads=1).run(None, {"x": np.array([1, 7, 2], dtype=np.float32)})
    assert [row.tolist() for row in found] == [[1], [7.0]]
