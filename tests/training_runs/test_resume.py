"""Guarantee 7: a training that was killed and resumed produces the same bytes as an uninterrupted one."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.training.checkpoints import Checkpoints, ClassifierCheckpoint, LanguageModelCheckpoint
from tests.processes import ENVIRONMENT, CommandServer, wait_for
from tests.training_runs.conftest import CONFIG, some_rows, write_rows

EVERY_STEP = {"bothways.training.pipeline.SECONDS_BETWEEN_CHECKPOINTS": 0.0}
NOW_AND_THEN = {"bothways.training.pipeline.SECONDS_BETWEEN_CHECKPOINTS": 0.05}
STAGES = ("tokenizer", "language model", "classifier", "bundle")


def config_of(epochs: int) -> str:
    return '[linear]\ninclude = "auto"\n' + (
        CONFIG.replace("[pretraining]\n", "[pretraining]\ncandidates = 40\n")
        .replace("epochs = 1\n", f"epochs = {epochs}\n")
        .replace("epochs = 3", f"epochs = {epochs}\ndistillation_temperature = 2")
        .replace("= 1.5", f"= {1.5 * epochs}")
        .replace(
            "= 0.012", "= 0.004"
        )  # a higher rate leads to weights whose losses are not exact enough after 60 epochs
    )


BRIEF, LONG = config_of(4), config_of(40)
"""Settings of a run that is killed once per stage, and of one that is killed many times."""


def bytes_of(bundle: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert len(files) >= 4
    return files


def last_stage(out: Path) -> str | None:
    try:
        lines = (out.with_name(f"{out.name}.run") / "metrics.jsonl").read_bytes().splitlines()
        return str(json.loads(lines[-1])["stage"])
    except (OSError, IndexError, ValueError):
        return None


def kill_in(stage: str, out: Path, delay_s: float) -> Callable[[int, Path], None]:
    """Return a function that kills a process some time after it has reported a stage. The process may end earlier."""

    def meanwhile(pid: int, _: Path) -> None:
        wait_for(lambda: last_stage(out) == stage or out.exists() or not _is_alive(pid), seconds=300)
        time.sleep(delay_s)
        os.kill(pid, signal.SIGKILL)  # nobody has waited for the process, so its id is not reused yet

    return meanwhile


def _is_alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(BRIEF)
    return path


@pytest.fixture
def train_arguments(tmp_path: Path, data: Path, config: Path) -> list[object]:
    unlabeled = tmp_path / "more.jsonl"
    unlabeled.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in some_rows(40, seed=3)))
    taught = tmp_path / "taught.csv"
    rows = [
        f"{text},{0.9 if label == 'good' else 0.2},{0.1 if label == 'good' else 0.8}"
        for text, label in some_rows(40, 5)
    ]
    taught.write_text("\n".join(["text,good,bad", *rows]))
    texts = [data, "--text", "text", "--label", "label", "--unlabeled", unlabeled, "--soft-labels", taught]
    return ["train", *texts, "--pretrained", "none", "--config", config, "--force"]


def pretrain_arguments(folder: Path, config: Path) -> list[object]:
    corpus = folder / "corpus.txt"
    corpus.write_text("\n\n".join(text for text, _ in some_rows(60, seed=4)))
    return ["pretrain", corpus, "--config", config]


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "stages"), [("train", STAGES), ("pretrain", ("tokenizer", "language model", "pack"))])
def test_a_run_killed_twenty_times_in_all_stages_produces_the_same_bytes(
    tmp_path: Path,
    train_arguments: list[object],
    config: Path,
    trainer: CommandServer,
    verb: str,
    stages: tuple[str, ...],
) -> None:
    config.write_text(LONG)
    rng = random.Random(7)
    common = train_arguments if verb == "train" else [*pretrain_arguments(tmp_path, config), "--encoder", "qrnn"]
    assert trainer.run(*common, "--out", tmp_path / "whole").status == 0
    out = tmp_path / "killed"
    killed: Counter[str] = Counter()
    for stage in stages:
        tries = 0
        while killed[stage] < 21 // len(stages) + 1:
            tries += 1
            assert tries < 40, f"the process was never killed in {stage}"
            delay = rng.uniform(0, 0.02 if stage == "tokenizer" else 0.3)
            finished = trainer.run(*common, "--out", out, constants=NOW_AND_THEN, meanwhile=kill_in(stage, out, delay))
            found = last_stage(out)
            if finished.status == -signal.SIGKILL and not out.exists() and found is not None:
                killed[found] += 1
            shutil.rmtree(out, ignore_errors=True)
    assert killed.total() >= 20
    finished = trainer.run(*common, "--out", out, constants=NOW_AND_THEN)
    assert finished.status == 0, finished.err
    assert "warning: an earlier run stopped" in finished.err
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_a_killed_run_resumes_and_produces_the_same_bytes(
    tmp_path: Path, train_arguments: list[object], trainer: CommandServer
) -> None:
    assert trainer.run(*train_arguments, "--out", tmp_path / "whole").status == 0
    out = tmp_path / "killed"
    for stage in ("language model", "classifier"):
        killed = trainer.run(*train_arguments, "--out", out, constants=EVERY_STEP, meanwhile=kill_in(stage, out, 0.05))
        assert killed.status == -signal.SIGKILL
    finished = trainer.run(*train_arguments, "--out", out)
    assert finished.status == 0, finished.err
    assert finished.err.splitlines()[0].startswith("warning: an earlier run stopped in the stage 'classifier' (")
    assert finished.err.splitlines()[0].endswith("): resuming it")
    assert "forward language model" not in finished.err  # it was finished before
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(
    tmp_path: Path, train_arguments: list[object], config: Path, trainer: CommandServer
) -> None:
    config.write_text(BRIEF.replace("[encoder]\n", '[encoder]\nkind = "qrnn"\nfirst_window = 2\n'))
    assert trainer.run(*train_arguments, "--out", tmp_path / "whole").status == 0
    out = tmp_path / "killed"
    folder = tmp_path / "killed.run" / "forward"

    def kill_after_two(pid: int, _: Path) -> None:
        wait_for((folder / "00000004.checkpoint").exists)
        os.kill(pid, signal.SIGKILL)

    trainer.run(*train_arguments, "--out", out, constants=EVERY_STEP, meanwhile=kill_after_two)
    before, newest = sorted(folder.glob("*.checkpoint"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    finished = trainer.run(*train_arguments, "--out", out)
    assert finished.status == 0, finished.err
    told = [line for line in finished.err.splitlines() if line.startswith("warning: ")][1:3]
    assert told == [
        f"warning: the checkpoint {newest} is damaged and was removed",
        f"warning: continuing from the previous checkpoint, {before}",
    ]
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_changed_texts_are_rejected_with_the_difference(
    tmp_path: Path, train_arguments: list[object], trainer: CommandServer, data: Path
) -> None:
    out = tmp_path / "killed"
    trainer.run(*train_arguments, "--out", out, meanwhile=kill_in("language model", out, 0))
    write_rows(data, [*some_rows()[:-2], ("another text", "good"), ("one more", "bad")])
    finished = trainer.run(*train_arguments, "--seed", 1, "--out", out)
    assert finished.status == 2
    assert finished.error_line.startswith(
        f"bothways: error: {out}.run contains an unfinished run with different settings (data.training was "
    )
    assert "; seed was 0, now 1): use the same settings to resume it, or remove " in finished.error_line


def test_hyperparameters_that_a_run_does_not_use_may_change(
    tmp_path: Path, config: Path, trainer: CommandServer
) -> None:
    out = tmp_path / "killed"
    common = [*pretrain_arguments(tmp_path, config), "--out", out]
    trainer.run(*common, constants=EVERY_STEP, meanwhile=kill_in("language model", out, 0))
    config.write_text(config.read_text().replace("[pretraining]", "[pretraining]\nweight_decay = 0.5"))
    assert "hyperparameters.pretraining.weight_decay was 0.01, now 0.5): " in trainer.run(*common).error_line
    config.write_text(BRIEF.replace("[classifier]", "[classifier]\nweight_decay = 0.5"))
    finished = trainer.run(*common)
    assert finished.status == 0, finished.err
    assert "warning: an earlier run stopped" in finished.err


def test_two_runs_with_the_same_output_do_not_mix(
    tmp_path: Path, train_arguments: list[object], trainer: CommandServer
) -> None:
    out = tmp_path / "m.bundle"
    command = [sys.executable, "-m", "bothways", *map(str, train_arguments), "--out", str(out)]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as other:
        wait_for(lambda: last_stage(out) is not None)
        finished = trainer.run(*train_arguments, "--out", out)
        other.kill()
    assert finished.status == 2
    assert finished.error_line == (
        f"bothways: error: another process is training {out}: wait until it ends, or choose another --out"
    )


@pytest.mark.slow
def test_parallel_directions_end_with_their_parent_process_and_resume(
    tmp_path: Path, train_arguments: list[object], config: Path
) -> None:
    config.write_text(LONG)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is only one core")
    try:
        _kill_and_go_on(tmp_path, train_arguments)
    finally:
        os.sched_setaffinity(0, cores)


def _kill_and_go_on(folder: Path, train_arguments: list[object]) -> None:
    def start(out: Path) -> subprocess.Popen[bytes]:
        code = (
            "import sys, bothways.training.pipeline as run; run.SECONDS_BETWEEN_CHECKPOINTS = 0.05\n"
            "from bothways.cli.app import main; main()"
        )
        command = [sys.executable, "-c", code, *map(str, train_arguments), "--out", str(out)]
        return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    assert start(folder / "whole").wait() == 0
    out = folder / "killed"
    for stage in ("language model", "classifier"):
        process = start(out)
        wait_for(functools.partial(_has_come_to, stage, out), seconds=300)
        time.sleep(0.3)
        process.kill()
        process.wait()
        wait_for(lambda: not _workers_of(out), seconds=300)
    assert start(out).wait() == 0
    assert bytes_of(out) == bytes_of(folder / "whole")


def _has_come_to(stage: str, out: Path) -> bool:
    return last_stage(out) == stage


def _workers_of(out: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{out}.run".encode() in words and b"bothways.training.one_direction" in words:
            found.append(path.parent.name)
    return found


# Checkpoints.


def test_a_checkpoint_is_read_as_it_was_saved_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "forward", 3600)
    tensors = {"a.x": torch.arange(6.0).reshape(2, 3), "a.y": torch.ones(2, dtype=torch.bfloat16), "b": torch.tensor(3)}
    for step in range(4):
        checkpoints.save(LanguageModelCheckpoint(step=step, best={"loss": 0.1}, tensors=tensors))
    assert [path.name for path in sorted((tmp_path / "forward").iterdir())] == [
        "00000003.checkpoint",
        "00000004.checkpoint",
    ]
    found, problems = checkpoints.newest()
    assert isinstance(found, LanguageModelCheckpoint)
    assert problems == []
    assert (found.step, found.best) == (3, {"loss": 0.1})
    assert set(found.part("a")) == {"x", "y"}
    for name, tensor in tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


@pytest.mark.parametrize(
    "fields",
    [
        {"stage": "classifier"},
        {"stage": "classifier", "perplexity": 2.5, "facts": {}},
        {"stage": "classifier", "perplexity": "2.5"},
        {"stage": "classifier", "perplexity": 2.5, "batch": -1},
        {"stage": "another", "perplexity": 2.5},
        {"perplexity": 2.5},
    ],
)
def test_a_checkpoint_with_other_fields_is_not_used(tmp_path: Path, fields: dict[str, object]) -> None:
    content = save({"x": torch.zeros(5)}, {"checkpoint": json.dumps(fields)})
    digest = hashlib.sha256(content).hexdigest().encode()
    (tmp_path / "00000001.checkpoint").write_bytes(digest + b"\n" + content)
    assert Checkpoints(tmp_path, 3600).newest()[0] is None


@pytest.mark.parametrize("damage", ["cut", "empty", "byte", "header"])
def test_a_damaged_checkpoint_is_removed(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, 3600)
    checkpoints.save(ClassifierCheckpoint(perplexity=2.5, tensors={"x": torch.zeros(50)}))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    changed = {
        "cut": content[:-1],
        "empty": b"",
        "byte": content[:200] + bytes([content[200] ^ 1]) + content[201:],
        "header": b"0" * 64 + content[64:],
    }[damage]
    path.write_bytes(changed)
    found, problems = checkpoints.newest()
    assert found is None
    assert problems == [f"the checkpoint {path} is damaged and was removed"]
    assert not path.exists()


def test_a_checkpoint_is_due_after_some_seconds_and_never_in_a_process_that_does_not_write(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, 0).is_due()
    assert not Checkpoints(tmp_path, 3600).is_due()
    assert not Checkpoints(tmp_path, 0, writes=False).is_due()


# Several processes for one model.


def train_with_torchrun(processes: int, arguments: list[object]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "-m", "bothways", *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["lstm", "qrnn"])
def test_two_processes_train_the_same_language_model_as_one(tmp_path: Path, encoder: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        CONFIG.replace("[pretraining]\n", "[pretraining]\ndropout_multiplier = 0\n")
        .replace("= 1.5", "= 6.0")
        .replace("[encoder]\n", '[encoder]\nprecision = "float32"\n')
    )
    arguments = [*pretrain_arguments(tmp_path, config), "--encoder", encoder]
    weights: dict[int, Any] = {}
    losses: dict[int, list[float]] = {}
    for count in (1, 2):
        out = tmp_path / f"{count}.pack"
        finished = train_with_torchrun(count, [*arguments, "--out", out])
        assert finished.returncode == 0, finished.stderr
        weights[count] = read_bundle(out, Kind.LANGUAGE_MODEL).weights
        assert bothways.verify(out).passed
        told = map(json.loads, (tmp_path / f"{count}.pack.run" / "metrics.jsonl").read_text().splitlines())
        losses[count] = [line["metrics"]["loss"] for line in told if line["report"] == "EpochReport"]
    for direction, ours in weights[2].items():
        for name, array in ours.items():
            np.testing.assert_allclose(array, weights[1][direction][name], atol=2e-3)
    # Whether two processes sum in another order depends on the processor. That there are two shows the next test.
    assert losses[2] == pytest.approx(losses[1], abs=2e-3)


@pytest.mark.slow
def test_uneven_rows_and_classifiers_are_rejected_with_several_processes(
    tmp_path: Path, train_arguments: list[object]
) -> None:
    config = tmp_path / "c.toml"
    config.write_text(CONFIG.replace("batch_size = 4", "batch_size = 3"))
    finished = train_with_torchrun(2, [*pretrain_arguments(tmp_path, config), "--out", tmp_path / "p"])
    assert "batch_size is 3, expected a multiple of the 2 processes" in finished.stderr
    finished = train_with_torchrun(2, [*train_arguments, "--out", tmp_path / "c"])
    assert "torchrun works with pretrain only: run train without it" in finished.stderr
