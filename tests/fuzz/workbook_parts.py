"""A workbook of which one part is fuzzed. The others are constant, and none is packed into a zip archive."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import IO
from unittest.mock import patch

from bothways.data import excel, workbook
from bothways.data.dialect import Dialect
from tests.hostile import table_files as tables
from tests.hostile.entrances import Entrance

STRINGS_SEED = b"<sst " + tables.MAIN + b"><si><t>good</t></si><si><r><t>film</t></r><rPh><t>x</t></rPh></si></sst>"
SHEET_SEED = tables.sheet_of(
    tables.HEAD
    + b'<row r="2"><c r="A2" t="s"><v>0</v></c><c r="B2"><v>1.5</v></c></row>'
    + b'<row r="4"><c r="A4" t="b"><v>1</v></c><c r="B4" t="str"><f>A1</f><v>x</v></c></row>'
)
STYLES_SEED = (
    b"<styleSheet " + tables.MAIN + b'><numFmts><numFmt numFmtId="164" formatCode="[h]:mm"/></numFmts>'
    b'<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/></cellXfs></styleSheet>'
)


def parts_with(changed: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the parts of a small workbook, in which one row refers to a shared text and to a style."""
    kept = tables.parts_of_workbook()
    row = b'<row><c t="s"><v>0</v></c><c s="1"><v>45000.5</v></c></row>'
    parts = {part: kept[part] for part in ("_rels/.rels", tables.WORKBOOK, tables.RELATIONSHIPS)}
    parts |= {tables.STYLES: STYLES_SEED, tables.SHEET: tables.sheet_of(tables.HEAD + row)}
    return {**parts, tables.STRINGS: STRINGS_SEED, **changed}


class _Archive:
    """What the readers use of ``zipfile.ZipFile``."""

    def __init__(self, parts: Mapping[str, bytes]) -> None:
        self.NameToInfo = parts  # the name that zipfile has chosen

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infolist(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(file_size=len(content)) for content in self.NameToInfo.values()]

    def open(self, name: str) -> IO[bytes]:
        return io.BytesIO(self.NameToInfo[name])


@dataclass(frozen=True)
class PartEntrance(Entrance):
    """A file that is read as a part of a workbook.

    Attributes:
        part: Name of the part.
    """

    part: str = field(kw_only=True)

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """Yield the path where the part can be written. Until then, every zip archive is the workbook with the part."""
        parts = parts_with({})

        def opened(stream: IO[bytes]) -> _Archive:
            parts[self.part] = stream.read()
            return _Archive(parts)

        zips, book = SimpleNamespace(ZipFile=opened), workbook.Workbook
        with contextlib.ExitStack() as stack:
            for module in (workbook, excel):
                stack.enter_context(patch.object(module, "zipfile", zips))
            for name in ("_elements", "_texts"):
                stack.enter_context(patch.object(book, name, self._once(getattr(book, name))))
            yield stack.enter_context(super().place())

    def _once(self, read: Callable[[workbook.Workbook, str], object]) -> Callable[[workbook.Workbook, str], object]:
        """Return a function that reads each of the other parts only once."""
        known: dict[str, object] = {}

        def read_once(book: workbook.Workbook, part: str) -> object:
            if part == self.part:
                return read(book, part)
            if part not in known:
                known[part] = read(book, part)
            return known[part]

        return read_once


def part_entrance(part: str) -> PartEntrance:
    """Return the entrance that reads a file as a part of a workbook."""
    return PartEntrance("part.xml", _read_rows, bytes, part=part)


def _read_rows(path: Path) -> object:
    table = excel.ExcelTable("x.xlsx", io.BytesIO(path.read_bytes()), Dialect(format="excel"))
    return sum(len(chunk) for chunk in table.chunks())
