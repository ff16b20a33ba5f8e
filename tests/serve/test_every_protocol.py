"""F7, F8, F15: every protocol reports what ``model.predict`` and ``predict_proba`` report, bit for bit (guarantee 8).

All kinds of models are served by one application in this process, in float32 and int8, with and without early exit.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import bothways
from bothways.bundle.parity import ENSEMBLE
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.serve import asgi_app
from bothways.tasks.labels import label_text
from bothways.text.reading import Direction
from tests.bundles import write_with_abstention, write_with_early_exit

pytestmark = pytest.mark.enable_socket
KINDS = ("single", "multi", "number", "numbers")
CAREFUL = ("careful", "careful-multi")
WORDS = [f"the {word} sat on a mat" for word in ("cat", "DOG", "film", "x", "y z", "lovely", "terrible")]
TEXTS = st.lists(
    st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_categories=["Cs"]), max_size=40)),
    min_size=1,
    max_size=4,
)


class Served:
    """An application, and the models that it serves by the names of their kinds."""

    def __init__(self, paths: dict[str, Path], **options: Any) -> None:
        self.models = {kind: bothways.load(path, **options) for kind, path in paths.items()}
        values = [f"{kind}={path}" for kind, path in paths.items()]
        self._client = TestClient(asgi_app(*values, **options))
        self._client.__enter__()

    def post(self, path: str, body: object, **headers: str) -> Any:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.post(path, content=content, headers=named)

    def json(self, path: str, body: object, **headers: str) -> Any:
        reply = self.post(path, body, **headers)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-model"] in self.models
        assert reply.headers["x-model-version"] == "1"
        return json.loads(reply.content, parse_constant=_refuse)

    def close(self) -> None:
        self._client.__exit__(None, None, None)


@dataclass(frozen=True)
class Case:
    """Texts for one of the models, and what it predicts for them."""

    served: Served
    kind: str
    model: Classifier
    texts: list[str]
    found: list[Prediction]


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture(scope="module", params=["float32", "int8", "float32, early exit", "int8, early exit"])
def served(
    request: pytest.FixtureRequest,
    bundle_path: Path,
    multi_label_bundle_path: Path,
    regression_bundle_path: Path,
    targets_bundle_path: Path,
    qrnn_bundle_path: Path,
    linear_bundle_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """Models of every task, and with early exit single-label models with QRNNs and with a linear member first."""
    precision, _, early_exit = request.param.partition(", ")
    paths = dict(
        zip(KINDS, (bundle_path, multi_label_bundle_path, regression_bundle_path, targets_bundle_path), strict=True)
    )
    folder = tmp_path_factory.mktemp("careful")
    careful = dict(zip(CAREFUL, (linear_bundle_path, multi_label_bundle_path), strict=True))
    paths |= {kind: write_with_abstention(path, folder / f"{kind}.bundle", WORDS) for kind, path in careful.items()}
    if early_exit:  # of which only single-label models are capable
        path = tmp_path_factory.mktemp("fast") / "fast.bundle"
        paths = {"single": write_with_early_exit(qrnn_bundle_path, path, Direction.FORWARD, WORDS)}
        path = tmp_path_factory.mktemp("linear") / "linear.bundle"
        first = Direction.FORWARD
        paths["linear"] = write_with_early_exit(linear_bundle_path, path, first, WORDS, starts_with_linear=True)
    found = Served(paths, precision=precision, early_exit=bool(early_exit))
    yield found
    found.close()


def pairs(model: Classifier, prediction: Prediction) -> list[dict[str, Any]]:
    """Return what the protocols of Hugging Face report for a text."""
    scores = prediction.scores[ENSEMBLE].tolist()
    rows: list[dict[str, Any]] = [
        {"label": name, "score": score} for name, score in zip(model.task.output_names, scores, strict=True)
    ]
    if model.labels:
        rows.sort(key=lambda row: -row["score"])
    if model.task.thresholds is not None:
        chosen = {label_text(label) for label in prediction.chosen}
        rows = [{**row, "chosen": row["label"] in chosen} for row in rows]
    if prediction.label_set is not None:
        rows = [{**row, "in_label_set": row["label"] in prediction.label_set} for row in rows]
    if prediction.domain_score is not None:
        rows = [{**row, "abstained": prediction.abstained} for row in rows]
    return rows


def of_abstention(prediction: Prediction) -> dict[str, Any]:
    """Return what the other protocols report for a text if abstention was calibrated."""
    found: dict[str, Any] = {} if prediction.domain_score is None else {"abstained": prediction.abstained}
    return found if prediction.label_set is None else {**found, "label_set": list(prediction.label_set)}


def prediction_value(model: Classifier, prediction: Prediction) -> object:
    """Return what MLflow, SageMaker and KServe report for a text."""
    if not model.labels:
        return prediction.value
    if model.task.thresholds is None:
        return {"label": prediction.label, "score": prediction.probability, **of_abstention(prediction)}
    by_label = dict(zip(model.labels, prediction.scores[ENSEMBLE].tolist(), strict=True))
    scores = [by_label[label] for label in prediction.chosen]
    return {"labels": list(prediction.chosen), "scores": scores, **of_abstention(prediction)}


def check_own(case: Case) -> None:
    served, kind, model, texts, found = case.served, case.kind, case.model, case.texts, case.found
    names = [*model.scored_by, ENSEMBLE]
    body = {"texts": texts, model.task.score_kind: names}
    results = served.json(f"/models/{kind}/v1/classify", body)["results"]
    assert results == served.json("/v1/classify", {**body, "model": kind})["results"]
    for result, prediction in zip(results, found, strict=True):
        plain = prediction.to_dict()
        keys = (
            ("label", "probability", "chosen", "read", "probabilities") if model.labels else ("value", "values", "read")
        )
        assert result == {**{key: plain[key] for key in keys}, **of_abstention(prediction)}


def check_open_inference(case: Case) -> None:
    served, kind, model, texts, found = case.served, case.kind, case.model, case.texts, case.found
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    path = f"/v2/models/{kind}/infer"
    body = {"inputs": [tensor], "parameters": {"priority": 1, "other": "ignored"}}
    outputs = {each["name"]: each for each in served.json(path, body)["outputs"]}
    scores = np.array([prediction.scores[ENSEMBLE] for prediction in found])
    if not model.labels:
        assert (list(outputs), outputs["value"]["data"]) == (["value"], scores.ravel().tolist())
    else:
        assert outputs["probabilities"]["data"] == scores.ravel().tolist()
        assert outputs["probabilities"]["shape"] == [len(texts), len(model.labels)]
    if model.task.thresholds is not None:
        assert [json.loads(labels) for labels in outputs["labels"]["data"]] == [list(each.chosen) for each in found]
        assert outputs["chosen"]["data"] == [label in each.chosen for each in found for label in model.labels]
    elif model.labels:
        assert outputs["label"]["data"] == [each.label for each in found]
    if model.abstention is not None:
        assert outputs["abstained"]["data"] == [each.abstained or "" for each in found]
        sets = [json.loads(labels) for labels in outputs["label_set"]["data"]] if "label_set" in outputs else None
        assert sets == (None if found[0].label_set is None else [list(each.label_set or ()) for each in found])
    for direction in model.scored_by:
        (output,) = served.json(path, {"inputs": [tensor], "outputs": [{"name": direction}]})["outputs"]
        unread = [None] * model.task.outputs
        rows = [
            prediction.scores[direction].tolist() if direction in prediction.scores else unread for prediction in found
        ]
        assert output["data"] == [number for row in rows for number in row]
        requested = {"name": direction, "parameters": {"binary_data": True}}
        reply = served.post(path, {"inputs": [tensor], "outputs": [requested]})
        raw = reply.content[int(reply.headers["inference-header-content-length"]) :]
        expected = np.array(rows, dtype=np.float64).ravel()  # None becomes NaN
        assert np.array_equal(np.frombuffer(raw, "<f8"), expected, equal_nan=True)


def check_predictions(case: Case) -> None:
    served, kind, model, texts, found = case.served, case.kind, case.model, case.texts, case.found
    expected = [prediction_value(model, prediction) for prediction in found]
    invocations = f"/models/{kind}/invocations"
    assert served.json(invocations, {"inputs": texts}) == {"predictions": expected}
    assert served.json(f"/invocations?model={kind}", {"inputs": texts}) == {"predictions": expected}
    assert served.json(f"/v1/models/{kind}:predict", {"instances": texts}) == {"predictions": expected}
    lines = served.post(invocations, {"inputs": texts}, accept="application/jsonlines").text.splitlines()
    assert [json.loads(line) for line in lines] == expected
    reply = served.post(invocations, {"inputs": texts}, accept="text/csv")
    rows = list(csv.reader(io.StringIO(reply.content.decode(), newline="")))
    cells = [model.task.cells(prediction.scores[ENSEMBLE]) for prediction in found]
    if model.abstention is not None:
        for row, prediction in zip(cells, found, strict=True):
            sets = [] if prediction.label_set is None else ["|".join(map(str, prediction.label_set))]
            row[-len(model.labels) : -len(model.labels)] = [prediction.abstained or "", *sets]
    assert rows == [[str(cell) for cell in row] for row in cells]


def check_hugging_face(case: Case) -> None:
    served, kind, model, texts, found = case.served, case.kind, case.model, case.texts, case.found
    expected = [pairs(model, prediction) for prediction in found]
    assert served.json(f"/models/{kind}", {"inputs": texts}) == expected
    assert served.json(f"/models/{kind}/predict", {"inputs": [[text] for text in texts]}) == expected
    assert served.json(f"/models/{kind}/predict", {"inputs": texts[0]}) == expected[0]
    assert served.json(f"/?model={kind}", {"inputs": texts[0]}) == [expected[0]]


def check_thresholds(case: Case) -> None:
    """Every protocol with a place for parameters takes thresholds: one for all labels, and others for some.

    JSON lines have this place in the query string, and so has JSON of the same routes.
    """
    served, model, texts = case.served, case.model, case.texts
    if model.task.thresholds is None:
        return
    first, *_ = model.labels
    scores = [dict(zip(model.labels, each.scores[ENSEMBLE].tolist(), strict=True)) for each in case.found]
    choices = {"threshold": 0.5, "thresholds": {first: scores[0][first]}}
    expected = [[n for n, s in row.items() if s >= (scores[0][first] if n == first else 0.5)] for row in scores]
    assert first in expected[0]
    results = served.json("/v1/classify", {"texts": texts, "model": case.kind, **choices})["results"]
    assert [result["chosen"] for result in results] == expected
    predictions = served.json(f"/models/{case.kind}/invocations", {"inputs": texts, "params": choices})["predictions"]
    assert [each["labels"] for each in predictions] == expected
    query = urlencode(
        {"model": case.kind, "threshold": 0.5, "thresholds": json.dumps(choices["thresholds"]), "top_k": 1}
    )
    lines = "".join(f"{json.dumps(text)}\n" for text in texts)
    for path, key, inputs, results_key in (
        ("/v1/classify", "chosen", "texts", "results"),
        ("/invocations", "labels", "inputs", "predictions"),
    ):
        reply = served.post(f"{path}?{query}", lines, content_type="application/jsonlines")
        found = [json.loads(line) for line in reply.text.splitlines()]
        assert [each[key] for each in found] == expected
        assert [each["top"][0]["label"] for each in found] == [each.label for each in case.found]
        assert served.json(f"{path}?{query}", {inputs: texts})[results_key] == found
    of_kserve = {"instances": texts, "parameters": choices}
    predictions = served.json(f"/v1/models/{case.kind}:predict", of_kserve)["predictions"]
    assert [each["labels"] for each in predictions] == expected
    rows = served.json(f"/models/{case.kind}", {"inputs": texts, "parameters": choices})
    assert [{each["label"] for each in row if each["chosen"]} for row in rows] == list(map(set, expected))
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    body: dict[str, Any] = {"inputs": [tensor], "outputs": [{"name": "labels"}, {"name": "label"}]}
    body["parameters"] = choices
    labels, label = served.json(f"/v2/models/{case.kind}/infer", body)["outputs"]
    assert [json.loads(each) for each in labels["data"]] == expected
    assert label["data"] == [each.label for each in case.found]
    body["parameters"] = {**choices, "thresholds": json.dumps(choices["thresholds"])}  # as gRPC needs it
    assert served.json(f"/v2/models/{case.kind}/infer", body)["outputs"][0] == labels
    for wrong, message in (({"other": 0.5}, "unknown labels 'other'"), ({first: 1.5}, "less than or equal to 1")):
        reply = served.post("/v1/classify", {"texts": texts, "model": case.kind, "thresholds": wrong})
        assert (reply.status_code, message in reply.text) == (400, True), reply.text


def check_top_k(case: Case) -> None:
    served, model, kind = case.served, case.model, case.kind
    if not model.labels:
        return
    scores = [zip(model.labels, each.scores[ENSEMBLE].tolist(), strict=True) for each in case.found]
    expected = [[{"label": n, "score": s} for n, s in sorted(row, key=lambda pair: -pair[1])[:2]] for row in scores]
    of_mlflow = served.json(f"/models/{kind}/invocations", {"inputs": case.texts, "params": {"top_k": 2}})
    of_kserve = served.json(f"/v1/models/{kind}:predict", {"instances": case.texts, "parameters": {"top_k": 2}})
    for reply in (of_mlflow, of_kserve):
        assert [each["top"] for each in reply["predictions"]] == expected


def check_invalid_texts(case: Case) -> None:
    """Only the protocol of bothways has a place for the error of a text. The others reject the request."""
    served, kind, texts = case.served, case.kind, [*case.texts, 7]
    message = f"text {len(case.texts)} is int 7, expected a string"
    results = served.json("/v1/classify", {"texts": texts, "model": kind})["results"]
    assert [result.get("error", "")[: len(message)] for result in results] == [""] * len(case.texts) + [message]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    requests = {
        f"/models/{kind}": {"inputs": texts},
        f"/models/{kind}/predict": {"inputs": [[text] for text in texts]},
        f"/models/{kind}/invocations": {"inputs": texts},
        f"/v1/models/{kind}:predict": {"instances": texts},
        f"/v2/models/{kind}/infer": {"inputs": [tensor]},
    }
    for path, body in requests.items():
        reply = served.post(path, body)
        assert (reply.status_code in (400, 422), message in reply.text) == (True, True), (path, reply.text)


CHECKS: list[Callable[[Case], None]] = [
    check_own,
    check_open_inference,
    check_predictions,
    check_hugging_face,
    check_thresholds,
    check_top_k,
    check_invalid_texts,
]


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS)
def test_every_protocol_reports_what_predict_reports(served: Served, texts: list[str]) -> None:
    for kind, model in served.models.items():
        found = list(model.stream(texts))
        for check in CHECKS:
            check(Case(served, kind, model, texts, found))


@pytest.mark.parametrize(("kind", "read"), [("single", {"forward", "both"}), ("linear", {"linear", "forward", "both"})])
def test_early_exit_leaves_out_a_direction_and_never_writes_nan(served: Served, kind: str, read: set[str]) -> None:
    """F8: the texts of the other test exit early, and a direction that did not read them is null in JSON."""
    if served.models["single"].early_exit is None:
        pytest.skip("this application reads with both directions")
    model = served.models[kind]
    found = list(model.stream(WORDS))
    assert {prediction.read for prediction in found} == read
    for check in CHECKS:
        check(Case(served, kind, model, WORDS, found))
