"""Define the tensors in the weights file of a member, and read and write such files.

Reading turns the bytes of a safetensors file into validated float32 arrays by name. The names are those of the modules
in ``nn``. Only this module handles files in half precision.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from bothways import strict_json
from bothways.bundle.manifest import Architecture, Domain, LinearMember, Member
from bothways.errors import BundleBroken, TrainingError, shown

Weights = Mapping[str, NDArray[np.float32]]
LinearWeights = Mapping[str, NDArray[np.generic]]
DomainWeights = Mapping[str, NDArray[np.generic]]
WORDS, CHARACTERS = "words", "characters"
LINEAR_IDF, LINEAR_WEIGHT, LINEAR_BIAS = "idf", "weight", "bias"
DOMAIN_MEAN, DOMAIN_SCALE, DOMAIN_COMPONENTS, DOMAIN_VARIANCES = "mean", "scale", "components", "variances"
DOMAIN_TOKEN_LOSSES, DOMAIN_LIMITS = "token_losses", "limits"
_Expected = Mapping[str, tuple[str, tuple[int, ...]]]
_LARGEST_HEADER_BYTES = 16 * 1024 * 1024


def encoder_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of an encoder."""
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.weight": (architecture.vocabulary_size, architecture.width_embedding)
    }
    of_a_layer = {"lstm": _lstm_shapes, "qrnn": _qrnn_shapes}[architecture.kind]
    for layer in range(architecture.layers):
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in of_a_layer(architecture, layer).items()}
    return shapes


def _lstm_shapes(architecture: Architecture, layer: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an LSTM layer: four gates of the input and four of the state before it."""
    width_in, width_out = architecture.layer_widths[layer]
    return {
        "weight_ih": (4 * width_out, width_in),
        "weight_hh": (4 * width_out, width_out),
        "bias_ih": (4 * width_out,),
        "bias_hh": (4 * width_out,),
    }


def _qrnn_shapes(architecture: Architecture, layer: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a QRNN layer: two or three gates of the input, which may span two tokens."""
    width_in, width_out = architecture.layer_widths[layer]
    rows = architecture.qrnn_gates * width_out
    return {"weight": (rows, architecture.layer_windows[layer] * width_in), "bias": (rows,)}


def head_shapes(widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a head.

    Args:
        widths: Layer widths, from the 3E pooled features through the hidden layers to the C logits.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (width_in, width_out) in enumerate(pairwise(widths)):
        shapes |= {f"norms.{layer}.{part}": (width_in,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes |= {f"layers.{layer}.weight": (width_out, width_in), f"layers.{layer}.bias": (width_out,)}
    return shapes


def member_shapes(member: Member, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor in the weights file of a member.

    Args:
        member: The member of a classifier, or of a language model if it has no head.
        classes: Number of labels of the bundle, C. Ignored for a language model.
    """
    encoder = {f"encoder.{name}": shape for name, shape in encoder_shapes(member.architecture).items()}
    if member.widths_head is None:
        return {**encoder, "decoder.bias": (member.architecture.vocabulary_size,)}
    head = head_shapes([3 * member.architecture.width_embedding, *member.widths_head, classes])
    return {**encoder, **{f"head.{name}": shape for name, shape in head.items()}}


def linear_tensors(linear: LinearMember, outputs: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the name, type and shape of every tensor of a linear member.

    ``words`` and ``characters`` are the hashes of the n-grams that it knows, each in rising order. The rows of ``idf``
    and ``weight`` are those of the words, followed by those of the characters.

    Args:
        linear: The member.
        outputs: Number of outputs of the bundle, C.
    """
    known = linear.words + linear.characters
    return {
        WORDS: ("U32", (linear.words,)),
        CHARACTERS: ("U32", (linear.characters,)),
        LINEAR_IDF: ("F16", (known,)),
        LINEAR_WEIGHT: ("F16", (known, outputs)),
        LINEAR_BIAS: ("F32", (outputs,)),
    }


def domain_tensors(domain: Domain, width: int, vocabulary_size: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the name, type and shape of every tensor of the density of pooled states.

    ``components`` are the principal components of the standardized states. ``variances`` are their variances, followed
    by the mean variance of what is orthogonal to them. ``token_losses`` are the losses of the tokens under their
    frequencies. ``limits`` are what the distance of the states and the mean loss are divided by.

    Args:
        domain: The number of components.
        width: Number of pooled states of all members.
        vocabulary_size: Number of tokens, V.
    """
    return {
        DOMAIN_MEAN: ("F32", (width,)),
        DOMAIN_SCALE: ("F32", (width,)),
        DOMAIN_COMPONENTS: ("F16", (domain.components, width)),
        DOMAIN_VARIANCES: ("F32", (domain.components + 1,)),
        DOMAIN_TOKEN_LOSSES: ("F16", (vocabulary_size,)),
        DOMAIN_LIMITS: ("F32", (2,)),
    }


def matched_rows(
    array: NDArray[np.float32], rows: NDArray[np.intp], missing: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return an array with its rows rearranged for another vocabulary.

    Args:
        array: One row, or one number, per word of the old vocabulary.
        rows: The id in the old vocabulary of each word of the new one, or -1 for words that the old one lacks.
        missing: The row to use for words that the old vocabulary lacks.
    """
    return np.concatenate([array, missing[None]]).astype(np.float32)[rows]


def rounded_to_half(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """Round weights to half precision and return them as float32. Storing them in half precision is then lossless.

    Raises:
        TrainingError: A weight is too large for half precision. The message names the tensor.
    """
    return {name: _in_half(name, array).astype(np.float32) for name, array in weights.items()}


def write_weights(weights: Weights, *, half_precision: bool = False) -> bytes:
    """Return the bytes of a safetensors file. Equal arrays produce equal bytes.

    Args:
        weights: Arrays by tensor name.
        half_precision: Whether to store 2 bytes per weight instead of 4. Weights that ``rounded_to_half`` has not
            rounded lose precision.

    Raises:
        TrainingError: A weight is too large for half precision. The message names the tensor.
    """
    arrays = {
        name: _in_half(name, array) if half_precision else np.ascontiguousarray(array, dtype=np.float32)
        for name, array in sorted(weights.items())
    }
    return bytes(save_tensors(arrays))


def _in_half(name: str, array: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(array, dtype=np.float16)
    if np.isinf(half).any():
        raise TrainingError(
            f"{name} contains {np.abs(array).max():.6g}, but half precision ends at {np.finfo(np.float16).max:g}. "
            "Store these weights in full precision"
        )
    return half


def read_weights(data: bytes, expected: Mapping[str, tuple[int, ...]], name: str) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a safetensors file after checking names, shapes, types and values.

    Args:
        data: The bytes of the file. Never a memory-mapped file, which could change or vanish under a running process.
        expected: Name and shape of every tensor. All of them must exist, and no others.
        name: The name of the file for messages.

    Returns:
        float32 arrays by tensor name, also if the file stores them in half precision (F16).

    Raises:
        BundleBroken: The bytes are not a safetensors file, its tensors differ from the expected ones, or a value is not
            finite.
    """
    declared = _read_header(data, name)
    _check_names(declared, expected, name)
    stored = "F16" if expected and all(declared[tensor][0] == "F16" for tensor in expected) else "F32"
    for tensor, shape in expected.items():
        found = declared[tensor]
        if found != (stored, list(shape)):
            hint = "" if found[0] == stored else ". All tensors must be F32, or all F16"
            raise BundleBroken(
                f"{name}: {tensor} is {shown(f'{found[0]} {found[1]}')}, expected {stored} {list(shape)}{hint}"
            )
    arrays = _loaded(data, name)
    for tensor, array in arrays.items():
        if not np.isfinite(array).all():
            raise BundleBroken(f"{name}: {tensor} contains values that are not finite numbers")
        if tensor.endswith("running_var") and (array < 0).any():
            raise BundleBroken(f"{name}: {tensor} contains a negative variance")
    return {tensor: array.astype(np.float32, copy=False) for tensor, array in arrays.items()}


def read_linear_weights(data: bytes, linear: LinearMember, outputs: int, name: str) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a linear member after checking names, types, shapes and values.

    Args:
        data: The bytes of the file.
        linear: The member.
        outputs: Number of outputs of the bundle, C.
        name: The name of the file for messages.

    Raises:
        BundleBroken: The bytes are not a safetensors file, its tensors differ from the expected ones, a value is not
            finite, or the hashes are not in rising order.
    """
    arrays = _checked_arrays(data, linear_tensors(linear, outputs), name)
    for tensor in (WORDS, CHARACTERS):
        if (arrays[tensor][1:] <= arrays[tensor][:-1]).any():
            raise BundleBroken(f"{name}: the hashes in {tensor} are not in rising order")
    return arrays


def read_domain_weights(
    data: bytes, domain: Domain, width: int, vocabulary_size: int, name: str
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of the density of pooled states after checking names, types, shapes and values.

    Args:
        data: The bytes of the file.
        domain: The number of components.
        width: Number of pooled states of all members.
        vocabulary_size: Number of tokens, V.
        name: The name of the file for messages.

    Raises:
        BundleBroken: The bytes are not a safetensors file, its tensors differ from the expected ones, a value is not
            finite, or a variance, a scale or a limit is not above 0.
    """
    arrays = _checked_arrays(data, domain_tensors(domain, width, vocabulary_size), name)
    for tensor in (DOMAIN_SCALE, DOMAIN_VARIANCES, DOMAIN_LIMITS):
        if (arrays[tensor] <= 0).any():
            raise BundleBroken(f"{name}: {tensor} contains a value that is not above 0")
    return arrays


def _checked_arrays(data: bytes, expected: _Expected, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file after checking names, types, shapes, and that all values are finite.

    Raises:
        BundleBroken: Something is not as expected.
    """
    declared = _read_header(data, name)
    _check_names(declared, expected, name)
    for tensor, (stored, shape) in expected.items():
        if declared[tensor] != (stored, list(shape)):
            found = shown(f"{declared[tensor][0]} {declared[tensor][1]}")
            raise BundleBroken(f"{name}: {tensor} is {found}, expected {stored} {list(shape)}")
    arrays = _loaded(data, name)
    for tensor, array in arrays.items():
        if not np.isfinite(array).all():
            raise BundleBroken(f"{name}: {tensor} contains values that are not finite numbers")
    return arrays


def write_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return the bytes of the file of a linear member or of a domain. Equal arrays produce equal bytes."""
    return bytes(save_tensors({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}))


def _check_names(declared: Collection[str], expected: Collection[str], name: str) -> None:
    """Refuse a file without exactly the expected tensors.

    Raises:
        BundleBroken: A tensor is missing, or there are others.
    """
    if missing := set(expected) - set(declared):
        raise BundleBroken(f"{name} lacks the tensor {min(missing)}")
    if surplus := set(declared) - set(expected):
        raise BundleBroken(f"{name} contains the unexpected tensor {shown(min(surplus))}")


def _loaded(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    try:
        found: dict[str, NDArray[Any]] = load_tensors(data)
    except safetensors.SafetensorError as error:
        raise BundleBroken(f"{name} is not a valid safetensors file: {shown(str(error))}") from None
    return found


def _read_header(data: bytes, name: str) -> dict[str, tuple[object, object]]:
    """Return type and shape by tensor name. The header must be strict JSON, as the library accepts duplicate keys."""
    if len(data) < 8:
        raise BundleBroken(f"{name} is not a safetensors file: it has only {len(data)} bytes")
    (size,) = struct.unpack("<Q", data[:8])
    if size > min(_LARGEST_HEADER_BYTES, len(data) - 8):
        raise BundleBroken(f"{name} is not a safetensors file: its header claims {size} bytes")
    try:
        header = strict_json.parse(data[8 : 8 + size], allow_surrogates=False)
    except ValueError as error:
        raise BundleBroken(f"{name} has a broken header: {error}") from None
    if not isinstance(header, dict) or not all(isinstance(value, dict) for value in header.values()):
        raise BundleBroken(f"{name} has a broken header: it is not an object of objects")
    return {key: (value.get("dtype"), value.get("shape")) for key, value in header.items() if key != "__metadata__"}
