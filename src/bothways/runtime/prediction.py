"""What a model predicts for one text.

In: scores. Out: a ``Prediction``. Shared by everything that classifies, reads a text in parts, or replies to requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bothways.tasks.labels import LabelValue
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Value


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one text.

    Attributes:
        label: The most probable label, the first of ``labels`` on a tie; None for regression.
        probability: The ensemble's probability of that label, 0..1; None for regression.
        chosen: The labels assigned to the text: exactly ``label`` for single-label; for multi-label all labels whose
            probability is at least their threshold, in the order of ``labels``, possibly none; empty for regression.
        labels: All labels, in the order of the probabilities: text, whole numbers or booleans, as in training; empty
            for regression.
        probabilities: For ``forward``, ``backward`` (those that read the text), ``linear`` (if there is such a member)
            and ``ensemble``, each (C,). They add up to 1 for single-label; for multi-label each is the probability that
            the text has the label. After an early exit, ``ensemble`` is the calibrated output of the direction that
            read the text, with that of the linear member, or of the linear member alone. Empty for regression.
        read: The directions that read the text: ``both``, or the only one. ``linear`` if early exit found the linear
            member alone sufficient.
        abstained: Why the model abstains, such as ``low confidence``. None if it answers, if abstention was not
            calibrated, or with early exit.
        label_set: The conformal label set, most probable label first. None if there is none, or with early exit.
        domain_score: The distance of the text from those of the calibration. None as for ``label_set``.
        value: The ensemble's value in the target's unit, for several targets a dict by name; None unless the model is
            a regression.
        values: The same by direction, for ``linear`` and for ``ensemble``; empty unless the model is a regression.
        scores: Probabilities or values, (C,), by direction, for ``linear`` and for ``ensemble``: the same for
            every task.
    """

    label: LabelValue | None
    probability: float | None
    chosen: tuple[LabelValue, ...]
    labels: tuple[LabelValue, ...]
    probabilities: Mapping[str, Scores]
    read: str
    abstained: str | None = None
    label_set: tuple[LabelValue, ...] | None = None
    domain_score: float | None = None
    value: Value | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
    scores: Mapping[str, Scores] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, object]:
        """Return all fields but ``scores`` as lists, dicts, strings and finite numbers, ready for ``json.dumps``."""
        return {
            "label": self.label,
            "probability": self.probability,
            "chosen": list(self.chosen),
            "labels": list(self.labels),
            "probabilities": {name: row.tolist() for name, row in self.probabilities.items()},
            "read": self.read,
            "abstained": self.abstained,
            "label_set": None if self.label_set is None else list(self.label_set),
            "domain_score": self.domain_score,
            "value": _plain(self.value),
            "values": {name: _plain(value) for name, value in self.values.items()},
        }


def _plain(value: Value | None) -> object:
    return dict(value) if isinstance(value, Mapping) else value
