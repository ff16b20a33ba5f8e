"""The benchmarks find every data set that they name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks.accuracy.sets import SETS, load_task

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("BOTHWAYS_DATA" not in os.environ, reason="BOTHWAYS_DATA is not set: no real data sets"),
]


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_the_benchmark_is_read_from_its_folder(name: str) -> None:
    task = load_task(name, Path(os.environ["BOTHWAYS_DATA"]), seed=1)
    assert len(task.train) > 0
    assert len(task.test) > 0
    assert {label for labels in task.test.labels for label in labels} <= set(task.labels)
    assert bool(task.unlabeled) == (name == "demo" or name.startswith("imdb"))
