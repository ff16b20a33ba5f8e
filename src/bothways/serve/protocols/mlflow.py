"""MLflow's scoring protocol, ``POST /invocations`` and ``GET /ping``, which is also that of SageMaker containers."""

from __future__ import annotations

import csv
import io
from typing import Any

from bothways.errors import BodyUnsupported, RequestInvalid, ServingError, quoted, shown
from bothways.schema import Entries, Items
from bothways.serve.answers import Answer, Classified
from bothways.serve.protocols.protocol import (
    Information,
    Protocol,
    Query,
    RawRequest,
    Reply,
    Schema,
    all_classified,
    parse_body,
    readiness,
    refuse_many_texts,
)
from bothways.serve.service import ServedModel, Service
from bothways.serve.settings import Settings

_TEXT = "text"


class DataframeSplit(Schema):
    """A table as a list of rows."""

    columns: Items[str]
    data: Items[list[Any]]
    index: list[Any] | None = None


class InvocationRequest(Schema):
    """Exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`."""

    dataframe_split: DataframeSplit | None = None
    dataframe_records: Items[dict[str, Any]] | None = None
    instances: list[Any] | None = None
    inputs: list[Any] | Entries[list[Any]] | str | None = None
    params: dict[str, Any] | None = None
    """Ignored."""


def _parse(received: RawRequest, service: Service) -> Query:
    content_type = received.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    column = service.model().model.manifest.training.text_column
    if content_type == "text/csv":
        return Query(_csv_texts(received.body, column, service.settings), None, _render)
    if content_type not in ("application/json", ""):
        raise BodyUnsupported(f"the content type is {quoted(content_type, 60)}, expected application/json or text/csv")
    request = parse_body(received.body, InvocationRequest, service.settings)
    given = {name: getattr(request, name) for name in ("dataframe_split", "dataframe_records", "instances", "inputs")}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        raise RequestInvalid(
            "expected exactly one of dataframe_split, dataframe_records, instances and inputs, found "
            f"{', '.join(given) or 'none'}"
        )
    ((name, value),) = given.items()
    return Query(_texts(name, value, column), None, _render)


def _texts(name: str, value: Any, column: str | None) -> list[Any]:
    if isinstance(value, DataframeSplit):
        place = value.columns.index(_column(value.columns, column))
        if bad := next((row for row in value.data if len(row) != len(value.columns)), None):
            raise RequestInvalid(f"dataframe_split: a row has {len(bad)} values, expected {len(value.columns)}")
        return [row[place] for row in value.data]
    if isinstance(value, dict):
        return list(value[_column(list(value), column)])
    if isinstance(value, str):
        return [value]
    if value and all(isinstance(item, dict) for item in value):
        chosen = _column(list(value[0]), column)
        if any(chosen not in item for item in value):
            raise RequestInvalid(f"{name}: not every row has the column {quoted(chosen)}")
        return [item[chosen] for item in value]
    return [item[0] if isinstance(item, list) and len(item) == 1 else item for item in value]


def _csv_texts(body: bytes, column: str | None, settings: Settings) -> list[str]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(body.decode("utf-8"), newline=""), strict=True):
            if row or not rows:
                rows.append(row)
                refuse_many_texts(len(rows) - 1, settings)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestInvalid(f"the body is not valid CSV in UTF-8: {shown(str(error))}") from None
    if not rows:
        raise RequestInvalid("the body is empty, expected a header line with column names")
    header, *lines = rows
    place = header.index(_column(header, column))
    if bad := next((row for row in lines if row and len(row) != len(header)), None):
        raise RequestInvalid(f"a row has {len(bad)} values, expected {len(header)}")
    return [row[place] for row in lines if row]


def _column(names: list[str], trained_on: str | None) -> str:
    """Return the text column: the one used in training, ``text``, or the only column."""
    found = next((name for name in (trained_on, _TEXT) if name in names), None)
    if found is None and len(names) == 1:
        found = names[0]
    if found is None:
        raise RequestInvalid(
            f"text column not found: expected {quoted(trained_on or _TEXT)}, found {shown(', '.join(names))}"
        )
    return found


def _render(served: ServedModel, answer: Answer) -> Reply:
    return Reply({"predictions": [_prediction(found) for found in all_classified(answer)]})


def _prediction(found: Classified) -> object:
    """Return the predicted number, or the most probable label with its probability."""
    prediction = found.prediction
    if prediction.value is not None:
        return prediction.value
    return {"label": prediction.label, "score": prediction.probability}


def _render_error(error: ServingError) -> tuple[int, object]:
    return error.status, {"error_code": error.kind.upper(), "message": str(error)}


PROTOCOL = Protocol(
    predict_routes={"/invocations": "Predict a label or a number per text (MLflow, SageMaker)"},
    request=InvocationRequest,
    parse=_parse,
    render_error=_render_error,
    information=(Information("/ping", "Report whether the server accepts requests", readiness, is_probe=True),),
)
