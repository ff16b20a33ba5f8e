"""Add the domain score of a bundle whose abstention was calibrated to its ONNX graph: ``DomainModel`` for a batch.

Letters: B texts, T tokens of the longest text, V vocabulary, D pooled states of all members, K components.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from bothways.bundle.read import Bundle
from bothways.bundle.weights import (
    DOMAIN_COMPONENTS,
    DOMAIN_LIMITS,
    DOMAIN_MEAN,
    DOMAIN_SCALE,
    DOMAIN_TOKEN_LOSSES,
    DOMAIN_VARIANCES,
    DomainWeights,
)
from bothways.runtime.graph_builder import GraphBuilder

DOMAIN_SCORE = "domain_score"


def abstention_metadata(bundle: Bundle) -> dict[str, str]:
    """Return what a caller needs to decide whether the model abstains, if that was calibrated."""
    if bundle.abstention is None:
        return {}
    found, _ = bundle.abstention
    fields = {
        "threshold": found.threshold,
        "domain_threshold": found.domain.threshold,
        "label_set_threshold": None if found.label_sets is None else found.label_sets.threshold,
    }
    return {"abstention": json.dumps(fields)}


def add_domain_score(graph: GraphBuilder, ids: str, is_text: str, pooled: Sequence[str], arrays: DomainWeights) -> None:
    """Add the output ``domain_score``, (B, 1).

    Args:
        graph: The graph.
        ids: Token ids as written, (B, T).
        is_text: Whether a position is before the text's end, (B, T).
        pooled: The pooled states of each member, (B, 3E).
        arrays: The arrays of the domain.
    """
    width = len(arrays[DOMAIN_MEAN])
    limits = arrays[DOMAIN_LIMITS].astype(np.float32)
    # the largest of two parts, each divided by its limit
    distance = graph.add("Div", _distance(graph, pooled, arrays), graph.constant(np.float32(width * limits[0])))
    loss = graph.add("Div", _token_loss(graph, ids, is_text, arrays), graph.constant(limits[1]))
    graph.add("Max", distance, loss, out=DOMAIN_SCORE)
    graph.output(DOMAIN_SCORE, ["texts", 1])


def _token_loss(graph: GraphBuilder, ids: str, is_text: str, arrays: DomainWeights) -> str:
    """Return the mean loss of each text's tokens under their frequencies, (B, 1)."""
    weight = graph.add("Cast", is_text, to=TensorProto.FLOAT)
    losses = graph.add("Gather", graph.constant(arrays[DOMAIN_TOKEN_LOSSES].astype(np.float32)), ids)
    total = _sum(graph, graph.add("Mul", losses, weight))
    return graph.add("Div", total, _sum(graph, weight))


def _distance(graph: GraphBuilder, pooled: Sequence[str], arrays: DomainWeights) -> str:
    """Return the squared Mahalanobis distance of each text, (B, 1)."""
    mean, scale, components, variances = (
        arrays[name].astype(np.float32) for name in (DOMAIN_MEAN, DOMAIN_SCALE, DOMAIN_COMPONENTS, DOMAIN_VARIANCES)
    )
    states = graph.add("Concat", *pooled, axis=1)
    states = graph.add("Div", graph.add("Sub", states, graph.constant(mean)), graph.constant(scale))
    along = graph.add("MatMul", states, graph.constant(np.ascontiguousarray(components.T)))
    squares = graph.add("Mul", along, along)
    rest = graph.add("Sub", _sum(graph, graph.add("Mul", states, states)), _sum(graph, squares))
    rest = graph.add("Max", rest, graph.constant(np.float32(0)))
    within = _sum(graph, graph.add("Div", squares, graph.constant(variances[:-1])))
    return graph.add("Add", within, graph.add("Div", rest, graph.constant(variances[-1])))


def _sum(graph: GraphBuilder, values: str) -> str:
    return graph.add("ReduceSum", values, graph.constant([1]), keepdims=1)
