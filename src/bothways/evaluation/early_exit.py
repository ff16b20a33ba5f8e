"""Choose when reading in one direction is enough, and write it into a bundle.

In: a bundle, and labeled rows that nothing was trained on. Out: another bundle, the same but for its cascade. Used
only where it is asked for (``load(cascade=True)``).

Letters: N texts, C classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import EarlyExit, EarlyExitPoint, Kind
from bothways.bundle.parity import ENSEMBLE
from bothways.bundle.read import read_bundle
from bothways.bundle.write import write_bundle
from bothways.data.labeled import TableSource, read_labeled
from bothways.errors import ConfigError, DataError
from bothways.files import refuse_unusable
from bothways.runtime.classifier import Classifier
from bothways.runtime.verify import verify_in_fresh_process
from bothways.tasks.metrics import Scores, best_temperature, log_loss
from bothways.tasks.task import Task
from bothways.text.reading import Direction

LARGEST_LOSS = 0.001
_POINTS = 21


def fit_early_exit(
    bundle: str | os.PathLike[str],
    data: TableSource,
    *,
    out: str | os.PathLike[str],
    text: str | None = None,
    label: str | None = None,
    largest_loss: float = LARGEST_LOSS,
) -> EarlyExit:
    """Choose a bundle's cascade on labeled rows, and write the bundle with it to another place.

    The direction is taken that is sure more often, at the lowest threshold with which at most ``largest_loss`` of the
    rows lose the right label that both directions together would have given; rows that gain one don't count.

    Args:
        bundle: A single-label classifier's directory, with both directions.
        data: Labelled rows, a path or a table in memory; not those that the bundle was trained on.
        out: Where the new bundle appears; nothing may be there.
        text: The column of the texts; else the one trained on.
        label: The column of the labels; else the one trained on.
        largest_loss: The share of rows, above 0 and at most 1: 0.001 is a tenth of a point.

    Raises:
        BundleError: The bundle can't be read.
        ConfigError: The bundle has one direction or is multi-label, a column is unknown, ``largest_loss`` is no such
            share, or the folder of ``out`` does not exist.
        DataError: The rows can't be read, have labels that the bundle doesn't know, or are too few to tell so small a
            loss.
        OutputExists: Something is at ``out``.
    """
    refuse_unusable(Path(out))
    whole = read_bundle(bundle, Kind.CLASSIFIER)
    manifest = whole.manifest
    task = manifest.decisions
    if task.no_early_exit:
        raise ConfigError(f"{whole.name}: {task.no_early_exit}")
    if len(manifest.members) < 2:
        raise ConfigError(f"{whole.name} has one direction, and early exit skips the second of two")
    if not 0 < largest_loss <= 1:
        raise ConfigError(f"the largest loss is {largest_loss}, expected a share of the rows, such as 0.001")
    columns = text or manifest.training.text_column, label or manifest.training.label_column
    if columns[0] is None or columns[1] is None:
        raise ConfigError("the bundle does not record its columns: name them with --text and --label")
    rows = read_labeled(data, columns[0], columns[1], task)
    true = task.targets(rows)
    needed = math.ceil(1 / largest_loss)
    if len(rows) < needed:
        raise DataError(
            f"{rows.name} has {len(rows)} rows, too few to tell a loss of {100 * largest_loss:.3g} points: expected at "
            f"least {needed}, or a larger --loss"
        )
    weights = dict(whole.weights)  # a classifier takes them out of the bundle
    probabilities = Classifier(whole).predict_proba_by_direction(rows.texts)
    by_direction = {direction: probabilities[direction] for direction in manifest.directions}
    early_exit = chosen_early_exit(by_direction, probabilities[ENSEMBLE], true, largest_loss, task)
    write_bundle(
        out,
        task=task,
        members=manifest.members,
        weights=weights,
        tokenizer=whole.tokenizer,
        parity_record=whole.parity_record,
        training=manifest.training,
        early_exit=early_exit,
        verify=verify_in_fresh_process,
    )
    return early_exit


def chosen_early_exit(
    by_direction: Mapping[Direction, Scores],
    ensemble: Scores,
    true: NDArray[np.intp],
    largest_loss: float,
    task: Task,
) -> EarlyExit:
    """Return the cascade that reads the fewest texts twice.

    Args:
        by_direction: What each member says, (N, C), before calibration.
        ensemble: What both say together, (N, C), calibrated.
        true: The right class of each text, (N,).
        largest_loss: The share of texts that may lose their right label.
        task: The bundle's.
    """
    found = [_early_exit(first, rows, ensemble, true, largest_loss, task) for first, rows in by_direction.items()]
    return min(found, key=lambda early_exit: early_exit.read_by_both)


def _early_exit(
    first: Direction, rows: Scores, ensemble: Scores, true: NDArray[np.intp], largest_loss: float, task: Task
) -> EarlyExit:
    count = len(true)
    temperature = best_temperature(lambda t: log_loss(task.with_temperature(rows, t), true))
    calibrated = np.array([task.with_temperature(row, temperature) for row in rows])  # one by one, as texts are read
    confidence = calibrated.max(axis=1)
    is_right_alone, is_right_together = (found.argmax(axis=1) == true for found in (calibrated, ensemble))
    lost = -np.sort(-confidence[is_right_together & ~is_right_alone])  # the surest first
    allowed = math.floor(largest_loss * count + 1e-9)
    threshold = float(lost[allowed]) if len(lost) > allowed else 0.0

    def point(at: float) -> EarlyExitPoint:
        is_enough = confidence > at
        right = np.where(is_enough, is_right_alone, is_right_together)
        return EarlyExitPoint(threshold=at, read_by_both=float((~is_enough).mean()), accuracy=float(right.mean()))

    here = point(threshold)
    return EarlyExit(
        first=first,
        temperature=temperature,
        threshold=threshold,
        largest_loss=largest_loss,
        rows=count,
        read_by_both=here.read_by_both,
        accuracy=here.accuracy,
        accuracy_of_ensemble=float(is_right_together.mean()),
        curve=[point(float(at)) for at in np.quantile(confidence, np.linspace(0, 1, _POINTS))],
    )
