"""The benchmarks find every data set that they name."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.accuracy import validation
from benchmarks.accuracy.sets import FEW_LABEL_SETS, SETS, load_task

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
    has_unlabeled = name.endswith("-unlabeled") if name in FEW_LABEL_SETS else name == "demo" or name.startswith("imdb")
    assert bool(task.unlabeled) == has_unlabeled


@pytest.mark.parametrize("name", FEW_LABEL_SETS)
def test_a_set_with_few_labels_has_its_number_of_distinct_texts_per_class(name: str) -> None:
    task = load_task(name, Path(os.environ["BOTHWAYS_DATA"]), seed=1)
    source, _, rest = name.rpartition("-per-class")[0].rpartition("-")
    assert len(set(task.train.texts)) == len(task.train)
    assert not set(task.train.texts) & set(task.unlabeled)
    counts = Counter(label for labels in task.train.labels for label in labels)
    assert counts.keys() == set(task.labels)
    if not task.is_multi_label and source != "trec50":  # which has classes with three questions
        assert set(counts.values()) == {int(rest)}
    fit, valid = validation.held_out(task, seed=1)
    assert not set(fit.texts) & set(valid.texts)
    assert {label for labels in fit.labels for label in labels} == set(task.labels)
