"""Imported models of the real fastai produce fastai's own ids, probabilities, losses and states.

``make oracle`` makes the cases: fastai 2.8.12 and 1.0.61 train small models in their own environment, save them in
every way that users do, and record the result of ``learn.predict`` for each text alone (oracle/README.md).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bothways
from bothways.bundle.manifest import FastaiPooling, Kind
from bothways.bundle.read import Bundle, read_bundle
from bothways.errors import DirectionError
from bothways.interop.fastai_import import FastaiImport
from bothways.interop.reference import hidden_states
from bothways.runtime.language_model import LanguageModel
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.text.tokenizer import PADDING_ID
from tests.bundles import run_python

FIXTURES = Path(os.environ.get("BOTHWAYS_ORACLE", Path(__file__).parents[2] / ".oracle")) / "fixtures"
CASES = sorted(path.parent.name for path in FIXTURES.glob("*/case.json"))

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        not FIXTURES.exists(), reason="no .oracle/fixtures: make oracle makes them with the real fastai"
    ),
]

LARGEST_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Case:
    """A model as fastai saved it, and fastai's predictions."""

    folder: Path
    facts: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def direction(self) -> Direction:
        return Direction(self.facts["direction"])

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.rows]

    @property
    def options(self) -> dict[str, Any]:
        """The options that a user must pass for such a file."""
        files = self.facts["files"]
        options: dict[str, Any] = {}
        if "vocabulary" in files:
            options["vocabulary"] = [self.folder / files["vocabulary"]]
        if "weights" in files:
            options |= {"labels": self.facts["labels"], "language": self.facts["language"]}
            options |= {"task": "single-label"} if self.facts["kind"] == "classifier" else {}
        return options

    @property
    def source(self) -> Path:
        files = self.facts["files"]
        return self.folder / str(next(files[name] for name in ("export", "weights", "archive") if name in files))

    def imported(self, out: Path) -> FastaiImport:
        """Import the model as a user would: with the direction only if neither the file nor the weights show it."""
        try:
            return bothways.import_fastai(self.source, out=out, **self.options)
        except DirectionError as error:
            if "its weights do not show it" not in str(error):  # they show the wrong direction
                raise
            return bothways.import_fastai(self.source, out=out, direction=str(self.direction), **self.options)


def read_case(name: str) -> Case:
    folder = FIXTURES / name
    rows = folder / "expected.jsonl"
    lines = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
    return Case(folder, json.loads((folder / "case.json").read_bytes()), [json.loads(line) for line in lines])


def names(**facts: str) -> list[str]:
    """Return the cases with these facts."""
    return [name for name in CASES if facts.items() <= read_case(name).facts.items()]


def test_there_are_cases_of_every_kind() -> None:
    """A test that checks nothing must fail."""
    for kind in ("classifier", "language-model", "encoder"):
        for version in ("1.0.61", "2.8.12"):
            for direction in Direction:
                assert names(kind=kind, fastai=version, direction=str(direction)), (kind, version, direction)


@pytest.mark.parametrize("name", names(kind="classifier"))
def test_an_imported_classifier_makes_fastais_predictions(name: str, tmp_path: Path) -> None:
    case = read_case(name)
    result = case.imported(tmp_path / "b.bundle")
    assert [model.direction for model in result.models] == [case.direction]
    model = bothways.load(tmp_path / "b.bundle")
    assert list(model.labels) == case.facts["labels"]
    check_ids(case, read_bundle(tmp_path / "b.bundle", Kind.CLASSIFIER))
    ours = model.scores_by_direction(case.texts)["ensemble"]
    theirs = np.array([row["probabilities"] for row in case.rows])
    is_read = np.array([not skips_a_window(case, row["ids"], model.manifest.members[0].pooling) for row in case.rows])
    assert is_read.sum() > 20
    np.testing.assert_allclose(ours[is_read], theirs[is_read], rtol=LARGEST_DIFFERENCE, atol=LARGEST_DIFFERENCE)
    if "chosen" in case.rows[0]:
        assert [list(row) for row in model.predict(case.texts)] == [row["chosen"] for row in case.rows]
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1))[is_read].all()


def skips_a_window(case: Case, ids: list[int], pooling: FastaiPooling | None) -> bool:
    """Return whether fastai 2 skips a part of this text. It reads no window that begins with a padding token.

    Only a text into which somebody typed ``xxpad`` has one; bothways reads it. The one difference there is.
    """
    assert pooling is not None
    reading = ids if case.direction is Direction.FORWARD else list(reversed(ids))
    return case.facts["fastai"].startswith("2") and PADDING_ID in reading[:: pooling.window_tokens]


@pytest.mark.parametrize("name", names(kind="language-model"))
def test_an_imported_language_model_computes_fastais_losses(name: str, tmp_path: Path) -> None:
    case = read_case(name)
    case.imported(tmp_path / "lm.pack")
    pack = read_bundle(tmp_path / "lm.pack", Kind.LANGUAGE_MODEL)
    check_ids(case, pack)
    model = LanguageModel(pack)
    losses = [(model.loss(row["text"], case.direction), row["loss"]) for row in case.rows if row["loss"] is not None]
    assert len(losses) > 20
    for ours, theirs in losses:
        assert ours == pytest.approx(theirs, abs=LARGEST_DIFFERENCE)


@pytest.mark.parametrize("name", names(kind="encoder"))
def test_an_imported_encoder_computes_fastais_states(name: str, tmp_path: Path) -> None:
    case = read_case(name)
    case.imported(tmp_path / "enc.pack")
    pack = read_bundle(tmp_path / "enc.pack", Kind.LANGUAGE_MODEL)
    check_ids(case, pack)
    rows = [row for row in case.rows if "last_state" in row]
    assert len(rows) > 20
    ids = [read(pack.tokenizer.tokenize(row["text"]), case.direction, SpecialTokenPlacement.AS_WRITTEN) for row in rows]
    architecture = pack.manifest.members[0].architecture
    states = hidden_states(architecture, pack.weights[case.direction], ids)
    for row, found in zip(rows, states, strict=True):
        np.testing.assert_allclose(found[-1], row["last_state"], rtol=0, atol=LARGEST_DIFFERENCE)
        np.testing.assert_allclose(found.mean(axis=0), row["mean_state"], rtol=0, atol=LARGEST_DIFFERENCE)


def check_ids(case: Case, bundle: Bundle) -> None:
    assert len(case.rows) > 20
    for row in case.rows:
        found = bundle.tokenizer.tokenize(row["text"]).ids.tolist()
        assert found == row["ids"], row["text"][:100]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_two_exports_become_one_ensemble(version: str, tmp_path: Path) -> None:
    cases = [read_case(f"{version}-classifier-{way}") for way in Direction]
    bothways.import_fastai(cases[0].source, cases[1].source, out=tmp_path / "both")
    model = bothways.load(tmp_path / "both")
    texts = [text for text in cases[0].texts if "xxpad" not in text.lower()]
    ours = model.predict_proba_by_direction(texts)
    theirs = {}
    for way, case in zip(Direction, cases, strict=True):
        theirs[way] = np.array([row["probabilities"] for row in case.rows if row["text"] in set(texts)])
        np.testing.assert_allclose(ours[str(way)], theirs[way], rtol=0, atol=LARGEST_DIFFERENCE)
    mean = (theirs[Direction.FORWARD] + theirs[Direction.BACKWARD]) / 2
    np.testing.assert_allclose(ours["ensemble"], mean, rtol=0, atol=LARGEST_DIFFERENCE)
    alone = [model.predict_proba([text])[0] for text in texts[:20]]
    assert np.array_equal(alone, model.predict_proba(texts)[:20])  # batched as alone, to the last bit


def test_exports_given_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    forward, backward = (read_case(f"v2-classifier-{way}") for way in Direction)
    with pytest.raises(DirectionError, match="give the forward model first and the backward one second"):
        bothways.import_fastai(backward.source, forward.source, out=tmp_path / "out")


IMPORT_AND_PREDICT = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "spacy", "fastai", "sklearn", "pandas"}:
            raise ImportError(f"{name} is forbidden")

sys.meta_path.insert(0, Refuse())
import _pickle, pickle
import numpy, onnx, onnxruntime, pydantic, rich, safetensors.numpy, tokenizers, typer

def refuse(*arguments, **options):
    raise AssertionError("something was unpickled")

for module in (pickle, _pickle):
    module.load = module.loads = module.Unpickler = refuse
pickle._Unpickler = refuse
import bothways
bothways.import_fastai(sys.argv[1], out=sys.argv[2])
print(json.dumps(bothways.load(sys.argv[2]).predict(["Where is my parcel?"]).tolist()))
"""


def test_an_export_of_v2_is_imported_and_served_without_torch_spacy_or_pickle(tmp_path: Path) -> None:
    """The export contains spaCy's tables, so that the import does not need spaCy either."""
    case = read_case("v2-classifier-backward")
    finished = run_python(IMPORT_AND_PREDICT, str(case.source), str(tmp_path / "out"))
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)[0] in case.facts["labels"]
