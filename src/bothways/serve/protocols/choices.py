"""What a request may choose: how many labels to report, the thresholds of a multi-label model, and which numbers.

A request makes its choices in its body. Where the body has no place for them, as in JSON lines, they are in the query
string.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from bothways import strict_json
from bothways.errors import ConfigError, RequestInvalid, shown
from bothways.runtime.classifier import Classifier
from bothways.schema import Entries, Items
from bothways.serve.protocols.protocol import Schema
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Task

Name = Literal["forward", "backward", "linear", "ensemble"]
_Threshold = Annotated[float, Field(ge=0, le=1, strict=True)]
_LISTS = ("probabilities", "values")
"""Choices of several names, which a query string separates by commas or repeats."""


class Choices(Schema):
    """What every protocol lets a request choose, where the protocol has a place for it."""

    top_k: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Also return this many labels, most probable first."""
    threshold: _Threshold | None = None
    """Threshold of all labels of a multi-label model. Defaults to those chosen in training."""
    thresholds: Entries[_Threshold] | None = None
    """Thresholds of some labels of a multi-label model, by label. Precede `threshold`."""

    def task_of(self, model: Classifier) -> Task:
        """Return the task of a model with the thresholds of this request.

        Raises:
            RequestInvalid: The model has no labels to choose from or no thresholds, or a label is unknown.
        """
        if self.top_k is not None and not model.labels:
            raise RequestInvalid("top_k is not supported: the model predicts a number and has no labels")
        if self.threshold is None and self.thresholds is None:
            return model.task
        try:
            return model.task.with_thresholds(self.thresholds or {}, self.threshold)
        except ConfigError as error:
            raise RequestInvalid(str(error)) from None


class OwnChoices(Choices):
    """What a request of the own protocol may choose."""

    probabilities: Items[Name] | None = None
    """Which probabilities to return. Defaults to `ensemble`. Must be left out for a regression model."""
    values: Items[Name] | None = None
    """Which values of a regression model to return. Defaults to `ensemble`. Must be left out for other models."""
    tokens: bool = False
    """Return the tokens of each text, and the order in which each direction reads them."""

    def task_of(self, model: Classifier) -> Task:
        """Return the task of a model with the thresholds of this request.

        Raises:
            RequestInvalid: The model has no such numbers, no labels to choose from or no thresholds, or a label is
                unknown.
        """
        kind = model.task.score_kind
        for name, names in (("probabilities", self.probabilities), ("values", self.values)):
            if names is not None and name != kind:
                raise RequestInvalid(f'the model has no {name}: request {kind} instead, such as "{kind}": ["ensemble"]')
        return super().task_of(model)


def choices_in_query(query: Iterable[tuple[str, str]], supported: type[BaseModel] | None) -> dict[str, object]:
    """Return the choices in a query string as JSON values, not yet validated. Other parameters are ignored.

    Args:
        query: The names and values of the parameters.
        supported: What the route lets a query string choose. None for nothing.

    Raises:
        RequestInvalid: A choice is not supported in the query string of this route, or is there twice.
    """
    given: dict[str, list[str]] = {}
    for name, text in query:
        if name in OwnChoices.model_fields:
            given.setdefault(name, []).append(text)
    found: dict[str, object] = {}
    for name, texts in given.items():
        if supported is None or name not in supported.model_fields:
            raise RequestInvalid(
                f"{name} is not supported in the URL of this route: send it in the body as its protocol describes, or "
                "use /v1/classify"
            )
        if name in _LISTS:
            found[name] = ",".join(texts).split(",")
        elif len(texts) > 1:
            raise RequestInvalid(f"the URL has {name} more than once, expected one value")
        else:
            found[name] = _json_value(texts[0])
    return found


def with_choices(body: object, choices: Mapping[str, object]) -> object:
    """Return an object of a JSON body with the choices of the query string. Other values are returned as they are.

    Raises:
        RequestInvalid: The object has another value for a choice.
    """
    if not isinstance(body, dict):
        return body
    for name, value in choices.items():
        if body.get(name, value) != value:
            raise RequestInvalid(
                f"the URL has {name} {shown(value, 40)}, but the body has {shown(body[name], 40)}: send one of them"
            )
    return {**body, **choices}


def _json_value(text: str) -> object:
    """Return the JSON value in a text, or the text if it is none, so that validation reports it."""
    try:
        return strict_json.parse(text.encode("utf-8", "replace"))
    except ValueError:
        return text


def ranked(scores: Scores) -> list[int]:
    """Return the positions of scores, (C,), from the highest to the lowest. Equal ones keep their order."""
    return sorted(range(len(scores)), key=lambda position: -scores[position])
