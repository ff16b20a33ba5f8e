"""Easily separable texts, hyperparameters for training in seconds, and a server that has imported torch."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import CommandServer, command_server, on_one_core

CONFIG = """
[encoder]
embedding_size = 16
hidden_size = 24
layers = 2
[tokenizer]
vocabulary_size = 120
[pretraining]
epochs = 1.5
learning_rate = 0.012
batch_size = 4
sequence_length = 12
[language_model]
epochs = 1
learning_rate = 0.01
batch_size = 8
sequence_length = 16
dropout_multiplier = 0
[classifier]
unfreezing_epochs = 1
epochs = 3
learning_rate = 0.02
batch_size = 16
dropout_multiplier = 0
head_dropout = 0
"""

WORDS = {"good": "lovely great fine superb happy", "bad": "awful weak dull poor sad"}
_OTHERS = ["the", "film", "was", "a", "story", "with", "some", "people", "in", "it", "and", "then"]


def some_rows(count: int = 64, seed: int = 0) -> list[tuple[str, str]]:
    """Return texts with labels. The words of a label occur only in its texts."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        label = ("good", "bad")[number % 2]
        words = [rng.choice(WORDS[label].split()) for _ in range(2)] + rng.choices(_OTHERS, k=6)
        rng.shuffle(words)
        rows.append((" ".join(words), label))
    return rows


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write a CSV of texts and labels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture(scope="package")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """Runs commands in new processes that do not have to import torch again."""
    modules = ("torch", "torch._dynamo", "sentencepiece", "bothways.training.pipeline", "bothways.training.progress")
    with command_server(tmp_path_factory.mktemp("trainer"), *modules) as server:
        yield server


@pytest.fixture(autouse=True, scope="package")
def one_core() -> Iterator[None]:
    """Train on one core: it is fastest for tiny models, and results have the same bytes as those of ``trainer``."""
    with on_one_core():
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "d.csv", some_rows())
