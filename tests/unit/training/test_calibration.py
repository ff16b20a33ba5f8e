from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.runtime.classifier import with_temperature
from bothways.training.calibration import chosen_thresholds, fitted_temperature
from bothways.training.objective import MultiLabel, SingleLabel


def overconfident(texts: int, factor: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities whose logits are too large by a factor, and classes drawn from the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (texts, 3))
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = np.array([rng.choice(3, p=row) for row in right])
    said = np.exp(factor * logits) / np.exp(factor * logits).sum(axis=1, keepdims=True)
    return said, classes


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.0])
def test_the_temperature_undoes_too_much_or_too_little_confidence(factor: float) -> None:
    said, classes = overconfident(4000, factor, seed=1)
    objective = SingleLabel()
    temperature = fitted_temperature(said, classes, objective, "single-label")
    assert temperature == pytest.approx(factor, rel=0.1)
    calibrated = with_temperature(said, temperature)
    assert objective.calibration_error(calibrated, classes) < 0.03
    assert np.array_equal(calibrated.argmax(axis=1), said.argmax(axis=1))


@given(st.integers(0, 1000))
def test_calibration_never_makes_the_validation_loss_worse(seed: int) -> None:
    said, classes = overconfident(30, 2.0, seed)
    temperature = fitted_temperature(said, classes, SingleLabel(), "single-label")
    assert 0.25 <= temperature <= 4
    before, after = (
        SingleLabel().metrics(rows, classes)["loss"] for rows in (said, with_temperature(said, temperature))
    )
    assert after <= before + 1e-9


def test_labels_of_a_multi_label_classifier_are_calibrated_too() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, (4000, 2))
    targets = (rng.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    said = 1 / (1 + np.exp(-2 * logits))
    assert fitted_temperature(said, targets, MultiLabel(), "multi-label") == pytest.approx(2, rel=0.1)


def test_a_threshold_is_the_one_with_the_best_f1_next_to_one_half() -> None:
    probabilities = np.array([[0.9, 0.30, 0.2], [0.8, 0.25, 0.3], [0.2, 0.10, 0.1], [0.1, 0.05, 0.4]])
    targets = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=np.float32)
    first, second, third = chosen_thresholds(probabilities, targets)
    assert first == pytest.approx(0.5)  # any of 0.2 to 0.8
    assert second == pytest.approx(0.25)
    assert third == 0.5  # nothing to choose by


def test_weights_and_smoothing_change_the_loss_and_not_the_measures() -> None:
    probabilities, classes = overconfident(50, 1.0, seed=2)
    plain, smooth = SingleLabel(), SingleLabel(smoothing=0.1)
    assert plain.metrics(probabilities, classes) == smooth.metrics(probabilities, classes)
