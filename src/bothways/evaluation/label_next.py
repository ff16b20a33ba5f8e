"""Choose the unlabeled texts whose labels would help a model most: those that it is unsure of, and that differ.

In: a model, and unlabeled texts. Out: texts with row numbers, in the order in which to label them.

Letters: N texts, C outputs, V width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.arguments import as_integer, as_names, checked, optional
from bothways.bundle.parity import ENSEMBLE
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.labeled import as_column, read_valid_texts
from bothways.data.tables import TableSource
from bothways.errors import ConfigError
from bothways.evaluation.inputs import ModelSource, choose_text_columns, load_model
from bothways.runtime.classifier import Classifier
from bothways.runtime.slots import SLOTS, ReadText
from bothways.tasks.labels import LabelValue, label_text
from bothways.tasks.metrics import Scores
from bothways.text.fields import Text, TextColumns
from bothways.text.similarity import key_of

_MOST_COMPARED = 10_000
"""Number of texts that are compared with each other, the least sure ones. At least ten per text to choose."""
_LEAST_DISTANCE = 1e-12
_TEXT = "text"
"""The column of a list of texts."""


@dataclass(frozen=True)
class NextText:
    """A text to label.

    Attributes:
        row: Number of its row, from 1 on. A header is not counted.
        text: The text, or a tuple with one string per text column.
        uncertainty: How unsure the model is: 1 minus the margin between its two most probable labels, 0..1. For
            multi-label that of the label that it is least sure of.
        predicted: What the model predicts: one label, or any number for multi-label, as text.
    """

    row: int
    text: Text
    uncertainty: float
    predicted: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return all fields, ready for ``json.dumps``."""
        return {**asdict(self), "predicted": list(self.predicted)}


@checked(text=optional(as_names), number=as_integer, seed=as_integer, **DIALECT_CHECKS)
def label_next(
    model: ModelSource,
    unlabeled: TableSource | Sequence[object],
    *,
    number: int = 100,
    text: TextColumns | None = None,
    seed: int = 0,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> list[NextText]:
    """Return the unlabeled texts to label next.

    They are chosen as in BADGE (Ash et al., arXiv 1906.03671): by k-means++ on the gradients that the model's own
    predictions would have. A gradient is long where the model is unsure, and two gradients are similar where texts are.
    The same text is never chosen twice, regardless of upper case and white space.

    Args:
        model: A loaded model, or the directory of a bundle.
        unlabeled: Texts without labels: a table (docs/tables.md), whose other columns are ignored, or a list of texts.
        number: Number of texts to choose, at least 1. Fewer are returned if there are fewer different ones.
        text: Text column, or several. Defaults to those used in training.
        seed: Random seed of the choice, 0..4294967295.
        format: Format of a file. Defaults to that of its suffix.
        delimiter: Character between the fields of a text table.
        quotes: ``none`` or ``double``, as for ``train``.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names.

    Returns:
        Texts in the order in which to label them.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: The model is a regression, or an argument is out of its range.
        DataError: The texts cannot be read.
    """
    if number < 1:
        raise ConfigError(f"number is {number}, expected at least 1")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed is {seed}, expected 0 to 4294967295")
    classifier = load_model(model)
    if classifier.task.no_probabilities:
        raise ConfigError("texts to label are chosen by probabilities, and a regression model predicts a number")
    recorded = classifier.text_columns or (() if as_column(unlabeled) is None else (_TEXT,))
    columns = choose_text_columns(text, recorded)
    dialect = Dialect(format, delimiter, quotes, encoding, header)
    texts, _ = read_valid_texts(unlabeled, columns, dialect=dialect, drop_invalid=False, can_drop=False)
    first: dict[str, int] = {}
    for place, each in enumerate(texts):
        if key := key_of(each):
            first.setdefault(key, place)
    places = list(first.values())
    kept = _most_unsure(classifier, [texts[place] for place in places], max(_MOST_COMPARED, 10 * number))
    if not kept:
        return []
    residual, vectors = (np.stack([getattr(each, name) for each in kept]) for name in ("residual", "vector"))
    return [
        NextText(
            row=places[each.place] + 1,
            text=texts[places[each.place]],
            uncertainty=each.uncertainty,
            predicted=tuple(map(label_text, each.predicted)),
        )
        for each in (kept[chosen] for chosen in diverse_and_unsure(residual, vectors, number, seed))
    ]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A text that may be chosen.

    Attributes:
        place: Its place among the different texts.
        residual: Probabilities minus 1 for each predicted label, (C,).
        vector: What the encoders found in it, (V,).
        uncertainty: How unsure the model is, 0..1.
        predicted: What the model predicts.
    """

    place: int
    residual: Scores
    vector: NDArray[np.float32]
    uncertainty: float
    predicted: tuple[LabelValue, ...]


def _most_unsure(classifier: Classifier, texts: Sequence[Text], most: int) -> list[_Candidate]:
    """Return the texts with the longest residuals. Memory is bounded for any number of texts."""
    kept: list[_Candidate] = []
    read = classifier.engine.run_early_exit(map(classifier.prepare, texts), SLOTS, None)
    for place, found in enumerate(read):
        kept.append(_candidate(classifier, place, found))
        if len(kept) >= 2 * most:
            kept = _longest(kept, most)
    return _longest(kept, most)


def _longest(candidates: list[_Candidate], most: int) -> list[_Candidate]:
    return sorted(candidates, key=lambda each: (-float((each.residual**2).sum()), each.place))[:most]


def _candidate(classifier: Classifier, place: int, found: ReadText) -> _Candidate:
    prediction = classifier.prediction(found)
    scores = prediction.scores[ENSEMBLE]
    chosen = np.array([label in prediction.chosen for label in classifier.labels])
    # The mean output of the last layer, without the last and the largest one.
    vector = np.concatenate([np.split(pooled, 3)[2] for pooled in found.pooled if pooled is not None])
    return _Candidate(place, scores - chosen, vector, classifier.task.uncertainty(scores), prediction.chosen)


def diverse_and_unsure(residual: Scores, vectors: NDArray[np.floating], number: int, seed: int) -> list[int]:
    """Return the places of texts that are unsure and differ from each other, in the order in which they are chosen.

    The gradient of the loss by the weights of the last layer is the outer product of residual and vector, if the
    prediction is taken for the label. The first text has the longest gradient. Each further one is drawn with a
    probability in proportion to the squared distance of its gradient to the closest one that was chosen (k-means++).
    Texts that the model is sure of have nearly the same gradient, so that hardly more than one of them is drawn. The
    outer products are never computed.

    Args:
        residual: Probabilities minus 1 for each predicted label, (N, C).
        vectors: A vector per text, (N, V).
        number: Number of texts, at most N are returned.
        seed: Random seed.
    """
    rng = np.random.default_rng(seed)
    residual, vectors = np.asarray(residual, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    lengths = (residual**2).sum(axis=1) * (vectors**2).sum(axis=1)
    chosen = [int(lengths.argmax())]
    closest = np.full(len(residual), np.inf)
    is_left = np.ones(len(residual), dtype=np.bool_)
    while len(chosen) < min(number, len(residual)):
        last = chosen[-1]
        is_left[last] = False
        products = (residual @ residual[last]) * (vectors @ vectors[last])
        closest = np.minimum(closest, np.maximum(lengths + lengths[last] - 2 * products, 0))
        weights = np.where(is_left, np.maximum(closest, _LEAST_DISTANCE), 0)
        chosen.append(int(rng.choice(len(weights), p=weights / weights.sum())))
    return chosen
