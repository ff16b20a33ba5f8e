"""The baselines with a frozen encoder: embeddings are computed once, and all rows are used."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.accuracy import encoder, tfidf
from benchmarks.accuracy.outcomes import SINGLE, result_of
from benchmarks.accuracy.sets import Rows, Task

PYTHON = Path(sys.executable)


@pytest.fixture
def embedded_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the encoder by one that counts words, and return the list of the texts that it embeds."""
    found: list[str] = []

    def embed(name: str, texts: Sequence[str], digests: Sequence[str], python: Path, store: Path) -> None:
        found.extend(texts)
        np.savez(
            store / f"{len(found)}.npz",
            digests=np.array(digests),
            vectors=np.array([[text.count("good"), text.count("bad")] for text in texts], dtype=np.float32),
            seconds=np.full((len(texts), 2), 0.5),
            made=np.array(json.dumps({"bytes": 1_000_000, "versions": {name: "1"}})),
        )

    monkeypatch.setattr(encoder, "_embed", embed)
    return found


def a_task(is_multi_label: bool) -> Task:
    texts = [f"{'good' if number % 2 else 'bad'} {number}" for number in range(40)]
    labels: list[tuple[str, ...]] = [("p",) if number % 2 else ("n",) for number in range(40)]
    if is_multi_label:
        texts += [f"good bad {number}" for number in range(10)]
        labels += [("n", "p")] * 10
    test = Rows(["good!", "bad!"], [("p",), ("n",)])
    return Task("t", ("n", "p"), is_multi_label, Rows(texts, labels), None, test, "a test")


@pytest.mark.parametrize("is_multi_label", [False, True])
def test_the_baseline_learns_from_embeddings_and_each_text_is_embedded_once(
    is_multi_label: bool, tmp_path: Path, embedded_texts: list[str]
) -> None:
    task = a_task(is_multi_label)
    outcome = encoder.run(task, 0, "use-m3", PYTHON, tmp_path)
    again = encoder.run(task, 1, "use-m3", PYTHON, tmp_path)
    assert sorted(embedded_texts) == sorted([*task.train.texts, *task.test.texts])
    assert again.packages["use-m3"] == "1"
    assert outcome.train.wall_s > 0.5 * len(task.train), "the time of the embeddings counts in every run"
    assert outcome.facts["megabytes"] == 1.0
    assert _result(task, outcome)["scores"][SINGLE]["macro_f1"] == 1


def test_tfidf_chooses_the_thresholds_of_a_multi_label_task_without_official_validation_rows() -> None:
    task = a_task(is_multi_label=True)
    assert _result(task, tfidf.run(task, 0))["scores"][SINGLE]["macro_f1"] == 1


def test_without_the_environment_of_the_encoders_the_error_names_the_command_that_creates_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make build/encoders"):
        encoder.run(a_task(False), 0, "minilm", tmp_path / "python", tmp_path)


def _result(task: Task, outcome: Any) -> dict[str, Any]:
    return result_of(task, "m", 0, outcome, "command", {"cores": 1}, 0.0)
