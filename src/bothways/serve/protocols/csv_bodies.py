"""Read the texts of a CSV body (RFC 4180): n lines in, n texts out.

Whether the first line is a header is stated by the content type, ``text/csv; header=present`` or ``absent``. Otherwise
a first line with the names of the model's text columns is a header. Without one, every line is a text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from bothways.errors import RequestInvalid, quoted, shown
from bothways.serve.protocols.protocol import refuse_many_texts
from bothways.serve.settings import Settings

TEXT = "text"
"""The name by which the only text column of a model is known, in addition to that used in training."""
_STATE_HEADER = "State in the content type whether there is a header: text/csv; header=present or header=absent"


def csv_texts(body: bytes, header: str | None, columns: Sequence[str], settings: Settings) -> list[object]:
    """Return one text per line of a body, a header excepted. A text of several columns is a tuple.

    Args:
        body: The body in UTF-8, with or without a byte order mark.
        header: ``present``, ``absent``, or None if the client does not state it.
        columns: The text columns that the model was trained on. Empty if they are not recorded.
        settings: The settings of the server.

    Raises:
        RequestTooLarge: The body has more texts than allowed.
        RequestInvalid: The body is not valid CSV, or it is not clear which part of it is the text.
    """
    header = header and header.lower()
    if header not in (None, "present", "absent"):
        raise RequestInvalid(f"header is {quoted(header, 40)} in the content type, expected present or absent")
    rows = _rows(body, settings)
    if not rows:
        raise RequestInvalid("the body is empty, expected one text per line")
    has_header = _is_header(rows[0], columns) if header is None else header == "present"
    names = rows.pop(0) if has_header else list(columns or [TEXT])
    width = len(names)
    while width > 1 and rows and not rows[-1]:  # line ends after a table. In a single column they are empty texts
        rows.pop()
    places = [names.index(column) for column in text_columns(names, columns)]
    found: list[object] = []
    for number, row in enumerate(rows, 1 + has_header):
        cells = row or [""] if width == 1 else row
        if len(cells) != width:
            quote = ". Enclose a text with commas in quotes" if width == 1 else ""
            raise RequestInvalid(f"row {number} has {len(cells)} values, expected {width}{quote}")
        texts = [cells[place] for place in places]
        found.append(texts[0] if len(texts) == 1 else tuple(texts))
    return found


def text_columns(names: Sequence[str], trained_on: Sequence[str]) -> list[str]:
    """Return the text columns of a table: those used in training, or for one column also ``text`` or the only column.

    Raises:
        RequestInvalid: The table has no such column, or has it twice.
    """
    if all(column in names for column in trained_on) and trained_on:
        found = list(trained_on)
    elif len(trained_on) < 2 and TEXT in names:
        found = [TEXT]
    elif len(trained_on) < 2 and len(names) == 1:
        found = list(names)
    else:
        expected = " and ".join(map(quoted, trained_on or [TEXT]))
        raise RequestInvalid(f"text column not found: expected {expected}, found {shown(', '.join(names[:20]))}")
    if (repeated := next((column for column in found if list(names).count(column) > 1), None)) is not None:
        raise RequestInvalid(f"the column {quoted(repeated)} occurs twice")
    return found


def _rows(body: bytes, settings: Settings) -> list[list[str]]:
    rows: list[list[str]] = []
    csv.field_size_limit(max(csv.field_size_limit(), len(body)))  # max-body-bytes is the limit
    try:
        for row in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True):
            rows.append(row)
            refuse_many_texts(len(rows) - 1, settings)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestInvalid(f"the body is not valid CSV in UTF-8: {shown(str(error))}") from None
    return rows


def _is_header(first: list[str], columns: Sequence[str]) -> bool:
    """Return whether the first line of a body is a header, if the client does not state it.

    Raises:
        RequestInvalid: The line may or may not be a header.
    """
    known = [*columns, TEXT] if len(columns) < 2 else list(columns)
    if (columns and all(column in first for column in columns)) or (len(columns) < 2 and TEXT in first):
        return True
    similar = {name.strip().casefold() for name in known}
    if len(columns) < 2 and len(first) < 2 and not (first and first[0].strip().casefold() in similar):
        return False
    expected = " and ".join(map(quoted, columns or [TEXT]))
    raise RequestInvalid(
        f"the first line is {shown(','.join(first[:20]), 80)}, expected a header with {expected}"
        f"{' or one text' if len(columns) < 2 else ''}. {_STATE_HEADER}"
    )
