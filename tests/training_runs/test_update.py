"""Updates: a classifier learns new rows and labels, keeps what it knew, and is refused if it does not."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bothways
from bothways.errors import ConfigError, DataError, WorseThanBefore
from bothways.runtime.classifier import Classifier
from bothways.text.reading import Direction, read
from bothways.training.checkpoints import Checkpoints, ClassifierCheckpoint
from bothways.training.one_direction import _classifier
from bothways.training.plan import PlanFolder, SplitName
from tests.processes import CommandServer
from tests.training_runs.test_soft_labels import BAD, CONFIG, GOOD
from tests.training_runs.test_training_data import OPTIONS

ODD = ["purple", "sideways", "square", "fizzy"]
OLD = {
    "review": [f"film {number} was {word} and {word}" for number, word in enumerate(4 * (GOOD + BAD))],
    "mood": 4 * (["good"] * len(GOOD) + ["bad"] * len(BAD)),
}
NEW = {
    "review": [f"film {number} was {word} and {word}" for number, word in enumerate(6 * ODD)],
    "mood": ["odd"] * 6 * len(ODD),
}
BRIEF = {**CONFIG, "classifier": {**CONFIG["classifier"], "epochs": 8}}
QUIET: dict[str, Any] = {"progress": False, "config": BRIEF}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("old") / "old.bundle"
    options: dict[str, Any] = {**OPTIONS, "config": CONFIG}
    bothways.train(OLD, text="review", label="mood", out=out, **options)
    return out


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends before its first step."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bothways.training.pipeline.train_directions", interrupt)


def labels_of(model: Classifier, words: list[str]) -> list[str]:
    return [str(label) for label in model.predict([f"film 99 was {word} and {word}" for word in words])]


def test_a_new_label_is_learned_and_the_old_ones_stay(old: Path, tmp_path: Path) -> None:
    found = bothways.update(old, NEW, out=tmp_path / "new.bundle", old=OLD, **QUIET)
    assert (found.added, found.removed, found.model.labels) == (("odd",), (), ("bad", "good", "odd"))
    assert labels_of(found.model, [*GOOD, *BAD, *ODD]) == ["good"] * 6 + ["bad"] * 6 + ["odd"] * 4
    assert (found.new.before["accuracy"], found.new.after["accuracy"]) == (0.0, 1.0)
    assert found.old is not None
    assert found.old.rows > 2
    assert (found.old.before["accuracy"], found.old.after["accuracy"]) == (1.0, 1.0)
    by_label = {each.label: each for each in found.labels}
    assert (by_label["odd"].before, by_label["odd"].after) == (None, 1.0)
    assert by_label["good"].before == 1.0
    assert bothways.verify(tmp_path / "new.bundle").passed
    assert bothways.load(old).labels == ("bad", "good")
    record = found.model.manifest.training
    assert (record.text_columns, record.label_column) == (["review"], "mood")
    assert record.pretrained == bothways.load(old).digest


@pytest.mark.usefixtures("interrupted")
def test_training_starts_from_what_the_old_model_predicts(old: Path, tmp_path: Path) -> None:
    """Its encoder and head are the start, so the logits of old labels are the same before the first step."""
    with pytest.raises(KeyboardInterrupt):
        bothways.update(old, NEW, out=tmp_path / "new.bundle", old=OLD, **QUIET)
    files = PlanFolder(tmp_path / "new.bundle.run")
    plan = files.read_plan()
    start, _ = Checkpoints(files.checkpoints(Direction.FORWARD), 0).newest()
    assert isinstance(start, ClassifierCheckpoint)
    assert start.perplexity is None
    network = _classifier(plan, Direction.FORWARD, start.part("model")).eval()
    model = bothways.load(old)
    assert plan.task.labels == ("bad", "good", "odd")
    for text in (*OLD["review"][:3], *NEW["review"][:3], ""):
        ids = read(model.tokenizer.tokenize(text), Direction.FORWARD, plan.members[0].special_tokens).astype(np.int64)
        with torch.no_grad():
            logits, _, _ = network(torch.from_numpy(ids)[None], torch.tensor([len(ids)]))
        found = torch.softmax(logits[0, :2].double(), dim=0).numpy()
        assert np.abs(found - model.predict_proba_by_direction([text])["forward"][0]).max() < 1e-5


@pytest.mark.usefixtures("interrupted")
def test_old_rows_teach_their_label_and_the_old_prediction(old: Path, tmp_path: Path) -> None:
    """New rows replace old ones with the same text, and texts without labels teach the old prediction alone."""
    corrected = {"review": [OLD["review"][0], *NEW["review"]], "mood": ["odd", *NEW["mood"]]}
    texts = [f"a film without a label {number}" for number in range(5)]
    with pytest.raises(KeyboardInterrupt):
        bothways.update(old, corrected, out=tmp_path / "new.bundle", old=OLD, unlabeled=texts, **QUIET)
    files = PlanFolder(tmp_path / "new.bundle.run")
    targets, is_soft = files.targets(SplitName.TRAINING), files.has_soft_label(SplitName.TRAINING)
    assert is_soft is not None
    assert np.allclose(targets.sum(axis=1), 1)
    assert set(map(tuple, targets[~is_soft].tolist())) == {(0.0, 0.0, 1.0)}
    model = bothways.load(old)
    assert np.allclose(targets[-5:, :2], model.predict_proba(texts), atol=1e-6)
    assert (targets[is_soft][:, 2] == 0).all()
    assert (targets[is_soft][:-5].max(axis=1) > 0.5).all()
    validation = files.targets(SplitName.VALIDATION)
    assert int(is_soft.sum()) - 5 + int((validation < 2).sum()) == len(OLD["review"]) - 1


def test_a_model_that_forgets_is_not_published_unless_that_is_accepted(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {
        "review": [f"a film {number} was {word} and {word}" for number, word in enumerate(8 * (GOOD + BAD))],
        "mood": 8 * (["bad"] * len(GOOD) + ["good"] * len(BAD)),
    }
    few = {name: values[:1] + values[6:7] + values[12:24] for name, values in OLD.items()}
    options: dict[str, Any] = {**QUIET, "out": tmp_path / "new.bundle", "old": few, "force": True}
    with pytest.raises(WorseThanBefore, match=r"2 labels lose more than 5 points of F1: '(good|bad)' 1.000 to 0"):
        bothways.update(old, wrong, **options)
    assert not (tmp_path / "new.bundle").exists()

    def trains_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("bothways.training.one_direction.train_classifier", trains_again)
    found = bothways.update(old, wrong, max_drop=1, **options)
    assert found.old is not None
    assert found.old.after["accuracy"] < found.old.before["accuracy"] == 1.0


def test_a_removed_label_is_never_predicted(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**QUIET, "progress": True}
    found = bothways.update(old, NEW, out=tmp_path / "new.bundle", old=OLD, remove=["bad"], **options)
    assert (found.model.labels, found.removed) == (("good", "odd"), ("bad",))
    assert labels_of(found.model, [*GOOD, *ODD]) == ["good"] * 6 + ["odd"] * 4
    assert {each.label: each.after for each in found.labels}["bad"] is None
    assert "removed labels: 'bad', 24 old rows left out" in capsys.readouterr().err


def test_rows_that_would_be_forgotten_are_refused(old: Path, tmp_path: Path) -> None:
    options = {**QUIET, "out": tmp_path / "new.bundle"}
    with pytest.raises(DataError, match=r"no row has the labels 'bad', 'good', so the model would forget them\."):
        bothways.update(old, NEW, **options)
    with pytest.raises(DataError, match=r"the table has rows with the removed labels 'odd': drop the rows or --remove"):
        bothways.update(old, NEW, remove="odd", **options)
    with pytest.raises(ConfigError, match="unknown labels 'god' cannot be removed; the model has 'bad', 'good'"):
        bothways.update(old, OLD, remove=["god"], **options)
    with pytest.raises(ConfigError, match="1 labels remain of 2, at least 2 must"):
        bothways.update(old, {name: values[:6] for name, values in OLD.items()}, remove=["bad"], **options)
    with pytest.raises(ConfigError, match="max_drop is 2, expected a number from 0 to 1"):
        bothways.update(old, NEW, old=OLD, max_drop=2, **options)
    assert list(tmp_path.iterdir()) == []


def test_more_rows_of_known_labels_need_no_old_rows(old: Path, tmp_path: Path) -> None:
    words = {"good": ["mellow", "crisp"], "bad": ["sour", "stale"]}
    rows = [
        (f"film {number} was {word} and {word}", label)
        for number in range(8)
        for label, named in words.items()
        for word in named
    ]
    texts, labels = map(list, zip(*rows, strict=True))
    found = bothways.update(old, (texts, labels), out=tmp_path / "new.bundle", **QUIET)
    assert found.old is None
    assert labels_of(found.model, ["mellow", "crisp", "sour", "stale"]) == ["good", "good", "bad", "bad"]


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_other_tasks_are_updated(task: str, tmp_path: Path) -> None:
    labels: dict[str, Any] = {
        "multi-label": ([["good"] if mood == "good" else [] for mood in OLD["mood"]], [["odd", "good"]] * len(ODD) * 6),
        "regression": ([1.0 if mood == "good" else -1.0 for mood in OLD["mood"]], [5.0, 4.0] * len(ODD) * 3),
    }
    before, new = labels[task]
    options: dict[str, Any] = {**OPTIONS, "config": CONFIG, "task": task, "force": True}
    bothways.train(OLD["review"], before, out=tmp_path / "old.bundle", **options)
    found = bothways.update(
        tmp_path / "old.bundle",
        (NEW["review"], new),
        out=tmp_path / "new.bundle",
        old=(OLD["review"], before),
        unlabeled=["film 70 was fine and fine"],
        max_drop=1,
        force=True,
        **QUIET,
    )
    if task == "multi-label":
        assert found.model.labels == ("good", "odd")
        assert found.new.after["micro_f1"] > found.new.before["micro_f1"]
    else:
        assert found.new.after["rmse"] < found.new.before["rmse"]
        assert found.labels == ()


def test_the_command_prints_what_changed(old: Path, tmp_path: Path, trainer: CommandServer) -> None:
    for name, table in (("old", OLD), ("new", NEW)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([table, *zip(*table.values(), strict=True)])
    config = tmp_path / "c.toml"
    config.write_text(
        "[encoder]\nprecision = 'float32'\n[classifier]\nepochs = 8\nunfreezing_epochs = 0\nbatch_size = 8\n"
        "learning_rate = 0.02\nhead_dropout = 0.0\ndropout_multiplier = 0.0\n"
    )
    arguments = [old, tmp_path / "new.csv", "--out", tmp_path / "n.bundle", "--config", config]
    refused = trainer.run("update", *arguments)
    assert refused.status == 1
    assert refused.err.count("\n") == 1
    assert "would forget them. Add old rows with --old" in refused.err
    done = trainer.run("update", *arguments, "--old", tmp_path / "old.csv")
    assert done.status == 0, done.err
    for part in (
        "before and after the update",
        "new rows, before",
        "old rows, after",
        "odd",
        "new",
        "0.00%",
        "100.00%",
    ):
        assert part in done.out.decode()
