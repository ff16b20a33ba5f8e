"""Compare new texts with those that a model was calibrated on: domain, predicted labels and confidence.

Input: a model whose abstention was calibrated, and texts without labels. Output: a ``Drift``, which contains plain
Python data only. Memory use does not depend on the number of texts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.arguments import as_names, checked, optional
from bothways.bundle.manifest import Reference
from bothways.bundle.parity import ENSEMBLE
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.labeled import as_column, as_table, iterate_texts
from bothways.data.tables import TableSource
from bothways.errors import ConfigError, DataError
from bothways.evaluation.inputs import ModelSource, choose_text_columns, load_model
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.tasks.labels import LabelValue
from bothways.text.coverage import Unreadable
from bothways.text.fields import TextColumns

_CHUNK = 4096
_DRAWS = 2000
_SEED = 0
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """A number of new texts, and the same of the rows of the calibration.

    Attributes:
        value: The number, for the new texts.
        reference: The number, for the calibration.
        p_value: The probability of such a difference, or a larger one, between two samples of the same texts.
    """

    value: float
    reference: float
    p_value: float


@dataclass(frozen=True)
class LabelShare:
    """The share of the texts with a predicted label.

    Attributes:
        label: The label.
        value: The share of the new texts.
        reference: The share of the rows of the calibration.
        training: The share of the training rows that have the label; None if the bundle does not record it.
    """

    label: LabelValue
    value: float
    reference: float
    training: float | None = None


@dataclass(frozen=True)
class Drift:
    """How far new texts differ from those that a model was calibrated on.

    Attributes:
        rows: Number of new texts.
        reference_rows: Number of rows of the calibration.
        digest: SHA-256 that identifies the bundle.
        out_of_domain: The share of the texts that are out of domain.
        abstained: The share from which the model abstains, for any reason.
        unreadable: The share that the model cannot read.
        confidence: Mean confidence.
        label_distance: Half of the sum of all differences of ``labels``: the total variation distance for single-label.
            The reference is 0, and the p-value that of a simulation.
        training_distance: The same distance from the shares of the labels in the training rows; None if the bundle does
            not record them. It is above 0 also without drift, because predictions are not the true labels.
        labels: The predicted labels, the largest difference first.
    """

    rows: int
    reference_rows: int
    digest: str
    out_of_domain: Compared
    abstained: Compared
    unreadable: float
    confidence: Compared
    label_distance: Compared
    training_distance: float | None
    labels: tuple[LabelShare, ...]

    def to_dict(self) -> dict[str, object]:
        """Return all fields as lists, dicts, strings and finite numbers, ready for ``json.dumps``."""
        return {**asdict(self), "labels": [asdict(each) for each in self.labels]}


@checked(text=optional(as_names), **DIALECT_CHECKS)
def drift(
    model: ModelSource,
    data: TableSource | Sequence[object],
    *,
    text: TextColumns | None = None,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> Drift:
    """Compare texts with those that a model was calibrated on by ``fit_abstention``. Labels are not needed.

    Args:
        model: A loaded model, or the directory of a bundle.
        data: Texts: a table in a file or in memory (docs/tables.md), or a list of texts.
        text: Text column, or several. Defaults to those used in training.
        format: Format of a file. Defaults to that of its suffix.
        delimiter: Character between the fields of a text table, such as ``;``. Defaults to a tab for TSV, or a comma.
        quotes: ``none`` if quotation marks are ordinary characters, ``double`` if they enclose fields in any case.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names. Otherwise its columns are named ``1``, ``2`` and so on.

    Returns:
        The share out of domain, the mean confidence and the shares of the predicted labels, each with its reference.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: The abstention of the model was not calibrated, it was loaded with early exit, or a column is not
            named and not recorded.
        DataError: The texts cannot be read, or there are none.
        TextError: A text of a list cannot be read.
    """
    classifier = load_model(model)
    abstention = classifier.abstention
    if abstention is None:
        raise ConfigError(
            "the model has no abstention, whose rows are what texts are compared with: calibrate it with bothways "
            "abstention, and load it without early exit"
        )
    texts: Iterable[object] | None = as_column(data)
    if texts is None:
        columns = choose_text_columns(text, classifier.text_columns)
        dialect = Dialect(format, delimiter, quotes, encoding, header)
        texts = iterate_texts(as_table(data), columns, dialect)
    sums = _Sums(len(classifier.labels))
    for found in _chunks(classifier.stream(texts)):
        sums.add(classifier, found, abstention.domain.threshold)
    if not sums.rows:
        raise DataError("there are no texts to compare")
    reference, rows = abstention.reference, sums.rows
    shares = sums.labels / rows
    training = classifier.training_shares
    order = np.argsort(-np.abs(shares - reference.label_shares), kind="stable")
    deviation = math.sqrt(max(0.0, sums.squares / rows - (sums.confidence / rows) ** 2))
    return Drift(
        rows=rows,
        reference_rows=reference.rows,
        digest=classifier.digest,
        out_of_domain=_compared_shares(sums.out_of_domain, rows, abstention.domain.flagged, abstention.rows),
        abstained=_compared_shares(sums.abstained, rows, 1 - abstention.answered, abstention.rows),
        unreadable=sums.unreadable / rows,
        confidence=Compared(
            sums.confidence / rows,
            reference.confidence,
            _p_value(
                sums.confidence / rows - reference.confidence,
                deviation**2 / rows + reference.confidence_deviation**2 / reference.rows,
            ),
        ),
        label_distance=_label_distance(sums.labels, rows, reference),
        training_distance=None if training is None else float(np.abs(shares - training).sum() / 2),
        labels=tuple(
            LabelShare(
                classifier.labels[n],
                float(shares[n]),
                reference.label_shares[n],
                None if training is None else float(training[n]),
            )
            for n in order.tolist()
        ),
    )


class _Sums:
    """Sums over texts."""

    def __init__(self, labels: int) -> None:
        self.rows = self.out_of_domain = self.abstained = self.unreadable = 0
        self.confidence = self.squares = 0.0
        self.labels = np.zeros(labels)

    def add(self, model: Classifier, found: Sequence[Prediction], threshold: float) -> None:
        """Add predictions, at least one."""
        scores = np.array([each.scores[ENSEMBLE] for each in found])
        confidence = model.task.confidence(scores)
        assert confidence is not None  # a model of another task abstains from nothing
        self.rows += len(found)
        self.out_of_domain += sum(each.domain_score is not None and each.domain_score > threshold for each in found)
        self.abstained += sum(each.abstained is not None for each in found)
        self.unreadable += sum(each.abstained in tuple(Unreadable) for each in found)
        self.confidence += float(confidence.sum())
        self.squares += float((confidence**2).sum())
        self.labels += model.task.label_shares(scores) * len(found)


def _chunks(predictions: Iterator[Prediction]) -> Iterator[list[Prediction]]:
    while chunk := list(itertools.islice(predictions, _CHUNK)):
        yield chunk


def _compared_shares(count: int, rows: int, reference: float, reference_rows: int) -> Compared:
    """Compare two shares by a two-sided z-test of the pooled share, of which half a row more is assumed each way."""
    pooled = (count + reference * reference_rows + 0.5) / (rows + reference_rows + 1)
    variance = pooled * (1 - pooled) * (1 / rows + 1 / reference_rows)
    return Compared(count / rows, reference, _p_value(count / rows - reference, variance))


def _p_value(difference: float, variance: float) -> float:
    """Return the two-sided p-value of a difference that has a normal distribution with mean 0."""
    if variance <= 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / math.sqrt(2 * variance))


def _label_distance(counts: _Floats, rows: int, reference: Reference) -> Compared:
    """Return half of the sum of the differences of the shares of the labels.

    The p-value is the share of simulated pairs of samples with the same shares that are as far apart. The labels of a
    simulated sample are drawn independently of each other.
    """
    shares = np.array(reference.label_shares)
    pooled = np.clip((counts + shares * reference.rows) / (rows + reference.rows), 0, 1)
    rng = np.random.default_rng(_SEED)
    drawn = rng.binomial(rows, pooled, (_DRAWS, len(pooled))) / rows
    others = rng.binomial(reference.rows, pooled, (_DRAWS, len(pooled))) / reference.rows
    distance = float(np.abs(counts / rows - shares).sum() / 2)
    as_far = int((np.abs(drawn - others).sum(axis=1) / 2 >= distance - 1e-12).sum())
    return Compared(distance, 0.0, (1 + as_far) / (1 + _DRAWS))
