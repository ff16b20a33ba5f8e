"""The Open Inference Protocol, version 2 (KServe, Triton, MLServer): metadata, and ``POST /v2/models/NAME/infer``.

Supports Triton's binary tensors: the header ``Inference-Header-Content-Length`` is the length of the JSON part, which
raw bytes follow. An element of type BYTES is its length as a four-byte little-endian integer, followed by its bytes.

``tensors`` describes the inputs and outputs of models. The repository index and the configuration of a model are those
of Triton.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field

from bothways import strict_json
from bothways.errors import RequestInvalid, quoted, shown
from bothways.schema import Items
from bothways.serve.answers import Answer
from bothways.serve.protocols.protocol import (
    Information,
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    liveness,
    parse_body,
    readiness,
    refuse_many_texts,
    render_plain_error,
    served_by,
)
from bothways.serve.protocols.tensors import (
    EXTENSIONS,
    INPUT,
    PLATFORM,
    Tensor,
    Wanted,
    choices_in,
    input_names,
    known_outputs,
    output_in,
    output_tensors,
    shape_of,
    wanted_outputs,
)
from bothways.serve.service import ServedModel, Service
from bothways.serve.settings import Settings
from bothways.text.fields import columns_text
from bothways.version import __version__

_JSON_LENGTH_HEADER = "inference-header-content-length"
_BINARY_SIZE, _BINARY_DATA, _BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"
_STAGES = {"success": "request", "compute_input": "tokenize", "queue": "wait", "compute_infer": "read"}
"""The names of stages in Triton's statistics, and in the metrics of the server."""
_CONFIGURED = {"BYTES": "TYPE_STRING", "BOOL": "TYPE_BOOL", "FP64": "TYPE_FP64"}


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


def _parse(received: RawRequest, service: Service) -> Query:
    chosen = served_by(service, received.path)
    model = chosen.served.model
    header, raw = _split(received)
    request = parse_body(header, InferRequest, service.settings)
    texts = texts_of_tensors(request.inputs, input_names(model), raw, service.settings)
    in_binary = request.parameters.get(_BINARY_OUTPUT) is True
    outputs = None
    if request.outputs is not None:
        outputs = {
            each.name: output_in(
                each.name, each.parameters, in_binary=each.parameters.get(_BINARY_DATA, in_binary) is True
            )
            for each in request.outputs
        }
    wanted = Wanted(request.id, outputs, in_binary, choices_in(request.parameters))
    wanted_outputs(wanted, model)
    return Query(texts, chosen.served, partial(_render, wanted), chosen.version)


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


def texts_of_tensors(
    tensors: Sequence[InferInput], names: Sequence[str], raw: bytes, settings: Settings
) -> list[object]:
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


def _render(wanted: Wanted, served: ServedModel, answer: Answer) -> Reply:
    tensors, raw = [], b""
    for tensor in output_tensors(wanted, served.model, answer):
        described: dict[str, object] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if tensor.in_binary:
            part = tensor.raw
            described["parameters"], raw = {_BINARY_SIZE: len(part)}, raw + part
        else:
            described["data"] = _json_elements(tensor)
        tensors.append(described)
    document: dict[str, object] = {"model_name": served.name, "model_version": served.version, "outputs": tensors}
    if wanted.id is not None:
        document["id"] = wanted.id
    if not raw:
        return Reply(document)
    header = strict_json.dump(document).encode("utf-8")
    return Reply(header + raw, {_JSON_LENGTH_HEADER: str(len(header)), "content-type": "application/octet-stream"})


def _json_elements(tensor: Tensor) -> Sequence[object]:
    """Return the elements of a tensor as JSON values, with None for NaN, which JSON does not have."""
    if not isinstance(tensor.data, np.ndarray):
        return tensor.data
    values = tensor.data.tolist()
    return values if tensor.datatype == "BOOL" else [None if math.isnan(number) else number for number in values]


def _server_metadata(_: Service, __: Mapping[str, str]) -> Reply:
    return Reply({"name": "bothways", "version": __version__, "extensions": list(EXTENSIONS)})


def _model_metadata(service: Service, path: Mapping[str, str]) -> Reply:
    return Reply(model_metadata(service, served_by(service, path).served))


def model_metadata(service: Service, served: ServedModel) -> dict[str, object]:
    """Return the description of a model."""
    model = served.model
    metadata: dict[str, object] = {
        "name": served.name,
        "versions": [other.version for other in service.models if other.name == served.name],
        "platform": PLATFORM,
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in input_names(model)],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, *shape]}
            for name in known_outputs(model)
            for datatype, shape in [shape_of(name, model)]
        ],
    }
    if model.labels:
        metadata["labels"] = list(model.task.labels)
    if model.targets:
        metadata["targets"] = list(model.targets)
    return metadata


def _model_readiness(service: Service, path: Mapping[str, str]) -> Reply:
    served = served_by(service, path).served
    return Reply({"name": served.name, "ready": service.is_ready}, status=200 if service.is_ready else 503)


def _repository_index(service: Service, _: Mapping[str, str]) -> Reply:
    """List the models as Triton does: those that are served are ready."""
    return Reply(
        [
            {"name": served.name, "version": served.version, "state": "UNAVAILABLE" if service.is_draining else "READY"}
            for served in service.models
        ]
    )


def _model_statistics(service: Service, path: Mapping[str, str]) -> Reply:
    """Report the numbers of texts and requests of a model, and the time of each stage, as Triton does.

    Without a version in the path, all versions of the model are reported.
    """
    served = served_by(service, path)
    versions = [each for each in service.models if each.name == served.served.name]
    found = [each for each in versions if served.version in (None, each.version)]
    return Reply({"model_stats": [_statistics(service, each) for each in found]})


def _statistics(service: Service, served: ServedModel) -> dict[str, object]:
    stages = service.metrics.stages_of(served.name, served.version)
    texts = service.metrics.texts_of(served.name, served.version)
    times: dict[str, dict[str, int]] = {}
    for name, stage in _STAGES.items():
        count, seconds = stages.get(stage, (0, 0.0))
        times[name] = {"count": count, "ns": round(1e9 * seconds)}
    names = {"name": served.name, "version": served.version}
    return {**names, "inference_count": texts, "execution_count": times["queue"]["count"], "inference_stats": times}


def _model_configuration(service: Service, path: Mapping[str, str]) -> Reply:
    """Describe a model as Triton's configuration does. Any number of texts is a batch."""
    served = served_by(service, path).served
    model = served.model
    inputs = [{"name": name, "data_type": "TYPE_STRING", "dims": [-1]} for name in input_names(model)]
    outputs = [
        {"name": name, "data_type": _CONFIGURED[datatype], "dims": [-1, *shape]}
        for name in known_outputs(model)
        for datatype, shape in [shape_of(name, model)]
    ]
    return Reply(
        {
            "name": served.name,
            "platform": PLATFORM,
            "backend": "",
            "max_batch_size": 0,
            "input": inputs,
            "output": outputs,
        }
    )


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
        Information("/v2/repository/index", "List the models (Triton)", _repository_index, method="POST"),
        Information(f"{_MODEL}/config", "Return the configuration of a model (Triton)", _model_configuration),
        Information(f"{_MODEL}/stats", "Report texts, requests and times of a model (Triton)", _model_statistics),
        Information(f"{_VERSION}/stats", "Report those of a version of a model (Triton)", _model_statistics),
        Information(f"{_MODEL}/ready", "Report whether a model accepts requests", _model_readiness, is_probe=True),
        Information(
            f"{_VERSION}/ready", "Report whether a version of a model accepts requests", _model_readiness, is_probe=True
        ),
    ),
)
