"""The ONNX export on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession

import bothways
from tests.cli.conftest import Workplace, cells
from tests.processes import CommandServer


def test_a_trained_bundle_becomes_one_file(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    finished = cli.run("export-onnx", place.bundle, "--out", tmp_path / "m.onnx")
    assert (finished.status, finished.err) == (0, "")
    found = cells(finished.out)
    assert found.keys() == {"forward", "backward", "ensemble"}
    assert all(float(row[0]) <= 1e-5 for row in found.values())
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]

    model = bothways.load(place.bundle)
    tokens = model.tokenizer.tokenize("a lovely film").ids[None].astype(np.int64)
    (row,) = InferenceSession(tmp_path / "m.onnx").run(
        ["ensemble"], {"ids": tokens, "lengths": np.array([tokens.size])}
    )[0]
    np.testing.assert_allclose(row, model.predict_proba(["a lovely film"])[0], atol=1e-5)


def test_a_full_disk_leaves_nothing(cli: CommandServer, place: Workplace, tmp_path: Path) -> None:
    finished = cli.run("export-onnx", place.bundle, "--out", tmp_path / "m.onnx", largest_file=1000)
    assert finished.status == 1
    assert f"{tmp_path / 'm.onnx'} can't be written" in finished.error_line
    assert not list(tmp_path.iterdir())
