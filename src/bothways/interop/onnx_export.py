"""Export a classifier as one ONNX graph with both directions inside, for other runtimes and languages.

Input: a bundle. Output: a file whose inputs are tokens as written and their lengths, and whose outputs are the scores
of each direction and of the ensemble. The reading order of each direction is part of the graph, so a caller cannot
forget the reversal. Labels and tokenizer are stored in its metadata.

Letters: B texts, T tokens of the longest text, V vocabulary, E width of the encoder's outputs, C classes.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker

from bothways.arguments import as_path, checked
from bothways.bundle.manifest import LINEAR, FastaiPooling, Kind, Manifest, Member
from bothways.bundle.parity import ENSEMBLE, LARGEST_DIFFERENCE, ParityRow, recorded_scores
from bothways.bundle.read import Bundle, read_bundle
from bothways.bundle.weights import CHARACTERS, LINEAR_BIAS, LINEAR_IDF, LINEAR_WEIGHT, WORDS
from bothways.errors import BundleError
from bothways.files import open_for_writing, refuse_unusable
from bothways.interop.onnx_domain import abstention_metadata, add_domain_score
from bothways.runtime.graph_builder import GraphBuilder
from bothways.runtime.head import folded_layers
from bothways.runtime.linear import KnownNgrams
from bothways.runtime.sessions import encoder_of
from bothways.tasks.classification import LARGEST_WITH_ODDS
from bothways.text.cleaning import SPECIAL_TOKENS, START, WORD_START
from bothways.text.ngrams import ngrams_of
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer import PADDING_ID, Tokenizer

_EXPORT_OPSET = 17
_EXPORT_IR_VERSION = 8
"""Older than the versions of our own sessions, so that older runtimes can read the file."""
_MAX_BYTES = 2**31 - 2**20
_MAX_BATCHED_TOKENS = 64
_PIECE, _WORD_START, _SPECIAL_TOKEN, _TEXT_START = range(4)
"""Role of a token in the group that it belongs to."""


@dataclass(frozen=True)
class OnnxExport:
    """The result of an export.

    Attributes:
        path: Path of the ONNX file.
        size_bytes: Size of the file in bytes.
        texts: Number of texts of the bundle's parity record that the graph was run on.
        differences: Largest absolute difference from the parity record, by direction and for the ensemble.
    """

    path: Path
    size_bytes: int
    texts: int
    differences: dict[str, float]


@checked(bundle=as_path, out=as_path)
def export_onnx(bundle: str | os.PathLike[str], *, out: str | os.PathLike[str]) -> OnnxExport:
    """Export a bundle as an ONNX file that predicts without bothways.

    Inputs: ``ids``, (B, T) int64, as the bundle's tokenizer writes them, with any valid id after a text's end, and
    ``lengths``, (B,) int64, each in 1..T. Outputs: ``forward``, ``backward`` and ``linear`` (those that the bundle has)
    and ``ensemble``, (B, C) float32: probabilities, or for regression the value of each target. Metadata: ``labels``,
    ``targets``, ``task``, ``thresholds``, ``text_columns`` and ``tokenizer`` as JSON, and ``digest``, the bundle's
    identity. Memory grows with B times T, because a text is read at once, not in windows.

    A bundle with a linear member has two more inputs: ``ngrams``, (B, N) int64, the places of a text's n-grams among
    those that the member knows, and ``ngram_values``, (B, N) float32, the TF-IDF value of each, 0 after a text's last
    one. What is needed to compute them is in the metadata, ``linear``.

    A bundle whose abstention was calibrated has one more output, ``domain_score``, (B, 1) float32. The thresholds with
    which the model abstains are in the metadata, ``abstention``.

    Guarantee 1: the file is written only if the graph reproduces the bundle's parity record (≤ 1e-5) on this machine,
    for each text alone and for the short texts in one padded batch.

    Args:
        bundle: Directory of a classifier bundle.
        out: File to create. Must not exist yet.

    Returns:
        The file that was written and how closely it reproduces the parity record.

    Raises:
        BundleError: The bundle can't be read or exported, or the graph did not reproduce its parity record.
        OutputExists: ``out`` exists already.
        ConfigError: The folder of ``out`` does not exist.
        DataError: The disk is full or can't be written; no partial file remains.
    """
    target = Path(out)
    refuse_unusable(target)
    whole = read_bundle(bundle, Kind.CLASSIFIER)
    content = _model(whole).SerializeToString()
    differences = _differences(content, whole)
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= LARGEST_DIFFERENCE:
        raise BundleError(
            f"{whole.name} was not exported: the graph's {worst} differs by {differences[worst]:.3g} from the parity "
            f"record, expected at most {LARGEST_DIFFERENCE:g}. Check the bundle with bothways verify"
        )
    with open_for_writing(os.fspath(target)) as file:
        file.write(content)
    return OnnxExport(target, len(content), len(whole.parity_record), differences)


@dataclass(frozen=True)
class _Texts:
    """Names of the values that all members share.

    Attributes:
        ids: Token ids as written, (B, T) int64.
        lengths: Number of tokens of each text, (B,) int64.
        lengths_32: The lengths as int32, which recurrent operators require.
        width: T, a scalar.
        positions: 0..T-1, (T,).
        is_text: Whether a position is before the text's end, (B, T).
    """

    ids: str
    lengths: str
    lengths_32: str
    width: str
    positions: str
    is_text: str


def _model(bundle: Bundle) -> ModelProto:
    manifest, graph = bundle.manifest, GraphBuilder("bothways")
    texts = _texts(graph)
    pooled = {str(m.direction): _pooled_states(graph, texts, m, bundle) for m in manifest.members}
    logits = {str(m.direction): _logits(graph, pooled[m.direction], m, bundle) for m in manifest.members}
    _add_scores(graph, logits, _linear_outputs(graph, bundle), manifest)
    for name in (*manifest.scored_by, ENSEMBLE):
        graph.output(name, ["texts", manifest.outputs])
    if bundle.abstention is not None:
        add_domain_score(graph, texts.ids, texts.is_text, list(pooled.values()), bundle.abstention[1])
    if graph.constant_bytes > _MAX_BYTES:
        raise BundleError(
            f"{bundle.name} has {graph.constant_bytes:,} bytes of weights, but an ONNX file cannot exceed 2 GiB"
        )
    metadata = {
        "labels": json.dumps(manifest.labels),
        "targets": json.dumps(manifest.decisions.target_names),
        "task": str(manifest.task),
        "thresholds": json.dumps(manifest.thresholds),
        "text_columns": json.dumps(manifest.training.text_columns),
        "tokenizer": bundle.tokenizer.to_bytes().decode(),
        "digest": bundle.digest,
        **_linear_metadata(bundle),
        **abstention_metadata(bundle),
    }
    model = graph.model(opset=_EXPORT_OPSET, ir_version=_EXPORT_IR_VERSION, metadata=metadata)
    checker.check_model(model)
    return model


def _texts(graph: GraphBuilder) -> _Texts:
    ids = graph.input("ids", ["texts", "tokens"], TensorProto.INT64)
    lengths = graph.input("lengths", ["texts"], TensorProto.INT64)
    width = graph.add("Squeeze", graph.add("Shape", ids, start=1, end=2))
    positions = graph.add("Range", graph.constant(0), width, graph.constant(1))
    is_text = graph.add("Less", positions, _column(graph, lengths))
    lengths_32 = graph.add("Cast", lengths, to=TensorProto.INT32)
    return _Texts(ids, lengths, lengths_32, width, positions, is_text)


def _column(graph: GraphBuilder, values: str) -> str:
    return graph.add("Unsqueeze", values, graph.constant([1]))


def _pooled_states(graph: GraphBuilder, texts: _Texts, member: Member, bundle: Bundle) -> str:
    """Add the encoder of one member and return the name of its pooled states, (B, 3E)."""
    weights = bundle.weights[member.direction]
    ids = _ids_in_reading_order(graph, texts, member, bundle)
    columns = graph.add("Transpose", ids, perm=[1, 0])  # (T, B)
    outputs = encoder_of(member.architecture).add(graph, weights, columns, texts.lengths_32).outputs
    return _pooled(graph, texts, ids, outputs, member.pooling)


def _logits(graph: GraphBuilder, pooled: str, member: Member, bundle: Bundle) -> str:
    """Add the head of one member and return the name of its logits, (B, C)."""
    weights, values = bundle.weights[member.direction], pooled
    for number, (weight, bias) in enumerate(folded_layers(weights, len(member.widths_head or []) + 1)):
        arrays = [graph.constant(array.astype(np.float32)) for array in (weight.T, bias)]
        values = graph.add("Gemm", graph.add("Relu", values) if number else values, *arrays)
    return values


def _ids_in_reading_order(graph: GraphBuilder, texts: _Texts, member: Member, bundle: Bundle) -> str:
    """Return the ids as a member reads them, (B, T): ``text.reading.read`` for all texts of a batch."""
    if member.direction is Direction.FORWARD:
        return texts.ids
    if member.special_tokens is SpecialTokenPlacement.AS_WRITTEN:
        return graph.add("ReverseSequence", texts.ids, texts.lengths, batch_axis=0, time_axis=1)
    role = graph.add("Gather", graph.constant(_roles(bundle.tokenizer, bundle.name)), texts.ids)
    is_special = graph.add("Equal", role, graph.constant(_SPECIAL_TOKEN))
    special = graph.add("Cast", is_special, to=TensorProto.INT64)
    all_but_last = graph.add("Slice", special, graph.constant([0]), graph.constant([-1]), graph.constant([1]))
    after_special = graph.add("Pad", all_but_last, graph.constant([0, 1, 0, 0]))
    begins = graph.add("Greater", role, graph.add("Mul", after_special, graph.constant(_TEXT_START)))
    group = graph.add("CumSum", graph.add("Cast", begins, to=TensorProto.INT64), graph.constant(1))

    # One sort key per token. The start of the text is read first, then the groups from last to first. Within a group,
    # the special tokens keep their written order, and the pieces follow from last to first. After a text's end, the
    # order does not change.
    room = graph.add("Mul", texts.width, graph.constant(4))
    is_start = graph.add("Equal", role, graph.constant(_TEXT_START))
    rank = graph.add("Where", is_start, room, group)
    from_end = graph.add("Sub", graph.add("Mul", texts.width, graph.constant(3)), texts.positions)
    within = graph.add("Where", is_special, texts.positions, from_end)
    key = graph.add("Sub", within, graph.add("Mul", rank, room))
    key = graph.add("Where", texts.is_text, key, texts.positions)
    k = graph.add("Unsqueeze", texts.width, graph.constant([0]))
    _, order = graph.add_multiple("TopK", key, k, outputs=2, axis=1, largest=0, sorted=1)
    return graph.add("GatherElements", texts.ids, order, axis=1)


def _roles(tokenizer: Tokenizer, name: str) -> NDArray[np.int64]:
    """Return the role of each id of the vocabulary in its group, (V,), from which the graph finds the groups."""
    tokens = tokenizer.tokens(range(len(tokenizer)))
    if not isinstance(tokenizer, SubwordTokenizer) or WORD_START not in tokens:
        raise BundleError(
            f"{name} can't be exported: it reads backward with special tokens in reading order, but its tokens do not "
            "show where words begin"
        )
    role = dict.fromkeys(SPECIAL_TOKENS, _SPECIAL_TOKEN) | {START: _TEXT_START}
    roles = [role.get(t, _WORD_START if t.startswith(WORD_START) else _PIECE) for t in tokens]
    if tokenizer.has_field_token:
        roles[-1] = _WORD_START  # a group of its own
    return np.array(roles, dtype=np.int64)


def _pooled(graph: GraphBuilder, texts: _Texts, ids: str, outputs: str, pooling: FastaiPooling | None) -> str:
    """Return the last, largest and mean output of each text, concatenated, (B, 3E)."""
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
    if pooling is not None:  # a text may contain nothing but padding that a user typed
        largest = graph.add("Where", graph.add("IsInf", largest), zero, largest)
    summands = graph.add("Where", mask, outputs, zero)
    total = graph.add("ReduceSum", summands, graph.constant([0]), keepdims=0)
    mean = graph.add("Div", total, _column(graph, graph.add("Cast", count, to=TensorProto.FLOAT)))
    text_count = graph.add("Squeeze", graph.add("Shape", texts.lengths))
    text_numbers = graph.add("Range", graph.constant(0), text_count, graph.constant(1))
    last_positions = graph.add("Concat", _column(graph, end), _column(graph, text_numbers), axis=1)
    return graph.add("Concat", graph.add("GatherND", outputs, last_positions), largest, mean, axis=1)


def _first_pooled(graph: GraphBuilder, lengths: str, pooling: FastaiPooling) -> str:
    """Return ``FastaiPooling.first_pooled`` of each text, (B,)."""
    if pooling.tail_tokens is None:
        return graph.add("Mul", lengths, graph.constant(0))
    window = graph.constant(pooling.window_tokens)
    before = graph.add("Max", graph.add("Sub", lengths, graph.constant(pooling.tail_tokens)), graph.constant(0))
    windows = graph.add("Div", graph.add("Add", before, graph.constant(pooling.window_tokens - 1)), window)
    return graph.add("Mul", windows, window)


def _count(graph: GraphBuilder, flags: str) -> str:
    """Return the number of flags, (B, T), that are set in each text, (B,)."""
    return graph.add("ReduceSum", graph.add("Cast", flags, to=TensorProto.INT64), graph.constant([1]), keepdims=0)


def _linear_outputs(graph: GraphBuilder, bundle: Bundle) -> str | None:
    """Add the linear member and return the name of its outputs, (B, C), or None if there is none."""
    if bundle.linear is None:
        return None
    _, arrays = bundle.linear
    places = graph.input("ngrams", ["texts", "ngrams"], TensorProto.INT64)
    values = graph.input("ngram_values", ["texts", "ngrams"])
    weights = graph.add("Gather", graph.constant(arrays[LINEAR_WEIGHT].astype(np.float32)), places)
    products = graph.add("Mul", weights, graph.add("Unsqueeze", values, graph.constant([2])))
    total = graph.add("ReduceSum", products, graph.constant([1]), keepdims=0)
    return graph.add("Add", total, graph.constant(arrays[LINEAR_BIAS].astype(np.float32)))


def _linear_metadata(bundle: Bundle) -> dict[str, str]:
    """Return what a caller needs to find the n-grams of a text, if there is a linear member.

    ``hashes`` are those of the n-grams of words, and then those of characters, 4 bytes each. ``idf`` are their inverse
    document frequencies, in half precision. Both are little-endian, in base64.
    """
    if bundle.linear is None:
        return {}
    linear, arrays = bundle.linear
    hashes = np.concatenate([arrays[WORDS], arrays[CHARACTERS]]).astype("<u4")
    fields = {"words": linear.words, "characters": linear.characters}
    encoded = {"hashes": hashes, "idf": arrays[LINEAR_IDF].astype("<f2")}
    return {LINEAR: json.dumps({**fields, **{k: base64.b64encode(v.tobytes()).decode() for k, v in encoded.items()}})}


def _add_scores(graph: GraphBuilder, logits: dict[str, str], linear: str | None, manifest: Manifest) -> None:
    """Add the outputs: the scores of each direction and of the linear member, and the ensemble's calibrated scores."""
    combination, task = manifest.combination, manifest.decisions
    weight = manifest.linear.weight if manifest.linear is not None else 0.0
    assert combination is not None

    def mean_of(rows: Iterable[str]) -> str:
        shares = [graph.constant(np.float32(share)) for share in combination.weights]
        return graph.add("Sum", *(graph.add("Mul", row, share) for row, share in zip(rows, shares, strict=True)))

    def activation(values: str, out: str | None = None) -> str:
        steps = task.operations()
        for step in steps:
            operands = [] if step.operand is None else [graph.constant(step.operand.astype(np.float32))]
            axis = {"axis": 1} if step.operator == "Softmax" else {}
            values = graph.add(step.operator, values, *operands, out=out if step is steps[-1] else None, **axis)
        return values

    def mixed(directions: str, of_linear: str, out: str | None = None) -> str:
        shares = [graph.constant(np.float32(share)) for share in (1 - weight, weight)]
        parts = [graph.add("Mul", *pair) for pair in zip((directions, of_linear), shares, strict=True)]
        return graph.add("Add", *parts, out=out)

    mean = mean_of([activation(values, name) for name, values in logits.items()])
    if linear is not None and task.activation_name == "softmax":  # fitted one against the rest
        linear = graph.add("Neg", graph.add("Softplus", graph.add("Neg", linear)))
    of_linear = activation(linear, LINEAR) if linear is not None else ""
    if linear is None and task.temperature == 1:
        graph.add("Identity", mean, out=ENSEMBLE)
        return
    if task.no_probabilities:
        mixed(mean, of_linear, ENSEMBLE)
        return
    least = graph.constant(np.float32(1 - LARGEST_WITH_ODDS))
    values = graph.add("Log", graph.add("Max", mean, least))
    if task.activation_name == "sigmoid":
        others = mean_of([graph.add("Sigmoid", graph.add("Neg", row)) for row in logits.values()])
        values = graph.add("Sub", values, graph.add("Log", graph.add("Max", others, least)))
    if linear is not None:
        most = np.float32(math.log(LARGEST_WITH_ODDS / (1 - LARGEST_WITH_ODDS)))
        logarithms = (
            graph.add("Clip", linear, graph.constant(-most), graph.constant(most))
            if task.activation_name == "sigmoid"
            else graph.add("Log", graph.add("Max", of_linear, least))
        )
        values = mixed(values, logarithms)
    activation(graph.add("Div", values, graph.constant(np.float32(task.temperature))), ENSEMBLE)


def _differences(content: bytes, bundle: Bundle) -> dict[str, float]:
    """Run the graph on the parity record, and return the largest difference by direction and for the ensemble."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [*bundle.manifest.scored_by, ENSEMBLE]
    short = [row for row in bundle.parity_record if len(row.ids) <= _MAX_BATCHED_TOKENS]
    differences, task = dict.fromkeys(names, 0.0), bundle.manifest.decisions
    for rows in [[row] for row in bundle.parity_record] + [short] * bool(short):
        lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
        ids = np.full((len(rows), lengths.max()), PADDING_ID, dtype=np.int64)
        for line, row in enumerate(rows):
            ids[line, : lengths[line]] = row.ids
        inputs = {"ids": ids, "lengths": lengths, **_ngram_inputs(bundle, rows)}
        for name, found in zip(names, session.run(names, inputs), strict=True):
            difference = task.difference(found, recorded_scores(rows, name, task))
            differences[name] = max(differences[name], difference)
    return differences


def _ngram_inputs(bundle: Bundle, rows: Sequence[ParityRow]) -> dict[str, NDArray[np.generic]]:
    """Return the inputs of the linear member for texts of the parity record, if there is one."""
    if bundle.linear is None:
        return {}
    known = KnownNgrams.of(bundle.linear[1])
    found = [known.row(ngrams_of(row.text_in(bundle.manifest.training.text_columns))) for row in rows]
    longest = max(len(places) for places, _ in found)
    ngrams, values = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.float32)
    for line, (places, of_text) in enumerate(found):
        ngrams[line, : len(places)], values[line, : len(places)] = places, of_text
    return {"ngrams": ngrams, "ngram_values": values}
