"""Guarantees 1, 2, 4 and 8 for calibrated ensembles, single-label and multi-label."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.bundle.parity import ENSEMBLE, NASTY_TEXTS
from bothways.runtime.classifier import Classifier, load
from bothways.runtime.prediction import Prediction
from bothways.runtime.slots import SLOTS
from tests.bundles import LABELS, TEMPERATURE, THRESHOLDS, TOPICS, TinyClassifiers
from tests.console import run_bothways
from tests.guarantees.test_runtime import lengths_of_texts, text_of_words

NAMES = ["forward", "backward", ENSEMBLE]
TEXTS = [*NASTY_TEXTS, *(text_of_words(words, seed) for seed, words in enumerate([1, 2, 5, 30, 60] * 4))]


@pytest.fixture(scope="module")
def single_label_model(mixed_bundle_path: Path) -> Classifier:
    return load(mixed_bundle_path)


@pytest.fixture(params=["single", "multi"])
def calibrated(request: pytest.FixtureRequest) -> Classifier:
    found: Classifier = request.getfixturevalue(f"{request.param}_label_model")
    return found


def outputs(predictions: list[Prediction]) -> list[tuple[object, ...]]:
    """Return all outputs for each text, to the last bit."""
    return [
        (p.label, p.probability, p.chosen, *(p.probabilities[name].tobytes() for name in NAMES)) for p in predictions
    ]


def test_the_models_of_these_tests_are_calibrated_and_choose_differently(
    single_label_model: Classifier, multi_label_model: Classifier
) -> None:
    """Otherwise the guarantees below would hold even if temperature and thresholds were ignored."""
    for model in (single_label_model, multi_label_model):
        assert model.manifest.calibration is not None
        assert model.manifest.calibration.temperature == TEMPERATURE == 1.7
        rows = model.predict_proba_by_direction(TEXTS)
        mean = (rows["forward"] + rows["backward"]) / 2
        assert np.abs(rows[ENSEMBLE] - mean).max() > 1e-3
    assert multi_label_model.manifest.thresholds == THRESHOLDS
    assert {len(chosen) for chosen in multi_label_model.predict(TEXTS)} >= {0, 1, 2}


# Guarantee 1. Direction. They are the same (≤ 1e-5) from the model in the trainer's memory and the written bundle.


@settings(max_examples=30)
@given(st.text(max_size=300))
def test_any_text_has_the_probabilities_of_torch(
    multi_label_torch_models: TinyClassifiers, multi_label_model: Classifier, text: str
) -> None:
    ours = multi_label_model.predict_proba_by_direction([text])
    theirs = multi_label_torch_models.probabilities([text])
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5, err_msg=name)


# Guarantee 2. Batch. A text's probabilities are bit-identical alone, in any batch, in any order, at any length mix.


@settings(max_examples=20)
@given(
    st.lists(st.tuples(lengths_of_texts, st.integers(0, 999)), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 2, 3, 5, SLOTS]),
)
def test_batch_and_order_never_change_a_bit_or_a_label(
    multi_label_model: Classifier, sizes: list[tuple[int, int]], rng: random.Random, lookahead: int
) -> None:
    texts = [text_of_words(words, seed) for words, seed in sizes]
    alone = outputs([next(multi_label_model.stream([text])) for text in texts])
    order = list(range(len(texts)))
    rng.shuffle(order)
    together = outputs(list(multi_label_model.stream([texts[i] for i in order], lookahead)))
    assert together == [alone[i] for i in order]


def test_a_calibrated_text_is_the_same_alone_and_among_all_others(calibrated: Classifier) -> None:
    alone = outputs([next(calibrated.stream([text])) for text in TEXTS])
    assert outputs(list(calibrated.stream(TEXTS))) == alone
    assert outputs(list(calibrated.stream(TEXTS[::-1], 7)))[::-1] == alone


# Guarantees 4 and 8. Order and surfaces. Result i belongs to input i, and all surfaces give the same numbers.


@pytest.mark.parametrize(
    ("which", "columns", "labels"),
    [
        ("mixed_bundle_path", ["predicted_label", "predicted_probability"], LABELS),
        ("multi_label_bundle_path", ["predicted_labels"], TOPICS),
    ],
    ids=["single-label", "multi-label"],
)
def test_python_and_command_line_give_the_same_numbers_and_labels(
    which: str, columns: list[str], labels: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path: Path = request.getfixturevalue(which)
    model = load(path)
    streamed = list(model.stream(TEXTS))
    assert len({p.chosen for p in streamed}) > 2  # otherwise a swap would not be noticed
    is_single_label = len(columns) == 2
    assert model.predict(TEXTS).tolist() == [p.label if is_single_label else p.chosen for p in streamed]
    for name, rows in model.predict_proba_by_direction(TEXTS).items():
        assert np.array_equal(rows, [p.probabilities[name] for p in streamed])
    assert np.array_equal(model.predict_proba(TEXTS), [p.probabilities[ENSEMBLE] for p in streamed])

    data, out = tmp_path / "d.jsonl", tmp_path / "out.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    finished = run_bothways("predict", str(path), str(data), "--out", str(out))
    assert finished.returncode == 0, finished.stderr
    rows_of_file = [json.loads(line) for line in out.read_bytes().splitlines()]
    for row, text, p in zip(rows_of_file, TEXTS, streamed, strict=True):
        first = [p.label, p.probability] if is_single_label else [";".join(map(str, p.chosen))]
        expected = dict(zip(columns, first, strict=True)) | {
            f"probability_{label}": value
            for label, value in zip(labels, p.probabilities[ENSEMBLE].tolist(), strict=True)
        }
        assert row == {"text": text, **expected}
