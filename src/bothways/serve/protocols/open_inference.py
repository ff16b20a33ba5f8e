"""The Open Inference Protocol, version 2 (KServe, Triton, MLServer): metadata, and ``POST /v2/models/NAME/infer``.

Supports Triton's binary tensors: the header ``Inference-Header-Content-Length`` is the length of the JSON part, which
raw bytes follow. An element of type BYTES is its length as a four-byte little-endian integer, followed by its bytes.

There is one input, ``text`` (BYTES, [n] or [n, 1]). For a model with several text columns there is one such input per
column, under the column's name and in any order. A classifier has the outputs ``label`` (BYTES, [n]) and
``probabilities`` (FP64, [n, C], bit-identical to ``predict_proba``). A regression model has the output ``value`` (FP64,
[n], or [n, C] for several targets, bit-identical to ``predict``). On request there are also ``forward`` and
``backward``, with the datatype and shape of ``probabilities`` or ``value``. Where early exit skipped a direction, its
numbers are NaN, which is null in JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from bothways.bundle.parity import ENSEMBLE
from bothways.errors import RequestInvalid, quoted, shown
from bothways.runtime.classifier import Classifier
from bothways.schema import Items
from bothways.serve.answers import Answer, Classified
from bothways.serve.protocols.protocol import (
    Information,
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    all_classified,
    liveness,
    parse_body,
    readiness,
    refuse_many_texts,
    render_plain_error,
)
from bothways.serve.service import ServedModel, Service
from bothways.serve.settings import Settings
from bothways.tasks.labels import label_text
from bothways.text.fields import columns_text
from bothways.version import __version__

INPUT, LABEL, PROBABILITIES, VALUE = "text", "label", "probabilities", "value"
_JSON_LENGTH_HEADER = "inference-header-content-length"
_BINARY_SIZE, _BINARY_DATA, _BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"


class _Open(Schema):
    """An object of this protocol. Unknown keys are ignored, because clients add their own."""

    model_config = ConfigDict(extra="ignore")


class InferInput(_Open):
    """An input tensor."""

    name: str
    datatype: str
    shape: Items[int]
    parameters: dict[str, Any] = Field(default={})
    data: list[Any] | None = None


class InferOutput(_Open):
    """A requested output tensor."""

    name: str
    parameters: dict[str, Any] = Field(default={})


class InferRequest(_Open):
    """A request with the texts: one input, or one per text column."""

    id: str | None = None
    inputs: Items[InferInput]
    outputs: Items[InferOutput] | None = None
    parameters: dict[str, Any] = Field(default={})


@dataclass(frozen=True)
class _Wanted:
    """What a request wants in its reply.

    Attributes:
        id: The id of the request, to be repeated in the reply.
        outputs: The names of the outputs, each with whether it is sent as a binary tensor. None for the default ones.
        in_binary: Whether the default outputs are sent as binary tensors.
    """

    id: str | None
    outputs: dict[str, bool] | None
    in_binary: bool


def _parse(received: RawRequest, service: Service) -> Query:
    served = _served(service, received.path)
    header, raw = _split(received)
    request = parse_body(header, InferRequest, service.settings)
    texts = _texts(request.inputs, _input_names(served.model), raw, service.settings)
    in_binary = request.parameters.get(_BINARY_OUTPUT) is True
    outputs = None
    if request.outputs is not None:
        outputs = {o.name: o.parameters.get(_BINARY_DATA, in_binary) is True for o in request.outputs}
    wanted = _Wanted(request.id, outputs, in_binary)
    _outputs(wanted, served.model)
    return Query(texts, served, partial(_render, wanted), received.path.get("version"))


def _default_outputs(model: Classifier) -> tuple[str, ...]:
    return (LABEL, PROBABILITIES) if model.labels else (VALUE,)


def _outputs(wanted: _Wanted, model: Classifier) -> dict[str, bool]:
    """Return the names of the outputs, each with whether it is sent as a binary tensor.

    Raises:
        RequestInvalid: The model has no output of a requested name.
    """
    default = _default_outputs(model)
    if wanted.outputs is None:
        return dict.fromkeys(default, wanted.in_binary)
    known = (*default, *model.directions)
    if unknown := next((output for output in wanted.outputs if output not in known), None):
        raise RequestInvalid(f"output not found: {quoted(unknown, 40)}. Available outputs: {', '.join(known)}")
    return wanted.outputs


def _split(received: RawRequest) -> tuple[bytes, bytes]:
    """Split a body into the JSON and the raw bytes that follow it."""
    length = received.headers.get(_JSON_LENGTH_HEADER)
    if length is None:
        return received.body, b""
    if not (length.isdecimal() and len(length) < 12 and int(length) <= len(received.body)):
        raise RequestInvalid(
            f"{_JSON_LENGTH_HEADER} is {quoted(length, 40)}, but the body has {len(received.body)} bytes"
        )
    return received.body[: int(length)], received.body[int(length) :]


def _input_names(model: Classifier) -> Sequence[str]:
    """Return the names of a model's inputs."""
    return model.text_columns if len(model.text_columns) > 1 else (INPUT,)


def _texts(tensors: Sequence[InferInput], names: Sequence[str], raw: bytes, settings: Settings) -> list[object]:
    """Return the texts of a request: the elements of its only input, or one element of each input.

    Args:
        tensors: The inputs of the request, in the order in which their raw bytes follow the JSON.
        names: The names of the model's inputs, in the order of its text columns.
        raw: The bytes that follow the JSON.
        settings: The limits of a request.
    """
    if sorted(tensor.name for tensor in tensors) != sorted(names):
        found = ", ".join(shown(tensor.name, 40) for tensor in tensors[:5]) or "none"
        expected = (
            f"one input named {quoted(INPUT)}" if len(names) == 1 else f"one input for each of {columns_text(names)}"
        )
        raise RequestInvalid(f"expected {expected}, found {found}")
    found_by_name: dict[str, list[object]] = {}
    rest = raw
    for tensor in tensors:
        size = tensor.parameters.get(_BINARY_SIZE)
        if size is None:
            found_by_name[tensor.name] = _elements(tensor, None, settings)
            continue
        if tensor.data is not None or type(size) is not int or not 0 <= size <= len(rest):
            raise RequestInvalid(f"{_BINARY_SIZE} is {shown(size, 40)}, but {len(rest)} bytes follow the JSON")
        found_by_name[tensor.name] = _elements(tensor, rest[:size], settings)
        rest = rest[size:]
    if rest:
        raise RequestInvalid(f"{len(rest)} bytes follow the JSON, but no input has a {_BINARY_SIZE} for them")
    if len({len(elements) for elements in found_by_name.values()}) > 1:
        raise RequestInvalid(f"the inputs for {columns_text(names)} have different lengths")
    if len(names) == 1:
        return found_by_name[INPUT]
    return list(zip(*(found_by_name[name] for name in names), strict=True))


def _elements(tensor: InferInput, raw: bytes | None, settings: Settings) -> list[object]:
    """Return the elements of an input, from its raw bytes or its data."""
    name = quoted(tensor.name)
    if tensor.datatype != "BYTES":
        raise RequestInvalid(f"the input {name} has the datatype {quoted(tensor.datatype, 40)}, expected BYTES")
    shape = tensor.shape
    if not shape or len(shape) > 2 or any(size < 0 for size in shape) or (len(shape) == 2 and shape[1] != 1):
        raise RequestInvalid(f"the input {name} has the shape {shown(shape)}, expected [n] or [n, 1]")
    count = math.prod(shape)
    refuse_many_texts(count, settings)
    if raw is not None:
        elements: Sequence[object] = list(islice(_binary_elements(raw), count + 1))
    elif tensor.data is None:
        raise RequestInvalid(f"the input {name} has no data")
    else:
        elements = [value for item in tensor.data for value in (item if isinstance(item, list) else [item])]
    if len(elements) != count:
        raise RequestInvalid(f"the input {name} has {len(elements)} elements, but its shape is {shape}")
    is_base64 = tensor.parameters.get("content_type") == "base64"
    return [_text(element, number, is_base64=is_base64) for number, element in enumerate(elements)]


def _binary_elements(raw: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(raw):
        if position + 4 > len(raw):
            raise RequestInvalid(f"the binary tensor ends with {len(raw) - position} bytes, expected a 4-byte length")
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4
        if position + length > len(raw):
            raise RequestInvalid(
                f"an element of the binary tensor has {length} bytes, but only {len(raw) - position} follow"
            )
        yield raw[position : position + length]
        position += length


def _text(element: object, number: int, *, is_base64: bool) -> object:
    if is_base64 and isinstance(element, str):
        try:
            element = base64.b64decode(element, validate=True)
        except (binascii.Error, ValueError):
            raise RequestInvalid(f"text {number} is not valid base64") from None
    if isinstance(element, bytes):
        try:
            return element.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestInvalid(f"text {number} is not valid UTF-8 at byte {error.start}") from None
    return element


def _render(wanted: _Wanted, served: ServedModel, answer: Answer) -> Reply:
    found = all_classified(answer)
    tensors, raw = [], b""
    for name, in_binary in _outputs(wanted, served.model).items():  # again: a reload can have replaced the model
        data = list(map(_label, found)) if name == LABEL else _rows(found, name, served.model)
        tensor: dict[str, object] = _described(name, len(found), served.model)
        if in_binary:
            part = b"".join(map(_element, data)) if isinstance(data, list) else data.astype("<f8").tobytes()
            tensor["parameters"], raw = {_BINARY_SIZE: len(part)}, raw + part
        else:
            tensor["data"] = data if isinstance(data, list) else _json_numbers(data)
        tensors.append(tensor)
    document: dict[str, object] = {"model_name": served.name, "model_version": served.version, "outputs": tensors}
    if wanted.id is not None:
        document["id"] = wanted.id
    if not raw:
        return Reply(document)
    header = json.dumps(document, separators=(",", ":")).encode()
    return Reply(header + raw, {_JSON_LENGTH_HEADER: str(len(header)), "content-type": "application/octet-stream"})


def _described(name: str, count: int, model: Classifier) -> dict[str, object]:
    """Return the name, datatype and shape of an output for a number of texts, -1 for any number."""
    if name == LABEL:
        return {"name": name, "datatype": "BYTES", "shape": [count]}
    columns = len(model.labels or model.targets)
    return {"name": name, "datatype": "FP64", "shape": [count, columns] if columns else [count]}


def _rows(found: Sequence[Classified], name: str, model: Classifier) -> NDArray[np.float64]:
    """Return the scores, (n, C), of the ensemble or a direction. Rows are NaN where early exit skipped the direction.

    C is the number of labels, or of targets for a regression model.
    """
    key, unread = (name if name in model.directions else ENSEMBLE), np.full(model.task.outputs, np.nan)
    rows = [item.prediction.scores.get(key, unread) for item in found]
    return np.array(rows, dtype=np.float64).reshape(len(found), len(unread))


def _json_numbers(rows: NDArray[np.float64]) -> list[float | None]:
    """Return all numbers row by row, with None for NaN, which JSON does not have."""
    return [None if math.isnan(number) else number for number in rows.ravel().tolist()]


def _label(found: Classified) -> str:
    label = found.prediction.label
    return "" if label is None else label_text(label)


def _element(label: str) -> bytes:
    data = label.encode("utf-8")
    return struct.pack("<I", len(data)) + data


def _served(service: Service, path: Mapping[str, str]) -> ServedModel:
    """Return the model that a path names.

    Raises:
        ModelUnknown: No model has this name, or the path names a version that is not served.
    """
    return service.model(path["model"], path.get("version"))


def _server_metadata(_: Service, __: Mapping[str, str]) -> Reply:
    return Reply({"name": "bothways", "version": __version__, "extensions": ["binary_tensor_data"]})


def _model_metadata(service: Service, path: Mapping[str, str]) -> Reply:
    served = _served(service, path)
    model = served.model
    metadata: dict[str, object] = {
        "name": served.name,
        "versions": [other.version for other in service.models if other.name == served.name],
        "platform": "bothways_ulmfit",
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in _input_names(model)],
        "outputs": [_described(name, -1, model) for name in (*_default_outputs(model), *model.directions)],
    }
    if model.labels:
        metadata["labels"] = list(model.task.labels)
    if model.targets:
        metadata["targets"] = list(model.targets)
    return Reply(metadata)


def _model_readiness(service: Service, path: Mapping[str, str]) -> Reply:
    served = _served(service, path)
    return Reply({"name": served.name, "ready": service.is_ready}, status=200 if service.is_ready else 503)


_MODEL = "/v2/models/{model}"
_VERSION = _MODEL + "/versions/{version}"
PROTOCOL = Protocol(
    predict_routes={
        f"{_MODEL}/infer": "Predict labels or numbers (Open Inference Protocol)",
        f"{_VERSION}/infer": "Predict labels or numbers with a version of a model (Open Inference Protocol)",
    },
    request=InferRequest,
    parse=_parse,
    render_error=render_plain_error,
    information=(
        Information("/v2", "Describe the server (Open Inference Protocol)", _server_metadata),
        Information("/v2/health/live", "Report whether the process runs", liveness, is_probe=True),
        Information("/v2/health/ready", "Report whether the server accepts requests", readiness, is_probe=True),
        Information(_MODEL, "Describe a model (Open Inference Protocol)", _model_metadata),
        Information(_VERSION, "Describe a version of a model (Open Inference Protocol)", _model_metadata),
        Information(f"{_MODEL}/ready", "Report whether a model accepts requests", _model_readiness, is_probe=True),
        Information(
            f"{_VERSION}/ready", "Report whether a version of a model accepts requests", _model_readiness, is_probe=True
        ),
    ),
)
