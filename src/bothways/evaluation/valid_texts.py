"""Read the texts of a table chunk by chunk, without the rows whose text cannot be used.

In: an open table. Out: chunks of valid rows with their texts. Invalid rows are refused, all of them at once, or left
out and listed in a file beside the output. Memory use does not depend on the number of rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from bothways import strict_json
from bothways.data.invalid import as_json, invalid_path, refuse_invalid
from bothways.data.labeled import InvalidCellError, parse_text
from bothways.data.table import Chunk, Table
from bothways.files import STANDARD_STREAM, open_for_writing, refuse_existing
from bothways.tasks.task import InvalidRow
from bothways.text.fields import Text

_MOST_REPORTED = 100_000
"""Reading stops at this number of invalid rows."""


def valid_chunks(
    table: Table,
    columns: Sequence[str],
    *,
    skip: int,
    is_endless: bool,
    on_invalid: Callable[[InvalidRow], object] | None,
) -> Iterator[tuple[Chunk, list[Text]]]:
    """Yield each chunk of a table that has valid rows, with the texts of these rows.

    Args:
        table: The table.
        columns: Text columns.
        skip: Number of valid rows at the start to leave out, which end with a chunk. An earlier call wrote them.
        is_endless: Whether the table may be a stream without an end, which is never read to its end in vain.
        on_invalid: Called with each row that is left out. None refuses them.

    Raises:
        DataError: There are invalid rows. All of them are counted, except behind those of an endless stream.
    """
    invalid: list[InvalidRow] = []
    rows = valid = 0
    for chunk in table.chunks():
        rows += len(chunk)
        if on_invalid is None and rows <= skip:
            continue
        kept, texts, found = _divided(chunk, columns, table.name)
        if on_invalid is not None:
            for row in found:
                on_invalid(row)
            valid += len(kept)
            if kept and valid > skip:
                yield chunk if len(kept) == len(chunk) else chunk.selected(kept), texts
            continue
        invalid += found
        if not invalid:
            yield chunk, texts
        elif is_endless or len(invalid) >= _MOST_REPORTED:
            break
    refuse_invalid(invalid, rows)


def _divided(chunk: Chunk, columns: Sequence[str], name: str) -> tuple[list[int], list[Text], list[InvalidRow]]:
    """Return the positions of the valid rows of a chunk, their texts, and the invalid rows."""
    kept, texts, invalid = [], [], []
    for position, cells in enumerate(zip(*map(chunk.column, columns), strict=True)):
        try:
            texts.append(parse_text(cells, columns))
            kept.append(position)
        except InvalidCellError as error:
            values = dict(zip(chunk.columns, chunk.rows[position], strict=True))
            invalid.append(InvalidRow(name, chunk.places[position], error.column, str(error), values))
    return kept, texts, invalid


@contextlib.contextmanager
def invalid_listing(out: str) -> Iterator[Callable[[InvalidRow], None]]:
    """Yield a function that adds a row to the list of the rows left out of an output.

    The list appears if the block succeeds and a row was added. Standard output has none.

    Raises:
        OutputExists: A file with the name of the list exists.
        DataError: The disk is full or not writable.
    """
    if out == STANDARD_STREAM:
        yield lambda row: None
        return
    path = invalid_path(out)
    refuse_existing(path)
    with contextlib.ExitStack() as stack:
        streams: list[IO[bytes]] = []

        def add(row: InvalidRow) -> None:
            if not streams:
                streams.append(stack.enter_context(open_for_writing(str(path))))
            streams[0].write(f"{strict_json.dump(as_json(row))}\n".encode("utf-8", "backslashreplace"))

        yield add
