"""MLflow's scoring protocol, ``POST /invocations`` and ``GET /ping``, which is also that of SageMaker containers.

Bodies are JSON, CSV or JSON lines, and so are replies, as the client accepts. As in MLflow, keys that it does not know
are ignored. ``params`` and the query string may contain ``top_k``, ``threshold`` and ``thresholds``. Other ``params``
would change the answer in MLflow, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import ConfigDict

from bothways.errors import BodyUnsupported, RequestInvalid, ServingError, quoted
from bothways.schema import Entries, Items
from bothways.serve.answers import Answer, Classified
from bothways.serve.models import ServedModel
from bothways.serve.protocols.choices import Choices, with_choices
from bothways.serve.protocols.csv_bodies import csv_texts, text_columns
from bothways.serve.protocols.media_types import CSV, JSON, JSON_LINES, MediaType, accepted, content_type
from bothways.serve.protocols.predictions import prediction_of, predictions_reply
from bothways.serve.protocols.protocol import (
    Information,
    LineFormat,
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    all_classified,
    matching,
    parse_json,
    readiness,
    refuse_many_texts,
    served_by,
)
from bothways.serve.service import Service
from bothways.text.fields import columns_text

REPLIES = (JSON, *JSON_LINES, CSV)
"""The formats of replies, the default first."""
_FORM = "application/x-www-form-urlencoded"
"""What ``curl --data`` claims to send. It is read as JSON, as on the other routes."""
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class DataframeSplit(Schema):
    """A table as a list of rows."""

    columns: Items[str]
    data: Items[list[Any]]
    index: list[Any] | None = None


class InvocationRequest(Schema):
    """Exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`. Other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    dataframe_split: DataframeSplit | None = None
    dataframe_records: Items[dict[str, Any]] | None = None
    instances: list[Any] | None = None
    inputs: list[Any] | Entries[list[Any]] | str | None = None
    params: Choices | None = None
    """What to return."""


def _parse(received: RawRequest, service: Service) -> Query:
    body_type, media = content_type(received.headers), accepted(received.headers, REPLIES)
    chosen = served_by(service, received.path)
    columns, choices = chosen.served.model.text_columns, matching(received.choices, Choices, "the URL")
    if body_type.name == CSV:
        texts = csv_texts(received.body, body_type.parameters.get("header"), columns, service.settings)
    elif body_type.name in JSON_LINES:  # and the client accepts no lines
        lines = [line for line in received.body.splitlines() if line.strip()]
        refuse_many_texts(len(lines), service.settings)  # before each takes its time
        texts = [_text_of_line(parse_json(line, service.settings), columns) for line in lines]
    elif body_type.name in (JSON, _FORM, ""):
        value = parse_json(received.body, service.settings)
        value = {"inputs": value} if isinstance(value, list | str) else value
        if received.choices and isinstance(value, dict):
            params = value.get("params")
            value = {**value, "params": with_choices({} if params is None else params, received.choices)}
        request = matching(value, InvocationRequest)
        texts, choices = _texts(request, columns), request.params or choices
    else:
        expected = f"{JSON}, {CSV} or {JSON_LINES[0]}"
        raise BodyUnsupported(f"the content type is {quoted(body_type.name, 60)}, expected {expected}")
    choices.task_of(chosen.served.model)
    if choices.top_k is not None and media.name == CSV:
        raise RequestInvalid("top_k is not supported for replies in CSV, which have the probabilities of all labels")
    return Query(texts, chosen.served, partial(_render, choices, media), chosen.version)


def _texts(request: InvocationRequest, columns: Sequence[str]) -> list[Any]:
    given = {name: getattr(request, name) for name in _FORMS}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        raise RequestInvalid(f"expected exactly one of {', '.join(_FORMS)}, found {', '.join(given) or 'none'}")
    ((name, value),) = given.items()
    return texts_in(name, value, columns)


def texts_in(name: str, value: Any, columns: Sequence[str]) -> list[Any]:
    """Return the texts in the value of a key.

    Args:
        name: The key, for messages.
        value: A table by rows or by columns, a list of texts or of rows, or a text.
        columns: The text columns that the model was trained on. Empty if they are not recorded.

    Raises:
        RequestInvalid: A text column is missing, or rows or columns have different lengths.
    """
    if isinstance(value, DataframeSplit):
        chosen = text_columns(value.columns, columns)
        if (bad := next((row for row in value.data if len(row) != len(value.columns)), None)) is not None:
            raise RequestInvalid(f"dataframe_split: a row has {len(bad)} values, expected {len(value.columns)}")
        return _joined([[row[value.columns.index(column)] for row in value.data] for column in chosen])
    if isinstance(value, dict):
        chosen = text_columns(list(value), columns)
        if len({len(value[column]) for column in chosen}) > 1:
            raise RequestInvalid(f"{name}: {columns_text(chosen)} have different lengths")
        return _joined([value[column] for column in chosen])
    if isinstance(value, str):
        return [value]
    if value and all(isinstance(item, dict) for item in value):
        chosen = text_columns(list(value[0]), columns)
        if (missing := next((column for item in value for column in chosen if column not in item), None)) is not None:
            raise RequestInvalid(f"{name}: not every row has the column {quoted(missing)}")
        return _joined([[item[column] for item in value] for column in chosen])
    return [item[0] if isinstance(item, list) and len(item) == 1 else item for item in value]


def _joined(cells: list[list[Any]]) -> list[Any]:
    """Return one text per row from the cells of each text column."""
    return cells[0] if len(cells) == 1 else list(zip(*cells, strict=True))


def _render(choices: Choices, media: MediaType, served: ServedModel, answer: Answer) -> Reply:
    task = choices.task_of(served.model)  # again: a reload can have replaced the model
    return predictions_reply(all_classified(answer), served.model, task, choices, media)


def _text_of_line(value: object, columns: Sequence[str]) -> object:
    """Return the text in a line: a string, a row, or an object with the key ``inputs``, as SageMaker's containers take.

    Raises:
        ValueError: The line is an object without the text columns.
    """
    if isinstance(value, dict) and set(value) == {"inputs"}:
        value = value["inputs"]
    if isinstance(value, dict) and not (columns and set(columns) <= value.keys()):
        value = texts_in("line", [value], columns)[0]
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _line_renderer(choices: Mapping[str, object], served: ServedModel) -> Callable[[Classified], object]:
    wanted = matching(choices, Choices, "the URL")
    task = wanted.task_of(served.model)
    return lambda found: prediction_of(found, task, wanted)


def render_error(error: ServingError) -> tuple[int, object]:
    """Return the status and the body of an error, in the form of MLflow."""
    return error.status, {"error_code": error.kind.upper(), "message": str(error)}


PROTOCOL = Protocol(
    predict_routes={"/invocations": "Predict a label or a number per text (MLflow, SageMaker)"},
    request=InvocationRequest,
    parse=_parse,
    render_error=render_error,
    information=(Information("/ping", "Report whether the server accepts requests", readiness, is_probe=True),),
    lines=LineFormat(_text_of_line, _line_renderer),
    media=(CSV, JSON_LINES[0]),
    choices=Choices,
)
