"""Rename fastai's tensors to the names that bundles use, and derive the model's sizes from their shapes.

Input: a state dict of fastai v1 or v2, of a classifier, a language model or an encoder. Output: float32 arrays by the
names of bundles. This module reads no files and no texts. Letters: V vocabulary, E embedding, H hidden, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import encoder_shapes
from bothways.errors import ForeignModelError, shown
from bothways.interop.torch_file import half_precision_of

Arrays = dict[str, NDArray[np.float32]]

_LAYER = re.compile(
    r"^(?P<before>.*?)rnns\.(?P<number>[0-9]{1,4})\."
    r"(?:module\.weight_ih_l0|(?P<linear>(?:layers\.0\.)?linear\.)(?:weight_raw|module\.weight))$"
)
"""The first weights of a layer. A QRNN has a linear layer, in a list of layers from fastai 1.0.50 on."""
_HEAD_PART = re.compile(r"^(?:module\.)?1\.layers\.(?P<place>[0-9]{1,4}(?:\.[0-9]{1,4})*)\.(?P<part>[a-z_]+)$")
_HEAD_PARTS = frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked"})
_MOST_LAYERS = 64
_MOST_HIDDEN_LAYERS = 16
_LARGEST_WIDTH = 65_536
_LARGEST_VOCABULARY = 10_000_000


@dataclass(frozen=True, eq=False)
class FoundWeights:
    """The weights of a fastai model by the names that bundles use.

    Attributes:
        arrays: The arrays of ``encoder.``, and of ``head.`` for a classifier or ``decoder.bias`` for any other model.
            The bias of an encoder without a decoder is zeros.
        architecture: The encoder's sizes.
        widths_head: Widths of the head's hidden layers, or None if there is no head.
        classes: Number of outputs of the head. 0 if there is no head.
        is_version_1: Whether the names are ones that only fastai v1 uses. None if the names do not show it.
    """

    arrays: Arrays
    architecture: Architecture
    widths_head: list[int] | None
    classes: int
    is_version_1: bool | None


def find_weights(state: Mapping[str, object], source: str) -> FoundWeights:
    """Return the weights of an AWD-LSTM or a QRNN of fastai.

    Args:
        state: Arrays by fastai's names.
        source: Name of the file in error messages.

    Raises:
        ForeignModelError: The arrays are not an AWD-LSTM or a QRNN of fastai, some part is not supported, or a value
            is not finite.
    """
    found_layers = _layers(state, source)
    encoder, architecture, has_copies = _encoder(state, found_layers, source)
    head, places = _head_modules(state)
    _refuse_others(state, found_layers, source)
    if head and not found_layers.before.endswith("module."):
        raise ForeignModelError(
            f"{source} was saved by fastai 1.0.42 or older, which splits texts in another way: it can't be imported"
        )
    bias = next((state[name] for name in ("1.decoder.bias", "module.1.decoder.bias") if name in state), None)
    if not head:
        if (decoder := state.get("1.decoder.weight")) is not None:
            _require_same(_array(decoder, "1.decoder.weight", source), encoder["encoder.embedding.weight"], source)
        size = architecture.vocabulary_size
        found = np.zeros(size, dtype=np.float32) if bias is None else _array(bias, "1.decoder.bias", source, (size,))
        arrays = {**encoder, "decoder.bias": found}
        return FoundWeights(arrays, architecture, None, 0, True if has_copies else None)
    arrays, widths_head, classes = _head(head, 3 * architecture.width_embedding, source)
    is_version_1 = all("." not in place for place in places)
    return FoundWeights({**encoder, **arrays}, architecture, widths_head, classes, is_version_1)


@dataclass(frozen=True)
class _Layers:
    """How a file names the tensors of its recurrent layers.

    Attributes:
        before: What precedes ``rnns`` in the names.
        count: Number of layers.
        linear: Name of a QRNN's linear layer, with a full stop. None for LSTMs.
    """

    before: str
    count: int
    linear: str | None

    def names(self, layer: int) -> dict[str, tuple[str, ...]]:
        """Return the names that the tensors of a layer may have, by the parts of ours.

        A weight that training drops has two. The second holds what the last dropout left of it. The model's weights
        are the raw ones.
        """
        rnn = f"{self.before}rnns.{layer}."
        if self.linear is not None:
            inner = rnn + self.linear
            return {"weight": (f"{inner}weight_raw", f"{inner}module.weight"), "bias": (f"{inner}module.bias",)}
        return {
            "weight_ih": (f"{rnn}module.weight_ih_l0",),
            "weight_hh": (f"{rnn}weight_hh_l0_raw", f"{rnn}module.weight_hh_l0"),
            "bias_ih": (f"{rnn}module.bias_ih_l0",),
            "bias_hh": (f"{rnn}module.bias_hh_l0",),
        }


def _layers(state: Mapping[str, object], source: str) -> _Layers:
    found = [match for name in state if (match := _LAYER.match(name))]
    first = next((match for match in found if match["number"] == "0"), None)
    if first is None:
        what = f"its tensors are {shown(', '.join(sorted(state)[:3]))} ..." if state else "it has no tensors"
        raise ForeignModelError(f"{source} contains no AWD-LSTM and no QRNN of fastai: {what}")
    before, linear = first["before"], first["linear"]
    count = len({match["number"] for match in found if (match["before"], match["linear"]) == (before, linear)})
    if count > _MOST_LAYERS:
        raise ForeignModelError(f"{source} has {count} layers, expected at most {_MOST_LAYERS}")
    if any(n.startswith(f"{before}rnns.") and (n.endswith("_reverse") or ".layers_bwd." in n) for n in state):
        raise ForeignModelError(f"{source} has bidirectional layers (bidir=True), which are not supported")
    return _Layers(before, count, linear)


def _refuse_others(state: Mapping[str, object], layers: _Layers, source: str) -> None:
    """Refuse tensors that no module of fastai's AWD-LSTM or QRNN has: those of layers of another kind."""
    known = {f"{layers.before}encoder.weight", f"{layers.before}encoder_dp.emb.weight"}
    for layer in range(layers.count):
        known.update(name for names in layers.names(layer).values() for name in names)
    known.update(f"{wrapped}1.decoder.{part}" for wrapped in ("", "module.") for part in ("weight", "bias"))
    for name in state:
        found = _HEAD_PART.match(name)
        if name not in known and not (found and found["part"] in _HEAD_PARTS):
            raise ForeignModelError(
                f"{source} has the tensor {shown(name)}, which fastai's {'QRNN' if layers.linear else 'AWD-LSTM'} does "
                "not have: models with layers of their own can't be imported"
            )


def _encoder(state: Mapping[str, object], layers: _Layers, source: str) -> tuple[Arrays, Architecture, bool]:
    before = layers.before
    embedding = _array(state.get(f"{before}encoder.weight"), f"{before}encoder.weight", source)
    rows, columns = embedding.shape if embedding.ndim == 2 else (0, 0)
    if not (1 <= rows <= _LARGEST_VOCABULARY and 1 <= columns <= _LARGEST_WIDTH):
        raise ForeignModelError(
            f"{source}: {before}encoder.weight has shape {embedding.shape}, expected 2 dimensions: 1 to "
            f"{_LARGEST_VOCABULARY} words, and 1 to {_LARGEST_WIDTH} numbers per word"
        )
    if (copy := state.get(f"{before}encoder_dp.emb.weight")) is not None:
        _require_same(_array(copy, f"{before}encoder_dp.emb.weight", source), embedding, source)
    architecture = _architecture(state, layers, rows, columns, source)
    shapes = encoder_shapes(architecture)
    arrays: Arrays = {"encoder.embedding.weight": embedding}
    has_copies = False
    for layer in range(layers.count):
        for part, names in layers.names(layer).items():
            name = next((name for name in names if name in state), names[0])
            has_copies |= len(names) > 1 and names[1] in state
            ours = f"layers.{layer}.{part}"
            arrays[f"encoder.{ours}"] = _array(state.get(name), name, source, shapes[ours])
    if architecture.first_window == 2:
        # fastai joins a token with the one before it, bothways the one before with the token.
        weight = arrays["encoder.layers.0.weight"]
        arrays["encoder.layers.0.weight"] = np.ascontiguousarray(np.roll(weight, columns, axis=1))
    return arrays, architecture, has_copies


def _architecture(
    state: Mapping[str, object], layers: _Layers, vocabulary_size: int, width: int, source: str
) -> Architecture:
    """Return the sizes of an encoder. The shapes of its first and its last layer show them."""
    names = [next(iter(layers.names(layer).values())) for layer in (0, layers.count - 1)]
    first, last = (
        _matrix(next((state[name] for name in each if name in state), None), each[0], source) for each in names
    )
    gates, window = (4, 1) if layers.linear is None else (last[0] // width, first[1] // width)
    if layers.linear is not None and (gates not in (2, 3) or window not in (1, 2)):
        raise ForeignModelError(
            f"{source}: {names[0][0]} has shape {first} and {names[1][0]} has shape {last}, expected the 2 or 3 gates "
            f"of a QRNN that reads 1 or 2 tokens of {width} numbers at a time, and returns {width} numbers"
        )
    hidden = first[0] // gates
    if not 1 <= hidden <= _LARGEST_WIDTH:
        raise ForeignModelError(
            f"{source}: {names[0][0]} has shape {first}, expected {gates} to {gates * _LARGEST_WIDTH} rows"
        )
    return Architecture(
        vocabulary_size=vocabulary_size,
        width_embedding=width,
        width_hidden=width if layers.count == 1 else hidden,
        layers=layers.count,
        kind="lstm" if layers.linear is None else "qrnn",
        first_window=window,
        output_gate=gates != 2,
    )


def _matrix(value: object, name: str, source: str) -> tuple[int, int]:
    array = _array(value, name, source)
    if array.ndim != 2:
        raise ForeignModelError(f"{source}: {name} has shape {array.shape}, expected 2 dimensions")
    return array.shape


def _head_modules(state: Mapping[str, object]) -> tuple[list[dict[str, object]], list[str]]:
    """Return the tensors of each module of the head that has any, in order, and the modules' places.

    A dropout of 0 leaves a module out, which only shifts the numbers of the others.
    """
    modules: dict[tuple[int, ...], dict[str, object]] = {}
    places: dict[tuple[int, ...], str] = {}
    for name, value in state.items():
        if match := _HEAD_PART.match(name):
            place = tuple(int(number) for number in match["place"].split("."))
            modules.setdefault(place, {})[match["part"]] = value
            places[place] = match["place"]
    order = sorted(modules)
    return [modules[place] for place in order], [places[place] for place in order]


def _head(modules: list[dict[str, object]], width_pooled: int, source: str) -> tuple[Arrays, list[int], int]:
    """Return the head's arrays, the widths of its hidden layers, and the number of classes."""
    kinds = ["norm" if "running_mean" in module else "linear" for module in modules]
    if kinds != ["norm", "linear"] * (len(kinds) // 2):
        raise ForeignModelError(
            f"{source} has a head of {', '.join(kinds[:9])}, expected norm and linear layers in turn, as in "
            "fastai's heads"
        )
    if len(kinds) > 2 * (_MOST_HIDDEN_LAYERS + 1):
        raise ForeignModelError(
            f"{source} has a head of {len(kinds) // 2} layers, expected at most {_MOST_HIDDEN_LAYERS + 1}"
        )
    arrays: Arrays = {}
    widths = [width_pooled]
    for layer, (norm, linear) in enumerate(zip(modules[::2], modules[1::2], strict=True)):
        for part in ("weight", "bias", "running_mean", "running_var"):
            name = f"norms.{layer}.{part}"
            arrays[f"head.{name}"] = _array(norm.get(part), f"the head's {name}", source, (widths[-1],))
        if (arrays[f"head.norms.{layer}.running_var"] < 0).any():
            raise ForeignModelError(f"{source}: the head's norms.{layer}.running_var has a negative variance")
        weight = _array(linear.get("weight"), f"the head's layers.{layer}.weight", source)
        if weight.ndim != 2 or weight.shape[1] != widths[-1] or not 1 <= weight.shape[0] <= _LARGEST_WIDTH:
            raise ForeignModelError(
                f"{source}: the head's layers.{layer}.weight has shape {weight.shape}, expected (..., {widths[-1]}) "
                f"with 1 to {_LARGEST_WIDTH} rows"
            )
        widths.append(weight.shape[0])
        bias = linear.get("bias", np.zeros(widths[-1], dtype=np.float32))  # the linear layers of v2 have no bias
        arrays[f"head.layers.{layer}.weight"] = weight
        arrays[f"head.layers.{layer}.bias"] = _array(bias, f"the head's layers.{layer}.bias", source, (widths[-1],))
    return arrays, widths[1:-1], widths[-1]


def _array(value: object, name: str, source: str, shape: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        raise ForeignModelError(
            f"{source} lacks the tensor {name} (expected floating-point numbers): it can't be imported"
        )
    if (stored := half_precision_of(value)) is not None:
        raise ForeignModelError(
            f"{source}: {name} is in half precision ({stored}), with which fastai's predictions are rounded, expected "
            "float32: load the learner, call learn.to_fp32() or learn.model.float(), and save it again"
        )
    if shape is not None and value.shape != shape:
        raise ForeignModelError(f"{source}: {name} has shape {value.shape}, expected {shape}")
    with np.errstate(over="ignore"):
        array = np.asarray(value, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ForeignModelError(f"{source}: {name} contains values that are not finite: the training diverged")
    return array


def _require_same(copy: NDArray[np.float32], embedding: NDArray[np.float32], source: str) -> None:
    if not np.array_equal(copy, embedding):
        raise ForeignModelError(
            f"{source}: the decoder's weights differ from the embedding's: language models without tied weights can't "
            "be imported"
        )
