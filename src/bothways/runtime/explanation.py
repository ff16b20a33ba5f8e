"""Explain a prediction: how much each word of a text adds to the score of a label.

In: a text, then its predictions with and without each word. Out: an ``Explanation``. Directions and the ensemble are
explained by occlusion: the score of the text minus the score of the text without the word (Zeiler and Fergus, arXiv
1311.2901). It needs no gradients. All texts without a word are read in one batch. The linear member is explained
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bothways.bundle.manifest import LINEAR
from bothways.bundle.parity import ENSEMBLE
from bothways.errors import ConfigError
from bothways.runtime.linear import LinearModel
from bothways.runtime.prediction import Prediction
from bothways.tasks.labels import LabelValue
from bothways.tasks.task import Task
from bothways.text.fields import Text, fields_of
from bothways.text.word_spans import Span, without, word_spans

MAX_READINGS = 128
"""The text once, and once without each of its words. A longer text is explained by groups of neighboring words."""
_LEAST_READINGS = 2

Method = Literal["occlusion", "exact"]


@dataclass(frozen=True)
class ExplainedWord:
    """A word, or several neighboring words of a long text, with what it adds to the score of a label.

    Attributes:
        text: The word as it is in the text.
        start: Offset of its first character.
        end: Offset behind its last character.
        column: The text column that has it. None for a model with one text column.
        attributions: By direction, for ``linear`` and for ``ensemble``. Above 0 if the word speaks for the label.
    """

    text: str
    start: int
    end: int
    column: str | None
    attributions: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which words of a text decided its prediction.

    Attributes:
        label: The label that is explained, or the name of the target of a regression: ``value`` for a single one.
        scores: The probability of the label, or the value, by direction, for ``linear`` and for ``ensemble``.
        words: The words of the text in order. Empty for a blank text.
        methods: How each was explained. ``occlusion``: the score minus the score without the word. ``exact``: what the
            n-grams of the word add, in log odds, or in the unit of the target.
        readings: How many texts were read.
        prediction: The prediction for the text, as ``stream`` yields it.
    """

    label: LabelValue
    scores: Mapping[str, float]
    words: tuple[ExplainedWord, ...]
    methods: Mapping[str, Method]
    readings: int
    prediction: Prediction = field(repr=False)

    def to_dict(self) -> dict[str, object]:
        """Return all but ``prediction`` as lists, dicts, strings and finite numbers, ready for ``json.dumps``."""
        return {
            "label": self.label,
            "scores": dict(self.scores),
            "methods": dict(self.methods),
            "readings": self.readings,
            "words": [
                {
                    "text": word.text,
                    "start": word.start,
                    "end": word.end,
                    "column": word.column,
                    "attributions": dict(word.attributions),
                }
                for word in self.words
            ],
        }


@dataclass(frozen=True)
class Occlusion:
    """A text, and the parts that it is read without.

    Attributes:
        text: The text.
        spans: Its words, or groups of them.
    """

    text: Text
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, text: Text, max_readings: int = MAX_READINGS) -> Occlusion:
        """Return the occlusion of a validated text.

        Args:
            text: The text.
            max_readings: Largest number of texts to read.

        Raises:
            ConfigError: ``max_readings`` is too small for this text.
        """
        if max_readings < _LEAST_READINGS:
            raise ConfigError(f"max_readings is {max_readings}, expected {_LEAST_READINGS} or more")
        return cls(text, tuple(word_spans(text, max_readings - 1)))

    @property
    def readings(self) -> int:
        """How many texts there are to read."""
        return 1 + len(self.spans)

    def texts(self) -> Iterator[Text]:
        """Yield the text, and then the text without each span."""
        yield self.text
        for span in self.spans:
            yield without(self.text, span)


def explain(
    occlusion: Occlusion,
    predictions: Sequence[Prediction],
    task: Task,
    linear: LinearModel | None,
    columns: Sequence[str],
    label: object = None,
) -> Explanation:
    """Return the explanation of a text.

    Args:
        occlusion: The text and its words.
        predictions: One per text of the occlusion, in order.
        task: The task of the model.
        linear: The linear member of the model, if it has one.
        columns: The text columns of the model.
        label: The label or target to explain. Defaults to the most probable label, or to the first target.

    Raises:
        ConfigError: The model has no such label or target.
    """
    whole, *others = predictions
    scores = whole.scores
    output = task.main_output(scores[ENSEMBLE]) if label is None else task.output_number(label)
    # With early exit, a direction may not have read all of the texts.
    complete = [name for name in scores if name != LINEAR and all(name in each.scores for each in others)]
    attributions = {
        name: [float(scores[name][output] - each.scores[name][output]) for each in others] for name in complete
    }
    methods: dict[str, Method] = dict.fromkeys(complete, "occlusion")
    if linear is not None:
        attributions[LINEAR] = _of_linear(linear, occlusion, output, task.linear_unit(output))
        methods[LINEAR] = "exact"
    names = [name for name in scores if name in attributions]
    fields = fields_of(occlusion.text)
    words = [
        ExplainedWord(
            text=fields[span.field][span.start : span.end],
            start=span.start,
            end=span.end,
            column=columns[span.field] if len(fields) > 1 else None,
            attributions={name: attributions[name][number] for name in names},
        )
        for number, span in enumerate(occlusion.spans)
    ]
    return Explanation(
        label=[*(task.label_values or task.output_names)][output],
        scores={name: float(row[output]) for name, row in scores.items()},
        words=tuple(words),
        methods={name: methods[name] for name in names},
        readings=occlusion.readings,
        prediction=whole,
    )


def _of_linear(linear: LinearModel, occlusion: Occlusion, output: int, unit: float) -> list[float]:
    """Return what the linear member finds in each span."""
    characters = linear.contributions(occlusion.text, output)
    return [unit * float(characters[span.field][span.start : span.end].sum()) for span in occlusion.spans]
