"""A model in other people's processes: pickled, copied, sent to a pool of new processes, and awaited."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bothways
from bothways.errors import BundleBroken, BundleMissing, TextError
from bothways.runtime.classifier import Classifier
from bothways.text.reading import Direction
from tests.bundles import python_environment, write_with_early_exit

TEXTS = ["what a lovely film", "", "I HATED every minute of it!!!", "the dog ate the cat " * 9]


@pytest.mark.parametrize("options", [{}, {"precision": "int8", "threads": 1}, {"early_exit": True}])
def test_a_pickled_model_is_loaded_again_with_its_options(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    path = write_with_early_exit(bundle_path, tmp_path / "b.bundle", Direction.FORWARD, TEXTS)
    monkeypatch.chdir(tmp_path)
    model = bothways.load("b.bundle", **options)
    monkeypatch.chdir("/")  # a relative path means what it meant when the model was loaded
    data = pickle.dumps(model)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert (again.digest, again.precision, again.early_exit) == (model.digest, model.precision, model.early_exit)
    expected, found = model.predict_proba_by_direction(TEXTS), again.predict_proba_by_direction(TEXTS)
    assert all(np.array_equal(expected[name], found[name], equal_nan=True) for name in expected)
    assert pickle.loads(pickle.dumps(again)).digest == model.digest
    shutil.rmtree(path)
    with pytest.raises(BundleMissing):
        pickle.loads(data)


def test_another_bundle_at_the_path_is_not_taken_for_the_pickled_model(
    bundle_path: Path, multi_label_bundle_path: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(bundle_path, tmp_path / "b.bundle")
    data = pickle.dumps(bothways.load(path))
    shutil.rmtree(path)
    shutil.copytree(multi_label_bundle_path, path)
    with pytest.raises(BundleBroken, match=r"b\.bundle has the digest .*, but the pickled model has .*: put"):
        pickle.loads(data)


def test_a_copy_is_the_model_itself(model: Classifier) -> None:
    assert copy.deepcopy({"clf": model})["clf"] is model
    assert copy.copy(model) is model


def test_a_pool_of_new_processes_predicts_the_same(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in python_environment().items():
        monkeypatch.setenv(name, value)
    model = bothways.load(bundle_path, threads=1)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(model.predict_proba, TEXTS).result(timeout=60)
    assert np.array_equal(found, model.predict_proba(TEXTS))


@pytest.mark.parametrize("name", ["model", "multi_label_model", "regression_model"])
def test_awaited_predictions_are_those_of_predict(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(model.apredict([text]) for text in TEXTS), model.apredict(iter(TEXTS)))

    *each, together = asyncio.run(ask())
    expected = model.predict(TEXTS)
    assert list(together) == list(expected) == [found[0] for found in each]


def test_the_loop_runs_while_a_model_reads_and_a_canceled_call_stops_reading(model: Classifier) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "the dog ate the cat"

    async def ask() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model.apredict(endless()), 0.3)
        with pytest.raises(TextError):
            await model.apredict("not a list")  # answered, so the endless call has ended
        before = read
        await model.apredict(TEXTS)
        assert read == before > 0

    asyncio.run(ask())
