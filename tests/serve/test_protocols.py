"""The protocols of existing clients, byte for byte where a client looks at bytes."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from starlette.routing import Route

import bothways
from bothways.runtime.classifier import Classifier
from bothways.runtime.slots import BATCH_SLOTS
from bothways.serve.app import build_app
from bothways.serve.metrics import ServerMetrics
from bothways.serve.service import Service
from bothways.serve.settings import Settings
from tests.serve.conftest import Reply, RunningServer

pytestmark = pytest.mark.enable_socket
TEXTS = ["what a lovely film", "the DOG ate the cat"]


def sorted_scores(model: Classifier, text: str) -> list[dict[str, Any]]:
    (row,) = model.predict_proba([text]).tolist()
    pairs = sorted(zip(model.labels, row, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in pairs]


# Text Embeddings Inference.


def test_tei_answers_one_text_flat_and_several_nested(server: RunningServer, model: Classifier) -> None:
    one = server.request("/predict", {"inputs": TEXTS[0]})
    assert one.value == sorted_scores(model, TEXTS[0])
    several = server.request("/predict", {"inputs": [[text] for text in TEXTS], "truncate": True})
    assert several.value == [sorted_scores(model, text) for text in TEXTS]
    assert several.headers["x-compute-type"] == "cpu"
    assert several.headers["x-compute-characters"] == str(sum(map(len, TEXTS)))
    assert several.headers["x-compute-tokens"] == str(sum(len(model.tokenizer.tokenize(text)) for text in TEXTS))
    assert int(several.headers["x-total-time"]) >= 0


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        ({"inputs": TEXTS}, 422, "Validation", "A plain list is a pair of texts"),
        ({"inputs": [TEXTS]}, 422, "Validation", "inputs.0 has 2 texts, expected 1"),
        ({"inputs": []}, 400, "Empty", "cannot be empty"),
        ({"inputs": [[3]]}, 422, "Validation", "text 0 is int 3, expected a string"),
        ({"inputs": "a", "raw_scores": True}, 422, "Validation", "raw_scores"),
        ({"inputs": [["a"]] * 501}, 422, "Validation", "501 texts, but at most 500"),
        ({"input": "a"}, 422, "Validation", "inputs: Field required"),
    ],
)
def test_tei_errors_have_an_error_type(
    server: RunningServer, body: object, status: int, kind: str, message: str
) -> None:
    reply = server.request("/predict", body)
    assert (reply.status, reply.value["error_type"]) == (status, kind)
    assert message in reply.value["error"]


def test_tei_info(server: RunningServer, model: Classifier) -> None:
    info = server.request("/info").value
    labels = list(model.labels)
    assert info["model_id"] == "tiny"
    assert info["model_sha"] == model.digest
    assert info["model_dtype"] == "float32"
    assert info["model_type"]["classifier"]["id2label"] == {str(n): label for n, label in enumerate(labels)}
    limits = {name: value for name, value in info.items() if name.startswith("max_")}
    assert limits == {
        "max_concurrent_requests": None,
        "max_input_length": 400_000,
        "max_batch_tokens": None,
        "max_batch_requests": BATCH_SLOTS,
        "max_client_batch_size": 500,
    }
    assert info["version"] == bothways.__version__
    assert (server.request("/health").status, server.request("/ping").status) == (200, 200)


# Hugging Face's endpoints.


def test_hugging_face_answers_nested_also_for_one_text(server: RunningServer, model: Classifier) -> None:
    assert server.request("/", {"inputs": TEXTS[0]}).value == [sorted_scores(model, TEXTS[0])]
    body = {"inputs": TEXTS, "parameters": {"top_k": 1, "function_to_apply": "softmax"}}
    assert server.request("/", body).value == [sorted_scores(model, text)[:1] for text in TEXTS]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top_k": 0}, "parameters.top_k is 0"),
        ({"function_to_apply": "sigmoid"}, "only supports softmax"),
        ({"topk": 1}, "topk: Extra inputs"),
    ],
)
def test_hugging_face_rejects_what_is_not_supported(server: RunningServer, parameters: object, message: str) -> None:
    reply = server.request("/", {"inputs": "a", "parameters": parameters})
    assert (reply.status, message in reply.value["error"]) == (400, True)


# MLflow and SageMaker.


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["id", "text"], "data": [[1, TEXTS[0]], [2, TEXTS[1]]]}},
        {"dataframe_records": [{"text": text, "id": 0} for text in TEXTS]},
        {"instances": TEXTS},
        {"instances": [{"text": text} for text in TEXTS]},
        {"inputs": TEXTS, "params": {"any": 1}},
        {"inputs": {"text": TEXTS}},
        {"inputs": [[text] for text in TEXTS]},
    ],
    ids=lambda body: next(iter(body)),
)
def test_mlflow_takes_tables_and_lists(server: RunningServer, model: Classifier, body: object) -> None:
    reply = server.request("/invocations", body, {"content-type": "application/json"})
    assert reply.value == {"predictions": [sorted_scores(model, text)[0] for text in TEXTS]}


def test_mlflow_takes_csv(server: RunningServer, model: Classifier) -> None:
    text = 'two\nlines, "quoted"'
    body = b'id,text\r\n1,"two\nlines, ""quoted"""\r\n2,b\r\n'
    reply = server.request("/invocations", body, {"content-type": "text/csv; charset=utf-8"})
    assert reply.value == {"predictions": [sorted_scores(model, t)[0] for t in (text, "b")]}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        ({"instances": ["a"], "inputs": ["a"]}, "application/json", 400, "exactly one of"),
        ({}, "application/json", 400, "found none"),
        (
            {"dataframe_split": {"columns": ["a", "b"], "data": []}},
            "application/json",
            400,
            "expected 'text', found a, b",
        ),
        (
            {"dataframe_split": {"columns": ["text", "b"], "data": [["x"]]}},
            "application/json",
            400,
            "1 values, expected 2",
        ),
        (b"x", "application/x-npy", 415, "expected application/json or text/csv"),
        (b"\xff", "text/csv", 400, "not valid CSV in UTF-8"),
        (b"", "text/csv", 400, "the body is empty"),
        (b"a,b\n1,2\n", "text/csv", 400, "expected 'text', found a, b"),
    ],
)
def test_mlflow_rejects_with_a_reason(
    server: RunningServer, body: object, content_type: str, status: int, message: str
) -> None:
    reply = server.request("/invocations", body, {"content-type": content_type})
    assert (reply.status, message in reply.value["message"]) == (status, True), reply.body


# The Open Inference Protocol.


def infer(server: RunningServer, tensor: dict[str, Any], more: dict[str, Any] | None = None, raw: bytes = b"") -> Reply:
    request = {"inputs": [{"name": "text", "datatype": "BYTES", **tensor}], **(more or {})}
    head = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if raw else {}
    return server.request("/v2/models/tiny/infer", head + raw, headers)


def test_oip_metadata(server: RunningServer, model: Classifier) -> None:
    assert server.request("/v2").value["extensions"] == ["binary_tensor_data"]
    metadata = server.request("/v2/models/tiny").value
    assert (metadata["name"], metadata["versions"]) == ("tiny", ["1"])
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["outputs"][:2] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP64", "shape": [-1, 3]},
    ]
    assert server.request("/v2/models/tiny/versions/1").value == metadata
    assert server.request("/v2/models/tiny/ready").value == {"name": "tiny", "ready": True}
    assert server.request("/v2/health/ready").value["ready"] is True
    assert server.request("/v2/health/live").value["live"] is True
    for path in ("/v2/models/other", "/v2/models/tiny/versions/2", "/v2/models/other/ready", "/v2/models/..%2f/ready"):
        assert server.request(path).status == 404


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": [2], "data": TEXTS},
        {"shape": [2, 1], "data": [[text] for text in TEXTS]},
        {"shape": [2, 1], "data": TEXTS, "parameters": {"content_type": "str"}},
        {
            "shape": [2],
            "data": [base64.b64encode(text.encode()).decode() for text in TEXTS],
            "parameters": {"content_type": "base64"},
        },
    ],
    ids=["flat", "nested", "MLServer", "base64"],
)
def test_oip_answers_json(server: RunningServer, model: Classifier, tensor: dict[str, Any]) -> None:
    reply = infer(server, tensor, {"id": "42"})
    assert reply.value == {
        "model_name": "tiny",
        "model_version": "1",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": model.predict(TEXTS).tolist()},
            {
                "name": "probabilities",
                "datatype": "FP64",
                "shape": [2, 3],
                "data": model.predict_proba(TEXTS).ravel().tolist(),
            },
        ],
        "id": "42",
    }


def test_oip_binary_tensors_are_bit_identical(server: RunningServer, model: Classifier) -> None:
    raw = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in TEXTS)
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in ("label", "forward")]
    tensor = {"shape": [2], "parameters": {"binary_data_size": len(raw)}}
    reply = infer(server, tensor, {"outputs": [*outputs, {"name": "backward"}]}, raw)
    length = int(reply.headers["inference-header-content-length"])
    labels, forward, backward = json.loads(reply.body[:length])["outputs"]
    rest = reply.body[length:]
    size = labels["parameters"]["binary_data_size"]
    assert rest[:size] == b"".join(
        struct.pack("<I", len(label)) + label.encode() for label in model.predict(TEXTS).tolist()
    )
    expected = model.predict_proba_by_direction(TEXTS)
    assert len(rest[size:]) == forward["parameters"]["binary_data_size"]
    assert np.array_equal(np.frombuffer(rest[size:], "<f8").reshape(2, 3), expected["forward"])
    assert backward["data"] == expected["backward"].ravel().tolist()


@pytest.mark.parametrize(
    ("tensor", "more", "raw", "message"),
    [
        ({"shape": [3], "data": TEXTS}, {}, b"", "has 2 elements, but its shape is [3]"),
        ({"shape": [-1], "data": TEXTS}, {}, b"", "has the shape [-1]"),
        ({"shape": [2**40, 2**40], "data": TEXTS}, {}, b"", "has the shape"),
        ({"shape": [1, 2], "data": TEXTS}, {}, b"", "has the shape [1, 2]"),
        ({"shape": [2]}, {}, b"", "has no data"),
        ({"shape": [2], "data": TEXTS, "datatype": "FP32"}, {}, b"", "has the datatype 'FP32', expected BYTES"),
        (
            {"shape": [1], "data": ["%%"], "parameters": {"content_type": "base64"}},
            {},
            b"",
            "text 0 is not valid base64",
        ),
        ({"shape": [1], "data": [7]}, {}, b"", "text 0 is int 7, expected a string"),
        ({"shape": [2], "data": TEXTS}, {"outputs": [{"name": "logits"}]}, b"", "output not found: 'logits'"),
        ({"shape": [1], "data": ["a"], "name": "image"}, {}, b"", "expected one input named 'text', found image"),
        ({"shape": [1], "parameters": {"binary_data_size": 9}}, {}, b"\1\0\0\0a", "binary_data_size is 9, but 5 bytes"),
        ({"shape": [1], "parameters": {"binary_data_size": 5}}, {}, b"\xff\xff\xff\xffa", "but only 1 follow"),
        ({"shape": [1], "parameters": {"binary_data_size": 3}}, {}, b"\1\0\0", "ends with 3 bytes"),
        (
            {"shape": [1], "parameters": {"binary_data_size": 5}},
            {},
            b"\1\0\0\0\xff",
            "text 0 is not valid UTF-8 at byte 0",
        ),
        ({"shape": [1], "parameters": {"binary_data_size": -1}}, {}, b"\1", "binary_data_size is -1"),
        ({"shape": [1], "data": ["a"]}, {}, b"\1\0\0\0a", "5 bytes follow the JSON, but no input has a"),
    ],
)
def test_oip_rejects_inconsistent_tensors(
    server: RunningServer, tensor: dict[str, Any], more: dict[str, Any], raw: bytes, message: str
) -> None:
    reply = infer(server, tensor, more, raw)
    assert (reply.status, message in reply.value["error"]) == (400, True), reply.body


def test_oip_rejects_a_huge_shape(server: RunningServer) -> None:
    reply = infer(server, {"shape": [2**40], "data": TEXTS}, {}, b"")
    assert (reply.status, "are allowed (max-texts)" in reply.value["error"]) == (413, True), reply.body


@pytest.mark.parametrize("length", ["-1", "99999999", "x", "1e3", ""])
def test_oip_rejects_an_invalid_header_length(server: RunningServer, length: str) -> None:
    reply = server.request("/v2/models/tiny/infer", b"{}", {"Inference-Header-Content-Length": length})
    assert reply.status == 400


def test_oip_repeats_an_id_of_any_length_if_it_is_a_string(server: RunningServer) -> None:
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a film"]}]
    reply = server.request("/v2/models/tiny/infer", {"id": "7" * 1_000_000, "inputs": inputs})
    assert (reply.status, reply.value["id"]) == (200, "7" * 1_000_000)
    assert server.request("/v2/models/tiny/infer", {"id": 7, "inputs": inputs}).status == 400


def test_oip_does_not_find_another_model_or_version(server: RunningServer) -> None:
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}
    for path in ("/v2/models/other/infer", "/v2/models/tiny/versions/2/infer"):
        assert server.request(path, body).status == 404


# OpenAPI.


def test_openapi_describes_every_route_and_nothing_else(server: RunningServer) -> None:
    document = server.request("/openapi.json").value
    app = build_app(Service((), Settings(), ServerMetrics()))
    routes = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    not_for_programs = {("/", "get"), ("/metrics", "get"), ("/openapi.json", "get")}
    assert {(path, method) for path, method in routes if method != "head"} - described == not_for_programs
    assert described <= routes
    assert document["openapi"] == "3.1.0"
    assert "ClassifyRequest" in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        filled = path.replace("{model}", "tiny").replace("{version}", "1")
        for method in operations:
            reply = server.request(filled, b"{}" if method == "post" else None)
            assert reply.status not in (405, 500), (path, method)
            assert str(reply.status) in operations[method]["responses"], (path, method, reply.status)
