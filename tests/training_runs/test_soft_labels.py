"""Training on a teacher's labels: what a few labeled rows do not tell is learned from them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bothways
from bothways.bundle.manifest import Architecture
from bothways.data.batches import pad
from bothways.errors import ConfigError, DataError
from bothways.nn.classifier import ClassifierNetwork
from bothways.tasks.single_label import SingleLabel
from bothways.text.reading import Direction
from bothways.training.classifier import ClassRows, _loss, frozen_features
from bothways.training.hyperparameters import ClassifierConfig, load_hyperparameters
from bothways.training.models import build_classifier, build_language_model
from bothways.training.objective import objective_of
from bothways.training.plan import PlanFolder, SplitName
from tests.training_runs.test_training_data import CONFIG_DICT, OPTIONS

GOOD = ["lovely", "great", "fine", "superb", "happy", "bright"]
BAD = ["awful", "weak", "dull", "poor", "sad", "grim"]
LABELED = {"text": [f"the film was {word}" for word in GOOD[:2] + BAD[:2]], "label": ["good"] * 2 + ["bad"] * 2}
MORE = [f"film {number} was {word} and {word}" for number, word in enumerate(6 * (GOOD[2:] + BAD[2:]))]
NEW = [f"film {number} was {word}" for number, word in enumerate(GOOD[2:] + BAD[2:])]
CONFIG: dict[str, Any] = {
    **CONFIG_DICT,
    "encoder": {"embedding_size": 16, "hidden_size": 24, "layers": 1, "precision": "float32"},
}
"""In float32 on every processor: such small models may learn nothing in bfloat16."""
ARGUMENTS = {**OPTIONS, "text": "text", "label": "label", "force": True, "config": CONFIG}


def probability_of_good(text: str) -> float:
    return 0.9 if set(text.split()) & set(GOOD) else 0.1


def right(model: bothways.Classifier) -> int:
    return int((model.predict(NEW) == ["good"] * 4 + ["bad"] * 4).sum())


def soft(texts: list[str]) -> dict[str, list[object]]:
    good = [probability_of_good(text) for text in texts]
    return {"text": list(texts), "good": [*good], "bad": [1 - share for share in good]}


def test_a_file_of_probabilities_teaches_what_labeled_rows_do_not_tell(tmp_path: Path) -> None:
    alone = bothways.train(LABELED, out=tmp_path / "alone.bundle", **ARGUMENTS)  # type: ignore[arg-type]
    assert right(alone) < 7
    with (tmp_path / "scored.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        columns = soft(MORE)
        writer.writerows([columns, *zip(*columns.values(), strict=True)])
    taught = bothways.train(
        LABELED,
        out=tmp_path / "taught.bundle",
        soft_labels=tmp_path / "scored.csv",
        **ARGUMENTS,  # type: ignore[arg-type]
    )
    assert right(taught) == 8
    rows = taught.manifest.training.rows
    assert (rows["labeled by a teacher"], rows["training"] + rows["validation"]) == (48, 52)
    assert bothways.verify(tmp_path / "taught.bundle").passed


def test_a_function_teaches_by_unlabeled_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**ARGUMENTS, "progress": True}
    model = bothways.train(
        LABELED,
        out=tmp_path / "m.bundle",
        unlabeled=MORE,
        teacher=lambda texts: [
            {"good": probability_of_good(text), "bad": 1 - probability_of_good(text)} for text in texts
        ],
        **options,  # type: ignore[arg-type]
    )
    assert right(model) == 8
    assert model.manifest.training.rows["unlabeled"] == 0  # they are training rows now
    printed = capsys.readouterr().err
    assert "teacher: labeled 48 texts" in printed
    assert "50 training, 2 validation rows, 48 of the training rows labeled by a teacher" in printed
    with pytest.raises(ConfigError, match="a teacher needs texts to label: pass them as unlabeled"):
        bothways.train(LABELED, out=tmp_path / "n.bundle", teacher=len, **ARGUMENTS)  # type: ignore[arg-type]


def test_what_a_bundle_predicts_is_what_another_learns_from(tmp_path: Path) -> None:
    """Several labels and a linear member; the file is the one that ``bothways predict`` writes."""
    config = {**CONFIG, "linear": {"include": "auto"}}
    options = {**OPTIONS, "config": config, "text": "text", "label": "label", "label_separator": "|", "force": True}
    labeled = {
        "text": [*MORE[:24], *(f"{text} but grim" for text in MORE[:24])],
        "label": [*(["good" if probability_of_good(text) > 0.5 else "bad" for text in MORE[:24]]), *["good|bad"] * 24],
    }
    teacher = bothways.train(labeled, out=tmp_path / "teacher.bundle", **options)  # type: ignore[arg-type]
    with (tmp_path / "more.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in MORE)])
    bothways.score(teacher, tmp_path / "more.csv", tmp_path / "scored.csv")
    student = bothways.train(
        labeled,
        out=tmp_path / "student.bundle",
        soft_labels=tmp_path / "scored.csv",
        **options,  # type: ignore[arg-type]
    )
    difference = np.abs(student.predict_proba(MORE) - teacher.predict_proba(MORE)).mean()
    assert difference < 0.2
    assert student.manifest.training.rows["labeled by a teacher"] > 40


def test_texts_of_validation_rows_are_not_learned_from_a_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = {"text": MORE[:3], "label": ["good"] * 3}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bothways.training.pipeline.train_directions", interrupted)
    options = {**ARGUMENTS, "progress": True}
    with pytest.raises(KeyboardInterrupt):
        bothways.train(LABELED, out=tmp_path / "m.bundle", valid=valid, soft_labels=soft(MORE), **options)  # type: ignore[arg-type]
    assert "3 of 48 texts are validation rows and are left out" in capsys.readouterr().err
    files = PlanFolder(tmp_path / "m.bundle.run")
    is_soft = files.has_soft_label(SplitName.TRAINING)
    assert is_soft is not None
    assert (len(is_soft), int(is_soft.sum())) == (49, 45)
    with pytest.raises(ConfigError, match="unfinished run with different settings"):  # the labels are part of the run
        bothways.train(LABELED, out=tmp_path / "m.bundle", valid=valid, soft_labels=soft(MORE[:-1]), **options)  # type: ignore[arg-type]


def test_soft_labels_of_other_classes_are_refused(tmp_path: Path) -> None:
    table = {"text": MORE, "good": [0.5] * 48, "neutral": [0.5] * 48}
    with pytest.raises(DataError, match="has probabilities of some labels, but no column 'bad'"):
        bothways.train(LABELED, out=tmp_path / "m.bundle", soft_labels=table, **ARGUMENTS)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_frozen", [True, False])
def test_temperature_divides_logits_and_keeps_the_size_of_gradients(is_frozen: bool) -> None:
    """The loss of Hinton et al. (arXiv 1503.02531): cross-entropy at temperature T times T squared, for soft labels."""
    config: ClassifierConfig = load_hyperparameters("tiny").classifier
    objective = objective_of(SingleLabel(("a", "b", "c")))
    language_model = build_language_model(
        Architecture(vocabulary_size=20, width_embedding=8, width_hidden=8, layers=1), Direction.FORWARD, 0
    )
    network: ClassifierNetwork = build_classifier(language_model, Direction.FORWARD, 3, config, 0)
    network.eval()
    ids = [np.array([3, 5, 7]), np.array([4, 6, 8])]
    targets = np.array([[1, 0, 0], [0.2, 0.5, 0.3]], dtype=np.float32)
    rows = ClassRows(ids, targets, temperatures=np.array([1, 3], dtype=np.float32))
    batch = pad(ids, np.array([0, 1]))
    features = frozen_features(network, ids, config) if is_frozen else None
    with torch.no_grad():
        loss, _ = _loss(network, batch, rows, objective, config, features)
        logits, _, _ = network(torch.from_numpy(batch.ids), torch.from_numpy(batch.lengths))
        logarithms = torch.log_softmax(logits / torch.tensor([[1.0], [3.0]]), dim=1)
    expected = (-(torch.from_numpy(targets) * logarithms).sum(dim=1) * torch.tensor([1.0, 9.0])).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert rows.loss_scale == 5
