"""What a protocol consists of: its routes, how it parses requests, and how it renders replies and errors.

The application and its OpenAPI document are both generated from ``Protocol`` objects.

Every protocol answers with every model: a route that has no place for a model's name exists once more below
``/models/NAME``, and takes ``?model=NAME``. ``NAME@VERSION`` names a version.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from bothways import strict_json
from bothways.errors import RequestInvalid, RequestTooLarge, ServingError, TextError, quoted
from bothways.schema import Document, Faults, validated
from bothways.serve.answers import Answer, Classified
from bothways.serve.models import ServedModel
from bothways.serve.service import Service
from bothways.serve.settings import Settings

MODEL_PREFIX = "/models/{model}"
_Schema = TypeVar("_Schema", bound=Document)
_VALUES_PER_TEXT, _MORE_VALUES = 100, 1000
"""A body has at most this many JSON values per allowed text, and this many more."""


class Schema(Document):
    """A JSON object of a protocol. Unknown keys are rejected."""

    model_config = ConfigDict(strict=False, use_attribute_docstrings=True)


@dataclass(frozen=True)
class RawRequest:
    """A request before it is parsed.

    Attributes:
        body: The whole body.
        headers: The headers by their names in lower case.
        path: The values of the route's path parameters, and ``model`` and ``version`` of the query string.
        choices: The other choices of the query string, not yet validated. Only those that the protocol supports there.
    """

    body: bytes
    headers: Mapping[str, str]
    path: Mapping[str, str]
    choices: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A reply to a client.

    Attributes:
        body: A JSON value, or bytes to be sent as they are.
        headers: Headers in addition to those of every reply.
        status: The HTTP status.
    """

    body: object
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True)
class Query:
    """A parsed request for predictions.

    Attributes:
        texts: The values sent as texts, of any type.
        served: The model that answers, chosen once per request.
        render: Renders the answer as this request wants it. Raises ``ServingError`` if the protocol has no way to
            report the error of a single text.
        version: The version of the model that the client requested. Defaults to any.
    """

    texts: Sequence[object]
    served: ServedModel
    render: Callable[[ServedModel, Answer], Reply]
    version: str | None = None


@dataclass(frozen=True)
class Chosen:
    """The model that answers a request.

    Attributes:
        served: The model.
        version: The version that the client requested. None for any.
    """

    served: ServedModel
    version: str | None


@dataclass(frozen=True)
class Information:
    """A GET route that describes the server or one of its models.

    Attributes:
        path: The path, with parameters such as ``{model}``.
        summary: The description of the route for OpenAPI.
        reply: Returns the reply, given the values of the path parameters, and ``model`` and ``version`` of the query
            string. May raise ``ServingError``.
        is_probe: Whether load balancers and orchestrators poll the route, so that its requests are not logged.
        method: The method of the route, ``GET`` or ``POST``. The body of a request is not read.
    """

    path: str
    summary: str
    reply: Callable[[Service, Mapping[str, str]], Reply]
    is_probe: bool = False
    method: str = "GET"


@dataclass(frozen=True)
class LineFormat:
    """How a protocol reads and writes JSON lines.

    Attributes:
        text: Returns the text in the JSON value of a line, given the text columns of the model.
        renderer: Given the choices of the query string and a model, returns what renders a prediction of this model as
            the JSON value of a reply's line. Raises ``RequestInvalid``.
    """

    text: Callable[[object, Sequence[str]], object]
    renderer: Callable[[Mapping[str, object], ServedModel], Callable[[Classified], object]]


@dataclass(frozen=True)
class Protocol:
    """One way to request predictions over HTTP.

    Attributes:
        predict_routes: The paths to POST requests for predictions to, with a summary of each for OpenAPI.
        request: The schema of such a request in JSON.
        parse: Parses a request. Raises ``ServingError``.
        render_error: Returns the status and the JSON body for an error.
        information: The GET routes of the protocol.
        reply: The schema of a reply with predictions, for OpenAPI.
        error: The schema of an error, for OpenAPI.
        lines: How bodies of JSON lines are read and written. None if the protocol has no such bodies.
        media: The formats of requests and replies in addition to JSON, for OpenAPI.
        choices: The schema of what the query string may choose in addition to the model. None for nothing.
    """

    predict_routes: Mapping[str, str]
    request: type[BaseModel]
    parse: Callable[[RawRequest, Service], Query]
    render_error: Callable[[ServingError], tuple[int, object]]
    information: Sequence[Information] = ()
    reply: type[BaseModel] | None = None
    error: type[BaseModel] | None = None
    lines: LineFormat | None = None
    media: Sequence[str] = ()
    choices: type[BaseModel] | None = None

    @property
    def routes(self) -> dict[str, str]:
        """All paths to POST requests for predictions to, with a summary of each."""
        found = dict(self.predict_routes)
        for path, summary in self.predict_routes.items():
            if "{model}" not in path:  # a base URL may end with a slash
                more = {MODEL_PREFIX + path, MODEL_PREFIX + path.rstrip("/")}
                found |= dict.fromkeys(sorted(more), f"{summary}, with any model")
        return found


def liveness(_: Service, __: Mapping[str, str]) -> Reply:
    """Report that the process runs. Depends on nothing else, or an orchestrator would restart a busy server."""
    return Reply({"live": True})


def readiness(service: Service, _: Mapping[str, str]) -> Reply:
    """Report whether the server accepts requests, and if not, why."""
    state = {"ready": service.is_ready, "problem": service.problem, "draining": service.is_draining, "live": True}
    return Reply(state, status=200 if service.is_ready else 503)


def all_classified(answer: Answer) -> list[Classified]:
    """Return the predictions of all texts.

    Raises:
        RequestInvalid: One of the texts can't be classified. The message names it.
    """
    for item in answer.items:
        if isinstance(item, TextError):
            raise RequestInvalid(str(item))
    return [item for item in answer.items if isinstance(item, Classified)]


def served_by(
    service: Service, names: Mapping[str, str | None], others: Mapping[str, str | None] | None = None
) -> Chosen:
    """Return the model that answers a request.

    Args:
        service: The service.
        names: ``model`` and ``version`` in the path or the query string, if they are there.
        others: The same in the body.

    Raises:
        RequestInvalid: The path and the body name different models or versions.
        ModelUnknown: No such model or version is served.
        Unavailable: The models are still loading, or the server is shutting down.
    """
    found: dict[str, str | None] = {}
    for key in ("model", "version"):
        first, second = names.get(key), (others or {}).get(key)
        if first is not None and second is not None and first != second:
            raise RequestInvalid(
                f"the URL names the {key} {quoted(first, 100)}, but the body names {quoted(second, 100)}"
            )
        found[key] = second if first is None else first
    name, version = found["model"], found["version"]
    if name is not None and version is None and "@" in name and name not in (each.name for each in service.models):
        name, _, version = name.rpartition("@")
    return Chosen(service.model(name, version), version)


def refuse_unsupported(keys: Mapping[str, object] | None, reasons: Mapping[str, str]) -> None:
    """Refuse keys that would change the answer in the original server or in another place. Others are ignored.

    Args:
        keys: The keys of an object that its schema does not know.
        reasons: Why a key is not supported and what to do instead, by key.

    Raises:
        RequestInvalid: One of the keys has a reason.
    """
    if (found := next((key for key in keys or {} if key in reasons), None)) is not None:
        raise RequestInvalid(f"{found} {reasons[found]}")


def render_plain_error(error: ServingError) -> tuple[int, object]:
    """Return the status of an error, and a body that consists of its message."""
    return error.status, {"error": str(error)}


def refuse_many_texts(count: int, settings: Settings) -> None:
    """Refuse a request with more texts than the server allows.

    Raises:
        RequestTooLarge: The request has more than ``max_texts`` texts.
    """
    if count > settings.max_texts:
        raise RequestTooLarge(
            f"the request has {count} texts, but at most {settings.max_texts} are allowed (max-texts)"
        )


def parse_body(body: bytes, schema: type[_Schema], settings: Settings) -> _Schema:
    """Parse the JSON body of a request, in a time that is bounded by the number of texts that it may have.

    Raises:
        RequestTooLarge: The body has many more values than ``max_texts`` texts need.
        RequestInvalid: The body is not strict JSON, or does not match the schema. The first error is reported.
    """
    return matching(parse_json(body, settings), schema)


def parse_json(body: bytes, settings: Settings) -> object:
    """Return the value of a JSON body, with or without a byte order mark.

    Raises:
        RequestTooLarge: The body has many more values than ``max_texts`` texts need.
        RequestInvalid: The body is not strict JSON.
    """
    most_values = _VALUES_PER_TEXT * settings.max_texts + _MORE_VALUES
    try:
        return strict_json.parse(body.removeprefix(codecs.BOM_UTF8), most_values=most_values)
    except strict_json.TooManyValues:
        raise RequestTooLarge(
            f"the body has more than {most_values} JSON values, but at most {settings.max_texts} texts are allowed "
            "(max-texts): send fewer texts per request, without other data"
        ) from None
    except ValueError as error:
        raise RequestInvalid(f"the body is not strict JSON: {error}") from None


def matching(value: object, schema: type[_Schema], where: str = "the body") -> _Schema:
    """Return a JSON value as an object of a schema.

    Raises:
        RequestInvalid: The value does not match the schema. The first error is reported.
    """
    try:
        return validated(schema, value)
    except Faults as error:
        raise RequestInvalid(str(error) if error.faults[0].location else f"{where}: {error}") from None
