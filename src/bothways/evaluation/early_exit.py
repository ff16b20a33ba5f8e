"""Calibrate early exit: from which confidence on one direction, or the linear member, is enough.

Input: a bundle, and labeled rows that were not used in training. Output: a copy of the bundle with the calibration in
its manifest. Early exit is off unless a bundle is loaded with ``load(early_exit=True)``.

Letters: N texts, C classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bothways.arguments import as_flag, as_names, as_number, as_path, checked, optional
from bothways.bundle.manifest import LINEAR, EarlyExit, EarlyExitPoint, Kind, LinearExit, with_linear
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
_DIVISIONS = 33
"""Largest number of ways to divide the rows that may lose their label between the linear member and a direction."""


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

    If the bundle has a linear member, early exit can start with it: no direction reads a text about which the linear
    member is confident. It gets the share of the rows with which directions read the fewest times, possibly none.

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
    early_exit = calibrate_early_exit(
        by_direction, probabilities[ENSEMBLE], true, largest_loss, task, probabilities.get(LINEAR)
    )
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
        abstention=whole.abstention,
        verify=verify_in_fresh_process,
    )
    return early_exit


def calibrate_early_exit(
    by_direction: Mapping[Direction, Scores],
    ensemble: Scores,
    true: NDArray[np.intp],
    largest_loss: float,
    task: Task,
    linear: Scores | None = None,
) -> EarlyExit:
    """Return the early exit with which directions read the fewest times.

    The linear member and the direction that reads first share the rows that may lose their correct label. Several
    divisions are tried. The linear member is left out if it saves nothing.

    Args:
        by_direction: Probabilities by direction, with those of a linear member, before calibration, (N, C).
        ensemble: Calibrated probabilities of the ensemble, (N, C).
        true: True class of each text, (N,).
        largest_loss: Share of the texts that may lose their correct label.
        task: Task of the bundle.
        linear: Probabilities of the linear member, (N, C); None if there is none.
    """
    allowed = math.floor(largest_loss * len(true) + 1e-9)
    directions = {first: _Alone.of(rows, ensemble, true, task) for first, rows in by_direction.items()}
    starts = [_Start.none(len(true))]
    if linear is not None:
        starts += _starts(_Alone.of(linear, ensemble, true, task), allowed)
    plans = [_Plan.of(first, alone, start, allowed) for start in starts for first, alone in directions.items()]
    plan = min(plans, key=lambda plan: plan.cost)  # the first of equal ones
    return _early_exit(plan, directions[plan.first], ensemble.argmax(axis=1), true, largest_loss)


@dataclass(frozen=True, eq=False)
class _Alone:
    """What a direction, or the linear member, answers alone.

    Attributes:
        temperature: Its log probabilities are divided by it.
        confidence: Probability of the most probable class, (N,).
        predicted: That class, (N,).
        is_lost: Whether the text loses the correct label that the ensemble gives it, (N,).
    """

    temperature: float
    confidence: Scores
    predicted: NDArray[np.intp]
    is_lost: NDArray[np.bool_]

    @classmethod
    def of(cls, scores: Scores, ensemble: Scores, true: NDArray[np.intp], task: Task) -> _Alone:
        """Calibrate scores, (N, C), and compare them with those of the ensemble."""
        temperature = best_temperature(lambda t: log_loss(task.with_temperature(scores, t), true))
        calibrated = np.array([task.with_temperature(row, temperature) for row in scores])  # one by one, as predicted
        predicted = calibrated.argmax(axis=1)
        is_lost = (ensemble.argmax(axis=1) == true) & (predicted != true)
        return cls(temperature, calibrated.max(axis=1), predicted, is_lost)

    def threshold(self, allowed: int, rows: NDArray[np.bool_]) -> float:
        """Return the lowest confidence above which at most ``allowed`` of the rows lose their label.

        Args:
            allowed: Number of rows, 0 or more.
            rows: Whether it answers a row at all, (N,).
        """
        lost = -np.sort(-self.confidence[self.is_lost & rows])  # most confident first
        return float(lost[allowed]) if len(lost) > allowed else 0.0


@dataclass(frozen=True, eq=False)
class _Start:
    """What the linear member answers before any direction reads.

    Attributes:
        linear: Its part of the early exit; None if it answers nothing.
        predicted: The class that it predicts, (N,).
        is_answered: Whether it is confident, (N,).
        losses: Number of rows that lose their correct label.
    """

    linear: LinearExit | None
    predicted: NDArray[np.intp]
    is_answered: NDArray[np.bool_]
    losses: int

    @classmethod
    def none(cls, count: int) -> _Start:
        """Return that of a linear member that answers none of ``count`` rows."""
        return cls(None, np.zeros(count, dtype=np.intp), np.zeros(count, dtype=np.bool_), 0)


def _starts(alone: _Alone, allowed: int) -> list[_Start]:
    """Return what the linear member answers if up to 0, …, ``allowed`` rows may lose their label by it."""
    all_rows = np.ones(len(alone.confidence), dtype=np.bool_)
    most = min(allowed, int(alone.is_lost.sum()))
    found = []
    for losses in np.unique(np.linspace(0, most, _DIVISIONS).round().astype(np.intp)).tolist():
        threshold = alone.threshold(losses, all_rows)
        is_answered = alone.confidence > threshold
        exit_ = LinearExit(temperature=alone.temperature, threshold=threshold, read_by_linear=float(is_answered.mean()))
        found.append(_Start(exit_, alone.predicted, is_answered, int((alone.is_lost & is_answered).sum())))
    return found


@dataclass(frozen=True, eq=False)
class _Plan:
    """A way to divide the rows that may lose their label.

    Attributes:
        start: What the linear member answers.
        first: The direction that reads first.
        threshold: The confidence from which on it is enough.
        cost: Number of times that a direction reads a row.
    """

    start: _Start
    first: Direction
    threshold: float
    cost: int

    @classmethod
    def of(cls, first: Direction, alone: _Alone, start: _Start, allowed: int) -> _Plan:
        """Return the plan in which a direction may lose what the linear member leaves of ``allowed``."""
        is_read = ~start.is_answered
        threshold = alone.threshold(allowed - start.losses, is_read)
        return cls(start, first, threshold, int(is_read.sum() + (is_read & (alone.confidence <= threshold)).sum()))


def _early_exit(
    plan: _Plan, alone: _Alone, together: NDArray[np.intp], true: NDArray[np.intp], largest_loss: float
) -> EarlyExit:
    """Return the early exit of a plan.

    Args:
        plan: The plan.
        alone: What its first direction answers alone.
        together: Class that the ensemble predicts, (N,).
        true: True class of each text, (N,).
        largest_loss: Share of the texts that may lose their correct label.
    """
    start = plan.start

    def point(at: float) -> EarlyExitPoint:
        is_confident = alone.confidence > at
        predicted = np.where(is_confident, alone.predicted, together)
        predicted = np.where(start.is_answered, start.predicted, predicted)
        return EarlyExitPoint(
            threshold=at,
            read_by_both=float((~is_confident & ~start.is_answered).mean()),
            accuracy=float((predicted == true).mean()),
            macro_f1=_macro_f1(true, predicted),
        )

    chosen = point(plan.threshold)
    is_read = np.ones_like(start.is_answered) if start.is_answered.all() else ~start.is_answered
    return EarlyExit(
        first=plan.first,
        temperature=alone.temperature,
        threshold=plan.threshold,
        largest_loss=largest_loss,
        rows=len(true),
        read_by_both=chosen.read_by_both,
        accuracy=chosen.accuracy,
        accuracy_of_ensemble=float((together == true).mean()),
        macro_f1=chosen.macro_f1,
        macro_f1_of_ensemble=_macro_f1(true, together),
        curve=[point(float(at)) for at in np.quantile(alone.confidence[is_read], np.linspace(0, 1, _POINTS))],
        linear=start.linear,
    )


def _macro_f1(true: NDArray[np.intp], predicted: NDArray[np.intp]) -> float:
    classes = 1 + int(max(true.max(), predicted.max()))
    return class_counts(confusion(true, predicted, classes)).present().macro_f1
