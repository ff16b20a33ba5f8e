"""MLflow's scoring protocol, ``POST /invocations`` and ``GET /ping``, which is also that of SageMaker containers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
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
from bothways.text.fields import columns_text

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
    served = service.model()
    columns = served.model.text_columns
    if content_type == "text/csv":
        return Query(_csv_texts(received.body, columns, service.settings), served, _render)
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
    return Query(_texts(name, value, columns), served, _render)


def _texts(name: str, value: Any, columns: Sequence[str]) -> list[Any]:
    if isinstance(value, DataframeSplit):
        chosen = _text_columns(value.columns, columns)
        if bad := next((row for row in value.data if len(row) != len(value.columns)), None):
            raise RequestInvalid(f"dataframe_split: a row has {len(bad)} values, expected {len(value.columns)}")
        return _joined([[row[value.columns.index(column)] for row in value.data] for column in chosen])
    if isinstance(value, dict):
        chosen = _text_columns(list(value), columns)
        if len({len(value[column]) for column in chosen}) > 1:
            raise RequestInvalid(f"{name}: {columns_text(chosen)} have different lengths")
        return _joined([value[column] for column in chosen])
    if isinstance(value, str):
        return [value]
    if value and all(isinstance(item, dict) for item in value):
        chosen = _text_columns(list(value[0]), columns)
        if missing := next((column for item in value for column in chosen if column not in item), None):
            raise RequestInvalid(f"{name}: not every row has the column {quoted(missing)}")
        return _joined([[item[column] for item in value] for column in chosen])
    return [item[0] if isinstance(item, list) and len(item) == 1 else item for item in value]


def _joined(cells: list[list[Any]]) -> list[Any]:
    """Return one text per row from the cells of each text column."""
    return cells[0] if len(cells) == 1 else list(zip(*cells, strict=True))


def _csv_texts(body: bytes, columns: Sequence[str], settings: Settings) -> list[Any]:
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
    places = [header.index(column) for column in _text_columns(header, columns)]
    if bad := next((row for row in lines if row and len(row) != len(header)), None):
        raise RequestInvalid(f"a row has {len(bad)} values, expected {len(header)}")
    return _joined([[row[place] for row in lines if row] for place in places])


def _text_columns(names: list[str], trained_on: Sequence[str]) -> list[str]:
    """Return the text columns: those used in training, or for one column also ``text`` or the only column."""
    if all(column in names for column in trained_on) and trained_on:
        return list(trained_on)
    if len(trained_on) < 2 and _TEXT in names:
        return [_TEXT]
    if len(trained_on) < 2 and len(names) == 1:
        return names
    expected = " and ".join(map(quoted, trained_on or [_TEXT]))
    raise RequestInvalid(f"text column not found: expected {expected}, found {shown(', '.join(names))}")


def _render(served: ServedModel, answer: Answer) -> Reply:
    return Reply({"predictions": [_prediction(found) for found in all_classified(answer)]})


def _prediction(found: Classified) -> object:
    """Return the predicted number or numbers by target, or the most probable label with its probability."""
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
