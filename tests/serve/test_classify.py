"""POST /v1/classify: replies are bit-identical to predict (guarantee 8), and errors explain what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bothways
from bothways.bundle.parity import NASTY_TEXTS
from bothways.runtime.classifier import Classifier
from bothways.text.reading import Direction
from tests.bundles import write_with_early_exit
from tests.serve.conftest import RunningServer, running

pytestmark = pytest.mark.enable_socket
NAMES = ["forward", "backward", "ensemble"]


def rows_of(reply: Any, name: str) -> np.ndarray:
    return np.array([result["probabilities"][name] for result in reply.value["results"]])


@settings(max_examples=30)
@given(texts=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80), max_size=8))
def test_replies_are_bit_identical_to_predict(server: RunningServer, model: Classifier, texts: list[str]) -> None:
    reply = server.classify(texts, probabilities=NAMES)
    assert reply.status == 200
    assert reply.value["labels"] == list(model.labels)
    expected = model.predict_proba_by_direction(texts)
    for name in NAMES if texts else []:
        assert np.array_equal(rows_of(reply, name), expected[name])
    assert [result["label"] for result in reply.value["results"]] == model.predict(texts).tolist()


def test_nasty_texts_are_bit_identical_too(server: RunningServer, model: Classifier) -> None:
    texts = [*NASTY_TEXTS, "a\x00b", "", " ", "xxbos xxpad", "x" * 100_000, "word " * 30_000]
    assert np.array_equal(rows_of(server.classify(texts), "ensemble"), model.predict_proba(texts))


def test_only_the_ensemble_is_returned_by_default(server: RunningServer, model: Classifier) -> None:
    (result,) = server.classify(["what a film"]).value["results"]
    (prediction,) = model.stream(["what a film"])
    assert result == {
        "label": prediction.label,
        "probability": prediction.probability,
        "chosen": [prediction.label],
        "read": "both",
        "probabilities": {"ensemble": prediction.probabilities["ensemble"].tolist()},
    }


def test_a_bad_text_gets_an_error_of_its_own(server: RunningServer, model: Classifier) -> None:
    texts = ["a film", None, "\ud800", 3, ["a"], {"other": "a"}, True, {"text": "the cat"}]
    results = server.classify(texts).value["results"]
    assert [list(result) == ["error"] for result in results] == [False, *[True] * 6, False]
    assert results[1]["error"].startswith("text 1: the text is missing (null)")
    assert "lone surrogate" in results[2]["error"]
    assert [results[0]["label"], results[-1]["label"]] == model.predict(["a film", "the cat"]).tolist()


def test_a_byte_order_mark_before_json_is_ignored(server: RunningServer, model: Classifier) -> None:
    """F12: PowerShell and editors of Windows write one."""
    reply = server.request("/v1/classify", b'\xef\xbb\xbf{"texts": ["a film"]}')
    assert [result["label"] for result in reply.value["results"]] == model.predict(["a film"]).tolist()


def test_a_request_chooses_how_many_labels_it_gets(server: RunningServer, model: Classifier) -> None:
    for top_k in (1, 2, 99):
        (result,) = server.classify(["a film"], top_k=top_k).value["results"]
        (row,) = model.predict_proba(["a film"]).tolist()
        ranked = sorted(zip(model.labels, row, strict=True), key=lambda pair: -pair[1])
        assert [(each["label"], each["probability"]) for each in result["top"]] == ranked[:top_k]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"texts": [], "top_k": 0}', 400, "top_k: Input should be greater than or equal to 1"),
        (b'{"texts": [], "top_k": "2"}', 400, "top_k: Input should be a valid integer"),
        (b'{"texts": [], "threshold": 0.5}', 400, "Only multi-label models have them"),
        (b"", 400, "the body is not strict JSON"),
        (b"{", 400, "the body is not strict JSON"),
        (b"[]", 400, "the body: Input should be"),
        (b"{}", 400, "texts: Field required"),
        (b'{"texts": "a film"}', 400, "texts: Input should be a valid list"),
        (b'{"texts": [], "texts": []}', 400, "the key 'texts' occurs twice"),
        (b'{"texts": [NaN]}', 400, "NaN is not a JSON number"),
        (b'{"texts": [1e999]}', 400, "too large"),
        ('{"texts": []}'.encode("utf-16"), 400, "the body is not strict JSON"),
        (b'{"texts": ["\xff"]}', 400, "the body is not strict JSON"),
        (b'{"texts": ' + b"[" * 1000 + b"]" * 1000 + b"}", 400, "nested too deeply"),
        (b'{"texts": [], "text": "a"}', 400, "text: Extra inputs"),
        (b'{"texts": [], "probabilities": ["sideways"]}', 400, "probabilities.0: Input should be 'forward'"),
        (b'{"texts": [], "model": "other"}', 404, "model not found: 'other'. Available models: tiny"),
    ],
)
def test_invalid_requests_are_rejected_with_a_reason(
    server: RunningServer, body: bytes, status: int, message: str
) -> None:
    reply = server.request("/v1/classify", body)
    assert (reply.status, message in reply.value["error"]) == (status, True), reply.body
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("content_type", ["application/json", "application/jsonlines"])
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/classify?top_k=0", "top_k: Input should be greater than or equal to 1"),
        ("/v1/classify?top_k=two", "top_k: Input should be a valid integer"),
        ("/v1/classify?top_k=1&top_k=2", "the URL has top_k more than once"),
        ("/v1/classify?threshold=0.5", "Only multi-label models have them"),
        ("/v1/classify?threshold=2", "threshold: Input should be less than or equal to 1"),
        ("/v1/classify?thresholds=0.5", "thresholds: Input should be an object"),
        ("/v1/classify?probabilities=forward,sideways", "probabilities.1: Input should be 'forward'"),
        ("/v1/classify?values=forward", "the model has no values"),
        ("/invocations?top_k=0", "top_k: Input should be greater than or equal to 1"),
        ("/invocations?probabilities=forward", "probabilities is not supported in the URL of this route"),
    ],
)
def test_choices_in_the_url_are_checked_like_those_in_the_body(
    server: RunningServer, path: str, error: str, content_type: str
) -> None:
    body = b'{"inputs": ["a film"]}' if path.startswith("/inv") else b'{"texts": ["a film"]}'
    reply = server.request(path, body, {"content-type": content_type})
    assert (reply.status, error in reply.body.decode()) == (400, True), reply.body


def test_choices_in_the_url_and_in_the_body_are_not_ignored(server: RunningServer) -> None:
    path = "/v1/classify?top_k=1&probabilities=forward&probabilities=backward,ensemble&tokens=true&unknown=1"
    expected = server.classify(["a film"], top_k=1, probabilities=["forward", "backward", "ensemble"], tokens=True)
    assert server.request(path, {"texts": ["a film"], "top_k": 1}).value == expected.value
    lines = server.request(path, b'"a film"', {"content-type": "application/jsonlines"})
    assert [json.loads(lines.body)] == expected.value["results"]
    assert (
        server.request(path, {"texts": [], "top_k": 2}).value["error"].startswith("the URL has top_k 1, but the body")
    )
    invocation = server.request("/invocations?top_k=1", {"inputs": ["a film"], "params": {"top_k": 2}})
    assert (invocation.status, "the URL has top_k 1" in invocation.value["message"]) == (400, True)
    for other in ("/predict", "/", "/v1/models/tiny:predict", "/v2/models/tiny/infer"):
        reply = server.request(f"{other}?top_k=1", {"inputs": "a film", "instances": []})
        assert (reply.status in (400, 422), "top_k is not supported in the URL" in reply.value["error"]) == (True, True)


def test_a_server_of_two_models_selects_by_name(bundle_path: Path, mixed_bundle_path: Path, tmp_path: Path) -> None:
    texts = ["what a film", "the DOG"]
    with running(f"one={bundle_path}", f"two={mixed_bundle_path}", folder=tmp_path) as server:
        names = [model["name"] for model in server.request("/v1/models").value["models"]]
        assert names == ["one", "two"]
        for name, path in {"one": bundle_path, "two": mixed_bundle_path, None: bundle_path}.items():
            reply = server.classify(texts, **({"model": name} if name else {}))
            assert np.array_equal(rows_of(reply, "ensemble"), bothways.load(path).predict_proba(texts))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_f8_early_exit_and_int8_are_served_on_request(bundle_path: Path, tmp_path: Path, precision: Any) -> None:
    """A direction that did not read a text is left out, or null in the Open Inference Protocol: never NaN."""
    texts = [f"the {word} sat on a mat" for word in ("cat", "DOG", "film", "x", "y z", "lovely", "terrible")]
    path = write_with_early_exit(bundle_path, tmp_path / "fast.bundle", Direction.FORWARD, texts)
    model = bothways.load(path, early_exit=True, precision=precision)
    with running(path, "--early-exit", "--precision", precision, folder=tmp_path) as server:
        reply = server.classify(texts, probabilities=NAMES)
        served = server.request("/v1/models").value["models"][0]
        assert (served["early_exit"], served["precision"], served["name"]) == (True, precision, "fast")
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
        body = {"inputs": [tensor], "outputs": [{"name": "backward"}]}
        (backward,) = server.request("/v2/models/fast/infer", body).value["outputs"]
    expected = list(model.stream(texts))
    assert {prediction.read for prediction in expected} == {"forward", "both"}
    for result, prediction in zip(reply.value["results"], expected, strict=True):
        assert result["read"] == prediction.read
        assert result["probabilities"] == {name: row.tolist() for name, row in prediction.probabilities.items()}
    unread = [None] * len(model.labels)
    rows = [prediction.probabilities.get("backward", np.array(unread)).tolist() for prediction in expected]
    assert backward["data"] == [number for row in rows for number in row]
