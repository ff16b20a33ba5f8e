"""Decide whether predictions are better than the same prediction for every text.

In: what is true of validation rows, and what a model predicts. Out: a verdict. Rows that cannot show a difference, such
as those of a single class, count in favor of the model. Letters: N texts, C labels.
"""

from __future__ import annotations

import math

import numpy as np

from bothways.tasks import metrics
from bothways.tasks.metrics import Confusion, Flags, Scores

_STANDARD_ERRORS = 1.64
"""A gain in accuracy below this many standard errors may be chance."""
_LEAST_RECALL_GAIN = 0.1
"""Of the way from the mean recall of a constant prediction to 1."""
_LEAST_ROC_AUC = 0.55


def beats_largest_class(counts: Confusion) -> bool:
    """Return whether predictions of one label per text are better than always the largest class.

    They are if clearly more rows are right, or if the mean recall of the classes is clearly above that of a constant.
    The second holds for a model that trades accuracy for the recall of rare classes, and for good models with few rows.

    Args:
        counts: Rows by true and predicted class, (C, C).
    """
    rows, right = counts.sum(axis=1), counts.diagonal()
    present = rows > 0
    if present.sum() < 2:
        return True
    largest = int(rows.argmax())
    gained, lost = int(right.sum() - right[largest]), int(rows[largest] - right[largest])
    if gained - lost > _STANDARD_ERRORS * math.sqrt(gained + lost):
        return True
    of_constant = 1 / int(present.sum())
    recall = float((right[present] / rows[present]).mean())
    return recall >= of_constant + _LEAST_RECALL_GAIN * (1 - of_constant)


def beats_same_labels(scores: Scores, chosen: Flags, true: Flags) -> bool:
    """Return whether predictions of any number of labels per text are better than the same labels for every text.

    They are not if all decisions are the same, or if the scores rank the texts no better than chance. Thresholds are
    chosen on the same rows, so that decisions at them show too little.

    Args:
        scores: Probabilities, (N, C).
        chosen: Whether each label is assigned, (N, C).
        true: Whether each text has each label, (N, C).
    """
    if (true == true[0]).all():
        return True
    if (chosen == chosen[0]).all():
        return False
    area = metrics.mean_over_labels(metrics.roc_auc, scores, true)
    return area is None or area >= _LEAST_ROC_AUC


def beats_mean(values: Scores, true: Scores, means: Scores, units: Scores) -> bool:
    """Return whether predicted values have a smaller squared error than always the means of the training targets.

    Args:
        values: Predicted, (N, C).
        true: What is true, (N, C).
        means: Of the training targets, (C,).
        units: In which the errors of each target are measured, (C,).
    """
    of_model, of_means = (float(np.square((found - true) / units).sum()) for found in (values, means))
    return of_model < of_means or bool((true == means).all())
