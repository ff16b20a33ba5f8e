"""Drift: the same texts do not drift, and other ones do."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

import bothways
from bothways.runtime.classifier import Classifier

WORDS = ["the", "cat", "dog", "film", "LOVED", "it", "a", "terrible", "lovely", "mat", "sat", "plot", "on", "was"]


def texts(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def careful(bundle_path: Path, model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    rows = texts(0, 400)
    out = tmp_path_factory.mktemp("careful") / "careful.bundle"
    bothways.fit_abstention(bundle_path, (rows, list(model.predict(rows))), 0.2, out=out)
    return bothways.load(out)


def test_texts_of_the_same_kind_do_not_drift(careful: Classifier, model: Classifier) -> None:
    rows = texts(1, 500)
    found = bothways.drift(careful, rows)
    assert (found.rows, found.reference_rows, found.digest, found.unreadable) == (500, 400, careful.digest, 0)
    for each in (found.out_of_domain, found.confidence, found.label_distance, found.abstained):
        assert each.p_value > 0.01, each
    assert found.confidence.value == pytest.approx(model.predict_proba(rows).max(axis=1).mean())
    assert found.confidence.reference == pytest.approx(model.predict_proba(texts(0, 400)).max(axis=1).mean())
    predicted = list(model.predict(rows))
    assert {each.label: each.value for each in found.labels} == {
        label: predicted.count(label) / 500 for label in model.labels
    }
    differences = [abs(each.value - each.reference) for each in found.labels]
    assert differences == sorted(differences, reverse=True)
    assert found.label_distance.value == pytest.approx(sum(differences) / 2)


def test_predicted_labels_are_compared_with_those_of_training(careful: Classifier, bundle_path: Path) -> None:
    """The bundle records 40 training rows, of which 10, 11 and 12 have the labels in their order."""
    found = bothways.drift(careful, texts(1, 500))
    assert {each.label: each.training for each in found.labels} == {
        label: (10 + number) / 40 for number, label in enumerate(careful.labels)
    }
    assert found.training_distance == pytest.approx(
        sum(abs(each.value - (each.training or 0)) for each in found.labels) / 2
    )
    record = careful.manifest.training.model_copy(update={"label_rows": {}})
    unknown = copy.copy(careful)
    unknown.manifest = careful.manifest.model_copy(update={"training": record})
    found = bothways.drift(unknown, texts(1, 50))
    assert found.training_distance is None
    assert all(each.training is None for each in found.labels)


def test_other_texts_drift(careful: Classifier, model: Classifier) -> None:
    code = [f"for (int i_{n} = 0; i_{n} < {n}; ++i_{n}) {{ x[i_{n}] *= y; }}" for n in range(60)]
    found = bothways.drift(careful, [*code, ""])
    assert found.out_of_domain.value > 0.5
    assert found.out_of_domain.p_value < 1e-6
    assert found.abstained.value > 0.9
    assert found.unreadable == pytest.approx(1 / 61)
    rows = texts(2, 600)
    one_label = [text for text, label in zip(rows, model.predict(rows), strict=True) if label == "good"]
    found = bothways.drift(careful, one_label)
    assert found.label_distance.p_value < 0.01
    assert found.labels[0].value in (0.0, 1.0)


def test_tables_are_read_and_mistakes_are_named(careful: Classifier, model: Classifier, tmp_path: Path) -> None:
    rows = texts(1, 30)
    source = tmp_path / "new.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    found = bothways.drift(careful, source)
    assert found == bothways.drift(careful, rows) == bothways.drift(careful, {"text": rows})
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["rows"] == 30
    with pytest.raises(bothways.ConfigError, match="has no abstention"):
        bothways.drift(model, rows)
    with pytest.raises(bothways.DataError, match="there are no texts to compare"):
        bothways.drift(careful, [])
