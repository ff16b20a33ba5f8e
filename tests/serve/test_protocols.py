"""The protocols of existing clients, byte for byte where a client looks at bytes."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
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
from tests.serve.conftest import Reply, RunningServer, running

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
        ({"inputs": TEXTS}, 422, "Validation", "inputs is a pair of texts, but the model reads one text column"),
        ({"inputs": [TEXTS]}, 422, "Validation", "inputs.0 is a pair of texts"),
        ({"inputs": []}, 400, "Empty", "cannot be empty"),
        ({"inputs": [[3]]}, 422, "Validation", "text 0 is int 3, expected a string"),
        ({"inputs": "a", "raw_scores": True}, 422, "Validation", "raw_scores"),
        ({"inputs": [["a"]] * 501}, 422, "Validation", "501 texts, but at most 500"),
        ({"input": "a"}, 422, "Validation", "inputs: Field required"),
        ({"inputs": ["a", "b", "c"]}, 422, "Validation", "inputs has 3 texts, expected 1"),
        ({"inputs": "a", "top_k": 1}, 422, "Validation", "top_k is not supported by this protocol"),
        ({"inputs": "a", "threshold": 0.5}, 422, "Validation", "threshold is not supported by this protocol"),
        ({"inputs": "a", "model": "other"}, 404, "Validation", "model not found: 'other'"),
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
        ({"top_k": 0}, "parameters.top_k: Input should be greater than or equal to 1"),
        ({"top_k": True}, "parameters.top_k: Input should be a valid integer"),
        ({"threshold": 0.5}, "Only multi-label models have them"),
        ({"max_length": 1}, "text 0 has 2 tokens, but parameters.max_length is 1"),
        ({"add_special_tokens": False}, "add_special_tokens: Extra inputs"),
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
        {"inputs": TEXTS, "params": {}, "client_request_id": "7"},
        TEXTS,
        {"inputs": {"text": TEXTS}},
        {"inputs": [[text] for text in TEXTS]},
    ],
    ids=lambda body: str(next(iter(body))),
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
    ("body", "content_type", "texts"),
    [
        (b"a film\nthe dog\n", "text/csv", ["a film", "the dog"]),
        (b"a film", "text/csv", ["a film"]),
        (b"text\na film\n", "text/csv", ["a film"]),
        (b"text\n", "text/csv", []),
        (b"text\n", "text/csv; header=absent", ["text"]),
        (b"whatever\na film\n", "text/csv; header=present", ["a film"]),
        (b"\xef\xbb\xbftext\na film\n", "text/csv", ["a film"]),
        (b"a film\n\nthe dog\n", 'text/csv; charset="utf-8"', ["a film", "", "the dog"]),
        (b'"a, ""b""\nc"\r\nd', "text/csv", ['a, "b"\nc', "d"]),
        (b"id,text\n1,a film\n\n\n", "TEXT/CSV; Header=Present", ["a film"]),
        (b"a" * 200_000, "text/csv", ["a" * 200_000]),
    ],
)
def test_f6_n_lines_of_csv_have_n_predictions(
    server: RunningServer, model: Classifier, body: bytes, content_type: str, texts: list[str]
) -> None:
    """The first line is a header if the client says so, or if it has the names of the columns."""
    reply = server.request("/invocations", body, {"content-type": content_type})
    assert reply.value == {"predictions": [sorted_scores(model, text)[0] for text in texts]}


@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        ("*/*", 200, "application/json"),
        ("application/json", 200, "application/json"),
        ("text/html, text/*;q=0.5", 200, "text/csv; charset=utf-8"),
        ("text/csv;q=0.1, application/x-ndjson", 200, "application/x-ndjson"),
        ("text/csv;q=0", 406, "application/json"),
        ("application/x-npy", 406, "application/json"),
    ],
)
def test_invocations_are_answered_in_the_format_that_is_accepted(
    server: RunningServer, accept: str, status: int, content_type: str
) -> None:
    reply = server.request("/invocations", {"inputs": TEXTS}, {"accept": accept})
    assert (reply.status, reply.headers["content-type"]) == (status, content_type)


def test_a_reply_in_csv_has_no_place_for_top_k(server: RunningServer) -> None:
    reply = server.request("/invocations", {"inputs": ["a"], "params": {"top_k": 1}}, {"accept": "text/csv"})
    assert (reply.status, "top_k is not supported for replies in CSV" in reply.value["message"]) == (400, True)


def test_csv_replies_have_the_columns_of_bothways_predict(server: RunningServer, model: Classifier) -> None:
    reply = server.request("/invocations", {"inputs": TEXTS[:1]}, {"accept": "text/csv; header=present"})
    header, row = reply.body.decode().splitlines()
    assert header == "predicted_label,predicted_probability,probability_bad,probability_good,probability_so-so"
    assert [float(cell) for cell in row.split(",")[2:]] == model.predict_proba(TEXTS[:1])[0].tolist()


# Keys that the original servers ignore.


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/predict", {"inputs": [TEXTS[0]]}),
        ("/predict", {"normalize": True, "truncate": True, "truncation_direction": "left", "prompt_name": None}),
        ("/", {"parameters": {"truncation": True, "padding": "max_length", "batch_size": 8}, "options": {"any": 1}}),
        ("/", {"parameters": {"max_length": 512, "truncation": "longest_first", "return_all_scores": True}}),
        ("/", {"parameters": {"max_length": 1, "truncation": False}, "client_id": "7"}),
        ("/", {"inputs": {"text": TEXTS[0]}, "parameters": {}}),
    ],
)
def test_f14_keys_that_do_not_change_the_answer_are_ignored(
    server: RunningServer, model: Classifier, path: str, more: dict[str, Any]
) -> None:
    expected = sorted_scores(model, TEXTS[0])
    assert server.request(path, {"inputs": TEXTS[0], **more}).value == ([expected] if path == "/" else expected)


@pytest.mark.parametrize("key", ["top_k", "function_to_apply", "threshold"])
def test_f14_a_key_in_the_wrong_place_is_refused(server: RunningServer, key: str) -> None:
    reply = server.request("/", {"inputs": "a", key: 1})
    assert (reply.status, reply.value["error"]) == (400, f"{key} belongs into parameters")


# Models by name.


def test_f15_every_model_answers_in_every_protocol(server: RunningServer, model: Classifier) -> None:
    """``/models/NAME`` before the path or ``?model=NAME``, and ``NAME@VERSION`` for a version."""
    expected = sorted_scores(model, TEXTS[0])
    assert server.request("/models/tiny/", {"inputs": TEXTS[0]}).value == [expected]
    for prefix, query in (("/models/tiny", ""), ("/models/tiny@1", ""), ("", "?model=tiny"), ("", "?model=tiny@1")):
        assert server.request(f"{prefix or '/'}{query}", {"inputs": TEXTS[0]}).value == [expected]
        assert server.request(f"{prefix}/predict{query}", {"inputs": TEXTS[0]}).value == expected
        assert server.request(f"{prefix}/info{query}").value["model_id"] == "tiny"
        assert server.request(f"{prefix}/invocations{query}", TEXTS[:1]).value == {"predictions": expected[:1]}
        assert server.request(f"{prefix}/v1/classify{query}", {"texts": TEXTS[:1]}).value["version"] == "1"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/predict?model=other", {"inputs": "a"}, 404, "model not found: 'other'. Available models: tiny"),
        ("/models/tiny@2/predict", {"inputs": "a"}, 404, "the model 'tiny' has no version '2'"),
        ("/predict?model=tiny&version=2", {"inputs": "a"}, 404, "the model 'tiny' has no version '2'"),
        ("/models/tiny?model=other", {"inputs": "a"}, 400, "the URL names the model 'tiny' and 'other': name one"),
        ("/v1/classify?model=tiny", {"texts": [], "model": "b"}, 400, "the URL names the model 'tiny', but the body"),
    ],
)
def test_f15_a_model_that_is_not_served_is_refused(
    server: RunningServer, path: str, body: object, status: int, message: str
) -> None:
    reply = server.request(path, body)
    assert (reply.status, message in reply.value["error"]) == (status, True), reply.body


def test_kserve_predicts_and_describes_a_model(server: RunningServer, model: Classifier) -> None:
    expected = [sorted_scores(model, text)[0] for text in TEXTS]
    body = {"instances": TEXTS, "signature_name": "serving_default"}
    assert server.request("/v1/models/tiny:predict", body).value == {"predictions": expected}
    rows = {"instances": [{"text": text} for text in TEXTS], "parameters": {"top_k": 2}}
    first = server.request("/v1/models/tiny:predict", rows).value["predictions"][0]
    assert first["top"] == sorted_scores(model, TEXTS[0])[:2]
    described = server.request("/v1/models/tiny").value
    assert (described["name"], described["ready"], described["digest"]) == ("tiny", True, model.digest)
    assert server.request("/v1/models/other:predict", {"instances": []}).status == 404
    assert server.request("/v1/models/other").status == 404


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
        ({"dataframe_split": {"columns": ["a"], "data": [[]]}}, "application/json", 400, "0 values, expected 1"),
        ({"instances": [{"": "a"}, {}]}, "application/json", 400, "not every row has the column ''"),
        (b"inputs=a", "application/x-www-form-urlencoded", 400, "not strict JSON"),
        (b"x", "application/x-npy", 415, "expected application/json, text/csv or application/jsonlines"),
        (b"\xff", "text/csv", 400, "not valid CSV in UTF-8"),
        (b"", "text/csv", 400, "the body is empty"),
        (b"a,b\n1,2\n", "text/csv", 400, "the first line is a,b, expected a header with 'text' or one text"),
        (b"Text\na\n", "text/csv", 400, "State in the content type whether there is a header"),
        (b"a,b\n1,2\n", "text/csv; header=present", 400, "expected 'text', found a, b"),
        (b"a\nb,c\n", "text/csv", 400, "row 2 has 2 values, expected 1. Enclose a text with commas in quotes"),
        (b"id,text\n1\n", "text/csv", 400, "row 2 has 1 values, expected 2"),
        (b"a\n", "text/csv; header=no", 400, "header is 'no' in the content type, expected present or absent"),
        (b"a\n", "text/csv; charset=latin-1", 415, "the charset is 'latin-1', expected utf-8"),
        ({"inputs": ["a"], "params": {"any": 1}}, "application/json", 400, "params.any: Extra inputs"),
        ({"inputs": ["a"], "params": {"thresholds": {"a": 2}}}, "application/json", 400, "less than or equal to 1"),
    ],
)
def test_mlflow_rejects_with_a_reason(
    server: RunningServer, body: object, content_type: str, status: int, message: str
) -> None:
    reply = server.request("/invocations", body, {"content-type": content_type})
    assert (reply.status, message in reply.value["message"]) == (status, True), reply.body


def test_f7_a_multi_label_model_reports_the_labels_that_reach_their_thresholds(
    regression_server: RunningServer, multi_label_model: Classifier
) -> None:
    """``test_every_protocol.py`` compares all protocols with all kinds of models, in one process."""
    expected = [list(labels) for labels in multi_label_model.predict(TEXTS)]
    assert expected[0] != expected[1]
    server = regression_server
    results = server.classify(TEXTS, model="topics").value["results"]
    assert [result["chosen"] for result in results] == expected
    predictions = server.request("/invocations?model=topics", TEXTS).value["predictions"]
    assert [prediction["labels"] for prediction in predictions] == expected
    for path, inputs in (("/models/topics", TEXTS), ("/models/topics/predict", [[text] for text in TEXTS])):
        rows = server.request(path, {"inputs": inputs}).value
        assert [sorted(each["label"] for each in row if each["chosen"]) for row in rows] == list(map(sorted, expected))
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": TEXTS, "parameters": {}}
    labels, chosen, _ = server.request("/v2/models/topics/infer", {"inputs": [tensor]}).value["outputs"]
    assert [json.loads(each) for each in labels["data"]] == expected
    assert (chosen["datatype"], chosen["shape"], len(chosen["data"])) == ("BOOL", [2, 4], 8)


# The Open Inference Protocol.


def infer(server: RunningServer, tensor: dict[str, Any], more: dict[str, Any] | None = None, raw: bytes = b"") -> Reply:
    request = {"inputs": [{"name": "text", "datatype": "BYTES", **tensor}], **(more or {})}
    head = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if raw else {}
    return server.request("/v2/models/tiny/infer", head + raw, headers)


def test_oip_metadata(server: RunningServer, model: Classifier) -> None:
    assert server.request("/v2").value["extensions"][:2] == ["binary_tensor_data", "classification"]
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


def test_a_linear_member_is_reported_on_request(
    linear_bundle_path: Path, linear_model: Classifier, tmp_path: Path
) -> None:
    expected = linear_model.predict_proba_by_direction(TEXTS)
    inputs = [{"name": "text", "shape": [2], "datatype": "BYTES", "data": TEXTS}]
    with running(f"mixed={linear_bundle_path}", folder=tmp_path) as server:
        reply: Any = server.request("/v1/classify", {"texts": TEXTS, "probabilities": ["linear", "ensemble"]}).value
        answer: Any = server.request(
            "/v2/models/mixed/infer", {"inputs": inputs, "outputs": [{"name": "linear"}]}
        ).value
    (tensor,) = answer["outputs"]
    for name in ("linear", "ensemble"):
        assert [result["probabilities"][name] for result in reply["results"]] == expected[name].tolist()
    assert tensor["data"] == expected["linear"].ravel().tolist()


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


def test_oip_classification_returns_the_best_labels_as_triton_does(server: RunningServer, model: Classifier) -> None:
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    (output,) = infer(server, {"shape": [2], "data": TEXTS}, {"outputs": outputs}).value["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    best = [each for text in TEXTS for each in sorted_scores(model, text)[:2]]
    positions = [model.labels.index(each["label"]) for each in best]
    assert output["data"] == [f"{each['score']}:{n}:{each['label']}" for each, n in zip(best, positions, strict=True)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"outputs": [{"name": "label", "parameters": {"classification": 1}}]}, "expected a number of labels"),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": "1"}}]}, "classification is '1'"),
        ({"outputs": [{"name": ""}]}, "output not found: ''"),
        ({"parameters": {"top_k": 1}}, "set classification in the parameters of probabilities"),
        ({"parameters": {"threshold": 0.5}}, "Only multi-label models have them"),
    ],
)
def test_oip_refuses_parameters_that_it_cannot_follow(
    server: RunningServer, more: dict[str, Any], message: str
) -> None:
    reply = infer(server, {"shape": [1], "data": ["a"]}, more)
    assert (reply.status, message in reply.value["error"]) == (400, True), reply.body


def test_triton_lists_and_configures_models(server: RunningServer) -> None:
    index = [{"name": "tiny", "version": "1", "state": "READY"}]
    assert server.request("/v2/repository/index", b"").value == index
    assert server.request("/v2/repository/index", {"ready": True}).value == index
    configuration = server.request("/v2/models/tiny/config").value
    assert configuration["input"] == [{"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}]
    assert configuration["output"][1] == {"name": "probabilities", "data_type": "TYPE_FP64", "dims": [-1, 3]}
    assert server.request("/v2/models/other/config").status == 404


def test_triton_reports_statistics(server: RunningServer) -> None:
    def found() -> dict[str, Any]:
        (statistics,) = server.request("/v2/models/tiny/versions/1/stats").value["model_stats"]
        assert server.request("/v2/models/tiny/stats").value["model_stats"][0]["name"] == "tiny"
        return dict(statistics)

    before = found()
    assert infer(server, {"shape": [2], "data": TEXTS}).status == 200
    after = found()
    assert after["inference_count"] - before["inference_count"] == 2
    assert after["execution_count"] - before["execution_count"] == 1
    times = after["inference_stats"]
    assert times["success"]["ns"] > times["compute_infer"]["ns"] > 0


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
    assert "securitySchemes" not in document["components"]  # ``test_proxied.py`` has a server with API keys
    assert "ClassifyRequest" in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        filled = path.replace("{model}", "tiny").replace("{version}", "1")
        for method in operations:
            reply = server.request(filled, b"{}" if method == "post" else None)
            assert reply.status not in (405, 500), (path, method)
            assert str(reply.status) in operations[method]["responses"], (path, method, reply.status)
