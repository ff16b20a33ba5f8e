"""A3: whole numbers and booleans over HTTP and in files, or their text where a schema asks for strings."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import bothways
from bothways.runtime.classifier import Classifier
from bothways.serve.protocols.own import ClassifyReply
from bothways.tasks.labels import LabelKind
from bothways.tasks.single_label import SingleLabel
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.subword_tokenizer import SubwordTokenizer
from tests.bundles import make_classifiers, write_classifiers
from tests.serve.conftest import RunningServer, running

TEXTS = ["what a lovely film", "the DOG ate the cat", "a b c d", "1 2 3", "x"]
LABELS: dict[LabelKind, tuple[str, ...]] = {"integer": ("-1", "2", "10"), "boolean": ("false", "true")}


@pytest.fixture(scope="module")
def typed(tiny_tokenizer: SubwordTokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[LabelKind, Path]:
    """A bundle of each type of labels."""
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    folder, found = tmp_path_factory.mktemp("typed"), {}
    for kind, labels in LABELS.items():
        found[kind] = folder / f"{kind}.bundle"
        task = SingleLabel(labels, label_kind=kind)
        write_classifiers(found[kind], make_classifiers(tiny_tokenizer, placements, task=task))
    return found


@pytest.fixture(scope="module")
def server(typed: dict[LabelKind, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("serve")
    with running(*(f"{kind}={path}" for kind, path in typed.items()), "--threads", 1, folder=folder) as found:
        yield found


@pytest.fixture(scope="module")
def models(typed: dict[LabelKind, Path]) -> dict[LabelKind, Classifier]:
    return {kind: bothways.load(path) for kind, path in typed.items()}


def test_a_bundle_keeps_the_type_of_its_labels(models: dict[LabelKind, Classifier]) -> None:
    assert {kind: model.labels for kind, model in models.items()} == {"integer": (-1, 2, 10), "boolean": (False, True)}
    assert {kind: model.predict(TEXTS).dtype.name for kind, model in models.items()} == {
        "integer": "int64",
        "boolean": "bool",
    }
    assert len(models["integer"].predict([])) == 0


@pytest.mark.enable_socket
@pytest.mark.parametrize("kind", LABELS)
def test_json_has_numbers_and_booleans(
    server: RunningServer, models: dict[LabelKind, Classifier], kind: LabelKind
) -> None:
    expected = models[kind].predict(TEXTS).tolist()
    reply = server.classify(TEXTS, model=kind).value
    assert reply["labels"] == list(models[kind].labels)
    assert [result["label"] for result in reply["results"]] == expected
    assert [result["chosen"] for result in reply["results"]] == [[label] for label in expected]
    assert {type(result["label"]) for result in reply["results"]} == {type(expected[0])}
    parsed = ClassifyReply.model_validate(reply).model_dump(mode="json", exclude_unset=True)
    assert json.dumps(parsed, sort_keys=True) == json.dumps(reply, sort_keys=True)
    schema = server.request("/openapi.json").value["components"]["schemas"]["LabelResult"]["properties"]["label"]
    assert [each["type"] for each in schema["anyOf"]] == ["string", "integer", "boolean"]


@pytest.mark.enable_socket
def test_each_protocol_has_the_type_of_its_schema(server: RunningServer, models: dict[LabelKind, Classifier]) -> None:
    expected = models["integer"].predict(TEXTS).tolist()
    predictions = server.request("/invocations", {"inputs": TEXTS}).value["predictions"]
    assert [each["label"] for each in predictions] == expected
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "data": TEXTS}
    outputs = server.request("/v2/models/integer/infer", {"inputs": [tensor]}).value["outputs"]
    assert outputs[0]["data"] == list(map(str, expected))
    assert server.request("/v2/models/integer").value["labels"] == ["-1", "2", "10"]
    for path, texts in (("/", TEXTS), ("/predict", [[text] for text in TEXTS])):
        rows = server.request(path, {"inputs": texts}).value
        assert [row[0]["label"] for row in rows] == list(map(str, expected))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", LABELS)
def test_files_have_the_values_of_predict(
    models: dict[LabelKind, Classifier], tmp_path: Path, kind: LabelKind, suffix: str
) -> None:
    source, out = tmp_path / f"d{suffix}", tmp_path / f"out{suffix}"
    frame = pd.DataFrame({"text": TEXTS})
    if suffix == ".csv":
        frame.to_csv(source, index=False)
    elif suffix == ".jsonl":
        frame.to_json(source, orient="records", lines=True)
    else:
        frame.to_parquet(source)
    bothways.score(models[kind], source, out, text="text")
    expected = models[kind].predict(TEXTS)
    if suffix == ".csv":
        with out.open(newline="") as file:
            found = [row["predicted_label"] for row in csv.DictReader(file)]
        assert [label.lower() for label in found] == [str(label).lower() for label in expected]
    elif suffix == ".jsonl":
        assert [json.loads(line)["predicted_label"] for line in out.read_text().splitlines()] == expected.tolist()
    else:
        column = pd.read_parquet(out)["predicted_label"]
        assert (column.dtype, column.tolist()) == (expected.dtype, expected.tolist())
    # The predicted labels are the true ones, so that all of them are right.
    assert (
        bothways.evaluate(models[kind], out, text="text", label="predicted_label").summary["ensemble"]["accuracy"] == 1
    )
