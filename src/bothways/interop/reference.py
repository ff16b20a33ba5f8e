"""Compute the predictions of imported models in plain numpy, as the reference that a bundle is verified against.

Input: arrays by the names that bundles use, and ids in reading order. Output: scores and losses. An import has
no trainer that could supply the reference, and the runtime can't be compared with itself. This module shares no code
with the runtime and is not fast. Letters: T tokens, E embedding, H hidden, C classes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import Architecture, Member
from bothways.bundle.parity import ENSEMBLE, ParityRow, parity_texts
from bothways.bundle.weights import Weights
from bothways.errors import ForeignModelError
from bothways.tasks.task import Operation, Task
from bothways.text.reading import Direction, Ids, TokenizedText, read
from bothways.text.tokenizer import PADDING_ID, Tokenizer

Floats = NDArray[np.float32]
_NORM_EPS = 1e-5
_DECODED_AT_ONCE = 256


def reference_record(
    members: Sequence[Member], weights: Mapping[Direction, Weights], task: Task | None, tokenizer: Tokenizer
) -> list[ParityRow]:
    """Return the parity record of imported models: texts with the scores or losses that numpy computes.

    Args:
        members: Either all classifiers or all language models.
        weights: Arrays of each member.
        task: What the outputs mean. None for language models.
        tokenizer: The members' common tokenizer.

    Raises:
        ForeignModelError: The weights are so large that a result is not a finite number, or a text has nothing to pool.
    """
    texts = parity_texts(tokenizer, seed=0)
    tokens = [tokenizer.tokenize(text) for text in texts]
    ids = [row.ids.tolist() for row in tokens]
    if task is None:
        with np.errstate(all="ignore"):
            losses = [_losses(member, weights[member.direction], tokens) for member in members]
        for member, values in zip(members, losses, strict=True):
            _require_finite(values, member)
        names = [str(member.direction) for member in members]
        rows = zip(texts, ids, zip(*losses, strict=True), strict=True)
        return [ParityRow(text=t, ids=i, loss=dict(zip(names, loss, strict=True))) for t, i, loss in rows]
    found = {}
    for member in members:
        with np.errstate(all="ignore"):
            found[str(member.direction)] = _scores(member, weights[member.direction], tokens, task.operations())
        _require_finite(found[str(member.direction)], member)
    found[ENSEMBLE] = np.mean(list(found.values()), axis=0)
    return [
        ParityRow.of_scores(text, ids[number], {name: rows[number] for name, rows in found.items()}, task)
        for number, text in enumerate(texts)
    ]


def _require_finite(values: Sequence[float] | NDArray[np.float64], member: Member) -> None:
    if not np.isfinite(values).all():
        raise ForeignModelError(
            f"the weights of the {member.direction} model are so large that its results are not finite numbers: the "
            "training diverged"
        )


def _scores(
    member: Member, weights: Weights, texts: Sequence[TokenizedText], operations: Sequence[Operation]
) -> NDArray[np.float64]:
    """Return a classifier's scores after the given operations, (texts, C)."""
    pooled = []
    ids = [read(text, member.direction, member.special_tokens) for text in texts]
    for row, hidden in zip(ids, hidden_states(member.architecture, weights, ids), strict=True):
        start = member.pooling.first_pooled(len(row)) if member.pooling else 0
        last = member.pooling.last_pooled(row) if member.pooling else len(row) - 1
        kept = hidden[start:][row[start:] != PADDING_ID].astype(np.float64)
        if not len(kept):
            raise ForeignModelError(
                f"the {member.direction} model pools only padding tokens of some texts, expected a longer window "
                "(bptt) or tail (max_len)"
            )
        pooled.append(np.concatenate([hidden[last], kept.max(axis=0), kept.mean(axis=0)]))
    logits = np.array(pooled)
    for layer in range(len(member.widths_head or []) + 1):
        values = _normed(np.maximum(logits, 0) if layer else logits, weights, f"head.norms.{layer}")
        logits = values @ weights[f"head.layers.{layer}.weight"].T + weights[f"head.layers.{layer}.bias"]
    for operation in operations:
        logits = _applied(operation, logits)
    return logits


def _applied(operation: Operation, values: NDArray[np.float64]) -> NDArray[np.float64]:
    match operation.operator:
        case "Softmax":
            exponentials = np.exp(values - values.max(axis=1, keepdims=True))
            found = exponentials / exponentials.sum(axis=1, keepdims=True)
        case "Sigmoid":
            found = 0.5 * (1 + np.tanh(0.5 * values))
        case "Mul":
            found = values * _operand(operation)
        case "Add":
            found = values + _operand(operation)
    return np.asarray(found, dtype=np.float64)


def _operand(operation: Operation) -> NDArray[np.float64]:
    assert operation.operand is not None
    return operation.operand


def _losses(member: Member, weights: Weights, texts: Sequence[TokenizedText]) -> list[float]:
    """Return a language model's mean loss on each text, in nats per token. 0 for a text of one token."""
    ids = [read(text, member.direction, member.special_tokens) for text in texts]
    decoder, bias = weights["encoder.embedding.weight"], weights["decoder.bias"]
    losses = []
    for row, hidden in zip(ids, hidden_states(member.architecture, weights, ids), strict=True):
        total = 0.0
        for start in range(0, len(row) - 1, _DECODED_AT_ONCE):
            targets = row[start + 1 : start + 1 + _DECODED_AT_ONCE]
            logits = (hidden[start : start + len(targets)] @ decoder.T + bias).astype(np.float64)
            largest = logits.max(axis=1)
            normalizer = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
            total += float((normalizer - logits[np.arange(len(targets)), targets]).sum())
        losses.append(total / max(1, len(row) - 1))
    return losses


def hidden_states(architecture: Architecture, weights: Weights, ids: Sequence[Ids]) -> list[Floats]:
    """Return the top layer's outputs for each text, (T, E). The texts are read in parallel, one token per step."""
    if not ids:
        return []
    order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
    values = [weights["encoder.embedding.weight"][ids[number]] for number in order]
    for layer, window in enumerate(architecture.layer_windows):
        before = f"encoder.layers.{layer}."
        part = {name.removeprefix(before): array for name, array in weights.items() if name.startswith(before)}
        if architecture.kind == "qrnn":
            values = [_qrnn(row, part["weight"], part["bias"], window, architecture.qrnn_gates) for row in values]
        else:
            values = _lstm(values, part)
    result: list[Floats] = [values[0]] * len(ids)
    for place, number in enumerate(order):
        result[number] = values[place]
    return result


def _lstm(inputs: Sequence[Floats], part: Mapping[str, Floats]) -> list[Floats]:
    """Run one LSTM layer over texts sorted from longest to shortest. The gates are in torch's order: i, f, g, o."""
    width = part["weight_hh"].shape[1]
    projected = [values @ part["weight_ih"].T + (part["bias_ih"] + part["bias_hh"]) for values in inputs]
    outputs = [np.empty((len(values), width), dtype=np.float32) for values in inputs]
    recurrent = np.ascontiguousarray(part["weight_hh"].T)
    hidden, cell = (np.zeros((len(inputs), width), dtype=np.float32) for _ in range(2))
    alive = len(inputs)
    for step in range(len(inputs[0])):
        while len(inputs[alive - 1]) <= step:
            alive -= 1
        gates = np.array([projected[text][step] for text in range(alive)]) + hidden[:alive] @ recurrent
        gate_in, gate_forget, gate_cell, gate_out = np.split(gates, 4, axis=1)
        cell[:alive] = _sigmoid(gate_forget) * cell[:alive] + _sigmoid(gate_in) * np.tanh(gate_cell)
        hidden[:alive] = _sigmoid(gate_out) * np.tanh(cell[:alive])
        for text in range(alive):
            outputs[text][step] = hidden[text]
    return outputs


def _qrnn(inputs: Floats, weight: Floats, bias: Floats, window: int, gates: int) -> Floats:
    """Run one QRNN layer over a text. The gates are in the order: candidate, forget gate, output gate."""
    if window == 2:
        before = np.concatenate([np.zeros_like(inputs[:1]), inputs[:-1]])
        inputs = np.concatenate([before, inputs], axis=1)
    candidate, forget, *out = np.split(inputs @ weight.T + bias, gates, axis=1)
    forget = _sigmoid(forget)
    cells, kept_share = forget * np.tanh(candidate), 1 - forget
    for step in range(1, len(cells)):
        cells[step] += kept_share[step] * cells[step - 1]
    return np.asarray(_sigmoid(out[0]) * cells if out else cells, dtype=np.float32)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)), dtype=np.float32)  # does not overflow


def _normed(values: NDArray[np.float64], weights: Weights, name: str) -> NDArray[np.float64]:
    part = {key: weights[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
    centered = (values - part["running_mean"]) / np.sqrt(part["running_var"].astype(np.float64) + _NORM_EPS)
    return np.asarray(centered * part["weight"] + part["bias"], dtype=np.float64)
