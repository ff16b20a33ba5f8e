"""The learning-rate finder: rates rise, a diverging loss ends a stage, and the steepest fall is found."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bothways
from bothways.errors import ConfigError, DataError
from bothways.training.range_test import smoothed, steepest
from tests.training_runs.test_training_data import OPTIONS, frame_of_stars


def options(**changes: Any) -> dict[str, Any]:
    found = copy.deepcopy({**OPTIONS, "text": "text", "label": "stars"})
    found.pop("directions")
    config: Any = found["config"]
    config["language_model"] = {"learning_rate": 0.003, "batch_size": 4, "sequence_length": 12}
    return {**found, **changes}


@given(st.floats(1e-4, 0.3), st.floats(0.1, 5), st.integers(20, 200))
def test_the_steepest_fall_of_a_sigmoid_is_its_middle(middle: float, height: float, steps: int) -> None:
    rates = 10 ** np.linspace(-5, 0, steps)
    losses = height / (1 + np.exp(3 * (np.log(rates) - np.log(middle))))
    found = steepest(rates, losses)
    assert abs(np.log(found / middle)) <= 1.5 * np.log(rates[1] / rates[0])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_a_smoothed_loss_is_a_mean_of_those_so_far(losses: list[float]) -> None:
    found = smoothed(losses)
    assert found[0] == pytest.approx(losses[0])
    for number in range(len(losses)):
        so_far = losses[: number + 1]
        assert min(so_far) - 1e-9 <= found[number] <= max(so_far) + 1e-9


def test_rates_rise_until_the_loss_diverges_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frame_of_stars().to_csv("d.csv", index=False)
    found = bothways.lr_find("d.csv", plot="rates.svg", **options())
    assert [curve.stage for curve in found] == ["language model", "classifier"]
    for curve in found:
        rates = curve.learning_rates
        assert len(rates) == len(curve.losses) == len(curve.smoothed) > 50
        assert (np.diff(rates) > 0).all()
        assert rates[0] < 2e-5
        assert rates[-1] <= 1
        assert curve.steepest in rates
        assert curve.smoothed[-1] <= 4 * curve.smoothed.min()
    assert (found[0].current, found[1].current) == (0.003, 0.02)
    classifier = found[1]
    assert classifier.smoothed.min() < 0.5 * classifier.smoothed[0]  # some rate learns these texts
    assert classifier.steepest is not None
    assert 1e-4 < classifier.steepest < 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv", "rates.svg"]
    assert "drawn by bothways --plot" in (tmp_path / "rates.svg").read_text()
    again = bothways.lr_find(frame_of_stars(), **options())
    assert [curve.losses.tolist() for curve in again] == [curve.losses.tolist() for curve in found]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="starz"):
        bothways.lr_find(frame_of_stars(), **options(label="starz"))
    with pytest.raises(ConfigError, match=r"expected a file name that ends in \.png"):
        bothways.lr_find(frame_of_stars(), plot=tmp_path / "rates.gif", **options())


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bothways.cli.app import app

    frame_of_stars().to_csv(tmp_path / "d.csv", index=False)
    config = tmp_path / "c.toml"
    config.write_text(
        "[encoder]\nembedding_size = 16\nhidden_size = 24\nlayers = 1\n[tokenizer]\nvocabulary_size = 200\n"
    )
    arguments = ["lr-find", str(tmp_path / "d.csv"), "--text", "text", "--label", "stars", "--pretrained", "none"]
    app([*arguments, "--config", str(config)], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[1:3] == ["language", "model"] for line in lines)
    assert any("0.004" in line for line in lines)
