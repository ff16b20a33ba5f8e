"""A tiny bundle, trained by the command line, and a process from which commands start at once."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.processes import CommandServer, command_server

CONFIG = """
[encoder]
precision = "float32"
embedding_size = 8
hidden_size = 12
layers = 2
[tokenizer]
vocabulary_size = 100
[language_model]
epochs = 1
[classifier]
epochs = 12
unfreezing_epochs = 0
learning_rate = 0.03
dropout_multiplier = 0
head_dropout = 0
"""

LABELS = ("01", "[red]", "né")
"""In the order of the bundle. They must not be taken for markup, a number or ASCII."""


@dataclass(frozen=True)
class Workplace:
    """Where the commands of these tests run.

    Attributes:
        folder: Holds all below.
        bundle: A classifier of ``LABELS``, trained on the columns review and stars.
        data: The CSV that it was trained on, with a column id first.
    """

    folder: Path
    bundle: Path
    data: Path


def some_rows(count: int = 60) -> list[tuple[str, str, str]]:
    """Return rows of id, review and stars."""
    rng = random.Random(0)
    words = dict(zip(LABELS, ("awful dull sad", "so okay fair", "lovely fine superb"), strict=True))
    others = ["the", "film,", "a", "story", "with", "some", "people;", "in", "it\nand", "“then”"]
    rows = []
    for number in range(count):
        label = LABELS[number % 3]
        text = " ".join([*rng.choices(words[label].split(), k=2), *rng.choices(others, k=rng.randint(1, 40))])
        rows.append((f"0{number}", text, label))
    return rows


def cells(out: bytes) -> dict[str, list[str]]:
    """Return the cells of every row of the tables, by the row's name."""
    rows = [line.strip("│").split("│") for line in out.decode().splitlines() if line.startswith("│")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def titled_cells(out: bytes) -> dict[str, dict[str, str]]:
    """Return the cells of every row of the tables by the title of their column, by the row's name."""
    found: dict[str, dict[str, str]] = {}
    titles: list[str] = []
    for line in out.decode().splitlines():
        if line.startswith("┃"):
            titles = [title.strip() for title in line.strip("┃").split("┃")]
        elif line.startswith("│"):
            name, *row = [cell.strip() for cell in line.strip("│").split("│")]
            found[name] = dict(zip(titles[1:], row, strict=True))
    return found


def expected_calibration_error(probabilities: NDArray[np.float64], occurred: NDArray[np.bool_]) -> float:
    """Return the error in 15 bins, computed one bin after the other."""
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (probabilities >= low) & ((probabilities < low + 1 / 15) | (low == 14 / 15))
        if inside.any():
            total += inside.sum() * abs(probabilities[inside].mean() - occurred[inside].mean())
    return total / len(probabilities)


@pytest.fixture(scope="package")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """Runs commands, each in a fresh process that never imported torch."""
    with command_server(tmp_path_factory.mktemp("cli")) as server:
        yield server


@pytest.fixture(scope="package")
def cli_with_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """The same for commands that train, which need not import torch again."""
    modules = ("torch", "torch._dynamo", "sentencepiece", "bothways.training.pipeline", "bothways.training.progress")
    with command_server(tmp_path_factory.mktemp("cli"), *modules) as server:
        yield server


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory, cli_with_torch: CommandServer) -> Workplace:
    folder = tmp_path_factory.mktemp("place")
    found = Workplace(folder, folder / "m.bundle", folder / "d.csv")
    (folder / "c.toml").write_text(CONFIG)
    with found.data.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "review", "stars"), *some_rows()])
    columns = ("--text", "review", "--label", "stars")
    finished = cli_with_torch.run(
        "train", found.data, *columns, "--pretrained", "none", "--out", found.bundle, "--config", folder / "c.toml"
    )
    assert finished.status == 0, finished.err
    assert b"Next: bothways evaluate" in finished.out
    return found
