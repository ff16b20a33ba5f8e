"""Match the torch modules of a fastai model layer by layer, and read their tensors and the pooling.

Input: the fact of a module. Output: arrays by the names of ``state_dict``, the pooling, and the range of a regression
model. Nothing is executed. Every module must be of a known class, in the place that fastai gives it, with the options
that fastai uses. Dropouts of any probability are known, because they do nothing in a prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from bothways.bundle.manifest import FastaiPooling
from bothways.errors import ForeignModelError, shown
from bothways.interop.facts import LONGEST_NAME, Fact, is_encodable
from bothways.interop.known_objects import Known, called, path_of, require, state_of
from bothways.interop.pickle_reader import Record

MOST_TENSORS = 10_000
_DEEPEST_MODULE = 50
_LARGEST_WINDOW = 1_000_000
_LONGEST_TAIL = 1_000_000_000
_LARGEST_NUMBER = 1e30

_TORCH, _V1, _V2 = "torch.nn.modules", "fastai.text.models.awd_lstm", "fastai.text.models.awdlstm"
_QRNN: Final = "fastai.text.models.qrnn"
_PADDING = {"pad_idx": (1,), "pad_token": (1,)}

_TOP: Final = {
    f"{_V1}.SequentialRNN": Known(),
    "fastai.text.models.core.SequentialRNN": Known(),
}
_WINDOWS: Final = {
    "fastai.text.learner.MultiBatchEncoder": Known(_PADDING),
    "fastai.text.models.core.SentenceEncoder": Known(_PADDING),
}
_ENCODERS: Final = {
    f"{_V1}.AWD_LSTM": Known({"qrnn": (False, True), "n_dir": (1,), **_PADDING}),
    f"{_V2}.AWD_LSTM": Known({"n_dir": (1,), **_PADDING}),
    f"{_V2}.AWD_QRNN": Known({"n_dir": (1,), **_PADDING}),  # up to 2.3
}
_HEADS: Final = {
    "fastai.text.learner.PoolingLinearClassifier": Known(),
    f"{_V1}.PoolingLinearClassifier": Known(),  # up to 1.0.46
    "fastai.text.models.core.PoolingLinearClassifier": Known(),
}
_DECODERS: Final = {f"{_V1}.LinearDecoder": Known(), "fastai.text.models.core.LinearDecoder": Known()}
_EMBEDDINGS: Final = {f"{_TORCH}.sparse.Embedding": Known({"max_norm": (None,)})}
_EMBEDDING_DROPOUTS: Final = {f"{_V1}.EmbeddingDropout": Known(), f"{_V2}.EmbeddingDropout": Known()}
_STATE_DROPOUTS: Final = {f"{_V1}.RNNDropout": Known(), f"{_V2}.RNNDropout": Known()}
_WEIGHT_DROPOUTS: Final = {f"{_V1}.WeightDropout": Known(), f"{_V2}.WeightDropout": Known()}
_LSTMS: Final = {
    f"{_TORCH}.rnn.LSTM": Known(
        {
            "mode": ("LSTM",),
            "num_layers": (1,),
            "bias": (True,),
            "batch_first": (True,),
            "bidirectional": (False,),
            "proj_size": (0,),
        },
        frozenset({"flatten_parameters"}),  # replaced by fastai. It only moves the weights in memory
    )
}
_ONE_LAYER: Final = {"n_layers": (1,), "num_layers": (1,), "batch_first": (True,), "bidirectional": (False,)}
_QRNNS: Final = {f"{_QRNN}.QRNN": Known(_ONE_LAYER)}
_QRNN_LAYERS: Final = {
    f"{_QRNN}.QRNNLayer": Known(
        {
            "window": (1, 2),
            "output_gate": (True, False),
            "save_prev_x": (True, False),
            "batch_first": (True,),
            "backward": (False,),
        }
    )
}
_LISTS: Final = {f"{_TORCH}.container.ModuleList": Known()}
_SEQUENCES: Final = {f"{_TORCH}.container.Sequential": Known()}
_BLOCKS: Final = {"fastai.layers.LinBnDrop": Known()}
_LINEAR: Final = {f"{_TORCH}.linear.Linear": Known()}
_LAYERS: Final = {
    f"{_TORCH}.batchnorm.BatchNorm1d": Known({"eps": (1e-5,), "affine": (True,), "track_running_stats": (True,)}),
    f"{_TORCH}.dropout.Dropout": Known(),
    **_LINEAR,
    f"{_TORCH}.activation.ReLU": Known(),
}
_RANGES: Final = {"fastai.layers.SigmoidRange": Known()}
_WRAPPERS: Final = {
    "torch.nn.parallel.data_parallel.DataParallel": Known(parts=frozenset({"device_ids", "output_device"}))
}

_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True, eq=False)
class FoundModel:
    """The parts of a fastai model.

    Attributes:
        state: Arrays by the names of ``state_dict``.
        pooling: The part of a text that a classifier pools. None for a language model or an encoder.
        value_range: Least and greatest value of a regression model with ``y_range``.
        masks_padding: Whether the head leaves out padding. Classifiers of fastai 1.0.46 and older do not.
    """

    state: dict[str, object]
    pooling: FastaiPooling | None
    value_range: tuple[float, float] | None
    masks_padding: bool


def match_model(model: Fact) -> FoundModel:
    """Return the parts of a classifier, a language model or an encoder.

    Raises:
        ForeignModelError: A module is unknown, has other options than fastai's, or has code of its own.
    """
    if path_of(model.value) in _WRAPPERS:
        model = _module(model, _WRAPPERS, "its model", ("module",))["module"]
    pooling, value_range, masks_padding = None, None, True
    if path_of(model.value) in _ENCODERS:
        _match_encoder(model)
    else:
        children = _module(model, _TOP, "its model", ("0", "1"))
        first, second = children["0"], children["1"]
        if path_of(first.value) in _ENCODERS:
            _match_encoder(first)
            _match_decoder(second)
        else:
            encoder = _module(first, _WINDOWS, "its encoder", ("module",), _expected_encoder(first))["module"]
            _match_encoder(encoder, reads_windows=True)
            pooling = _pooling(first)
            value_range = _match_head(second)
            masks_padding = "pad_idx" in state_of(first)
    return FoundModel(module_state(model), pooling, value_range, masks_padding)


def module_state(module: Fact) -> dict[str, object]:
    """Return the arrays of a module and its submodules by name, like ``state_dict``.

    Raises:
        ForeignModelError: There are too many, or a name is not that of a tensor.
    """
    found: dict[str, object] = {}
    waiting: list[tuple[str, object, int]] = [("", module.value, 0)]
    visited, work = 0, module.work
    while waiting:
        before, record, depth = waiting.pop()
        visited += 1
        if not isinstance(record, Record) or not isinstance(record.state, dict) or depth > _DEEPEST_MODULE:
            continue
        for part in ("_parameters", "_buffers", "_modules"):
            content = record.state.get(part)
            if not isinstance(content, dict):
                continue
            work.charge(len(content))
            for key, value in content.items():
                name = f"{before}{key}" if isinstance(key, str) and len(key) <= LONGEST_NAME else ""
                if not is_name(name):
                    raise Fact(key, f"a name in {part} of {before or 'the model'}", work).refusal("a short name")
                if part == "_modules":
                    waiting.append((f"{name}.", value, depth + 1))
                elif isinstance(value, np.ndarray):
                    found[name] = value
        if max(len(found), len(waiting), visited) > MOST_TENSORS:
            raise ForeignModelError(
                f"{work.source} has more than {MOST_TENSORS} tensors or modules, expected a text model of fastai"
            )
    return found


def is_name(name: str) -> bool:
    """Return whether a text can be the name of a tensor: it is short and can be written to a file and a terminal."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and is_encodable(name)


def _module(
    fact: Fact, known: Mapping[str, Known], what: str, children: tuple[str, ...], expected: str = ""
) -> dict[str, Fact]:
    """Return the children of a module, which must be of a known class without hooks, by their names."""
    require(fact, known, what, expected)
    state = state_of(fact)
    for hooks in _HOOKS:
        found = state.get(hooks)
        if found is not None and not (isinstance(found, dict) and not found):
            first = next(iter(found.values())) if isinstance(found, dict) else found
            raise ForeignModelError(
                f"{fact.work.source}: {what} has a hook ({called(first)} in {hooks}), which may change predictions: "
                "remove it and export the learner again"
            )
    parts = state.get("_modules")
    found = parts if isinstance(parts, dict) else {}
    fact.work.charge(len(found))
    if tuple(found) != children:
        listed = ", ".join(shown(name) for name in list(found)[:20]) or "none"
        raise ForeignModelError(
            f"{fact.work.source}: {what} ({called(fact.value)}) has the modules {listed}, expected "
            f"{', '.join(children) or 'none'}: it can't be imported"
        )
    return {name: Fact(found[name], f"{fact.name}.{name}", fact.work) for name in children}


def _children(fact: Fact) -> tuple[str, ...]:
    """Return the names of the children of a list of modules: their places, as in every list that torch makes."""
    parts = state_of(fact).get("_modules")
    return tuple(str(place) for place in range(min(len(parts), MOST_TENSORS))) if isinstance(parts, dict) else ()


def _expected_encoder(fact: Fact) -> str:
    known = "fastai's MultiBatchEncoder or SentenceEncoder, AWD_LSTM or AWD_QRNN"
    if path_of(fact.value) == f"{_V1}.MultiBatchRNNCore":
        return f"{known}: fastai 1.0.42 and older split texts in another way, and can't be imported"
    return known


def _match_encoder(encoder: Fact, *, reads_windows: bool = False) -> None:
    """Match an encoder. That of a classifier reads a text in windows of ``bptt`` tokens."""
    what = "its encoder"
    children = _module(encoder, _ENCODERS, what, ("encoder", "encoder_dp", "rnns", "input_dp", "hidden_dps"))
    _module(children["encoder"], _EMBEDDINGS, "its embedding", ())
    dropout = _module(children["encoder_dp"], _EMBEDDING_DROPOUTS, "its embedding dropout", ("emb",))
    _module(dropout["emb"], _EMBEDDINGS, "its embedding", ())
    _module(children["input_dp"], _STATE_DROPOUTS, "its input dropout", ())
    layers = _module(children["rnns"], _LISTS, "its list of layers", _children(children["rnns"]))
    dropouts = _module(children["hidden_dps"], _LISTS, "its list of dropouts", tuple(layers))
    for number in layers:
        _module(dropouts[number], _STATE_DROPOUTS, f"dropout {number} of its encoder", ())
    if path_of(encoder.value) == f"{_V2}.AWD_QRNN" or encoder.part("qrnn").flag(default=False):
        _match_qrnns(children["encoder"], layers, reads_windows=reads_windows)
    else:
        for number, layer in layers.items():
            name = f"layer {number} of its encoder"
            _module(_without_dropout(layer, name, "weight_hh_l0"), _LSTMS, name, ())
    count = state_of(encoder).get("n_layers", len(layers))
    if type(count) is not int or count != len(layers):
        raise Fact(count, f"{encoder.name}.n_layers", encoder.work).refusal(f"{len(layers)}, the number of its layers")


def _without_dropout(dropout: Fact, name: str, weight: str) -> Fact:
    """Return the module whose weight a weight dropout drops."""
    inner = _module(dropout, _WEIGHT_DROPOUTS, name, ("module",))["module"]
    dropped = dropout.part("layer_names")
    if dropped.texts(most=MOST_TENSORS) != [weight]:
        raise dropped.refusal(weight)
    return inner


def _match_qrnns(embedding: Fact, layers: Mapping[str, Fact], *, reads_windows: bool) -> None:
    """Match the layers of a QRNN encoder, and their options with the shapes of their weights.

    The shapes alone decide how the layers are imported, because saved weights have nothing else.
    """
    _, width_embedding = _shape(embedding, "weight")
    width = width_embedding
    for number, layer in layers.items():
        name = f"layer {number} of its encoder"
        if path_of(layer.value) in _QRNN_LAYERS:
            raise ForeignModelError(
                f"{layer.work.source}: {name} is a QRNN of fastai 1.0.49 or older, which predicts only on a GPU: save "
                "its weights with learn.save, and import the .pth file"
            )
        qrnn = _module(_module(layer, _QRNNS, name, ("layers",))["layers"], _LISTS, name, ("0",))["0"]
        linear = _module(qrnn, _QRNN_LAYERS, name, ("linear",))["linear"]
        _module(_without_dropout(linear, name, "weight"), _LINEAR, name, ())
        window = qrnn.part("window").integer(1, 2)
        if window == 2 and number != "0":
            raise qrnn.part("window").refusal("1 in all layers but the first")
        if window == 2 and reads_windows and not qrnn.part("save_prev_x").flag(default=False):
            raise ForeignModelError(
                f"{layer.work.source}: {name} has save_prev_x=False, as in fastai 1.0.50 to 1.0.52. It forgets the "
                "last token at the end of each window of bptt tokens, which is not supported. If predictions of longer "
                "texts may change, set learn.model[0].module.rnns[0].layers[0].save_prev_x = True and export again"
            )
        gates = 3 if qrnn.part("output_gate").flag(default=True) else 2
        rows, columns = _shape(linear, "weight_raw")
        if columns != window * width or rows % gates:
            raise ForeignModelError(
                f"{layer.work.source}: {name} has weights of shape ({rows}, {columns}), expected {gates} gates of a "
                f"window of {window} * {width} numbers: it can't be imported"
            )
        width = rows // gates
    if width != width_embedding:
        raise ForeignModelError(
            f"{embedding.work.source}: the last layer of its encoder returns {width} numbers, expected as many as the "
            "embedding has: it can't be imported"
        )


def _shape(module: Fact, name: str) -> tuple[int, int]:
    """Return the shape of a weight matrix."""
    parameters = state_of(module).get("_parameters")
    weight = parameters.get(name) if isinstance(parameters, dict) else None
    if not isinstance(weight, np.ndarray) or weight.ndim != 2:
        raise Fact(weight, f"{module.name}.{name}", module.work).refusal("a matrix")
    rows, columns = weight.shape
    return rows, columns


def _match_decoder(decoder: Fact) -> None:
    children = _module(decoder, _DECODERS, "its decoder", ("decoder", "output_dp"))
    _module(children["decoder"], _LINEAR, "its decoder", ())
    _module(children["output_dp"], _STATE_DROPOUTS, "its output dropout", ())


def _match_head(head: Fact) -> tuple[float, float] | None:
    """Return the range of values of a regression model, or None."""
    layers = _module(head, _HEADS, "its head", ("layers",))["layers"]
    found, value_range = [], None
    for number, layer in enumerate(_layers(layers)):
        if value_range is not None:
            raise ForeignModelError(
                f"{head.work.source}: its head continues with {called(layer.value)} after its SigmoidRange: it can't "
                "be imported"
            )
        if path_of(layer.value) in _RANGES:
            _module(layer, _RANGES, "its SigmoidRange", ())
            value_range = _range(layer)
            continue
        expected = "fastai's BatchNorm1d, Dropout, Linear and ReLU"
        _module(layer, _LAYERS, f"layer {number} of its head", (), expected)
        found.append(path_of(layer.value).rpartition(".")[2])
    order = [kind for kind in found if kind != "Dropout"]
    if not order or [*order, "ReLU"] != ["BatchNorm1d", "Linear", "ReLU"] * (len(order) // 3 + 1):
        raise ForeignModelError(
            f"{head.work.source}: its head has the layers {', '.join(found[:30]) or 'none'}, expected fastai's order: "
            "BatchNorm1d, Dropout and Linear, with ReLU between two of them"
        )
    return value_range


def _layers(layers: Fact) -> Iterator[Fact]:
    """Yield the layers of a head in order. v2 groups them in blocks."""
    for number, layer in _module(layers, _SEQUENCES, "its list of head layers", _children(layers)).items():
        if path_of(layer.value) in _BLOCKS:
            yield from _module(layer, _BLOCKS, f"block {number} of its head", _children(layer)).values()
        else:
            yield layer


def _range(layer: Fact) -> tuple[float, float]:
    low, high = (_number(layer.part(name)) for name in ("low", "high"))
    return low, high


def _number(fact: Fact) -> float:
    value = (
        fact.value.item() if isinstance(fact.value, np.generic | np.ndarray) and fact.value.size == 1 else fact.value
    )
    if isinstance(value, int | float) and abs(value) < _LARGEST_NUMBER and not isinstance(value, bool):
        return float(value)
    raise fact.refusal("a number")


def _pooling(encoder: Fact) -> FastaiPooling:
    """Return the part of a text that a classifier's sentence encoder pools."""
    window, longest = encoder.part("bptt").integer(1, _LARGEST_WINDOW), encoder.part("max_len")
    tokens = None if longest.value is None else longest.integer(1, _LONGEST_TAIL)
    is_version_1 = path_of(encoder.value) == "fastai.text.learner.MultiBatchEncoder"
    # v1 pools the windows that begin *after* the position max_len tokens before the end. v2 also pools a window
    # that begins there.
    tail = tokens - 1 if tokens is not None and is_version_1 else tokens
    if tail is not None and tail < window:
        raise ForeignModelError(
            f"{encoder.work.source} pools max_len={tokens} tokens in windows of bptt={window}, expected at least one "
            "window"
        )
    return FastaiPooling(window_tokens=window, tail_tokens=tail, last_skips_padding=not is_version_1)
