"""Trainings on several text columns, from scratch and from packs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bothways
from bothways import Classifier, ConfigError, DataError
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.text.fields import FIELD
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.subwords import train_tokenizer
from bothways.training.models import pack_with_field_token
from tests.bundles import make_language_models, write_pack
from tests.training_runs.conftest import some_rows
from tests.words import make_word_tokenizer

COLUMNS = ["title", "body"]
OF_A_PACK: dict[str, Any] = {"classifier": {"epochs": 1, "unfreezing_epochs": 0, "head_size": 8}}


@pytest.fixture
def table() -> dict[str, list[str | None]]:
    """Rows whose title decides the label. Some have no body."""
    rows, bodies = some_rows(), [body for body, _ in some_rows(seed=3)]
    return {
        "title": [title for title, _ in rows],
        "body": [None if number % 7 == 0 else body for number, body in enumerate(bodies)],
        "label": [label for _, label in rows],
    }


def train(data: Any, out: Path, **options: Any) -> Classifier:
    options = {"text": COLUMNS, "label": "label", "pretrained": None, "force": True, "progress": False, **options}
    return bothways.train(data, out=out, **options)


def test_a_training_from_scratch_reads_both_columns(
    tmp_path: Path, table: dict[str, list[str | None]], config: Path
) -> None:
    config.write_text(config.read_text().replace("epochs = 3", "epochs = 20"))
    model = train(table, tmp_path / "m.bundle", config=config)
    assert bothways.verify(tmp_path / "m.bundle").passed
    assert model.text_columns == tuple(COLUMNS)
    assert model.tokenizer.tokens([len(model.tokenizer) - 1]) == [FIELD]
    assert "A text has the columns `title`, `body`, in this order" in (tmp_path / "m.bundle" / "README.md").read_text()
    assert repr(model).startswith("Classifier(single-label, labels=('bad', 'good'), text_columns=['title', 'body'], ")
    assert np.mean(model.predict(table) == np.array(table["label"])) > 0.9

    frame, out = pd.DataFrame(table), tmp_path / "scored.csv"
    frame.to_csv(tmp_path / "d.csv", index=False)
    assert bothways.score(model, tmp_path / "d.csv", out) == len(frame)
    assert pd.read_csv(out)["predicted_label"].tolist() == model.predict(frame).tolist()
    renamed = frame.rename(columns={"title": "headline", "body": "article"})
    evaluation = bothways.evaluate(model, renamed, text=["headline", "article"])
    assert evaluation.summary == bothways.evaluate(model, tmp_path / "d.csv").summary


def test_a_training_from_a_pack_adds_one_row_to_its_embedding(
    tmp_path: Path, table: dict[str, list[str | None]]
) -> None:
    tokenizer = train_tokenizer([str(title) for title in table["title"]], 100)
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    write_pack(tmp_path / "p.pack", make_language_models(tokenizer, placements))
    pack = read_bundle(tmp_path / "p.pack", Kind.LANGUAGE_MODEL)
    with_fields = pack_with_field_token(pack)
    for direction, arrays in pack.weights.items():
        for name in ("encoder.embedding.weight", "decoder.bias"):
            old, new = arrays[name], with_fields.weights[direction][name]
            assert np.array_equal(new[:-1], old)
            assert np.allclose(new[-1], old.mean(axis=0), atol=1e-6)

    model = train(table, tmp_path / "m.bundle", pretrained=tmp_path / "p.pack", config=OF_A_PACK)
    assert bothways.verify(tmp_path / "m.bundle").passed
    assert len(model.tokenizer) == len(tokenizer) + 1
    ids = model.tokenizer.tokenize(("the film", "a story")).ids.tolist()
    assert ids[: ids.index(len(tokenizer))] == tokenizer.tokenize("the film").ids.tolist()


def test_a_training_from_a_pack_of_words_marks_fields_as_fastai_does(
    tmp_path: Path, table: dict[str, list[str | None]]
) -> None:
    tokenizer = make_word_tokenizer("fastai-v2", ["the", "film", "1", "2"])
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.AS_WRITTEN)
    write_pack(tmp_path / "p.pack", make_language_models(tokenizer, placements))
    options: dict[str, Any] = {"pretrained": tmp_path / "p.pack", "config": OF_A_PACK, "directions": "backward"}
    model = train(table, tmp_path / "m.bundle", **options)
    assert bothways.verify(tmp_path / "m.bundle").passed
    tokens = model.tokenizer.tokens(model.tokenizer.tokenize(("the film", "film")).ids.tolist())
    assert tokens == ["xxbos", "xxfld", "1", "the", "film", "xxfld", "2", "film"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"text": ["title", "title"]}, ConfigError, "the text column 'title' is named twice"),
        ({"text": []}, ConfigError, "text is"),
        ({"text": ["title", "author"]}, DataError, "'author'"),
        ({"unlabeled": {"title": ["a"]}}, DataError, "'body'"),
        (
            {"unlabeled": ["a", "b"]},
            DataError,
            "a text is 'a', expected one string for each of the text columns 'title'",
        ),
    ],
)
def test_columns_that_are_missing_are_refused_before_training(
    tmp_path: Path, table: dict[str, list[str | None]], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(table, tmp_path / "m.bundle", **options)
