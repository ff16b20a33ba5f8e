"""Choose a temperature and thresholds on the validation rows, so that the ensemble's probabilities mean what they say.

In: the ensemble's probabilities and what is true. Out: numbers for the manifest. Letters: N texts, C classes.
"""

from __future__ import annotations

import numpy as np

from bothways.bundle.manifest import Task
from bothways.runtime.classifier import with_temperature
from bothways.tasks.metrics import least_temperature
from bothways.training.objective import Objective, Probabilities, Targets

_HIGHEST_THRESHOLD, _LOWEST_THRESHOLD = 0.95, 0.05
_USUAL_THRESHOLD = 0.5


def fitted_temperature(probabilities: Probabilities, targets: Targets, objective: Objective, task: Task) -> float:
    """Return the temperature with which the loss is least; it never changes which class is the most probable.

    Args:
        probabilities: Of the ensemble, (N, C).
        targets: What is true, as the objective wants it.
        objective: Gives the loss.
        task: What the labels are to a text.
    """
    return least_temperature(
        lambda temperature: objective.metrics(with_temperature(probabilities, temperature, task=task), targets)["loss"]
    )


def chosen_thresholds(probabilities: Probabilities, targets: Targets) -> list[float]:
    """Return for each label the threshold, 0.05 to 0.95, with which its F1 is best.

    Of all thresholds that are as good the one next to one half is taken; a label that no text has gets one half.

    Args:
        probabilities: Of the ensemble, after calibration, (N, C).
        targets: 0 or 1, (N, C).
    """
    grid = np.linspace(_LOWEST_THRESHOLD, _HIGHEST_THRESHOLD, 91)
    found = []
    for column, is_true in zip(probabilities.T, (targets > 0.5).T, strict=True):
        if not is_true.any():
            found.append(_USUAL_THRESHOLD)
            continue
        is_chosen = column[None, :] >= grid[:, None]
        right = (is_chosen & is_true).sum(axis=1)
        f1 = 2 * right / (is_chosen.sum(axis=1) + is_true.sum())
        best = grid[f1 >= f1.max() - 1e-12]
        found.append(float(best[np.argmin(np.abs(best - _USUAL_THRESHOLD))]))
    return found
