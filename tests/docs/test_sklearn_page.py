"""The examples of docs/sklearn.md run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bothways.training.api import train
from tests.docs.test_pages import blocks

PAGE = Path(__file__).parents[2] / "docs" / "sklearn.md"
QUICK: dict[str, Any] = {
    "encoder": {"embedding_size": 8, "hidden_size": 8, "layers": 1, "precision": "float32"},
    "tokenizer": {"vocabulary_size": 100},
    "language_model": {"epochs": 0},
    "linear": {"include": "auto"},
}


def quick_train(*arguments: Any, config: dict[str, Any] | None, **options: Any) -> Any:
    """Train a tiny model with the same options otherwise."""
    epochs = {"epochs": 1, "unfreezing_epochs": 0, "batch_size": 32}
    merged = {**QUICK, "classifier": {**epochs, **((config or {}).get("classifier", {}))}}
    options = {**options, "pretrained": "none", "size": "tiny", "directions": "forward"}
    return train(*arguments, config=merged, **options)


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bothways.sklearn.train", quick_train)
    monkeypatch.setattr("bothways.training.pipeline.verify_in_fresh_process", lambda _: None)
    texts = [f"the film {n} was {word} {word}" for n in range(20) for word in ("dull", "lovely")]
    names: dict[str, Any] = {"texts": texts, "labels": ["bad", "good"] * 20}
    first, *others = blocks(PAGE, "python")
    assert len(others) == 2
    for example in (first, *others):
        exec(example, names)
    assert capsys.readouterr().out.splitlines()[0] == "[1. 1. 1.]"
    assert names["classifier"].predict(["what a lovely film"]).tolist() == ["good"]
    assert names["voting"].predict(["what a lovely film"]).tolist() == ["good"]
    assert names["search"].best_params_ in ({"config": names["quick"]}, {"config": names["longer"]})
