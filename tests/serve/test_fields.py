"""A model with several text columns gives the same bits in Python, on the command line and over every protocol."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bothways
from bothways.bundle.parity import ENSEMBLE
from bothways.data.tables import open_table
from bothways.errors import RequestInvalid
from bothways.runtime.classifier import Classifier
from bothways.serve.protocols import text_embeddings_inference
from tests.serve.conftest import RunningServer

pytestmark = pytest.mark.enable_socket
ROWS = [("A lovely film", "the DOG ate the cat"), ("", "xxfld typed by a user"), ("only a title", "")]
# Characters that every format can hold. What CSV readers do with others is tested elsewhere.
FIELDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"], exclude_characters='"'), max_size=30
)


def objects(rows: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"body": body, "title": title, "id": 1} for title, body in rows]


def from_own_protocol(server: RunningServer, rows: list[tuple[str, str]]) -> list[list[float]]:
    results = server.classify(objects(rows)).value["results"]
    return [result["probabilities"][ENSEMBLE] for result in results]


def from_open_inference(server: RunningServer, rows: list[tuple[str, str]]) -> list[list[float]]:
    tensors = [
        {"name": name, "datatype": "BYTES", "shape": [len(rows)], "data": [row[place] for row in rows]}
        for place, name in ((1, "body"), (0, "title"))
    ]
    reply = server.request("/v2/models/news/infer", {"inputs": tensors, "outputs": [{"name": "probabilities"}]}).value
    (output,) = reply["outputs"]
    data, columns = output["data"], output["shape"][1]
    return [data[start : start + columns] for start in range(0, len(data), columns)]


@given(rows=st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=5))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_python_files_and_http_give_the_same_bits(
    fields_model: Classifier, fields_server: RunningServer, tmp_path: Path, rows: list[tuple[str, str]]
) -> None:
    """Guarantee 8 for any texts in two columns."""
    expected = fields_model.predict_proba(rows).tolist()
    assert from_own_protocol(fields_server, rows) == expected
    assert from_open_inference(fields_server, rows) == expected
    for suffix in ("csv", "jsonl"):
        source, out = (tmp_path / f"{name}.{suffix}" for name in ("in", "out"))
        write_table(source, objects(rows))
        bothways.score(fields_model, source, out)
        assert read_probabilities(out, fields_model) == expected
        out.unlink()


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return
    lines = [",".join(f'"{value}"' for value in row.values()) for row in rows]
    path.write_text("\n".join([",".join(rows[0]), *lines]) + "\n", encoding="utf-8", newline="")


def read_probabilities(path: Path, model: Classifier) -> list[list[float]]:
    with open_table(str(path)) as table:
        chunks = list(table.chunks())
    columns = [[value for c in chunks for value in c.column(f"probability_{label}")] for label in model.labels]
    return [[float(str(value)) for value in row] for row in zip(*columns, strict=True)]


# The forms of each protocol.


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["id", "body", "title"], "data": [[1, body, title] for title, body in ROWS]}},
        {"dataframe_records": objects(ROWS)},
        {"instances": objects(ROWS)},
        {"instances": [list(row) for row in ROWS]},
        {"inputs": {"title": [title for title, _ in ROWS], "body": [body for _, body in ROWS]}},
    ],
)
def test_mlflow_takes_columns_by_name(fields_server: RunningServer, fields_model: Classifier, body: object) -> None:
    reply = fields_server.request("/invocations", body)
    assert reply.status == 200, reply.value
    probabilities = fields_model.predict_proba(ROWS).max(axis=1).tolist()
    assert [prediction["score"] for prediction in reply.value["predictions"]] == probabilities


def test_csv_has_columns(fields_server: RunningServer, fields_model: Classifier) -> None:
    lines = ["body,id,title", *(f"{body},1,{title}" for title, body in ROWS)]
    reply = fields_server.request("/invocations", "\n".join(lines).encode(), {"content-type": "text/csv"})
    probabilities = fields_model.predict_proba(ROWS).max(axis=1).tolist()
    assert [prediction["score"] for prediction in reply.value["predictions"]] == probabilities
    plain = "\n".join(f"{title},{body}" for title, body in ROWS).encode()
    reply = fields_server.request("/invocations", plain, {"content-type": "text/csv; header=absent"})
    assert [prediction["score"] for prediction in reply.value["predictions"]] == probabilities
    reply = fields_server.request("/invocations", plain, {"content-type": "text/csv"})
    assert (reply.status, "expected a header with 'title' and 'body'. State" in reply.value["message"]) == (400, True)


def test_binary_tensors_follow_each_other_in_the_order_of_the_inputs(
    fields_server: RunningServer, fields_model: Classifier
) -> None:
    raw, inputs = b"", []
    for place, name in ((1, "body"), (0, "title")):
        part = b"".join(struct.pack("<I", len(row[place].encode())) + row[place].encode() for row in ROWS)
        parameters = {"binary_data_size": len(part)}
        inputs.append({"name": name, "datatype": "BYTES", "shape": [len(ROWS)], "parameters": parameters})
        raw += part
    header = json.dumps({"inputs": inputs, "outputs": [{"name": "probabilities"}]}).encode()
    headers = {"inference-header-content-length": str(len(header))}
    reply = fields_server.request("/v2/models/news/infer", header + raw, headers)
    (output,) = reply.value["outputs"]
    assert np.array(output["data"]).reshape(output["shape"]).tolist() == fields_model.predict_proba(ROWS).tolist()
    too_short = fields_server.request("/v2/models/news/infer", header + raw + b"\0", headers)
    assert (too_short.status, "1 bytes follow the JSON, but no input" in too_short.value["error"]) == (400, True)


def test_descriptions_name_the_columns(fields_server: RunningServer) -> None:
    described = fields_server.request("/v1/models").value["models"]
    assert [model["text_columns"] for model in described] == [["title", "body"], ["text"]]
    metadata = fields_server.request("/v2/models/news").value["inputs"]
    assert [tensor["name"] for tensor in metadata] == ["title", "body"]


# Errors.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a plain string", "text 0 is str 'a plain string', but this model reads the text columns 'title' and 'body'"),
        ({"title": "a"}, "text 0 has no column 'body', expected the text columns 'title' and 'body'"),
        (["a"], "text 0 has 1 values, expected 2"),
        ({"title": None, "body": None}, "text 0, column 'title': the text is missing (null)"),
        ({"title": "a", "body": 5}, "text 0, column 'body' is int 5, expected a string"),
        (None, "text 0: the text is missing (null)"),
    ],
)
def test_a_text_without_its_columns_gets_an_error_of_its_own(
    fields_server: RunningServer, text: object, message: str
) -> None:
    results = fields_server.classify([text, {"title": None, "body": "fine"}]).value["results"]
    assert results[0]["error"].startswith(message)
    assert "label" in results[1]


def test_protocols_of_hugging_face_take_columns(fields_server: RunningServer, fields_model: Classifier) -> None:
    """F15: a text with two columns is a pair of texts, or an object with the columns."""
    expected = fields_model.predict_proba(ROWS).max(axis=1).tolist()
    titles = [{"text": title, "text_pair": body} for title, body in ROWS]
    for path, inputs in (("/predict", [list(row) for row in ROWS]), ("/", objects(ROWS)), ("/", titles)):
        rows = fields_server.request(path, {"inputs": inputs}).value
        assert [row[0]["score"] for row in rows] == expected, path
    assert fields_server.request("/predict", {"inputs": list(ROWS[0])}).value[0]["score"] == expected[0]
    assert fields_server.request("/", {"inputs": titles[0]}).value[0][0]["score"] == expected[0]


def test_more_than_two_columns_are_lists_with_a_string_for_each() -> None:
    columns = ["title", "body", "author"]
    assert text_embeddings_inference._text(["a", "b", "c"], "inputs", columns) == ["a", "b", "c"]
    with pytest.raises(RequestInvalid, match=r"inputs has 2 texts, expected 3: the text columns 'title', 'body' and"):
        text_embeddings_inference._text(["a", "b"], "inputs", columns)


@pytest.mark.parametrize(
    ("path", "inputs", "message"),
    [
        ("/predict", "a", "text 0 is str 'a', but this model reads the text columns 'title' and 'body'"),
        ("/predict", [["a"]], "inputs.0 has 1 texts, expected 2: the text columns 'title' and 'body'"),
        ("/", "a", "text 0 is str 'a', but this model reads the text columns 'title' and 'body'"),
        ("/", {"title": "a"}, "text 0 has no column 'body'"),
    ],
)
def test_protocols_of_hugging_face_name_the_columns(
    fields_server: RunningServer, path: str, inputs: object, message: str
) -> None:
    reply = fields_server.request(path, {"inputs": inputs})
    assert (reply.status, message in reply.value["error"]) == (422 if path == "/predict" else 400, True), reply.body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"dataframe_split": {"columns": ["title"], "data": [["a"]]}},
            "text column not found: expected 'title' and 'body'",
        ),
        (
            {"inputs": {"title": ["a"], "body": []}},
            "inputs: the text columns 'title' and 'body' have different lengths",
        ),
        (
            {"instances": [{"title": "a", "body": "b"}, {"title": "a"}]},
            "instances: not every row has the column 'body'",
        ),
        ({"inputs": "a"}, "text 0 is str 'a', but this model reads the text columns"),
    ],
)
def test_mlflow_needs_every_column(fields_server: RunningServer, body: object, message: str) -> None:
    reply = fields_server.request("/invocations", body)
    assert reply.status == 400
    assert reply.value["message"].startswith(message)
