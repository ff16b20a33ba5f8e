"""Explanations of bothways: ``POST /v1/explain``, the words of a text that decided its prediction.

The text, and the text without each of its words, are read like the texts of any other request: in the running batch of
the model, counted text by text, with the same limits and deadlines.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import Field

from bothways.errors import ConfigError, RequestInvalid, RequestTooLarge, TextError
from bothways.runtime.explanation import MAX_READINGS, Method, Occlusion
from bothways.serve.answers import Answer
from bothways.serve.models import ServedModel
from bothways.serve.protocols import own
from bothways.serve.protocols.protocol import (
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    all_classified,
    parse_body,
    served_by,
)
from bothways.serve.service import Service
from bothways.serve.settings import Settings
from bothways.text.fields import Text, characters_of
from bothways.text.validation import check_item

MAX_CHARACTERS = 10_000
"""The n-grams of the linear member are found in the thread that answers requests, in less than 50 ms for these."""


class ExplainRequest(Schema):
    """A text to explain."""

    text: Any
    """A string, or an object with a string per text column (`text_columns` in `/v1/models`)."""
    label: str | int | bool | None = None
    """Label or target to explain. Defaults to the most probable label, or to the first target."""
    max_readings: int = Field(default=MAX_READINGS, ge=2, strict=True)
    """Texts to read at most: the text, and the text without each word. A longer text is explained by groups of words.
    The server's maximum number of texts per request is a limit, too."""
    model: str | None = None
    """Name of the model, or `NAME@VERSION`. Defaults to that of the path, or to the first one that is served."""
    version: str | None = None
    """Version of the model. Defaults to one of its versions, chosen at random by their weights."""


class Word(Schema):
    """A word of the text, or several neighboring ones."""

    text: str
    start: int
    """Offset of its first character, in Unicode code points."""
    end: int
    column: str | None
    """The text column that has the word. `null` for a model with one text column."""
    attributions: dict[str, float]
    """What the word adds to each of `scores`, above 0 if it speaks for the label."""


class ExplainReply(Schema):
    """The words that decided a prediction."""

    model: str
    version: str
    digest: str
    """The digest of the bundle, a SHA-256."""
    label: str | int | bool
    """The label that is explained, or the name of the target."""
    scores: dict[str, float]
    """The probability of the label, or the value, for each direction, for `linear` and for `ensemble`."""
    methods: dict[str, Method]
    """`occlusion`: the score minus the score without the word. `exact`: what the n-grams of the word add, in log odds
    or in the unit of the target."""
    readings: int
    """How many texts were read."""
    words: list[Word]


def _parse(received: RawRequest, service: Service) -> Query:
    request = parse_body(received.body, ExplainRequest, service.settings)
    chosen = served_by(service, received.path, {"model": request.model, "version": request.version})
    model = chosen.served.model
    try:
        text = check_item(request.text, "the text", model.text_columns)
        if request.label is not None:
            model.task.output_number(request.label)
        occlusion = _occlusion(text, request.max_readings, service.settings)
    except (ConfigError, TextError) as error:
        raise RequestInvalid(str(error)) from None
    return Query([*occlusion.texts()], chosen.served, partial(_render, request, occlusion), chosen.version)


def _occlusion(text: Text, max_readings: int, settings: Settings) -> Occlusion:
    """Return the occlusion of a text.

    Raises:
        RequestTooLarge: The text is too long, or there would be too much to read.
        ConfigError: ``max_readings`` is too small for this text.
    """
    characters = characters_of(text)
    if characters > MAX_CHARACTERS:
        raise RequestTooLarge(
            f"the text has {characters} characters, but at most {MAX_CHARACTERS} can be explained: send a part of it"
        )
    occlusion = Occlusion.of(text, min(max_readings, max(2, settings.max_texts)))
    total = characters * occlusion.readings
    if total > settings.max_body_bytes:
        raise RequestTooLarge(
            f"an explanation of the text reads {total} characters, but at most {settings.max_body_bytes} are allowed "
            "(max-body-bytes): send a shorter text, or a smaller max_readings"
        )
    return occlusion


def _render(request: ExplainRequest, occlusion: Occlusion, served: ServedModel, answer: Answer) -> Reply:
    predictions = [found.prediction for found in all_classified(answer)]
    try:
        explanation = served.model.explanation(occlusion, predictions, request.label)
    except ConfigError as error:  # a reload has replaced the model by one without this label
        raise RequestInvalid(str(error)) from None
    about = {"model": served.name, "version": served.version, "digest": served.model.digest}
    return Reply({**about, **explanation.to_dict()})


PROTOCOL = Protocol(
    predict_routes={"/v1/explain": "Explain a prediction: what each word adds to the score of a label"},
    request=ExplainRequest,
    parse=_parse,
    render_error=own.PROTOCOL.render_error,
    reply=ExplainReply,
    error=own.ErrorReply,
)
