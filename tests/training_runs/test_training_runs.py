"""Complete trainings, from a file of texts to a bundle, with tiny models on 64 texts."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bothways
from bothways import Classifier, ConfigError, DataError, DirectionError, OutputExists
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle, read_manifest
from bothways.errors import ParityFailed, TrainingDiverged, TrainingError
from bothways.nn.language_model import LanguageModelNetwork
from bothways.nn.next_token import CandidateSampler
from bothways.nn.state import State
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.training import one_direction, pipeline
from bothways.training.models import adapted_pack
from bothways.training.run_folder import run_folder
from tests.bundles import make_language_models, write_pack
from tests.pieces import make_piece_tokenizer
from tests.processes import ENVIRONMENT, CommandServer, wait_for
from tests.training_runs.conftest import CONFIG, WORDS, some_rows, write_rows
from tests.words import make_word_tokenizer


def train(data: Any, out: Path, config: Path, **options: Any) -> Classifier:
    options = {"text": "text", "label": "label", "pretrained": None, "force": True, "progress": False, **options}
    return bothways.train(data, out=out, config=config, **options)


def change(config: Path, old: str, new: str) -> Path:
    content = config.read_text()
    assert content.count(old) == 1
    config.write_text(content.replace(old, new))
    return config


def bytes_of(bundle: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert len(files) >= 4
    return files


def metrics_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out.with_name(f"{out.name}.run") / "metrics.jsonl").read_bytes().splitlines()]


def arguments(data: Path, out: Path, config: Path, **options: object) -> list[object]:
    more = [part for name, value in {"pretrained": "none", **options}.items() for part in (f"--{name}", value)]
    return ["train", "--force", data, "--text", "text", "--label", "label", "--out", out, "--config", config, *more]


# What comes out.


@pytest.mark.parametrize("encoder", ["lstm", "qrnn"])
def test_a_training_learns_texts_that_differ_in_words(tmp_path: Path, data: Path, config: Path, encoder: str) -> None:
    change(config, "epochs = 3", "epochs = 20")
    model = train(data, tmp_path / "m.bundle", config, encoder=encoder)
    assert {member.architecture.kind for member in model.manifest.members} == {encoder}
    recorded = model.manifest.training.hyperparameters["encoder"]
    assert isinstance(recorded, dict)
    assert recorded.get("kind", "lstm") == encoder
    texts, labels = zip(*some_rows(), strict=True)
    for name, probabilities in model.predict_proba_by_direction(texts).items():
        found = [model.labels[best] for best in probabilities.argmax(axis=1)]
        assert np.mean([ours == theirs for ours, theirs in zip(found, labels, strict=True)]) > 0.9, name
    assert bothways.verify(tmp_path / "m.bundle").passed


def test_bytes_that_the_texts_do_not_contain_keep_embeddings_of_zeros(tmp_path: Path, data: Path, config: Path) -> None:
    first = train(data, tmp_path / "m.bundle", config)
    train(data, tmp_path / "again.bundle", config, pretrained=tmp_path / "m.bundle")
    start, stop = first.tokenizer.byte_ids.start, first.tokenizer.byte_ids.stop
    assert (start, stop) == (len(first.tokenizer) - 256, len(first.tokenizer))
    for path in (tmp_path / "m.bundle", tmp_path / "again.bundle"):
        for weights in read_bundle(path, Kind.CLASSIFIER).weights.values():
            (name,) = (name for name in weights if "embedding" in name)
            assert not weights[name][start:stop].any()
            assert weights[name][:start].any(axis=1).all()


def test_validation_rows_do_not_decide_the_weights(tmp_path: Path, data: Path, config: Path) -> None:
    swapped = [
        (text, {"good": "bad", "bad": "good"}[label]) for text, label in some_rows(20, seed=9)
    ]  # so that the loss increases
    model = train(data, tmp_path / "m.bundle", config, valid=write_rows(tmp_path / "v.csv", swapped))
    right = [(text, {"good": "bad", "bad": "good"}[label]) for text, label in swapped]
    train(data, tmp_path / "o.bundle", config, valid=write_rows(tmp_path / "o.csv", right))
    files, others = bytes_of(tmp_path / "m.bundle"), bytes_of(tmp_path / "o.bundle")
    assert all(files[name] == others[name] for name in ("forward.safetensors", "backward.safetensors"))
    reports = metrics_of(tmp_path / "m.bundle")
    for direction in ("forward", "backward"):
        losses = [
            report["metrics"]["loss"]
            for report in reports
            if (report["report"], report.get("direction")) == ("EpochReport", direction)
            and report["stage"] == "classifier"
        ]
        assert len(losses) == 3 + 3  # three steps of unfreezing, then the whole model
        kept = model.manifest.training.validation[direction]
        assert kept["loss"] == pytest.approx(losses[-1], abs=1e-9)
        assert losses[-1] > min(losses)  # otherwise the test shows nothing


def test_the_recorded_metrics_are_those_of_the_bundle_on_the_validation_rows(
    tmp_path: Path, data: Path, config: Path
) -> None:
    rows = some_rows(30, seed=9)
    model = train(data, tmp_path / "m.bundle", config, valid=write_rows(tmp_path / "v.csv", rows))
    truth = np.array([model.labels.index(label) for _, label in rows])
    for name, probabilities in model.predict_proba_by_direction([text for text, _ in rows]).items():
        metrics = model.manifest.training.validation[name]
        assert metrics["loss"] == pytest.approx(-np.log(probabilities[np.arange(30), truth]).mean(), abs=1e-5)
        assert metrics["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == truth).mean())


def test_a_table_in_memory_trains_the_same_model_as_a_file(tmp_path: Path, data: Path, config: Path) -> None:
    texts, labels = zip(*some_rows(), strict=True)
    train(data, tmp_path / "file.bundle", config)
    train({"text": texts, "label": labels}, tmp_path / "table.bundle", config)
    assert bytes_of(tmp_path / "file.bundle") == bytes_of(tmp_path / "table.bundle")


# The same bytes.


def test_the_same_seed_returns_the_same_bytes_here_and_in_another_process(
    tmp_path: Path, data: Path, config: Path, trainer: CommandServer
) -> None:
    train(data, tmp_path / "here.bundle", config, seed=5)
    assert trainer.run(*arguments(data, tmp_path / "there.bundle", config, seed=5)).status == 0
    assert bytes_of(tmp_path / "here.bundle") == bytes_of(tmp_path / "there.bundle")


@pytest.mark.slow
def test_the_same_seed_returns_the_same_bytes_in_two_new_processes(tmp_path: Path, data: Path, config: Path) -> None:
    for name in ("0", "1"):
        command = [sys.executable, "-m", "bothways", *map(str, arguments(data, tmp_path / name, config))]
        subprocess.run(command, env={**ENVIRONMENT, "PYTHONHASHSEED": name}, check=True, capture_output=True)
    assert bytes_of(tmp_path / "0") == bytes_of(tmp_path / "1")


def test_another_seed_changes_the_weights(tmp_path: Path, data: Path, config: Path) -> None:
    train(data, tmp_path / "0", config)
    train(data, tmp_path / "1", config, seed=1)
    zero, one = bytes_of(tmp_path / "0"), bytes_of(tmp_path / "1")
    for name in ("forward.safetensors", "backward.safetensors", "bundle.json", "parity.jsonl"):
        assert zero[name] != one[name], name


def test_a_direction_is_the_same_with_and_without_the_other(tmp_path: Path, data: Path, config: Path) -> None:
    torch_before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    train(data, tmp_path / "both", config)
    both = bytes_of(tmp_path / "both")
    for direction in ("forward", "backward"):
        model = train(data, tmp_path / direction, config, directions=direction)
        alone = bytes_of(tmp_path / direction)
        assert model.directions == [direction]
        assert {name for name in alone if name.endswith(".safetensors")} == {f"{direction}.safetensors"}
        assert alone[f"{direction}.safetensors"] == both[f"{direction}.safetensors"]
        assert alone["tokenizer.json"] == both["tokenizer.json"]
    assert both["forward.safetensors"] != both["backward.safetensors"]
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == torch_before


# Options.


def test_class_weights_change_the_model(tmp_path: Path, config: Path) -> None:
    telling = {word for words in WORDS.values() for word in words.split()}
    silent = [" ".join(word for word in text.split() if word not in telling) for text, _ in some_rows(200)]
    labels = ["good" if number % 8 else "bad" for number in range(160)]  # independent of the texts
    data = write_rows(tmp_path / "d.csv", list(zip(silent[:160], labels, strict=True)))
    plain = train(data, tmp_path / "plain", config, directions="forward")
    change(config, "unfreezing_epochs = 1", 'class_weights = "balanced"\nunfreezing_epochs = 1')
    balanced = train(data, tmp_path / "balanced", config, directions="forward")
    position = plain.labels.index("bad")
    shares = [model.predict_proba(silent[160:])[:, position].mean() for model in (plain, balanced)]
    assert shares[0] < 1 / 4 < shares[1]  # an eighth of the rows, and half of the weight


def test_class_weights_of_an_unknown_label_are_rejected(tmp_path: Path, data: Path, config: Path) -> None:
    with config.open("a") as file:
        file.write("[classifier.class_weights]\ngood = 2\nawful = 3\n")
    message = r"^class_weights names the unknown labels 'awful'; the data has 'bad', 'good'$"
    with pytest.raises(ConfigError, match=message):
        train(data, tmp_path / "m.bundle", config)
    assert not (tmp_path / "m.bundle").exists()


def test_unlabeled_texts_train_the_language_models(tmp_path: Path, data: Path, config: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"text": f"quixotic zebra {text}"}) + "\n" for text, _ in some_rows(40, 3)))
    model = train(data, tmp_path / "with", config, unlabeled=more)
    assert model.manifest.training.rows["unlabeled"] == 40
    assert b"zebra" in (tmp_path / "with" / "tokenizer.json").read_bytes()
    plain = train(data, tmp_path / "without", config)
    assert plain.manifest.training.rows == {**model.manifest.training.rows, "unlabeled": 0}
    assert b"zebra" not in (tmp_path / "without" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "huge"}, r"^unknown size 'huge': expected one of tiny, small, base$"),
        ({"encoder": "gru"}, r"^unknown encoder 'gru': expected lstm or qrnn$"),
        ({"directions": "up"}, r"^unknown directions 'up'; use both, forward or backward$"),
        ({"device": "tpu"}, r"^unknown device 'tpu'; use cpu or cuda$"),
        ({"seed": -1}, r"^seed is -1, expected 0 to 4294967295$"),
        ({"seed": 2**32}, r"^seed is 4294967296, expected"),
    ],
)
def test_invalid_options_are_rejected_before_training(
    tmp_path: Path, config: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "not-even-there.csv", tmp_path / "m.bundle", config, **options)


def test_an_existing_output_is_rejected_before_anything_is_read(tmp_path: Path, config: Path) -> None:
    (tmp_path / "m.bundle").touch()
    with pytest.raises(OutputExists, match=r"m\.bundle exists: choose another --out, or remove it first$"):
        train(tmp_path / "not-even-there.csv", tmp_path / "m.bundle", config)


def test_b3_a_learning_rate_far_too_high_is_named_in_its_epoch_and_a_rerun_does_not_repeat_it(
    tmp_path: Path, data: Path, config: Path
) -> None:
    change(config, "learning_rate = 0.02\n", "learning_rate = 1\n")
    change(config, "epochs = 3", "epochs = 20")
    out = tmp_path / "m.bundle"
    with pytest.raises(TrainingDiverged) as caught:
        train(data, out, config)
    message = str(caught.value)
    found = re.fullmatch(
        r"the forward classifier diverged in epoch (\d+)/23, step \d+: its loss is [\d.]+, that of an untrained model "
        r"0\.693\. Lower learning_rate in \[classifier\] of the --config file: it is 1, try 0\.1",
        message,
    )
    assert found, message
    assert int(found[1]) <= 3  # an epoch has four steps
    assert not out.exists()
    assert {path.name for path in run_folder(out).iterdir()} == {"metrics.jsonl", "lock", *RUN_FILES}
    before = metrics_of(out)
    assert before[-1]["stage"] == "classifier"

    with pytest.raises(TrainingDiverged) as again:  # at once, without a step
        train(data, out, config)
    assert str(again.value) == (
        f"{message}. The last run with the same settings ended this way: change them, "
        f"or remove {out}.run to train again"
    )
    assert metrics_of(out) == before

    config.write_text(CONFIG)
    train(data, out, config)
    assert not (run_folder(out) / "failure.json").exists()


RUN_FILES = ("bothways-run.json", "failure.json")


@pytest.mark.parametrize("what", ["loss", "gradient", "validation loss"])
def test_b3_numbers_that_are_not_finite_stop_a_training(
    tmp_path: Path, data: Path, config: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    whole = LanguageModelNetwork.forward

    def diverging(
        model: LanguageModelNetwork,
        ids: torch.Tensor,
        targets: torch.Tensor,
        state: State,
        sampler: CandidateSampler | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, State]:
        loss, raw, dropped, next_state = whole(model, ids, targets, state, sampler)
        if what == "loss" and model.training:
            loss = loss * torch.nan
        if what == "gradient" and model.training:
            loss = loss + 0 * torch.sqrt(loss - loss.detach())  # 0 with an infinite gradient
        if what == "validation loss" and not model.training:
            loss = loss * torch.inf
        return loss, raw, dropped, next_state

    monkeypatch.setattr(LanguageModelNetwork, "forward", diverging)
    with pytest.raises(TrainingDiverged) as caught:
        train(data, tmp_path / "m.bundle", config)
    expected = {
        "loss": "epoch 1/1, step 1: its loss is nan",
        "gradient": "epoch 1/1, step 1: its loss is [0-9.]+ and the norm of the gradient nan",
        "validation loss": "epoch 1/1, step 4: its validation loss is inf",
    }[what]
    assert re.match(rf"the forward language model diverged in {expected}\. Lower learning_rate in ", str(caught.value))
    assert not (tmp_path / "m.bundle").exists()


def test_b3_weights_too_large_for_a_pack_are_a_divergence(
    tmp_path: Path, config: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(weights: Any) -> Any:
        raise TrainingError("the weight 'decoder.bias' has values beyond half precision")

    monkeypatch.setattr(one_direction, "rounded_to_half", refusing)
    with pytest.raises(TrainingDiverged) as caught:
        pretrain(corpus, tmp_path / "a.pack", config)
    assert str(caught.value) == (
        "the forward language model diverged at its end: the weight 'decoder.bias' has values beyond half precision. "
        "Lower learning_rate in [pretraining] of the --config file: it is 0.012, try 0.0012"
    )


def test_b3_a_diverging_direction_ends_both_processes_with_one_line(
    tmp_path: Path, data: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "available_cores", lambda: 2)  # one process per direction
    change(config, "[encoder]\n", '[encoder]\nprecision = "bfloat16"\n')
    change(config, "learning_rate = 0.02\n", "learning_rate = 1\n")
    change(config, "epochs = 3", "epochs = 20")
    with pytest.raises(TrainingDiverged, match=r"^the (forward|backward) classifier diverged in epoch "):
        train(data, tmp_path / "m.bundle", config)
    assert not any(run_folder(tmp_path / "m.bundle").glob("*/*.checkpoint"))


def test_a_trained_model_is_kept_if_verification_fails(
    tmp_path: Path, data: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of training must not be lost if the check at their end fails."""

    def refusing(folder: Path) -> None:
        raise ParityFailed("the bundle does not reproduce its parity record")

    monkeypatch.setattr(pipeline, "verify_in_fresh_process", refusing)
    with pytest.raises(ParityFailed) as caught:
        train(data, tmp_path / "m.bundle", config)
    assert str(caught.value) == (
        "the bundle does not reproduce its parity record. A learning_rate in [classifier] that is too high can cause "
        f"this: it is 0.02. The unfinished run is kept in {tmp_path / 'm.bundle'}.run: run the same command again to "
        "continue it, or remove that folder to start over"
    )
    assert not (tmp_path / "m.bundle").exists()
    monkeypatch.undo()
    before = (tmp_path / "m.bundle.run" / "metrics.jsonl").read_text()
    train(data, tmp_path / "m.bundle", config)
    later = (tmp_path / "m.bundle.run" / "metrics.jsonl").read_text().removeprefix(before)
    assert "EpochReport" in before
    assert "EpochReport" not in later  # nothing was trained again


@pytest.mark.slow
def test_a_text_of_ten_megabytes_is_truncated_with_a_warning(
    tmp_path: Path, config: Path, trainer: CommandServer
) -> None:
    rows = some_rows()
    rows[0] = ("film and story " * 700_000, rows[0][1])
    change(config, "unfreezing_epochs = 1", "max_text_tokens = 500\nunfreezing_epochs = 1")
    change(config, "batch_size = 8", "batch_size = 500")
    change(config, "sequence_length = 16", "sequence_length = 50")
    change(config, "epochs = 3", "epochs = 1")
    data = write_rows(tmp_path / "d.csv", rows)
    finished = trainer.run(*arguments(data, tmp_path / "m.bundle", config, directions="forward"))
    assert finished.status == 0, finished.err
    message = "texts exceed 500 tokens and are truncated for training (not for prediction)"
    assert "warning: 1 of " in finished.err
    assert message in finished.err


# What a user sees.


def test_a_run_is_drawn_and_logged_and_a_diverged_one_too(tmp_path: Path, data: Path, config: Path) -> None:
    out, plot = tmp_path / "m.bundle", tmp_path / "curves.svg"
    change(config, "learning_rate = 0.02\n", "learning_rate = 1\n")
    change(config, "epochs = 3", "epochs = 20")
    options = {"plot": plot, "log_to": f"tensorboard:{tmp_path / 'logs'}", "directions": "forward"}
    for _ in range(2):  # the second one is refused at once
        with pytest.raises(TrainingDiverged):
            train(data, out, config, **options)
        assert "<!-- stopped: the forward classifier diverged in epoch" in plot.read_text()
    config.write_text(CONFIG)
    train(data, out, config, **options)
    assert "classifier: validation accuracy -->" in plot.read_text()
    assert "stopped" not in plot.read_text()
    assert len(list((tmp_path / "logs" / "m.bundle" / "forward").iterdir())) == 2


def test_the_best_epoch_is_kept_and_recorded(tmp_path: Path, data: Path, config: Path) -> None:
    swapped = [(text, {"good": "bad", "bad": "good"}[label]) for text, label in some_rows(20, seed=9)]
    change(config, "unfreezing_epochs = 1", 'keep = "best"\npatience = 1\nunfreezing_epochs = 1')
    change(config, "epochs = 3", "epochs = 9")
    valid = write_rows(tmp_path / "v.csv", swapped)  # so that the loss increases
    model = train(data, tmp_path / "m.bundle", config, valid=valid)
    reports = [line for line in metrics_of(tmp_path / "m.bundle") if line["stage"] == "classifier"]
    for direction in Direction:
        epochs = [line for line in reports if line.get("direction") == direction and "metrics" in line]
        best = [line for line in epochs if line["is_best"]][-1]
        assert len(epochs) < 12
        assert model.manifest.training.validation[direction]["loss"] == best["metrics"]["loss"]
    assert any("stopped after epoch" in line.get("message", "") for line in reports)
    assert bothways.verify(tmp_path / "m.bundle").passed


# Packs.


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(text for text, _ in some_rows(60, seed=4)))
    return path


def pretrain(corpus: Path, out: Path, config: Path, **options: Any) -> Path:
    bothways.pretrain([corpus], out=out, config=config, progress=False, **options)
    return out


def test_a_classifier_starts_from_a_packs_tokenizer_sizes_and_weights(
    tmp_path: Path, data: Path, config: Path, corpus: Path
) -> None:
    pack = pretrain(corpus, tmp_path / "a.pack", config)
    assert bothways.verify(pack).passed
    assert bothways.verify(pack).kind == "language-model"

    change(config, "hidden_size = 24", "hidden_size = 40")  # ignored: the pack fixes the size
    model = train(data, tmp_path / "m.bundle", config, pretrained=pack)
    assert (tmp_path / "m.bundle" / "tokenizer.json").read_bytes() == (pack / "tokenizer.json").read_bytes()
    assert {member.architecture.width_hidden for member in model.manifest.members} == {24}
    digest = read_manifest(pack).digest
    assert model.manifest.training.pretrained == digest

    fresh = train(data, tmp_path / "fresh.bundle", config)
    assert fresh.manifest.training.pretrained is None


def test_a_pack_trained_again_with_the_same_seed_has_the_same_bytes(tmp_path: Path, config: Path, corpus: Path) -> None:
    packs = [bytes_of(pretrain(corpus, tmp_path / name, config, seed=3)) for name in ("one", "two")]
    assert packs[0] == packs[1]
    assert packs[0] != bytes_of(pretrain(corpus, tmp_path / "three", config, seed=4))


@pytest.mark.parametrize("directions", ["both", "backward"])
def test_a_pack_of_the_wrong_direction_is_rejected_before_training(
    tmp_path: Path, data: Path, config: Path, corpus: Path, directions: str
) -> None:
    pack = pretrain(corpus, tmp_path / "a.pack", config, directions="forward")
    with pytest.raises(DirectionError) as caught:
        train(data, tmp_path / "m.bundle", config, pretrained=pack, directions=directions)
    assert str(caught.value) == (
        f"{pack} reads forward, but direction backward was requested. "
        "Use a pack with a backward member, or train only forward"
    )
    assert not (tmp_path / "m.bundle").exists()
    assert not any(report["report"] != "StageReport" for report in metrics_of(tmp_path / "m.bundle"))


def test_a_pack_with_both_directions_trains_one(tmp_path: Path, data: Path, config: Path, corpus: Path) -> None:
    pack = pretrain(corpus, tmp_path / "a.pack", config)
    model = train(data, tmp_path / "m.bundle", config, pretrained=pack, directions="backward")
    assert model.directions == ["backward"]


def test_training_starts_from_the_encoders_of_a_classifier(tmp_path: Path, data: Path, config: Path) -> None:
    first = train(data, tmp_path / "m.bundle", config, directions="forward")
    second = train(data, tmp_path / "n.bundle", config, directions="forward", pretrained=tmp_path / "m.bundle")
    assert second.manifest.training.pretrained == first.digest
    messages = [report.get("message", "") for report in metrics_of(tmp_path / "n.bundle")]
    assert any("the classifier m.bundle" in message for message in messages)


def test_a_corpus_of_one_text_is_rejected(tmp_path: Path, config: Path) -> None:
    (tmp_path / "c.txt").write_text("only one text\n")
    with pytest.raises(DataError, match=r"^the corpus has 1 texts; at least 2 are needed "):
        pretrain(tmp_path / "c.txt", tmp_path / "a.pack", config)


# Runs that are stopped.

EPOCHS = {"tokenizer": (1, 3), "language model": (1000, 3), "classifier": (1, 1000), "bundle": (1, 3)}


def long_in(stage: str, config: Path) -> Path:
    language_model, classifier = EPOCHS[stage]
    config.write_text(
        CONFIG.replace("epochs = 1\n", f"epochs = {language_model}\n").replace("epochs = 3", f"epochs = {classifier}")
    )
    return config


def reached(stage: str, out: Path) -> Callable[[], bool]:
    def condition() -> bool:
        if stage == "bundle":
            return any(out.parent.glob(f".{out.name}.*.unfinished/bundle.json"))
        metrics = run_folder(out) / "metrics.jsonl"
        lines = [json.loads(line) for line in metrics.read_bytes().splitlines()[-1:]] if metrics.exists() else []
        return any(line["stage"] == stage and line.get("epoch", 9) >= 4 for line in lines)

    return condition


def stop(
    trainer: CommandServer, stage: str, number: signal.Signals, data: Path, out: Path, config: Path, *more: object
) -> tuple[int, str]:
    def meanwhile(pid: int, _: Path) -> None:
        wait_for(reached(stage, out))
        os.kill(pid, number)

    finished = trainer.run(*arguments(data, out, long_in(stage, config)), *more, meanwhile=meanwhile)
    return finished.status, finished.err


def many_words(folder: Path) -> Path:
    """Write texts on which training a tokenizer takes some seconds, and return the path."""
    rng = random.Random(0)
    path = folder / "many.jsonl"
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(60_000)]
    path.write_text("".join(json.dumps({"text": " ".join(words[n : n + 50])}) + "\n" for n in range(0, 60_000, 50)))
    return path


def left_behind(folder: Path, *known: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {path.name for path in known}


@pytest.mark.parametrize("stage", EPOCHS)
def test_ctrl_c_leaves_no_bundle_and_the_next_run_reports_it(
    tmp_path: Path, data: Path, config: Path, trainer: CommandServer, stage: str
) -> None:
    out = tmp_path / "m.bundle"
    more: list[object] = []
    if stage == "tokenizer":
        more = ["--unlabeled", many_words(tmp_path)]
    status, err = stop(trainer, stage, signal.SIGINT, data, out, config, *more)

    assert status == 130, err
    ours = [line for line in err.splitlines() if line.startswith("bothways: ")]
    (line,) = ours
    assert line.startswith("bothways: interrupted: run the same command again to continue")
    assert err.splitlines()[-1] == ours[0]
    assert "Traceback" not in err
    assert left_behind(tmp_path, data, config, tmp_path / "many.jsonl") == {"m.bundle.run"}

    config.write_text(CONFIG)
    finished = trainer.run(*arguments(data, out, config))
    if stage in ("language model", "classifier"):  # the hyperparameters differ now
        assert finished.status == 2
        key = {"language model": "language_model", "classifier": "classifier"}[stage]
        assert finished.error_line.startswith(
            f"bothways: error: {out}.run contains an unfinished run with different settings ("
            f"hyperparameters.{key}.epochs was 1000"
        )
        assert finished.error_line.endswith(f"use the same settings to resume it, or remove {out}.run to start over")
        return
    assert finished.status == 0, finished.err
    first = finished.err.splitlines()[0]
    assert first.startswith(f"warning: an earlier run stopped in the stage '{stage}'"), first
    is_prepared = stage == "bundle"
    assert first.endswith(": resuming it" if is_prepared else " and left nothing to resume: starting over"), first


def test_a_run_that_was_killed_while_it_published_leaves_no_bundle_and_the_next_one_cleans_up(
    tmp_path: Path, data: Path, config: Path, trainer: CommandServer
) -> None:
    out = tmp_path / "m.bundle"
    status, _ = stop(trainer, "bundle", signal.SIGKILL, data, out, config)
    assert status == -signal.SIGKILL
    assert not out.exists()
    assert any(tmp_path.glob(".m.bundle.*.unfinished"))

    finished = trainer.run(*arguments(data, out, config))
    assert finished.status == 0, finished.err
    assert left_behind(tmp_path, data, config) == {"m.bundle", "m.bundle.run"}
    assert {path.name for path in (tmp_path / "m.bundle.run").iterdir()} == {
        "metrics.jsonl",
        "lock",
        "bothways-run.json",
    }
    assert bothways.verify(out).passed


def test_a_full_disk_is_reported_in_one_line_and_nothing_is_published(
    tmp_path: Path, data: Path, config: Path, trainer: CommandServer
) -> None:
    out = tmp_path / "m.bundle"
    finished = trainer.run(*arguments(data, out, config), largest_file=20_000)  # enough for metrics, not for weights
    assert finished.status == 1
    ours = [line for line in finished.err.splitlines() if line.startswith("bothways: ")]
    checkpoint = tmp_path / "m.bundle.run" / "forward" / "00000001.checkpoint"
    assert ours == [f"bothways: error: {checkpoint} can't be written: File too large"]  # and no plan to resume
    assert finished.err.splitlines()[-1] == ours[0]
    assert left_behind(tmp_path, data, config) == {"m.bundle.run"}


def test_c4_a_run_that_a_full_disk_stopped_is_kept_and_resumes(
    tmp_path: Path, data: Path, config: Path, trainer: CommandServer
) -> None:
    out = tmp_path / "m.bundle"
    every_step = {"bothways.training.pipeline.SECONDS_BETWEEN_CHECKPOINTS": 0.0}
    finished = trainer.run(*arguments(data, out, config), largest_file=100_000, constants=every_step)
    assert finished.status == 1
    checkpoint = out.with_name("m.bundle.run") / "forward" / "00000002.checkpoint"
    assert finished.err.splitlines()[-1] == (
        f"bothways: error: {checkpoint} can't be written: File too large. The unfinished run is kept in {out}.run: run "
        "the same command again to continue it, or remove that folder to start over"
    )
    finished = trainer.run(*arguments(data, out, config))
    assert finished.status == 0, finished.err
    assert "resuming it" in finished.err.splitlines()[0]


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=200k none disk && cp d.csv tiny.toml disk && cd disk || exit 99
"$@"
echo "status $?"
ls m.bundle.run/forward
mount -o remount,size=50m . && "$@" && cp -r m.bundle ..
"""


@pytest.mark.slow
def test_c4_a_real_full_disk(tmp_path: Path, data: Path, config: Path) -> None:
    inside = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("no user namespaces, so that no disk can be mounted")
    (tmp_path / "disk").mkdir()
    train(data, tmp_path / "whole.bundle", config)
    command = arguments(Path("d.csv"), Path("m.bundle"), Path("tiny.toml"))
    finished = subprocess.run(
        [*inside, "sh", "-c", ON_A_SMALL_DISK, "sh", sys.executable, "-m", "bothways", *map(str, command)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "status 1\n" in finished.stdout
    assert ".checkpoint" in finished.stdout
    (line,) = [line for line in finished.stderr.splitlines() if line.startswith("bothways: ")]
    assert re.match(
        r"bothways: error: \S+ can't be written: the disk is full\. .*The unfinished run is kept in m\.", line
    )
    assert bytes_of(tmp_path / "m.bundle") == bytes_of(tmp_path / "whole.bundle")


def test_metrics_that_cannot_be_written_end_the_run_in_one_line(
    tmp_path: Path, data: Path, config: Path, trainer: CommandServer
) -> None:
    out = tmp_path / "m.bundle"
    finished = trainer.run(*arguments(data, out, config), largest_file=300)
    assert finished.status == 1
    assert finished.err.splitlines()[-1].startswith(f"bothways: error: {out}.run")
    assert "can't be written: File too large" in finished.err.splitlines()[-1]
    assert "Traceback" not in finished.err
    assert not out.exists()


# From a pack of words, as imported ones are.


@pytest.fixture(scope="module")
def word_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of random language models with word tokens: some words of the texts, and some others."""
    words = make_word_tokenizer("fastai-v2", ["the", "film", "lovely", "awful", "zebra", "quagga", "was"])
    path = tmp_path_factory.mktemp("packs") / "words.pack"
    write_pack(path, make_language_models(words, dict.fromkeys(Direction, SpecialTokenPlacement.AS_WRITTEN)))
    return path


def test_a_classifier_starts_from_a_pack_of_words_with_the_words_of_its_texts(
    tmp_path: Path, data: Path, config: Path, word_pack: Path
) -> None:
    out = tmp_path / "m.bundle"
    change(config, "epochs = 3", "epochs = 15")  # the random weights of the pack do not help
    model = train(data, out, config, pretrained=word_pack)
    vocabulary = model.tokenizer.tokens(range(len(model.tokenizer)))
    assert {"the", "film", "superb", "poor"} <= set(vocabulary)  # known to the pack, and new
    assert not {"zebra", "quagga"} & set(vocabulary)  # in the pack only
    assert {member.special_tokens for member in model.manifest.members} == {SpecialTokenPlacement.AS_WRITTEN}
    assert {member.pooling for member in model.manifest.members} == {None}
    texts, labels = zip(*some_rows(40, seed=1), strict=True)
    assert (model.predict(list(texts)) == np.array(labels)).mean() > 0.9
    assert bothways.verify(out).passed


def test_embeddings_are_matched_as_in_ulmfit_for_each_direction_its_own(word_pack: Path) -> None:
    pack = read_bundle(word_pack, Kind.LANGUAGE_MODEL)
    texts = ["the superb film"] * 3
    adapted = adapted_pack(pack, texts)
    old, new = (p.tokenizer.tokens(range(len(p.tokenizer))) for p in (pack, adapted))
    assert new[-3:] == ["the", "superb", "film"]
    for direction in Direction:
        for name in ("encoder.embedding.weight", "decoder.bias"):
            theirs, ours = pack.weights[direction][name], adapted.weights[direction][name]
            for word in ("xxbos", "xxmaj", "the", "film"):
                assert np.array_equal(ours[new.index(word)], theirs[old.index(word)])
            np.testing.assert_allclose(ours[new.index("superb")], theirs.mean(axis=0), rtol=1e-6)
        layer = "encoder.layers.0.weight_hh"
        assert adapted.weights[direction][layer] is pack.weights[direction][layer]
    assert {m.architecture.vocabulary_size for m in adapted.manifest.members} == {len(new)}
    forward, backward = (adapted.weights[direction]["decoder.bias"] for direction in Direction)
    assert not np.array_equal(forward, backward)


@pytest.mark.slow
@pytest.mark.parametrize("cleaning", ["fastai-v1", "fastai-v2"])
def test_a_classifier_starts_from_a_pack_of_pieces_with_the_same_pieces(
    tmp_path: Path, data: Path, config: Path, cleaning: str
) -> None:
    tokenizer, out = make_piece_tokenizer(cleaning), tmp_path / "m.bundle"
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.AS_WRITTEN)
    write_pack(tmp_path / "pieces.pack", make_language_models(tokenizer, placements))
    change(config, "epochs = 3", "epochs = 1")
    model = train(data, out, config, pretrained=tmp_path / "pieces.pack")
    assert model.tokenizer.to_bytes() == tokenizer.to_bytes()
    assert {member.special_tokens for member in model.manifest.members} == {SpecialTokenPlacement.AS_WRITTEN}
    assert bothways.verify(out).passed


def test_a_pack_of_subwords_is_used_unchanged(pack_path: Path) -> None:
    pack = read_bundle(pack_path, Kind.LANGUAGE_MODEL)
    assert adapted_pack(pack, ["the superb film"] * 3) is pack
