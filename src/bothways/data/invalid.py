"""Report the rows of a source that cannot be used: all of them at once, in a message or in a file.

In: invalid rows. Out: an error that counts them, or a file of JSON lines beside an output.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bothways import strict_json
from bothways.errors import DataError, OutputExists, quoted
from bothways.files import open_for_writing
from bothways.tasks.task import InvalidRow

INVALID_SUFFIX = ".invalid.jsonl"
_REASONS_SHOWN, _PLACES_SHOWN = 4, 3


def refuse_invalid(invalid: Sequence[InvalidRow], rows: int, *, can_drop: bool = True) -> None:
    """Refuse a source that has invalid rows.

    Args:
        invalid: The invalid rows of one source, in order.
        rows: Number of all its rows.
        can_drop: Whether there is an option that leaves invalid rows out.

    Raises:
        DataError: There are some. The message has their number, and the places of the first few by reason.
    """
    if not invalid:
        return
    drop = f", or leave {'it' if len(invalid) == 1 else 'them'} out with --drop-invalid" if can_drop else ""
    if len(invalid) == 1:
        raise DataError(f"{invalid[0].source}, {described(invalid[0])}. Correct it{drop}")
    count = f"{len(invalid):,} of {rows:,} rows are invalid"
    raise DataError(f"{invalid[0].source}: {count}: {summary(invalid)}. Correct them{drop}")


def described(row: InvalidRow) -> str:
    """Return the place of a row with its reason."""
    column = f", column {quoted(row.column)}" if row.column else ""
    return f"{row.place}{column}: {row.reason}"


def summary(invalid: Sequence[InvalidRow]) -> str:
    """Return the most frequent reasons, each with the places of its first rows."""
    by_reason: dict[str, list[InvalidRow]] = defaultdict(list)
    for row in invalid:
        by_reason[f"column {quoted(row.column)}: {row.reason}" if row.column else row.reason].append(row)
    groups = sorted(by_reason.items(), key=lambda group: -len(group[1]))
    parts = []
    for reason, rows in groups[:_REASONS_SHOWN]:
        more = f" and {len(rows) - _PLACES_SHOWN:,} more" if len(rows) > _PLACES_SHOWN else ""
        parts.append(f"{reason} ({', '.join(row.place for row in rows[:_PLACES_SHOWN])}{more})")
    if len(groups) > _REASONS_SHOWN:
        parts.append(f"{sum(len(rows) for _, rows in groups[_REASONS_SHOWN:]):,} with other reasons")
    return "; ".join(parts)


def invalid_path(out: str | os.PathLike[str]) -> Path:
    """Return the path of the file that lists the invalid rows left out of an output."""
    path = Path(out)
    return path.with_name(f"{path.name}{INVALID_SUFFIX}")


def write_invalid(out: str | os.PathLike[str], invalid: Sequence[InvalidRow]) -> Path | None:
    """List the rows that were left out in a file beside an output, and return its path; None if there are none.

    Raises:
        OutputExists: The file exists with other content.
        DataError: It cannot be written.
    """
    if not invalid:
        return None
    path = invalid_path(out)
    content = "".join(f"{strict_json.dump(as_json(row))}\n" for row in invalid).encode("utf-8", "backslashreplace")
    if path.exists() or path.is_symlink():
        try:
            is_same = path.read_bytes() == content
        except OSError:
            is_same = False
        if not is_same:
            raise OutputExists(f"{path} already exists: move it, it would list the rows that are left out")
        return path
    with open_for_writing(str(path)) as file:
        file.write(content)
    return path


def as_json(row: InvalidRow) -> dict[str, object]:
    """Return a row as JSON holds it: place, column, reason and values."""
    values = {str(name): _json_value(value) for name, value in row.values.items()}
    return {
        "source": row.source,
        "place": row.place,
        "column": row.column,
        "reason": row.reason,
        "values": values,
    }


def _json_value(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): _json_value(each) for name, each in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_json_value(each) for each in value]
    return str(value)
