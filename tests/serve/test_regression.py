"""Regression over every protocol: values are bit-identical to predict (guarantee 8), or the request is rejected."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from bothways.runtime.classifier import Classifier
from bothways.serve.protocols.own import ClassifyReply, LabelResult, TextFault, ValueResult
from tests.bundles import THRESHOLDS
from tests.serve.conftest import RunningServer

pytestmark = pytest.mark.enable_socket
NAMES = ["forward", "backward", "ensemble"]
TEXTS = ["what a lovely film", "the DOG ate the cat", "schöne Grüße 👋", "", "the cat sat on a mat, " * 50]
INFER = "/v2/models/ratings/infer"


def tensor(texts: list[str]) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}


def test_values_are_bit_identical_to_predict(regression_server: RunningServer, regression_model: Classifier) -> None:
    reply = regression_server.classify(TEXTS, values=NAMES)
    assert (reply.status, reply.value["labels"]) == (200, [])
    predictions = list(regression_model.stream(TEXTS))
    assert [result["value"] for result in reply.value["results"]] == regression_model.predict(TEXTS).tolist()
    assert [result["values"] for result in reply.value["results"]] == [dict(found.values) for found in predictions]
    assert {tuple(result) for result in reply.value["results"]} == {("value", "read", "values")}


def test_only_the_ensemble_value_is_returned_by_default(
    regression_server: RunningServer, regression_model: Classifier
) -> None:
    results = regression_server.classify(["a film", None], tokens=True).value["results"]
    (value,) = regression_model.predict(["a film"]).tolist()
    assert (results[0]["value"], results[0]["values"], results[0]["read"]) == (value, {"ensemble": value}, "both")
    assert len(results[0]["tokens"]) == len(results[0]["reading"]["backward"])
    assert list(results[1]) == ["error"]
    assert regression_server.classify(["a film"], values=[]).value["results"][0]["values"] == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"probabilities": ["ensemble"]}, 'the model has no probabilities: request values instead, such as "values"'),
        ({"model": "tiny", "values": []}, "the model has no values: request probabilities instead"),
        ({"values": ["label"]}, "values.0: Input should be 'forward'"),
    ],
)
def test_scores_that_a_model_does_not_have_are_rejected(
    regression_server: RunningServer, body: dict[str, Any], message: str
) -> None:
    reply = regression_server.classify(["a film"], **body)
    assert (reply.status, message in reply.value["error"]) == (400, True), reply.body


@pytest.mark.parametrize("model", ["ratings", "houses", "tiny"])
def test_replies_match_their_openapi_schema(regression_server: RunningServer, model: str) -> None:
    reply = regression_server.classify(["a film", None], model=model, tokens=True)
    parsed = ClassifyReply.model_validate_json(reply.body)
    assert parsed.model_dump(mode="json", exclude_unset=True) == reply.value
    kinds = [type(result) for result in parsed.results]
    assert kinds == [LabelResult if model == "tiny" else ValueResult, TextFault]


def test_the_list_of_models_has_their_tasks(regression_server: RunningServer) -> None:
    ratings, tiny, houses, topics = regression_server.request("/v1/models").value["models"]
    assert (topics["task"], topics["thresholds"]) == ("multi-label", list(THRESHOLDS))
    assert tiny["thresholds"] is ratings["thresholds"] is None
    assert (ratings["task"], ratings["target"], ratings["labels"]) == ("regression", {"center": 20.0, "scale": 5.0}, [])
    assert (tiny["task"], tiny["target"], len(tiny["labels"])) == ("single-label", None, 3)
    assert (houses["task"], houses["target"], houses["value_range"]) == ("regression", None, [-1.0, 9.0])
    assert houses["targets"][0] == {"name": "price", "center": 0.5, "scale": 2.0}
    assert ratings["targets"] == tiny["targets"] == []


def test_a_model_with_several_targets_has_a_value_for_each(
    regression_server: RunningServer, targets_model: Classifier
) -> None:
    expected = targets_model.predict(TEXTS)
    assert expected.shape == (len(TEXTS), 2)
    results = regression_server.classify(TEXTS, model="houses", values=NAMES).value["results"]
    assert [list(result["value"].items()) for result in results] == [
        [("price", price), ("stars", stars)] for price, stars in expected.tolist()
    ]
    found = targets_model.scores_by_direction(TEXTS)
    for name in NAMES:
        assert [list(result["values"][name].values()) for result in results] == found[name].tolist()
    path = "/v2/models/houses"
    (output,) = regression_server.request(f"{path}/infer", {"inputs": [tensor(TEXTS)]}).value["outputs"]
    assert (output["shape"], output["data"]) == ([len(TEXTS), 2], expected.ravel().tolist())
    metadata = regression_server.request(path).value
    assert (metadata["targets"], metadata["outputs"][0]["shape"]) == (["price", "stars"], [-1, 2])


def test_mlflow_predictions_are_numbers(regression_server: RunningServer, regression_model: Classifier) -> None:
    expected = {"predictions": regression_model.predict(TEXTS).tolist()}
    assert regression_server.request("/invocations", {"inputs": TEXTS}).value == expected
    csv = b"text\r\n" + "\r\n".join(f'"{text}"' for text in TEXTS).encode()
    assert regression_server.request("/invocations", csv, {"content-type": "text/csv"}).value == expected


def test_oip_returns_a_value_per_text(regression_server: RunningServer, regression_model: Classifier) -> None:
    reply = regression_server.request(INFER, {"inputs": [tensor(TEXTS)]})
    values = regression_model.predict(TEXTS).tolist()
    assert reply.value["outputs"] == [{"name": "value", "datatype": "FP64", "shape": [len(TEXTS)], "data": values}]


def test_oip_directions_and_binary_tensors_are_bit_identical(
    regression_server: RunningServer, regression_model: Classifier
) -> None:
    raw = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in TEXTS)
    binary = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "parameters": {"binary_data_size": len(raw)}}
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in ("backward", "value")]
    head = json.dumps({"inputs": [binary], "outputs": [{"name": "forward"}, *outputs]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = regression_server.request(INFER, head + raw, headers)
    length = int(reply.headers["inference-header-content-length"])
    forward, *_ = json.loads(reply.body[:length])["outputs"]
    expected = regression_model.scores_by_direction(TEXTS)
    assert (forward["shape"], forward["data"]) == ([len(TEXTS)], expected["forward"].ravel().tolist())
    found = np.frombuffer(reply.body[length:], "<f8").reshape(2, len(TEXTS), 1)
    assert np.array_equal(found, [expected["backward"], expected["ensemble"]])


def test_oip_describes_a_regression_model(regression_server: RunningServer) -> None:
    metadata = regression_server.request("/v2/models/ratings").value
    assert "labels" not in metadata
    outputs = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in ("value", "forward", "backward")]
    assert metadata["outputs"] == outputs
    for name in ("label", "probabilities"):
        reply = regression_server.request(INFER, {"inputs": [tensor(["a"])], "outputs": [{"name": name}]})
        assert (reply.status, reply.value["error"]) == (
            400,
            f"output not found: {name!r}. Available outputs: value, forward, backward",
        )


def test_protocols_of_hugging_face_report_values_as_scores(
    regression_server: RunningServer, regression_model: Classifier, targets_model: Classifier
) -> None:
    """F7: as regression models of Hugging Face do. Targets keep their order."""
    (value,) = regression_model.predict(TEXTS[:1]).tolist()
    rows = [{"label": "value", "score": value}]
    assert regression_server.request("/predict", {"inputs": TEXTS[0], "raw_scores": True}).value == rows
    body = {"inputs": TEXTS[0], "parameters": {"function_to_apply": "none"}}
    assert regression_server.request("/", body).value == [rows]
    assert regression_server.request("/info").value["model_type"]["classifier"]["id2label"] == {"0": "value"}
    ((price, stars),) = targets_model.predict(TEXTS[:1]).tolist()
    rows = [{"label": "price", "score": price}, {"label": "stars", "score": stars}]
    assert regression_server.request("/models/houses/predict", {"inputs": TEXTS[0]}).value == rows
    assert list(regression_server.request("/models/houses/info").value["model_type"]["classifier"]["label2id"]) == [
        "price",
        "stars",
    ]
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/", {"parameters": {"top_k": 1}, "inputs": "a"}),
        ("/v1/classify", {"texts": ["a"], "top_k": 1}),
    ]
    for path, request in requests:
        reply = regression_server.request(path, request)
        assert (reply.status, "predicts a number and has no labels" in reply.value["error"]) == (400, True)
