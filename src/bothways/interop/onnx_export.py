"""Write a classifier as one ONNX graph with both directions inside, for runtimes and languages that are not ours.

In: a bundle. Out: a file whose inputs are tokens as written and lengths, and whose outputs are probabilities. The
order in which each direction reads is part of the graph, so whoever runs it can't lose the reversal; labels and
tokenizer travel in its metadata.

Letters: B texts, T tokens of the longest, V vocabulary, E embedding, C classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from bothways.bundle.manifest import FastaiPooling, Kind, Manifest, Member
from bothways.bundle.parity import ENSEMBLE, LARGEST_DIFFERENCE, recorded_scores
from bothways.bundle.read import Bundle, read_bundle
from bothways.errors import BundleError
from bothways.files import open_for_writing, refuse_unusable
from bothways.runtime.graph import encoder_constants, encoder_nodes
from bothways.runtime.head import folded_layers
from bothways.tasks.classification import LARGEST_WITH_ODDS
from bothways.text.cleaning import SPECIAL_TOKENS, START, WORD_START
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer import PADDING_ID, Tokenizer

_OPSET = 17
_IR_VERSION = 8
"""Older than what we could write, so that older runtimes read it."""
_LARGEST_BYTES = 2**31 - 2**20
_BATCHED_TOKENS = 64
_PIECE, _WORD_START, _MARKER, _START = range(4)
"""What a token is to the group that it belongs to."""


@dataclass(frozen=True)
class OnnxExport:
    """What was written.

    Attributes:
        path: Of the file.
        size_bytes: Its size.
        texts: How many texts of the bundle's proof it was run on.
        differences: The largest absolute difference from the bundle's proof, by direction and for the ensemble.
    """

    path: Path
    size_bytes: int
    texts: int
    differences: dict[str, float]


def export_onnx(bundle: str | os.PathLike[str], *, out: str | os.PathLike[str]) -> OnnxExport:
    """Write a bundle as an ONNX file that gives the bundle's probabilities with nothing of ours around it.

    Inputs: ``ids``, (B, T) int64, as the bundle's tokenizer writes them, anything valid behind a text's end, and
    ``lengths``, (B,) int64, each in 1..T. Outputs: ``forward`` and ``backward`` (those that the bundle has) and
    ``ensemble``, (B, C) float32. Metadata: ``labels``, ``task``, ``thresholds`` and ``tokenizer`` as JSON, and
    ``digest``, the bundle's identity. Memory grows with B times T: a text is read at once, not in windows.

    Guarantee 1: written only if it gives the numbers of the bundle's proof (≤ 1e-5) on this machine, for each text
    alone and for the short ones in one padded batch.

    Args:
        bundle: A classifier's directory.
        out: The file; nothing may be there.

    Raises:
        BundleError: The bundle can't be read or exported, or the graph did not give its numbers.
        OutputExists: Something is at ``out``.
        ConfigError: The folder of ``out`` does not exist.
        DataError: The disk is full or can't be written; nothing is left behind.
    """
    target = Path(out)
    refuse_unusable(target)
    whole = read_bundle(bundle, Kind.CLASSIFIER)
    content = _model(whole).SerializeToString()
    differences = _differences(content, whole)
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= LARGEST_DIFFERENCE:
        raise BundleError(
            f"{whole.name}: the graph's {worst} differs by {differences[worst]:.3g} from the proof, allowed are "
            f"{LARGEST_DIFFERENCE:g}, and nothing was written: look at the bundle with bothways verify"
        )
    with open_for_writing(os.fspath(target)) as file:
        file.write(content)
    return OnnxExport(target, len(content), len(whole.parity_record), differences)


@dataclass
class _Graph:
    """Nodes in the order in which they run, and constants; values are known by their names."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node and give its output's name."""
        name = out or f"{kind}_{len(self.nodes)}"
        outputs = [f"{name}_values", name] if kind == "TopK" else [name]  # their order is wanted, not the values
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return name

    def constant(self, array: ArrayLike) -> str:
        """Add a constant and give its name."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name


@dataclass(frozen=True)
class _Texts:
    """Names of values that all members share.

    Attributes:
        ids: As written, (B, T).
        lengths: (B,).
        width: T, a scalar.
        positions: 0..T-1, (T,).
        is_text: False behind a text's end, (B, T).
    """

    ids: str
    lengths: str
    width: str
    positions: str
    is_text: str


def _model(bundle: Bundle) -> ModelProto:
    manifest, graph = bundle.manifest, _Graph()
    texts = _texts(graph)
    graph.add("Cast", texts.lengths, out="lengths_32", to=TensorProto.INT32)
    logits = {str(m.direction): _logits(graph, texts, m, bundle) for m in manifest.members}
    _add_scores(graph, logits, manifest)
    size = sum(array.nbytes for array in graph.constants.values())
    if size > _LARGEST_BYTES:
        raise BundleError(f"{bundle.name} has {size:,} bytes of weights, and an ONNX file holds no more than 2 GiB")
    initializers = [numpy_helper.from_array(np.ascontiguousarray(array), k) for k, array in graph.constants.items()]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["texts"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["texts", manifest.outputs])
        for name in (*logits, ENSEMBLE)
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "bothways", inputs, outputs, initializers),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="bothways",
    )
    metadata = {
        "labels": json.dumps(manifest.labels),
        "task": str(manifest.task),
        "thresholds": json.dumps(manifest.thresholds),
        "tokenizer": bundle.tokenizer.to_bytes().decode(),
        "digest": bundle.digest,
    }
    helper.set_model_props(model, metadata)
    checker.check_model(model)
    return model


def _texts(graph: _Graph) -> _Texts:
    width = graph.add("Squeeze", graph.add("Shape", "ids", start=1, end=2))
    positions = graph.add("Range", graph.constant(0), width, graph.constant(1))
    return _Texts("ids", "lengths", width, positions, graph.add("Less", positions, _column(graph, "lengths")))


def _column(graph: _Graph, values: str) -> str:
    return graph.add("Unsqueeze", values, graph.constant([1]))


def _logits(graph: _Graph, texts: _Texts, member: Member, bundle: Bundle) -> str:
    """Return one direction's scores, (B, C)."""
    prefix, weights = f"{member.direction}_", bundle.weights[member.direction]
    ids = _ids_in_reading_order(graph, texts, member, bundle)
    graph.add("Transpose", ids, out=f"{prefix}ids", perm=[1, 0])
    graph.nodes += encoder_nodes(member.architecture, prefix, lengths="lengths_32", carries_state=False)
    graph.constants |= encoder_constants(member.architecture, weights, prefix)
    values = _pooled(graph, texts, ids, f"{prefix}outputs", member.pooling)
    for number, (weight, bias) in enumerate(folded_layers(weights, len(member.widths_head or []) + 1)):
        arrays = [graph.constant(array.astype(np.float32)) for array in (weight.T, bias)]
        values = graph.add("Gemm", graph.add("Relu", values) if number else values, *arrays)
    return values


def _ids_in_reading_order(graph: _Graph, texts: _Texts, member: Member, bundle: Bundle) -> str:
    """Return ids as a member reads them, (B, T): what ``text.reading.read`` does for one text, for all of a batch."""
    if member.direction is Direction.FORWARD:
        return texts.ids
    if member.special_tokens is SpecialTokenPlacement.AS_WRITTEN:
        return graph.add("ReverseSequence", texts.ids, texts.lengths, batch_axis=0, time_axis=1)
    role = graph.add("Gather", graph.constant(_roles(bundle.tokenizer, bundle.name)), texts.ids)
    is_marker = graph.add("Equal", role, graph.constant(_MARKER))
    marker = graph.add("Cast", is_marker, to=TensorProto.INT64)
    all_but_last = graph.add("Slice", marker, graph.constant([0]), graph.constant([-1]), graph.constant([1]))
    after_marker = graph.add("Pad", all_but_last, graph.constant([0, 1, 0, 0]))
    begins = graph.add("Greater", role, graph.add("Mul", after_marker, graph.constant(_START)))
    group = graph.add("CumSum", graph.add("Cast", begins, to=TensorProto.INT64), graph.constant(1))

    # One number a token, in the order of which it is read: the last group first, but the start of the text before all;
    # in a group the markers as written, then its pieces from last to first; behind a text's end nothing moves.
    room = graph.add("Mul", texts.width, graph.constant(4))
    is_start = graph.add("Equal", role, graph.constant(_START))
    rank = graph.add("Where", is_start, room, group)
    from_behind = graph.add("Sub", graph.add("Mul", texts.width, graph.constant(3)), texts.positions)
    within = graph.add("Where", is_marker, texts.positions, from_behind)
    key = graph.add("Sub", within, graph.add("Mul", rank, room))
    key = graph.add("Where", texts.is_text, key, texts.positions)
    k = graph.add("Unsqueeze", texts.width, graph.constant([0]))
    order = graph.add("TopK", key, k, axis=1, largest=0, sorted=1)
    return graph.add("GatherElements", texts.ids, order, axis=1)


def _roles(tokenizer: Tokenizer, name: str) -> NDArray[np.int64]:
    """Return what each id is to its group, (V,), by which groups are found again."""
    tokens = tokenizer.tokens(range(len(tokenizer)))
    if not isinstance(tokenizer, SubwordTokenizer) or WORD_START not in tokens:
        raise BundleError(f"{name} reads backward with markers in reading order, but its tokens don't tell its words")
    role = dict.fromkeys(SPECIAL_TOKENS, _MARKER) | {START: _START}
    return np.array([role.get(t, _WORD_START if t.startswith(WORD_START) else _PIECE) for t in tokens], dtype=np.int64)


def _pooled(graph: _Graph, texts: _Texts, ids: str, outputs: str, pooling: FastaiPooling | None) -> str:
    """Return last | largest | mean of the outputs, (B, 3E)."""
    is_pooled, end = texts.is_text, graph.add("Sub", texts.lengths, graph.constant(1))
    if pooling is not None:
        is_padding = graph.add("And", is_pooled, graph.add("Equal", ids, graph.constant(PADDING_ID)))
        first = _first_pooled(graph, texts.lengths, pooling)
        is_late = graph.add("GreaterOrEqual", texts.positions, _column(graph, first))
        is_token = graph.add("Not", is_padding)
        is_pooled = graph.add("And", graph.add("And", is_pooled, is_late), is_token)
        if pooling.last_skips_padding:
            window = graph.constant(pooling.window_tokens)
            window_from = graph.add("Max", first, graph.add("Sub", texts.lengths, window))
            is_last_window = graph.add("GreaterOrEqual", texts.positions, _column(graph, window_from))
            skipped = _count(graph, graph.add("And", is_padding, is_last_window))
            end = graph.add("Max", first, graph.add("Sub", end, skipped))
    count = graph.add("Max", _count(graph, is_pooled), graph.constant(1))
    mask = graph.add("Unsqueeze", graph.add("Transpose", is_pooled, perm=[1, 0]), graph.constant([2]))
    lowest, zero = graph.constant(np.float32(-np.inf)), graph.constant(np.float32(0))
    largest = graph.add("ReduceMax", graph.add("Where", mask, outputs, lowest), axes=[0], keepdims=0)
    if pooling is not None:  # nothing but typed padding
        largest = graph.add("Where", graph.add("IsInf", largest), zero, largest)
    summands = graph.add("Where", mask, outputs, zero)
    total = graph.add("ReduceSum", summands, graph.constant([0]), keepdims=0)
    mean = graph.add("Div", total, _column(graph, graph.add("Cast", count, to=TensorProto.FLOAT)))
    text_count = graph.add("Squeeze", graph.add("Shape", texts.lengths))
    text_numbers = graph.add("Range", graph.constant(0), text_count, graph.constant(1))
    places = graph.add("Concat", _column(graph, end), _column(graph, text_numbers), axis=1)
    return graph.add("Concat", graph.add("GatherND", outputs, places), largest, mean, axis=1)


def _first_pooled(graph: _Graph, lengths: str, pooling: FastaiPooling) -> str:
    """Return ``FastaiPooling.first_pooled`` of each text, (B,)."""
    if pooling.tail_tokens is None:
        return graph.add("Mul", lengths, graph.constant(0))
    window = graph.constant(pooling.window_tokens)
    before = graph.add("Max", graph.add("Sub", lengths, graph.constant(pooling.tail_tokens)), graph.constant(0))
    windows = graph.add("Div", graph.add("Add", before, graph.constant(pooling.window_tokens - 1)), window)
    return graph.add("Mul", windows, window)


def _count(graph: _Graph, flags: str) -> str:
    """Return how many of each text's flags, (B, T), are set, (B,)."""
    return graph.add("ReduceSum", graph.add("Cast", flags, to=TensorProto.INT64), graph.constant([1]), keepdims=0)


def _add_scores(graph: _Graph, logits: dict[str, str], manifest: Manifest) -> None:
    """Add the outputs: each direction's scores, and the ensemble's, calibrated."""
    combination, task = manifest.combination, manifest.decisions
    assert combination is not None

    def mean_of(rows: Iterable[str]) -> str:
        shares = [graph.constant(np.float32(share)) for share in combination.weights]
        return graph.add("Sum", *(graph.add("Mul", row, share) for row, share in zip(rows, shares, strict=True)))

    def activation(values: str, out: str | None = None) -> str:
        match task.activation_name:
            case "softmax":
                return graph.add("Softmax", values, out=out, axis=1)
            case "sigmoid":
                return graph.add("Sigmoid", values, out=out)
            case "identity":
                origin, one = (task.activation(np.array([x])) for x in (0.0, 1.0))
                scaled = graph.add("Mul", values, graph.constant((one - origin).astype(np.float32)))
                return graph.add("Add", scaled, graph.constant(origin.astype(np.float32)), out=out)

    mean = mean_of([activation(values, name) for name, values in logits.items()])
    if task.temperature == 1:
        graph.add("Identity", mean, out=ENSEMBLE)
        return
    values = graph.add("Log", mean)
    if task.activation_name == "sigmoid":
        others = mean_of([graph.add("Sigmoid", graph.add("Neg", row)) for row in logits.values()])
        least = graph.constant(np.float32(1 - LARGEST_WITH_ODDS))
        values = graph.add("Sub", values, graph.add("Log", graph.add("Max", others, least)))
    activation(graph.add("Div", values, graph.constant(np.float32(task.temperature))), ENSEMBLE)


def _differences(content: bytes, bundle: Bundle) -> dict[str, float]:
    """Run the graph on the bundle's proof, and give the largest difference for each direction and the ensemble."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    short = [row for row in bundle.parity_record if len(row.ids) <= _BATCHED_TOKENS]
    differences, task = dict.fromkeys(names, 0.0), bundle.manifest.decisions
    for rows in [[row] for row in bundle.parity_record] + [short] * bool(short):
        lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
        ids = np.full((len(rows), lengths.max()), PADDING_ID, dtype=np.int64)
        for line, row in enumerate(rows):
            ids[line, : lengths[line]] = row.ids
        for name, found in zip(names, session.run(names, {"ids": ids, "lengths": lengths}), strict=True):
            difference = task.difference(found, recorded_scores(rows, name, task))
            differences[name] = max(differences[name], difference)
    return differences
