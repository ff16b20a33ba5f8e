"""The Open Inference Protocol, version 2 (KServe, Triton, MLServer): metadata, and POST /v2/models/NAME/infer.

With Triton's binary tensors: the header ``Inference-Header-Content-Length`` says where JSON ends and raw bytes begin; a
BYTES element is its length, four bytes little-endian, and then itself.

One input, ``text`` (BYTES, [n] or [n, 1]). Outputs: ``label`` (BYTES, [n]) and ``probabilities`` (FP64, [n, C], the
numbers of ``predict`` to the last bit), and ``forward`` and ``backward`` (as ``probabilities``) where asked for.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bothways.bundle.parity import ENSEMBLE
from bothways.errors import ModelUnknown, RequestInvalid
from bothways.serve.protocols.protocol import (
    Protocol,
    Query,
    Received,
    Reply,
    ServedModels,
    all_classified,
    parsed,
    plain_fault,
)
from bothways.serve.service import Answer, Classified, ServedModel
from bothways.version import __version__

INPUT, LABEL, PROBABILITIES = "text", "label", "probabilities"
_JSON_LENGTH_HEADER = "inference-header-content-length"
_BINARY_SIZE, _BINARY_DATA, _BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"
_VERSION_CHARACTERS = 12
_LARGEST_SHAPE = 2**31


class _Open(BaseModel):
    """Clients of this protocol add keys of their own; they are let pass."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


class InferInput(_Open):
    """A tensor that comes in."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferOutput(_Open):
    """A tensor that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(_Open):
    """One input of texts."""

    id: str | None = None
    inputs: list[InferInput]
    outputs: list[InferOutput] | None = None
    parameters: dict[str, Any] = {}


@dataclass(frozen=True)
class _Wanted:
    """What a request wants back: its own id, and names of outputs with whether each comes in binary."""

    id: str | None
    outputs: dict[str, bool]


def version_of(served: ServedModel) -> str:
    """Return a model's version: the beginning of its bundle's identity."""
    return served.model.digest[:_VERSION_CHARACTERS]


def server_metadata() -> dict[str, object]:
    """Return what GET /v2 tells."""
    return {"name": "bothways", "version": __version__, "extensions": ["binary_tensor_data"]}


def model_metadata(served: ServedModel) -> dict[str, object]:
    """Return what GET /v2/models/NAME tells."""
    classes = len(served.model.labels)
    outputs: list[dict[str, object]] = [{"name": LABEL, "datatype": "BYTES", "shape": [-1]}]
    outputs += [
        {"name": name, "datatype": "FP64", "shape": [-1, classes]} for name in (PROBABILITIES, *served.model.directions)
    ]
    return {
        "name": served.name,
        "versions": [version_of(served)],
        "platform": "bothways_ulmfit",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": outputs,
        "labels": list(served.model.labels),
    }


def require_version(served: ServedModel, asked: str | None) -> None:
    """Refuse a version that isn't the one that is served.

    Raises:
        ModelUnknown: It is another.
    """
    if asked is not None and asked != version_of(served):
        raise ModelUnknown(f"{served.name} has no version {asked[:100]!r}, expected {version_of(served)}")


def _parse(received: Received, models: ServedModels) -> Query:
    name = received.path.get("model")
    served = models.model(name)
    require_version(served, received.path.get("version"))
    header, raw = _split(received)
    request = parsed(header, InferRequest)
    if len(request.inputs) != 1 or request.inputs[0].name != INPUT:
        found = ", ".join(tensor.name[:40] for tensor in request.inputs[:5]) or "none"
        raise RequestInvalid(f"expected one input named {INPUT!r}, found {found}")
    texts = _texts(request.inputs[0], raw)
    known = (LABEL, PROBABILITIES, *served.model.directions)
    in_binary = request.parameters.get(_BINARY_OUTPUT) is True
    outputs = {LABEL: in_binary, PROBABILITIES: in_binary}
    if request.outputs is not None:
        outputs = {o.name: o.parameters.get(_BINARY_DATA, in_binary) is True for o in request.outputs}
    if unknown := next((output for output in outputs if output not in known), None):
        raise RequestInvalid(f"there is no output {unknown[:40]!r}, expected some of {', '.join(known)}")
    return Query(texts, name, options=_Wanted(request.id, outputs))


def _split(received: Received) -> tuple[bytes, bytes]:
    """Return the JSON and the raw bytes behind it."""
    length = received.headers.get(_JSON_LENGTH_HEADER)
    if length is None:
        return received.body, b""
    if not (length.isdecimal() and len(length) < 12 and int(length) <= len(received.body)):
        raise RequestInvalid(f"{_JSON_LENGTH_HEADER} is {length[:40]!r}, but the body has {len(received.body)} bytes")
    return received.body[: int(length)], received.body[int(length) :]


def _texts(tensor: InferInput, raw: bytes) -> list[object]:
    if tensor.datatype != "BYTES":
        raise RequestInvalid(f"the input {INPUT!r} is {tensor.datatype[:40]!r}, expected BYTES")
    shape = tensor.shape
    if not shape or len(shape) > 2 or any(size < 0 for size in shape) or (len(shape) == 2 and shape[1] != 1):
        raise RequestInvalid(f"the input {INPUT!r} has the shape {shape[:5]}, expected [n] or [n, 1]")
    count = math.prod(shape)
    if count > _LARGEST_SHAPE:
        raise RequestInvalid(f"the input {INPUT!r} says that it has {count} texts")
    size = tensor.parameters.get(_BINARY_SIZE)
    if size is not None:
        if tensor.data is not None or type(size) is not int or size != len(raw):
            raise RequestInvalid(f"{_BINARY_SIZE} is {str(size)[:40]}, but {len(raw)} bytes follow the JSON")
        elements: Sequence[object] = list(_binary_elements(raw))
    elif raw:
        raise RequestInvalid(f"{len(raw)} bytes follow the JSON, but no input says that they are its own")
    elif tensor.data is None:
        raise RequestInvalid(f"the input {INPUT!r} has no data")
    else:
        elements = [value for item in tensor.data for value in (item if isinstance(item, list) else [item])]
    if len(elements) != count:
        raise RequestInvalid(f"the input {INPUT!r} has {len(elements)} elements, but its shape is {shape}")
    is_base64 = tensor.parameters.get("content_type") == "base64"
    return [_text(element, number, is_base64=is_base64) for number, element in enumerate(elements)]


def _binary_elements(raw: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(raw):
        if position + 4 > len(raw):
            raise RequestInvalid(f"{len(raw) - position} bytes are left where an element's length should be")
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4
        if position + length > len(raw):
            raise RequestInvalid(f"an element says that it has {length} bytes, but {len(raw) - position} are left")
        yield raw[position : position + length]
        position += length


def _text(element: object, number: int, *, is_base64: bool) -> object:
    if is_base64 and isinstance(element, str):
        try:
            element = base64.b64decode(element, validate=True)
        except (binascii.Error, ValueError):
            raise RequestInvalid(f"text {number} is not base64") from None
    if isinstance(element, bytes):
        try:
            return element.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestInvalid(f"text {number} is not UTF-8 at byte {error.start}") from None
    return element


def _render(query: Query, served: ServedModel, answer: Answer) -> Reply:
    found, wanted = all_classified(answer), query.options
    tensors, raw = [], b""
    for name, in_binary in wanted.outputs.items():
        data = [item.prediction.label or "" for item in found] if name == LABEL else _rows(found, name, served)
        tensor: dict[str, object] = {
            "name": name,
            "datatype": "BYTES" if name == LABEL else "FP64",
            "shape": [len(found)] if name == LABEL else [len(found), len(served.model.labels)],
        }
        if in_binary:
            part = b"".join(map(_element, data)) if isinstance(data, list) else data.astype("<f8").tobytes()
            tensor["parameters"], raw = {_BINARY_SIZE: len(part)}, raw + part
        else:
            tensor["data"] = data if isinstance(data, list) else data.ravel().tolist()
        tensors.append(tensor)
    told: dict[str, object] = {"model_name": served.name, "model_version": version_of(served), "outputs": tensors}
    if wanted.id is not None:
        told["id"] = wanted.id
    if not raw:
        return Reply(told)
    header = json.dumps(told, separators=(",", ":")).encode()
    return Reply(header + raw, {_JSON_LENGTH_HEADER: str(len(header)), "content-type": "application/octet-stream"})


def _rows(found: Sequence[Classified], name: str, served: ServedModel) -> NDArray[np.float64]:
    """Return (n, C) probabilities; not a number where a direction of a cascade did not read a text."""
    key, unread = (ENSEMBLE if name == PROBABILITIES else name), np.full(len(served.model.labels), np.nan)
    rows = [item.prediction.probabilities.get(key, unread) for item in found]
    return np.array(rows, dtype=np.float64).reshape(len(found), len(unread))


def _element(label: str) -> bytes:
    data = label.encode("utf-8")
    return struct.pack("<I", len(data)) + data


PROTOCOL = Protocol(_parse, _render, plain_fault)
