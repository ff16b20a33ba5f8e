"""Trainings in seconds, and models without training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import bothways
from bothways.data.labeled import read_labeled
from bothways.runtime.classifier import Classifier
from bothways.tasks.registry import new_task
from bothways.tasks.task import Task
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.subword_tokenizer import SubwordTokenizer
from tests.bundles import make_classifiers, write_classifiers
from tests.processes import on_one_core


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Train on one core, which is fastest for tiny models."""
    with on_one_core():
        yield


@pytest.fixture
def without_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train without the fresh process that verifies a bundle, which takes longer than the training."""
    monkeypatch.setattr("bothways.training.pipeline.verify_in_fresh_process", lambda _: None)


@pytest.fixture(scope="session")
def random_models(
    tiny_tokenizer: SubwordTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Classifier]:
    """Takes the place of ``bothways.train``: reads the rows as it does, and publishes a model with random weights.

    The weights depend on the task alone.
    """
    made: dict[tuple[Task, tuple[str, ...]], Path] = {}

    def publish(
        table: Any,
        *,
        text: Sequence[str],
        label: str,
        labels: Sequence[str] | None,
        weight: str | None,
        task: Any,
        out: Path,
        **_: object,
    ) -> Classifier:
        new = new_task(task, None, labels or ())
        rows = read_labeled(table, text, label, new, weight=weight)
        new.check(rows)
        key = (new.fitted(rows), tuple(text))
        if key not in made:
            path = tmp_path_factory.mktemp("random") / "random.bundle"
            tokenizer = tiny_tokenizer.with_field_token() if len(text) > 1 else tiny_tokenizer
            placements = {Direction.FORWARD: SpecialTokenPlacement.READING_ORDER}
            tiny = make_classifiers(tokenizer, placements, task=key[0], columns=key[1])
            write_classifiers(path, tiny, verify=lambda _: None)
            made[key] = path
        shutil.copytree(made[key], out)
        return bothways.load(out)

    return publish


@pytest.fixture
def untrained(random_models: Callable[..., Classifier], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit estimators with random weights."""
    monkeypatch.setattr("bothways.sklearn.train", random_models)
