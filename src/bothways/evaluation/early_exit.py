"""Calibrate early exit: from which confidence on one direction is enough, so that the other one is skipped.

Input: a bundle, and labeled rows that were not used in training. Output: a copy of the bundle with the calibration in
its manifest. Early exit is off unless a bundle is loaded with ``load(early_exit=True)``.

Letters: N texts, C classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bothways.arguments import as_flag, as_names, as_number, as_path, checked, optional
from bothways.bundle.manifest import LINEAR, EarlyExit, EarlyExitPoint, Kind, with_linear
from bothways.bundle.parity import ENSEMBLE
from bothways.bundle.read import read_bundle
from bothways.bundle.write import write_bundle
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.invalid import write_invalid
from bothways.data.tables import TableSource
from bothways.errors import ConfigError, DataError
from bothways.evaluation.inputs import LabelColumns, read_rows
from bothways.files import refuse_unusable
from bothways.runtime.classifier import Classifier
from bothways.runtime.verify import verify_in_fresh_process
from bothways.tasks.metrics import Scores, best_temperature, class_counts, confusion, log_loss
from bothways.tasks.task import Task
from bothways.text.fields import TextColumns
from bothways.text.reading import Direction

LARGEST_LOSS = 0.001
_POINTS = 21


@checked(
    bundle=as_path,
    out=as_path,
    text=optional(as_names),
    label=optional(as_names),
    largest_loss=as_number,
    drop_invalid=as_flag,
    **DIALECT_CHECKS,
)
def fit_early_exit(
    bundle: str | os.PathLike[str],
    data: TableSource | tuple[Sequence[object], Sequence[object]],
    *,
    out: str | os.PathLike[str],
    text: TextColumns | None = None,
    label: LabelColumns | None = None,
    largest_loss: float = LARGEST_LOSS,
    drop_invalid: bool = False,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> EarlyExit:
    """Calibrate early exit on labeled rows, and write a copy of the bundle with it.

    The direction that reads first is the one that is confident about more texts. Its threshold is the lowest at which
    at most ``largest_loss`` of the rows lose the correct label that both directions together predict. Rows that gain a
    correct label do not count against them.

    Args:
        bundle: Directory of a single-label classifier with both directions.
        data: Labeled rows: a path, a table in memory, or a tuple of texts and labels. They must not have been used in
            training.
        out: Bundle to create. Must not exist yet.
        text: Text column, or several. Defaults to those used in training.
        label: Label column. Defaults to the one used in training.
        largest_loss: Accuracy loss to accept, as a share of the rows, above 0 and at most 1. 0.001 is a tenth of a
            percentage point.
        drop_invalid: Leave rows without a usable text or label out. They are listed in ``OUT.invalid.jsonl``.
        format: Format of a file. Defaults to that of its suffix.
        delimiter: Character between the fields of a text table, such as ``;``. Defaults to a tab for TSV, or a comma.
        quotes: ``none`` if quotation marks are ordinary characters, ``double`` if they enclose fields in any case.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names. Otherwise its columns are named ``1``, ``2`` and so on.

    Returns:
        The calibration.

    Raises:
        BundleError: The bundle cannot be read.
        ConfigError: The bundle has a single direction or its task has no early exit, a column is not named and not
            recorded, ``largest_loss`` is out of range, or the folder of ``out`` does not exist.
        DataError: The rows cannot be read, have labels that the bundle does not know, or are too few to measure such a
            small loss.
        OutputExists: ``out`` already exists.
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
    dialect = Dialect(format, delimiter, quotes, encoding, header)
    rows = read_rows(manifest, data, text, label, dialect, drop_invalid=drop_invalid)
    write_invalid(out, rows.invalid)
    true = task.targets(rows)
    needed = math.ceil(1 / largest_loss)
    if len(rows) < needed:
        raise DataError(
            f"{rows.name} has {len(rows)} rows, too few to measure a loss of {100 * largest_loss:.3g} percentage "
            f"points. At least {needed} are needed, or a larger --loss"
        )
    weights = dict(whole.weights)  # a classifier takes the weights out of its bundle
    probabilities = Classifier(whole).predict_proba_by_direction(rows.texts)
    by_direction = {
        direction: with_linear(task, manifest.linear, probabilities[direction], probabilities.get(LINEAR))
        for direction in manifest.directions
    }
    early_exit = calibrate_early_exit(by_direction, probabilities[ENSEMBLE], true, largest_loss, task)
    write_bundle(
        out,
        task=task,
        members=manifest.members,
        weights=weights,
        tokenizer=whole.tokenizer,
        parity_record=whole.parity_record,
        training=manifest.training,
        early_exit=early_exit,
        linear=whole.linear,
        verify=verify_in_fresh_process,
    )
    return early_exit


def calibrate_early_exit(
    by_direction: Mapping[Direction, Scores],
    ensemble: Scores,
    true: NDArray[np.intp],
    largest_loss: float,
    task: Task,
) -> EarlyExit:
    """Return the early exit with which the fewest texts are read in both directions.

    Args:
        by_direction: Probabilities by direction, with those of a linear member, before calibration, (N, C).
        ensemble: Calibrated probabilities of the ensemble, (N, C).
        true: True class of each text, (N,).
        largest_loss: Share of the texts that may lose their correct label.
        task: Task of the bundle.
    """
    found = [
        _calibrate_direction(first, rows, ensemble, true, largest_loss, task) for first, rows in by_direction.items()
    ]
    return min(found, key=lambda early_exit: early_exit.read_by_both)


def _calibrate_direction(
    first: Direction, rows: Scores, ensemble: Scores, true: NDArray[np.intp], largest_loss: float, task: Task
) -> EarlyExit:
    """Return the early exit in which a given direction reads first."""
    count = len(true)
    temperature = best_temperature(lambda t: log_loss(task.with_temperature(rows, t), true))
    calibrated = np.array([task.with_temperature(row, temperature) for row in rows])  # one by one, as in prediction
    confidence = calibrated.max(axis=1)
    alone, together = calibrated.argmax(axis=1), ensemble.argmax(axis=1)
    is_correct_alone, is_correct_together = alone == true, together == true
    lost = -np.sort(-confidence[is_correct_together & ~is_correct_alone])  # most confident first
    allowed = math.floor(largest_loss * count + 1e-9)
    threshold = float(lost[allowed]) if len(lost) > allowed else 0.0

    def point(at: float) -> EarlyExitPoint:
        is_confident = confidence > at
        predicted = np.where(is_confident, alone, together)
        return EarlyExitPoint(
            threshold=at,
            read_by_both=float((~is_confident).mean()),
            accuracy=float((predicted == true).mean()),
            macro_f1=_macro_f1(true, predicted),
        )

    chosen = point(threshold)
    return EarlyExit(
        first=first,
        temperature=temperature,
        threshold=threshold,
        largest_loss=largest_loss,
        rows=count,
        read_by_both=chosen.read_by_both,
        accuracy=chosen.accuracy,
        accuracy_of_ensemble=float(is_correct_together.mean()),
        macro_f1=chosen.macro_f1,
        macro_f1_of_ensemble=_macro_f1(true, together),
        curve=[point(float(at)) for at in np.quantile(confidence, np.linspace(0, 1, _POINTS))],
    )


def _macro_f1(true: NDArray[np.intp], predicted: NDArray[np.intp]) -> float:
    classes = 1 + int(max(true.max(), predicted.max()))
    return class_counts(confusion(true, predicted, classes)).present().macro_f1
