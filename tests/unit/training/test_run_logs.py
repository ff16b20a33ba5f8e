"""Metrics for TensorBoard and Weights & Biases. Their libraries are used only on request and never stop a training."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bothways.errors import ConfigError, DependencyMissing
from bothways.text.reading import Direction
from bothways.training.reports import EpochReport, Report, StageReport, StepReport
from bothways.training.run_logs import LogTarget, logged, parse_log_targets
from tests.processes import ENVIRONMENT

STEPS = 4000


def a_run(error: BaseException | None = None) -> Iterator[Report]:
    yield StageReport("tokenizer")
    for direction in Direction:
        for step in range(1, 13):
            yield StepReport("language model", direction, 1, 2, step, STEPS, 2.0 + step, 0.1, 0.5, 64)
        metrics = {"loss": 1.5, "perplexity": 4.5}
        yield EpochReport("language model", direction, 1, 2, 12, metrics, 1.0, is_best=True)
    if error is not None:
        raise error
    yield StageReport("done")


@pytest.mark.parametrize(
    ("values", "targets"),
    [
        ("tensorboard", [LogTarget("tensorboard")]),
        ("tensorboard:a:b/c", [LogTarget("tensorboard", "a:b/c")]),
        (["wandb:shop", "tensorboard"], [LogTarget("wandb", "shop"), LogTarget("tensorboard")]),
        ((), []),
    ],
)
def test_targets_are_parsed(values: Any, targets: list[LogTarget]) -> None:
    assert parse_log_targets(values) == targets


def test_unknown_and_missing_libraries_are_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("mlflow", "", "Wandb:x", "\x1b[31m"):
        with pytest.raises(ConfigError, match=r"^--log-to '.*': expected tensorboard\[:FOLDER\] or wandb\[:PROJECT\]$"):
            parse_log_targets(value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        DependencyMissing, match=r"^--log-to wandb needs Weights & Biases: pip install 'bothways\[wandb\]'$"
    ):
        parse_log_targets(["wandb"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_the_metrics_of_each_direction(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reports = list(logged(a_run(), [LogTarget("tensorboard", str(tmp_path / "logs"))], tmp_path / "m.bundle", {}))
    folder = tmp_path / "logs" / "m.bundle"
    assert reports == [StageReport("TensorBoard", f"tensorboard --logdir {folder}"), *a_run()]
    for direction in Direction:
        found = accumulators.EventAccumulator(str(folder / direction))
        found.Reload()
        assert {
            tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]
        } == {
            "language_model/training_loss": [(4, 6.0), (8, 10.0), (12, 14.0)],  # every fourth of 4,000 is recorded
            "language_model/learning_rate": [(step, pytest.approx(0.1)) for step in (4, 8, 12)],
            "language_model/gradient_norm": [(step, 0.5) for step in (4, 8, 12)],
            "language_model/validation_loss": [(12, 1.5)],
            "language_model/validation_perplexity": [(12, 4.5)],
        }


def test_tensorboard_logs_into_the_run_folder_by_default(tmp_path: Path) -> None:
    list(logged(a_run(), [LogTarget("tensorboard")], tmp_path / "m.bundle", {}))
    assert {path.name for path in (tmp_path / "m.bundle.run" / "tensorboard").iterdir()} == set(Direction)


class FakeRun:
    """A run of wandb that fails at some call."""

    def __init__(self, fails_at: str) -> None:
        self.url, self.offline, self.fails_at, self.calls = "https://wandb.example/run", False, fails_at, [""]

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> None:
            self.calls.append(f"{name} {kwargs}" if name == "finish" else name)
            if name == self.fails_at:
                raise ConnectionError("no network\nat all")

        return call


@pytest.mark.parametrize("fails_at", ["init", "define_metric", "log", "finish", "nothing"])
def test_a_library_that_fails_is_reported_once_and_training_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    fake, run = ModuleType("wandb"), FakeRun(fails_at)

    def init(**_: object) -> FakeRun:
        if fails_at == "init":
            run.fails_at = "unused"
            run.unused()
        return run

    fake.init, fake.Settings = init, dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    reports = list(logged(a_run(), [LogTarget("wandb", "shop")], tmp_path / "m.bundle", {"seed": 0}))
    warning = StageReport(
        "Weights & Biases",
        r"Weights & Biases failed, and training continues without it: ConnectionError: no network\nat all",
        is_warning=True,
    )
    place = StageReport("Weights & Biases", "https://wandb.example/run")
    extra = [report for report in reports if report not in list(a_run())]
    expected = {"init": [warning], "nothing": [place]}.get(fails_at, [place, warning])
    assert extra == expected
    assert [report for report in reports if report not in expected] == list(a_run())
    if fails_at == "nothing":
        assert run.calls.count("log") == 2 * (3 + 1)
        assert run.calls[-1] == "finish {'exit_code': 0}"


@pytest.mark.parametrize("error", [ConfigError("bad"), KeyboardInterrupt()])
def test_logs_end_as_failed_when_the_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    fake, run = ModuleType("wandb"), FakeRun("nothing")
    fake.init, fake.Settings = lambda **_: run, dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(type(error)):
        list(logged(a_run(error), [LogTarget("wandb")], tmp_path / "m.bundle", {}))
    assert run.calls[-1] == "finish {'exit_code': 1}"


OFFLINE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.unit.training.test_run_logs import a_run
from bothways.training.run_logs import LogTarget, logged
for report in logged(a_run(), [LogTarget("wandb", "shop")], Path(sys.argv[1]), {"seed": 7}):
    if getattr(report, "message", ""):
        print(report.message)
"""


@pytest.mark.slow
def test_wandb_writes_a_run_offline(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    finished = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path / "m.bundle"), root],
        cwd=tmp_path,
        env={**ENVIRONMENT, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(f"offline, upload it later with: wandb sync {tmp_path}/wandb/offline-run-")
    assert finished.stderr == ""
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = path.read_bytes()
    for words in (b"forward/language_model/training_loss", b"backward/language_model/validation_perplexity", b"shop"):
        assert words in content
