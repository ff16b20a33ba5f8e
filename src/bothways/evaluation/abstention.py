"""Calibrate abstention: from which texts a model abstains, so that at most a stated share of its answers is wrong.

Input: a bundle, and labeled rows that were not used in training. Output: a copy of the bundle with the calibration in
its manifest. The rows are divided at random into two parts. The first fits the density of the pooled states and orders
the thresholds on the confidence. The second tests them in this order, each with an exact binomial test, until one fails
(split fixed sequence testing; Angelopoulos et al., "Learn then Test", arXiv 2110.01052; for selective prediction see
Geifman & El-Yaniv, arXiv 1705.08500). Nothing is assumed about the model.

Letters: N texts, C classes, D pooled states.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bothways.arguments import as_flag, as_names, as_number, as_path, checked, optional
from bothways.bundle.manifest import (
    DOMAIN_FILE,
    Abstention,
    AbstentionPoint,
    Domain,
    Kind,
    LabelSets,
    Reference,
)
from bothways.bundle.parity import ENSEMBLE
from bothways.bundle.read import read_bundle
from bothways.bundle.weights import DOMAIN_LIMITS, DomainWeights
from bothways.bundle.write import write_bundle
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.invalid import write_invalid
from bothways.data.tables import TableSource
from bothways.errors import ConfigError, DataError
from bothways.evaluation.inputs import LabelColumns, read_rows
from bothways.files import refuse_unusable
from bothways.runtime.classifier import Classifier
from bothways.runtime.domain import DomainModel, fit_domain
from bothways.runtime.slots import SLOTS, Pooled, PreparedText
from bothways.runtime.verify import verify_in_fresh_process
from bothways.tasks.metrics import Scores
from bothways.tasks.task import LabeledTexts, Targets, Task
from bothways.text.coverage import unreadable
from bothways.text.fields import TextColumns
from bothways.text.reading import Ids

RISK = 0.05
ALPHA = 0.05
DELTA = 0.02
"""The stated risk may be exceeded in this share of calibrations."""
FLAGGED = 0.02
"""The share of texts like those of the calibration that may be called out of domain."""
COMPONENTS = 32
_FOLDS = 5
_FIRST_PART = 1 / 3
_MOST_FITTED = 4_000
"""Rows of the first part, whose pooled states are in memory together."""
_THRESHOLDS = 200
_SMALLEST_LIMIT = 1e-3
_POINTS = 21
_SEED = 0
_RISKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Those that an error proposes if the requested one cannot be reached."""

_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]


@checked(
    bundle=as_path,
    out=as_path,
    text=optional(as_names),
    label=optional(as_names),
    risk=as_number,
    alpha=as_number,
    drop_invalid=as_flag,
    **DIALECT_CHECKS,
)
def fit_abstention(
    bundle: str | os.PathLike[str],
    data: TableSource | tuple[Sequence[object], Sequence[object]],
    risk: float = RISK,
    *,
    out: str | os.PathLike[str],
    alpha: float = ALPHA,
    text: TextColumns | None = None,
    label: LabelColumns | None = None,
    drop_invalid: bool = False,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> Abstention:
    """Calibrate abstention on labeled rows, and write a copy of the bundle with it.

    The model then abstains from texts that it cannot read, that are out of domain, or about which it is not confident.
    With a probability of 98 % over the choice of the rows, at most ``risk`` of its answers are wrong, on texts of the
    same kind as the rows. For a multi-label model an answer is wrong if one of the assigned labels is wrong or missing.

    A single-label model also gets conformal label sets (split conformal prediction; Sadinle et al.,
    arXiv 1609.00451). They have the correct label with a probability of at least ``1 - alpha``.

    Args:
        bundle: Directory of a single-label or multi-label classifier.
        data: Labeled rows: a path, a table in memory, or a tuple of texts and labels. They must not have been used in
            training.
        risk: The share of the answers that may be wrong, above 0 and below 1.
        out: Bundle to create. Must not exist yet.
        alpha: The share of the label sets that may lack the correct label, above 0 and below 1.
        text: Text column, or several. Defaults to those used in training.
        label: Label column. Defaults to the one used in training.
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
        ConfigError: The task of the bundle has no confidence, a column is not named and not recorded, ``risk`` or
            ``alpha`` is out of range, or the folder of ``out`` does not exist.
        DataError: The rows cannot be read, have labels that the bundle does not know, or are too few, or no threshold
            reaches the risk. The message states what can be reached.
        OutputExists: ``out`` already exists.
    """
    refuse_unusable(Path(out))
    whole = read_bundle(bundle, Kind.CLASSIFIER)
    manifest, task = whole.manifest, whole.manifest.decisions
    if task.no_abstention:
        raise ConfigError(f"{whole.name}: {task.no_abstention}")
    for name, value in (("risk", risk), ("alpha", alpha)):
        if not 0 < value < 1:
            raise ConfigError(f"{name} is {value}, expected a share between 0 and 1, such as 0.05")
    dialect = Dialect(format, delimiter, quotes, encoding, header)
    rows = read_rows(manifest, data, text, label, dialect, drop_invalid=drop_invalid)
    write_invalid(out, rows.invalid)
    _refuse_few(rows, risk)
    weights = dict(whole.weights)  # a classifier takes the weights out of its bundle
    outcomes, density = _read(Classifier(whole), task, rows)
    found = calibrate_abstention(outcomes, risk, alpha, rows.name)
    write_bundle(
        out,
        task=task,
        members=manifest.members,
        weights=weights,
        tokenizer=whole.tokenizer,
        parity_record=whole.parity_record,
        training=manifest.training,
        early_exit=manifest.early_exit,
        linear=whole.linear,
        abstention=(found, density),
        verify=verify_in_fresh_process,
    )
    return found


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a model predicts for labeled rows.

    Attributes:
        is_first: Whether each row is in the first part, (N,).
        is_readable: Whether the model can read each text, (N,).
        confidence: The confidence in each prediction, (N,).
        is_correct: Whether it is correct, (N,).
        domain_score: The distance of each text from the first part; for this part from its other folds, (N,).
        scores: The ensemble's probabilities, (N, C).
        true_probability: The probability of the correct label, (N,); None unless rows have exactly one.
        label_shares: The share of the rows with each predicted label, (C,).
        components: Number of components of the density.
    """

    is_first: _Flags
    is_readable: _Flags
    confidence: _Floats
    is_correct: _Flags
    domain_score: _Floats
    scores: Scores
    true_probability: _Floats | None
    label_shares: _Floats
    components: int = COMPONENTS

    @classmethod
    def of(
        cls, task: Task, scores: Scores, targets: Targets, domain_score: _Floats, first: NDArray[np.intp]
    ) -> Outcomes:
        """Return the outcomes of readable rows, of which those numbered in ``first`` are the first part."""
        is_first = np.zeros(len(scores), dtype=np.bool_)
        is_first[first] = True
        confidence = task.confidence(scores)
        assert confidence is not None
        return cls(
            is_first=is_first,
            is_readable=np.ones(len(scores), dtype=np.bool_),
            confidence=confidence,
            is_correct=task.row_errors(scores, targets) == 0,
            domain_score=domain_score,
            scores=scores,
            true_probability=task.true_probabilities(scores, targets),
            label_shares=task.label_shares(scores),
        )


def calibrate_abstention(outcomes: Outcomes, risk: float, alpha: float, name: str) -> Abstention:
    """Return the abstention with which the most rows are answered.

    Args:
        outcomes: What the model predicts for the rows.
        risk: The share of the answers that may be wrong.
        alpha: The share of the label sets that may lack the correct label.
        name: Where the rows come from, for messages.

    Raises:
        DataError: No threshold reaches the risk.
    """
    is_first, readable = outcomes.is_first, outcomes.is_readable
    limit = _upper_quantile(outcomes.domain_score[is_first & readable], FLAGGED)
    can_answer = readable & (outcomes.domain_score <= limit)
    confidence = np.where(can_answer, outcomes.confidence, -1.0)
    first, second = (_Part(confidence[rows], outcomes.is_correct[rows]) for rows in (is_first, ~is_first))
    threshold = _threshold(first, second, risk)
    if threshold is None:
        reached = next(
            (other for other in _RISKS if other > risk and _threshold(first, second, other) is not None), None
        )
        hint = "No risk can be shown" if reached is None else f"A risk of {reached:g} can be shown"
        raise DataError(
            f"{name}: no threshold keeps the share of wrong answers below {risk:.3g} with 98 % probability. {hint} on "
            f"these {len(confidence):,} rows. The share is {1 - outcomes.is_correct.mean():.3g} if all are answered"
        )
    chosen = second.point(threshold)
    points = np.quantile(second.confidence[second.confidence >= 0], np.linspace(0, 1, _POINTS))
    return Abstention(
        risk=risk,
        threshold=threshold,
        rows=len(second.confidence),
        answered=chosen.answered,
        measured_risk=chosen.measured_risk,
        risk_of_all=float(1 - second.is_correct.mean()),
        domain=Domain(
            weights=DOMAIN_FILE,
            components=outcomes.components,
            threshold=limit,
            flagged=float((outcomes.domain_score > limit)[~is_first].mean()),
        ),
        label_sets=_label_sets(outcomes, alpha),
        reference=Reference(
            rows=len(confidence),
            label_shares=outcomes.label_shares.tolist(),
            confidence=float(outcomes.confidence.mean()),
            confidence_deviation=float(outcomes.confidence.std(ddof=1)),
        ),
        curve=[second.point(float(at)) for at in points],
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """The confidence in each prediction, -1 where the model abstains in any case, and whether it is correct."""

    confidence: _Floats
    is_correct: _Flags

    def answers(self, threshold: float) -> tuple[int, int]:
        """Return the number of wrong answers, and the number of answers."""
        is_answered = self.confidence >= threshold
        return int((is_answered & ~self.is_correct).sum()), int(is_answered.sum())

    def p_value(self, threshold: float, risk: float) -> float:
        """Return the probability of as few wrong answers if the share of wrong answers were ``risk``."""
        return binomial_cdf(*self.answers(threshold), risk)

    def point(self, threshold: float) -> AbstentionPoint:
        """Return the effect of a threshold."""
        wrong, count = self.answers(threshold)
        share = wrong / count if count else 0.0
        return AbstentionPoint(threshold=threshold, answered=count / len(self.confidence), measured_risk=share)


def _threshold(first: _Part, second: _Part, risk: float) -> float | None:
    """Return the lowest threshold that passes its test and comes before the first that fails; None if there is none.

    The first part decides which thresholds are tested and in which order: it begins with the one for which the first
    part has the strongest evidence. The tests are on the second part only.
    """
    known = first.confidence[first.confidence >= 0]
    if not len(known):
        return None
    thresholds = np.abs(np.unique([0.0, *-np.quantile(known, np.linspace(0, 1, _THRESHOLDS))]))  # the highest first
    start = int(np.argmin([first.p_value(float(at), risk) for at in thresholds]))
    found = None
    for threshold in thresholds[start:].tolist():
        if second.p_value(threshold, risk) > DELTA:
            break
        found = threshold
    return found


def binomial_cdf(successes: int, trials: int, probability: float) -> float:
    """Return the probability of at most this number of successes in independent trials.

    Args:
        successes: -1 to ``trials``.
        trials: 0 or more.
        probability: That of a success, above 0 and below 1.
    """
    before = np.log(np.arange(1, trials + 1)).cumsum()  # logarithms of the factorials
    factorials = np.concatenate([[0.0], before])
    k = np.arange(successes + 1)
    logarithms = factorials[trials] - factorials[k] - factorials[trials - k]
    logarithms += k * math.log(probability) + (trials - k) * math.log1p(-probability)
    return min(1.0, float(np.exp(logarithms).sum()))


def _label_sets(outcomes: Outcomes, alpha: float) -> LabelSets | None:
    """Return the label sets by split conformal prediction; None if texts have no single correct label."""
    true = outcomes.true_probability
    if true is None:
        return None
    rank = math.ceil((len(true) + 1) * (1 - alpha))
    threshold = float(-np.sort(-true)[rank - 1]) if rank <= len(true) else 0.0
    is_in_set = outcomes.scores >= np.minimum(threshold, outcomes.scores.max(axis=1, keepdims=True))
    return LabelSets(
        alpha=alpha,
        threshold=threshold,
        covered=float(((true >= threshold) | (true == outcomes.scores.max(axis=1))).mean()),
        mean_size=float(is_in_set.sum(axis=1).mean()),
    )


def _upper_quantile(values: _Floats, share: float) -> float:
    """Return the value that at most this share of other such values exceeds; the largest if they are too few."""
    rank = min(len(values), math.ceil((len(values) + 1) * (1 - share)))
    return float(np.sort(values)[rank - 1]) if len(values) else 0.0


def _refuse_few(rows: LabeledTexts, risk: float) -> None:
    """Refuse rows among which even answers without an error show nothing.

    Raises:
        DataError: There are too few.
    """
    needed = max(3 * _FOLDS, math.ceil(math.log(DELTA) / math.log(1 - risk) / (1 - _FIRST_PART)) + 1)
    if len(rows) < needed:
        raise DataError(
            f"{rows.name} has {len(rows)} rows, too few to show a risk of {risk:.3g}. At least {needed} are needed, or "
            "a larger --risk"
        )


def _read(model: Classifier, task: Task, rows: LabeledTexts) -> tuple[Outcomes, DomainWeights]:
    """Return what a model predicts for labeled rows, and the density of the pooled states of the first part."""
    order = np.random.default_rng(_SEED).permutation(len(rows))
    first, second = np.split(order, [min(_MOST_FITTED, int(len(rows) * _FIRST_PART))])
    is_readable = np.ones(len(rows), dtype=np.bool_)
    scores, domain_score = np.zeros((len(rows), task.outputs)), np.zeros(len(rows))
    ids: dict[int, Ids] = {}

    def read(numbers: NDArray[np.intp]) -> Iterator[tuple[int, list[Pooled]]]:
        def prepared() -> Iterator[PreparedText]:
            for number in numbers:
                text = model.prepare(rows.texts[number])
                ids[number] = text.ids
                is_readable[number] = unreadable(rows.texts[number], text, model.tokenizer) is None
                yield text

        for number, found in zip(numbers, model.engine.run_early_exit(prepared(), SLOTS, None), strict=True):
            scores[number] = model.prediction(found).scores[ENSEMBLE]
            yield number, [vector for vector in found.pooled if vector is not None]

    def fitted(numbers: NDArray[np.intp]) -> dict[str, NDArray[np.generic]]:
        tokens = [ids[first[n]] for n in numbers]
        return fit_domain(states[numbers], tokens, len(model.tokenizer), components)

    states = np.array([np.concatenate(pooled) for _, pooled in read(first)])
    components = max(1, min(COMPONENTS, len(first) // 4, states.shape[1] - 1))
    places, parts = np.arange(len(first)), np.zeros((len(first), 2))
    for fold in range(_FOLDS):
        density = DomainModel(fitted(places[places % _FOLDS != fold]))
        for place in places[places % _FOLDS == fold]:
            parts[place] = density.distance([states[place]]), density.token_loss(ids[first[place]])
    limits = np.array([max(_upper_quantile(column, FLAGGED / 2), _SMALLEST_LIMIT) for column in parts.T], np.float32)
    domain_score[first] = (parts / limits).max(axis=1)
    arrays = {**fitted(places), DOMAIN_LIMITS: limits}
    density = DomainModel(arrays)
    for number, pooled in read(second):
        domain_score[number] = density.score(pooled, density.token_loss(ids.pop(number)))
    outcomes = Outcomes.of(task, scores, task.targets(rows), domain_score, first)
    return replace(outcomes, is_readable=is_readable, components=components), arrays
