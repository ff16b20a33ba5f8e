"""The messages of the Open Inference Protocol over gRPC, built at run time from their field names and numbers.

They are those of the package ``inference`` of the protocol (KServe, Triton). A pool of their own keeps them apart from
the generated messages of other libraries in the same process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"
"""The service of gRPC itself that the probes of Kubernetes call. Its status is an enumeration, sent as an integer."""
_TENSOR = ("name: string = 1", "datatype: string = 2", "shape: repeated int64 = 3")
_PARAMETERS = "parameters: map InferParameter = {}"
_FIELDS: dict[str, tuple[str, ...]] = {
    "HealthCheckRequest": ("service: string = 1",),
    "HealthCheckResponse": ("status: int32 = 1",),
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("live: bool = 1",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("ready: bool = 1",),
    "ModelReadyRequest": ("name: string = 1", "version: string = 2"),
    "ModelReadyResponse": ("ready: bool = 1",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("name: string = 1", "version: string = 2", "extensions: repeated string = 3"),
    "ModelMetadataRequest": ("name: string = 1", "version: string = 2"),
    "ModelMetadataResponse": (
        *("name: string = 1", "versions: repeated string = 2", "platform: string = 3"),
        *("inputs: repeated TensorMetadata = 4", "outputs: repeated TensorMetadata = 5"),
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "RepositoryIndexRequest": ("repository_name: string = 1", "ready: bool = 2"),
    "RepositoryIndexResponse": ("models: repeated ModelIndex = 1",),
    "RepositoryIndexResponse.ModelIndex": (
        *("name: string = 1", "version: string = 2"),
        *("state: string = 3", "reason: string = 4"),
    ),
    "ModelInferRequest": (
        *("model_name: string = 1", "model_version: string = 2", "id: string = 3", _PARAMETERS.format(4)),
        *("inputs: repeated InferInputTensor = 5", "outputs: repeated InferRequestedOutputTensor = 6"),
        "raw_input_contents: repeated bytes = 7",
    ),
    "ModelInferRequest.InferInputTensor": (
        *(*_TENSOR, _PARAMETERS.format(4)),
        "contents: InferTensorContents = 5",
    ),
    "ModelInferRequest.InferRequestedOutputTensor": ("name: string = 1", _PARAMETERS.format(2)),
    "ModelInferResponse": (
        *("model_name: string = 1", "model_version: string = 2", "id: string = 3", _PARAMETERS.format(4)),
        *("outputs: repeated InferOutputTensor = 5", "raw_output_contents: repeated bytes = 6"),
    ),
    "ModelInferResponse.InferOutputTensor": (
        *(*_TENSOR, _PARAMETERS.format(4)),
        "contents: InferTensorContents = 5",
    ),
    "ModelStreamInferResponse": ("error_message: string = 1", "infer_response: ModelInferResponse = 2"),
    "InferParameter": (
        *("bool_param: choice bool = 1", "int64_param: choice int64 = 2", "string_param: choice string = 3"),
        *("double_param: choice double = 4", "uint64_param: choice uint64 = 5"),
    ),
    "InferTensorContents": (
        *("bool_contents: repeated bool = 1", "int_contents: repeated int32 = 2"),
        *("int64_contents: repeated int64 = 3", "uint_contents: repeated uint32 = 4"),
        *("uint64_contents: repeated uint64 = 5", "fp32_contents: repeated float = 6"),
        *("fp64_contents: repeated double = 7", "bytes_contents: repeated bytes = 8"),
    ),
}
"""The fields of every message. A message after a dot is nested in the other one."""
_FIELD = re.compile(r"(\w+): (?:(repeated|map|choice) )?(\w+) = (\d+)")
_SCALARS = ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")
_Field = descriptor_pb2.FieldDescriptorProto


def _message_classes() -> dict[str, type[Any]]:
    file = descriptor_pb2.FileDescriptorProto(name="bothways/open_inference.proto", package=PACKAGE, syntax="proto3")
    found: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, fields in _FIELDS.items():
        outer, _, inner = name.rpartition(".")
        message = found[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        found[name] = message
        _add_fields(message, name, fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _FIELDS}


def _add_fields(message: descriptor_pb2.DescriptorProto, name: str, fields: Iterable[str]) -> None:
    """Add fields to a message. A map is a list of entries, whose key is a string."""
    for line in fields:
        parts = _FIELD.fullmatch(line)
        assert parts is not None, line
        field_name, kind, type_name, number = parts.groups()
        field = message.field.add(name=field_name, number=int(number), label=_Field.LABEL_OPTIONAL)
        if kind in ("repeated", "map"):
            field.label = _Field.LABEL_REPEATED
        if kind == "choice":
            if not message.oneof_decl:
                message.oneof_decl.add(name="parameter_choice")
            field.oneof_index = 0
        if kind == "map":
            entry = message.nested_type.add(name=f"{field_name.title()}Entry")
            entry.options.map_entry = True
            _add_fields(entry, name, ("key: string = 1", f"value: {type_name} = 2"))
            _set_type(field, f"{name}.{entry.name}")
        else:
            _set_type(field, type_name if f"{name}.{type_name}" not in _FIELDS else f"{name}.{type_name}")


def _set_type(field: descriptor_pb2.FieldDescriptorProto, type_name: str) -> None:
    if type_name in _SCALARS:
        field.type = _Field.Type.Value(f"TYPE_{type_name.upper()}")
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{type_name}"


CLASSES = _message_classes()
"""The class of every message, by its name."""


def parameters_of(message: Any) -> dict[str, object]:
    """Return the parameters of a message as plain values by name."""
    return {
        key: getattr(value, kind)
        for key, value in message.parameters.items()
        if (kind := value.WhichOneof("parameter_choice"))
    }


def make(message: str, /, **fields: object) -> Message:
    """Return a message of a class with fields."""
    made: Message = CLASSES[message](**fields)
    return made
