"""Read the headers ``Content-Type`` and ``Accept``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache

from bothways.errors import BodyUnsupported, ReplyUnsupported, quoted

JSON, CSV = "application/json", "text/csv"
JSON_LINES = ("application/jsonlines", "application/x-ndjson", "application/x-jsonlines", "application/jsonl")
"""The names of JSON lines in use: one JSON value per line."""
_LONGEST_REMEMBERED, _MOST_REMEMBERED = 200, 200
"""Clients send the same few headers again and again."""
_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")


@dataclass(frozen=True)
class MediaType:
    """The format of a body.

    Attributes:
        name: The type in lower case, such as ``text/csv``.
        parameters: The parameters, such as ``header``, with their names in lower case.
    """

    name: str
    parameters: Mapping[str, str]


def content_type(headers: Mapping[str, str], default: str = JSON) -> MediaType:
    """Return the format of a request's body.

    Args:
        headers: The headers by their names in lower case.
        default: The type of a body without the header.

    Raises:
        BodyUnsupported: The body is not in UTF-8.
    """
    found = _parsed(headers.get("content-type", "").strip() or default)
    charset = found.parameters.get("charset", "utf-8")
    if charset.lower() not in _UTF8:
        raise BodyUnsupported(f"the charset is {quoted(charset, 40)}, expected utf-8")
    return found


def accepted(headers: Mapping[str, str], supported: Sequence[str]) -> MediaType:
    """Return the format in which to reply.

    Args:
        headers: The headers by their names in lower case.
        supported: The names of the formats that the server can reply in, the default first.

    Returns:
        The format that the client prefers, with the parameters that it states.

    Raises:
        ReplyUnsupported: The client accepts none of the formats.
    """
    wanted = headers.get("accept", "").strip()
    ranges = [_parsed(part) for part in wanted[:2000].split(",") if part.strip()] or [MediaType("*/*", {})]
    found = [(_quality(media), -number, media) for number, media in enumerate(ranges)]
    for quality, _, media in sorted(found, key=lambda each: each[:2], reverse=True):
        matching = (name for name in supported if media.name in (name, f"{name.partition('/')[0]}/*", "*/*"))
        if quality > 0 and (name := next(matching, None)):
            return MediaType(name, media.parameters)
    raise ReplyUnsupported(f"the reply can't be {quoted(wanted, 80)}, expected one of {', '.join(supported)} in Accept")


def lines_accepted(headers: Mapping[str, str]) -> str | None:
    """Return the media type of a reply in JSON lines. None unless the body is JSON lines and the client accepts them.

    Raises:
        BodyUnsupported: The lines are not in UTF-8.
        ReplyUnsupported: The client accepts neither JSON lines nor JSON.
    """
    if _parsed(headers.get("content-type", "")).name not in JSON_LINES:
        return None
    name = content_type(headers).name
    reply = accepted(headers, (name, *JSON_LINES, JSON)).name
    return reply if reply in JSON_LINES else None


def _parsed(value: str) -> MediaType:
    return _parsed_once(value) if len(value) <= _LONGEST_REMEMBERED else _parsed_once.__wrapped__(value)


@lru_cache(_MOST_REMEMBERED)
def _parsed_once(value: str) -> MediaType:
    message = Message()
    message["content-type"] = value.replace("\r", " ").replace("\n", " ")
    parameters = message.get_params(failobj=[], unquote=True)
    name, rest = (parameters[0][0], parameters[1:]) if parameters else ("", [])
    return MediaType(name.strip().lower(), {key.lower(): str(text).strip() for key, text in rest})


def _quality(media: MediaType) -> float:
    try:
        return float(media.parameters.get("q", "1"))
    except ValueError:
        return 0.0
