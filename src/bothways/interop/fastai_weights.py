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
from bothways.errors import ForeignModelError, shown
from bothways.interop.torch_file import half_precision_of

Arrays = dict[str, NDArray[np.float32]]

_FIRST_LAYER = re.compile(r"^(?P<before>.*?)rnns\.0\.module\.weight_ih_l0$")
_HEAD_PART = re.compile(r"^(?:module\.)?1\.layers\.(?P<place>[0-9]{1,4}(?:\.[0-9]{1,4})*)\.(?P<part>[a-z_]+)$")
_LSTM_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
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
    """Return the weights of an AWD-LSTM of fastai.

    Args:
        state: Arrays by fastai's names.
        source: Name of the file in error messages.

    Raises:
        ForeignModelError: The arrays are not an AWD-LSTM of fastai, some part is not supported, or a value is not
            finite.
    """
    before = next((match["before"] for name in state if (match := _FIRST_LAYER.match(name))), None)
    if before is None:
        raise ForeignModelError(f"{source} contains no AWD-LSTM of fastai: {_what_instead(state)}")
    encoder, architecture, has_copies = _encoder(state, before, source)
    head, places = _head_modules(state)
    _refuse_others(state, before, architecture.layers, source)
    if head and not before.endswith("module."):
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


def _what_instead(state: Mapping[str, object]) -> str:
    if any("rnns.0.layers" in name for name in state):
        return "its layers are QRNNs, which are not supported"
    return f"its tensors are {shown(', '.join(sorted(state)[:3]))} ..." if state else "it has no tensors"


def _refuse_others(state: Mapping[str, object], before: str, layers: int, source: str) -> None:
    """Refuse tensors that no module of fastai's AWD-LSTM has: those of layers of another kind."""
    known = {f"{before}encoder.weight", f"{before}encoder_dp.emb.weight"}
    for layer in range(layers):
        known.add(f"{before}rnns.{layer}.weight_hh_l0_raw")
        known.update(f"{before}rnns.{layer}.module.{part}_l0" for part in _LSTM_PARTS)
    known.update(f"{wrapped}1.decoder.{part}" for wrapped in ("", "module.") for part in ("weight", "bias"))
    for name in state:
        found = _HEAD_PART.match(name)
        if name not in known and not (found and found["part"] in _HEAD_PARTS):
            raise ForeignModelError(
                f"{source} has the tensor {shown(name)}, which fastai's AWD-LSTM does not have: models with layers of "
                "their own can't be imported"
            )


def _encoder(state: Mapping[str, object], before: str, source: str) -> tuple[Arrays, Architecture, bool]:
    layers = sum(1 for name in state if re.fullmatch(re.escape(before) + r"rnns\.\d+\.module\.weight_ih_l0", name))
    if layers > _MOST_LAYERS:
        raise ForeignModelError(f"{source} has {layers} layers, expected at most {_MOST_LAYERS}")
    if any(name.startswith(f"{before}rnns.") and name.endswith("_reverse") for name in state):
        raise ForeignModelError(f"{source} has bidirectional layers (bidir=True), which are not supported")
    embedding = _array(state.get(f"{before}encoder.weight"), f"{before}encoder.weight", source)
    rows, columns = embedding.shape if embedding.ndim == 2 else (0, 0)
    if not (1 <= rows <= _LARGEST_VOCABULARY and 1 <= columns <= _LARGEST_WIDTH):
        raise ForeignModelError(
            f"{source}: {before}encoder.weight has shape {embedding.shape}, expected 2 dimensions: 1 to "
            f"{_LARGEST_VOCABULARY} words, and 1 to {_LARGEST_WIDTH} numbers per word"
        )
    if (copy := state.get(f"{before}encoder_dp.emb.weight")) is not None:
        _require_same(_array(copy, f"{before}encoder_dp.emb.weight", source), embedding, source)
    width_embedding = embedding.shape[1]
    first = _array(state[f"{before}rnns.0.module.weight_ih_l0"], "weight_ih_l0", source)
    if first.ndim != 2 or not 4 <= first.shape[0] <= 4 * _LARGEST_WIDTH:
        raise ForeignModelError(f"{source}: weight_ih_l0 has shape {first.shape}, expected (4 * hidden, embedding)")
    architecture = Architecture(
        vocabulary_size=embedding.shape[0],
        width_embedding=width_embedding,
        width_hidden=width_embedding if layers == 1 else first.shape[0] // 4,
        layers=layers,
    )
    arrays: Arrays = {"encoder.embedding.weight": embedding}
    has_copies = False
    for layer, (width_in, width_out) in enumerate(architecture.layer_widths):
        names = {
            "weight_ih": (f"{before}rnns.{layer}.module.weight_ih_l0", (4 * width_out, width_in)),
            "weight_hh": (f"{before}rnns.{layer}.weight_hh_l0_raw", (4 * width_out, width_out)),
            "bias_ih": (f"{before}rnns.{layer}.module.bias_ih_l0", (4 * width_out,)),
            "bias_hh": (f"{before}rnns.{layer}.module.bias_hh_l0", (4 * width_out,)),
        }
        # The LSTM's own name holds the weights after the last weight dropout. The model's weights are the raw ones.
        dropped = f"{before}rnns.{layer}.module.weight_hh_l0"
        has_copies |= dropped in state
        if names["weight_hh"][0] not in state and dropped in state:
            names["weight_hh"] = (dropped, names["weight_hh"][1])
        for part, (name, shape) in names.items():
            arrays[f"encoder.layers.{layer}.{part}"] = _array(state.get(name), name, source, shape)
    return arrays, architecture, has_copies


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
