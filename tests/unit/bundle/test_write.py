from __future__ import annotations

import copy
import json
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bothways
from bothways.bundle.manifest import Calibration, Kind, Member
from bothways.bundle.parity import ParityRow, with_decisions
from bothways.bundle.read import read_bundle
from bothways.bundle.weights import rounded_to_half
from bothways.bundle.write import write_bundle
from bothways.errors import ConfigError, DataError, OutputExists, TrainingError
from bothways.runtime.verify import verify_in_fresh_process
from bothways.text.reading import Direction
from bothways.training.models import weights_of
from tests.bundles import (
    FILES,
    LABELS,
    RECORD,
    TEMPERATURE,
    THRESHOLDS,
    TOPICS,
    TinyClassifiers,
    TinyLanguageModels,
    python_environment,
    record_of,
    run_python,
    tensors,
    write_classifiers,
    write_pack,
)

COPY_BUNDLE = """
import sys
from pathlib import Path
from bothways.bundle import write
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.errors import BothwaysError
from bothways.runtime.verify import verify_in_fresh_process

def copy(source, target, verify=verify_in_fresh_process):
    bundle = read_bundle(source, Kind.CLASSIFIER)
    write.write_bundle(
        target,
        task=bundle.manifest.decisions,
        members=bundle.manifest.members,
        weights=bundle.weights,
        tokenizer=bundle.tokenizer,
        parity_record=bundle.parity_record,
        training=bundle.manifest.training,
        verify=verify,
    )
"""

STOP_BEFORE_VERIFICATION = (
    COPY_BUNDLE
    + """
def wait(folder):
    print("written", flush=True)
    sys.stdin.read()

copy(sys.argv[1], sys.argv[2], verify=wait)
"""
)

STOP_BETWEEN_FILES = (
    COPY_BUNDLE
    + """
original = write._write_durably

def wait(path, data):
    if path.name.startswith("backward"):
        path.write_bytes(data[:100])
        print("written", flush=True)
        sys.stdin.read()
    original(path, data)

write._write_durably = wait
copy(sys.argv[1], sys.argv[2])
"""
)

ON_A_FULL_DISK = (
    COPY_BUNDLE
    + """
import resource

limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    copy(sys.argv[1], sys.argv[2])
except BothwaysError as error:
    print(type(error).__name__, error, sep="|")
"""
)


def write_with(path: Path, tiny: TinyClassifiers, parity_record: list[ParityRow], **changes: Any) -> None:
    weights = {m.direction: weights_of(tiny.models[m.direction], m, len(tiny.labels)) for m in tiny.members}
    options: dict[str, Any] = {
        "task": tiny.task,
        "members": tiny.members,
        "weights": weights,
        "tokenizer": tiny.tokenizer,
        "parity_record": parity_record,
        "training": RECORD,
        "verify": verify_in_fresh_process,
    }
    write_bundle(path, **{**options, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_bundle_holds_six_plain_files_and_nothing_else(bundle_path: Path, pack_path: Path) -> None:
    for path in (bundle_path, pack_path):
        assert sorted(entry.name for entry in path.iterdir()) == sorted(FILES)
        assert all(stat.S_ISREG(entry.lstat().st_mode) for entry in path.iterdir())
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # no temporary folder beside it


def test_others_may_read_a_bundle(bundle_path: Path) -> None:
    assert stat.S_IMODE(bundle_path.stat().st_mode) == 0o755


def test_the_same_models_give_the_same_bytes(torch_models: TinyClassifiers, bundle_path: Path, tmp_path: Path) -> None:
    write_classifiers(tmp_path / "again.bundle", torch_models)
    assert contents(tmp_path / "again.bundle") == contents(bundle_path)


def test_everything_written_reads_back(torch_models: TinyClassifiers, bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path, Kind.CLASSIFIER)
    assert bundle.manifest.labels == LABELS
    assert bundle.manifest.members == torch_models.members
    assert bundle.manifest.training == record_of(torch_models)
    assert bundle.parity_record == with_decisions(torch_models.parity_record, torch_models.task, None)
    assert bundle.tokenizer.to_bytes() == torch_models.tokenizer.to_bytes()
    for member in torch_models.members:
        expected = weights_of(torch_models.models[member.direction], member, 3)
        assert bundle.weights[member.direction].keys() == expected.keys()
        assert all(np.array_equal(bundle.weights[member.direction][name], array) for name, array in expected.items())


def test_a_single_direction_is_a_bundle_too(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    one = TinyClassifiers(
        {Direction.BACKWARD: torch_models.models[Direction.BACKWARD]}, torch_models.members[1:], torch_models.tokenizer
    )
    write_classifiers(tmp_path / "one.bundle", one)
    model = bothways.load(tmp_path / "one.bundle")
    rows = model.predict_proba_by_direction(["a b c"])
    assert list(rows) == ["backward", "ensemble"]
    assert np.array_equal(rows["backward"], rows["ensemble"])
    assert sorted(p.name for p in (tmp_path / "one.bundle").iterdir()) == sorted({*FILES} - {"forward.safetensors"})


@pytest.mark.parametrize("name", ["ensemble", "forward", "backward"])
def test_a_bundle_that_gives_other_numbers_is_not_published(
    torch_models: TinyClassifiers, tmp_path: Path, name: str
) -> None:
    """The forum's bug: a model whose backward numbers are others once exported must never get out."""
    row = torch_models.parity_record[6]
    assert row.probabilities is not None
    moved = {label: p + 1e-4 if p < 0.5 else p for label, p in row.probabilities[name].items()}
    changed = {**row.probabilities, name: moved}
    parity_record = [
        *torch_models.parity_record[:6],
        row.model_copy(update={"probabilities": changed}),
        *torch_models.parity_record[7:],
    ]
    with pytest.raises(TrainingError) as caught:
        write_with(tmp_path / "wrong.bundle", torch_models, parity_record)
    assert "does not reproduce its parity record in a fresh process and was not published" in str(caught.value)
    assert f"{name} differs by 0.0001 from the parity record, expected at most 1e-05" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_members_in_each_others_place_are_not_published(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    swapped = {
        m.direction: weights_of(torch_models.models[other.direction], other, 3)
        for m, other in zip(torch_models.members, reversed(torch_models.members), strict=True)
    }
    with pytest.raises(TrainingError, match="ward differs by"):
        write_with(tmp_path / "wrong.bundle", torch_models, torch_models.parity_record, weights=swapped)
    assert list(tmp_path.iterdir()) == []


def test_markers_in_the_other_place_are_not_published(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    members = [Member.model_validate({**m.model_dump(), "special_tokens": "as-written"}) for m in torch_models.members]
    with pytest.raises(TrainingError, match="backward differs by"):
        write_with(tmp_path / "wrong.bundle", torch_models, torch_models.parity_record, members=members)
    assert list(tmp_path.iterdir()) == []


# Any number of labels, calibration, half precision


def test_labels_thresholds_and_temperature_read_back(multi_label_bundle_path: Path) -> None:
    manifest = read_bundle(multi_label_bundle_path, Kind.CLASSIFIER).manifest
    assert (manifest.task, manifest.labels, manifest.thresholds) == ("multi-label", TOPICS, THRESHOLDS)
    assert manifest.calibration == Calibration(temperature=TEMPERATURE)
    assert manifest.training.label_separator == ";"
    assert bothways.verify(multi_label_bundle_path).passed


def test_the_card_tells_the_task_and_what_was_calibrated(multi_label_bundle_path: Path, bundle_path: Path) -> None:
    several, one = ((path / "README.md").read_text() for path in (multi_label_bundle_path, bundle_path))
    assert several.startswith("# A bothways multi-label text classifier\n\nLabels, in order: `acting`, `music`, ")
    assert "\nA text has any number of them: each whose probability is at least its threshold.\n" in several
    assert "\nThresholds: 0.42 to 0.53, by label.\n" in several
    assert "\nThe ensemble's probabilities are calibrated with temperature 1.7.\n" in several
    assert one.startswith("# A bothways text classifier\n\nLabels, in order: `bad`, ")
    assert "hreshold" not in one
    assert "calibrated" not in one


def test_several_labels_may_come_from_a_single_direction(
    multi_label_torch_models: TinyClassifiers, tmp_path: Path
) -> None:
    backward = Direction.BACKWARD
    one = replace(
        multi_label_torch_models,
        models={backward: multi_label_torch_models.models[backward]},
        members=multi_label_torch_models.members[1:],
        task=replace(multi_label_torch_models.task, temperature=1.0),  # type: ignore[call-arg]
    )
    write_classifiers(tmp_path / "one.bundle", one)
    rows = bothways.load(tmp_path / "one.bundle").predict_proba_by_direction(["a b c"])
    assert list(rows) == ["backward", "ensemble"]
    assert np.array_equal(rows["backward"], rows["ensemble"])


@pytest.mark.parametrize("temperature", [1.0, 1.6])
def test_another_calibration_than_the_proofs_is_not_published(
    multi_label_torch_models: TinyClassifiers, tmp_path: Path, temperature: float
) -> None:
    tiny = multi_label_torch_models
    task = replace(tiny.task, temperature=temperature)  # type: ignore[call-arg]
    with pytest.raises(TrainingError, match="ensemble differs by"):
        write_with(tmp_path / "wrong.bundle", tiny, tiny.parity_record, task=task)
    assert list(tmp_path.iterdir()) == []


def half_of(tiny: TinyClassifiers) -> TinyClassifiers:
    """Return the same models with weights that half precision can hold, and a proof of their own."""
    models = copy.deepcopy(tiny.models)
    for model in models.values():
        arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
        rounded = {name: torch.from_numpy(array) for name, array in rounded_to_half(arrays).items()}
        model.load_state_dict(rounded, strict=False)
    return replace(tiny, models=models)


def test_a_bundle_in_half_precision_has_half_the_size_and_the_trainers_numbers(
    torch_models: TinyClassifiers, bundle_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "half.bundle"
    half = half_of(torch_models)
    write_classifiers(path, half, half_precision=True)
    for name in ("forward.safetensors", "backward.safetensors"):
        weights = sum(array.size for array in tensors(path / name).values())
        assert (bundle_path / name).stat().st_size - (path / name).stat().st_size == 2 * weights
    ours, theirs = bothways.load(path).predict_proba(["a b c"]), half.probabilities(["a b c"])["ensemble"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert np.abs(theirs - torch_models.probabilities(["a b c"])["ensemble"]).max() > 1e-6  # rounding was no idle act


def test_weights_that_change_as_they_are_stored_are_not_published(
    torch_models: TinyClassifiers, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="differs by"):
        write_classifiers(tmp_path / "half.bundle", torch_models, half_precision=True)
    assert list(tmp_path.iterdir()) == []


def test_weights_too_large_for_half_precision_are_named(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    weights = {m.direction: weights_of(torch_models.models[m.direction], m, 3) for m in torch_models.members}
    variance = weights[Direction.BACKWARD]["head.norms.0.running_var"].copy()
    variance[2] = 1e5
    weights[Direction.BACKWARD]["head.norms.0.running_var"] = variance
    options: dict[str, Any] = {"weights": weights, "half_precision": True}
    with pytest.raises(TrainingError, match=r"^head\.norms\.0\.running_var contains 100000, but half precision"):
        write_with(tmp_path / "half.bundle", torch_models, torch_models.parity_record, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_changed_is_not_published(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    row = torch_models.parity_record[6]
    parity_record = [*torch_models.parity_record[:6], row.model_copy(update={"ids": [*row.ids, 2]})]
    with pytest.raises(TrainingError, match="1 of 7 texts are tokenized differently than in training"):
        write_with(tmp_path / "wrong.bundle", torch_models, parity_record)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_no_numbers_are_not_published(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    weights = {m.direction: weights_of(torch_models.models[m.direction], m, 3) for m in torch_models.members}
    bias = weights[Direction.BACKWARD]["head.layers.1.bias"].copy()
    bias[1] = np.nan
    weights[Direction.BACKWARD]["head.layers.1.bias"] = bias
    with pytest.raises(TrainingError, match=r"head\.layers\.1\.bias contains values that are not finite numbers"):
        write_with(tmp_path / "wrong.bundle", torch_models, torch_models.parity_record, weights=weights)
    assert list(tmp_path.iterdir()) == []


def test_a_pack_that_gives_other_losses_is_not_published(
    torch_language_models: TinyLanguageModels, tmp_path: Path
) -> None:
    rows = list(torch_language_models.parity_record)
    assert rows[-1].loss is not None
    rows[-1] = rows[-1].model_copy(update={"loss": {**rows[-1].loss, "backward": rows[-1].loss["backward"] + 1e-3}})
    wrong = TinyLanguageModels(
        torch_language_models.models, torch_language_models.members, torch_language_models.tokenizer
    )
    vars(wrong)["parity_record"] = rows
    with pytest.raises(TrainingError, match=r"backward differs by 0\.001"):
        write_pack(tmp_path / "wrong.pack", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_dies_publishes_nothing(
    torch_models: TinyClassifiers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TrainingError, match="was not published: exit status 1"):
        write_classifiers(tmp_path / "tiny.bundle", torch_models)
    assert list(tmp_path.iterdir()) == []


def test_modules_in_the_users_folder_do_not_disturb_the_check(
    torch_models: TinyClassifiers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "random", "tokenizers", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    write_classifiers(Path("tiny.bundle"), torch_models)
    assert bothways.load(tmp_path / "tiny.bundle").labels == tuple(LABELS)


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link", "bundle"])
def test_nothing_is_ever_overwritten(
    torch_models: TinyClassifiers, bundle_path: Path, tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "taken"
    match kind:
        case "file":
            target.write_text("precious")
        case "folder":
            target.mkdir()
        case "dangling link":
            target.symlink_to(tmp_path / "nowhere")
        case _:
            target.symlink_to(bundle_path)
    with pytest.raises(OutputExists, match="taken exists: choose another --out"):
        write_classifiers(target, torch_models)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_what_appears_during_verification_is_not_overwritten(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    target = tmp_path / "tiny.bundle"
    with pytest.raises(OutputExists):
        write_classifiers(target, torch_models, verify=lambda _: target.write_text("someone else was faster"))
    assert target.read_text() == "someone else was faster"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.bundle"]


def test_a_folder_that_does_not_exist_is_named(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the folder .*nowhere does not exist: create it first"):
        write_classifiers(tmp_path / "nowhere" / "tiny.bundle", torch_models)


def test_an_interrupt_leaves_nothing(torch_models: TinyClassifiers, tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        assert (folder / "bundle.json").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_classifiers(tmp_path / "tiny.bundle", torch_models, verify=interrupted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [STOP_BEFORE_VERIFICATION, STOP_BETWEEN_FILES], ids=["verification", "in a file"])
def test_a_killed_writer_leaves_no_bundle(bundle_path: Path, tmp_path: Path, code: str) -> None:
    target = tmp_path / "killed.bundle"
    command = [sys.executable, "-c", code, str(bundle_path), str(target)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=python_environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
    assert not os.path.lexists(target)
    (left,) = tmp_path.iterdir()  # nobody could clean up; its name says what it is
    assert left.name.startswith(".killed.bundle.")
    assert left.name.endswith(".unfinished")
    finished = run_python(COPY_BUNDLE + "copy(sys.argv[1], sys.argv[2])", str(bundle_path), str(target))
    assert finished.returncode == 0, finished.stderr  # what is left does not stand in the way
    assert bothways.verify(target).passed


@pytest.mark.parametrize("limit_bytes", [0, 1000, 30_000])
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(
    bundle_path: Path, tmp_path: Path, limit_bytes: int
) -> None:
    target = tmp_path / "full.bundle"
    finished = run_python(ON_A_FULL_DISK, str(bundle_path), str(target), str(limit_bytes))
    assert finished.returncode == 0, finished.stderr
    kind, message = finished.stdout.rstrip("\n").split("|")
    assert kind == DataError.__name__
    assert message == f"{target} can't be written: File too large. No partial output remains"
    assert list(tmp_path.iterdir()) == []


def test_the_check_prints_one_line_of_json(bundle_path: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    command = [sys.executable, "-m", "bothways.runtime.verify"]
    options: dict[str, Any] = {"capture_output": True, "text": True, "env": python_environment()}
    passed = subprocess.run([*command, str(bundle_path)], check=False, **options)
    failed = subprocess.run([*command, str(tmp_path)], check=False, **options)
    assert (passed.returncode, failed.returncode) == (0, 1)
    result = json.loads(passed.stdout)
    assert result["passed"] is True
    assert result["problem"] == ""
    assert set(result["differences"]) == {"forward", "backward", "ensemble"}
    assert json.loads(failed.stdout) == {
        "passed": False,
        "problem": f"{tmp_path} is not a bundle: it contains no bundle.json",
    }
    assert passed.stdout.count("\n") == failed.stdout.count("\n") == 1
    assert time.monotonic() - started < 60
