"""Read the sheets of an Excel workbook (.xlsx) one row at a time, with an amount of work that its size allows.

The parts of a workbook are XML files in a zip archive. openpyxl keeps an object per element, so that a few kilobytes
can take hundreds of megabytes. Here the parts are parsed by expat, and only values are kept.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pyexpat import ParserCreate, XMLParserType
from typing import IO, Final

from bothways.errors import quoted

_MAIN = ("http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://purl.oclc.org/ooxml/spreadsheetml/main")
_RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
_ID = re.compile(r"http://(schemas\.openxmlformats\.org|purl\.oclc\.org)/\S*relationships id")
_NAMES = ("row", "c", "v", "f", "is", "t", "rPh", "si", "sheet", "workbookPr", "numFmt", "cellXfs", "xf")
_TAGS = {
    **{f"{space} {tag}": tag for space in _MAIN for tag in _NAMES},
    f"{_RELATIONSHIPS} Relationship": "Relationship",
}
_BLOCK_BYTES = 1 << 15
_DEEPEST = 256
_MOST_ELEMENTS = 200_000
"""Limit for a part that is kept as a whole. Excel allows 65,490 styles of cells."""
_LAST_ROW, _LAST_COLUMN = 1_048_576, 16_384
_FREE_CHARACTERS = 64 * 1024 * 1024
_CHARACTERS_PER_BYTE = 64
"""What the cells may contain, and what they may in proportion to the file. Many cells can share one long text."""
_PLACE = re.compile(r"\$?([A-Za-z]{1,3})\$?[0-9]{1,7}")
_TRUE = ("1", "true", "on")


class NoValue:
    """The value of a formula whose value was not stored."""


NO_VALUE: Final = NoValue()
Row = tuple[int, dict[int, object]]
"""Number of a row, and its values by the number of their column. Both begin with 1."""


class _Reader:
    """Receives the elements of a part. Subclasses keep what they need.

    Attributes:
        parts: Pieces of the text of the present element, if ``collects`` is set.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.collects = False
        self._depth = 0

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        """Receive the start of an element."""

    def closed(self, tag: str) -> None:
        """Receive the end of an element."""

    def read(self, content: IO[bytes]) -> Iterator[None]:
        """Parse a part, and return control after each block.

        Raises:
            ValueError: The part is nested too deeply or declares entities.
            ExpatError: The part is not valid XML.
        """
        parser: XMLParserType = ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = _refuse_entities
        while data := content.read(_BLOCK_BYTES):
            parser.Parse(data, False)
            yield
        parser.Parse(b"", True)
        yield

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("its XML is nested too deeply")
        if tag := _TAGS.get(name):
            self.opened(tag, attributes)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if tag := _TAGS.get(name):
            self.closed(tag)

    def _text(self, text: str) -> None:
        if self.collects:
            self.parts.append(text)


def _refuse_entities(*_: object) -> None:
    raise ValueError("it declares a document type, which no Excel file does")


class _Elements(_Reader):
    """Keeps the attributes of all elements of a small part that are known."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        self.found.append((tag, attributes))
        if len(self.found) > _MOST_ELEMENTS:
            raise ValueError(f"one of its parts has more than {_MOST_ELEMENTS:,} elements")


class _Texts(_Reader):
    """Reads texts of several runs. Their pronunciation (``rPh``) is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._is_pronunciation = False

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "t":
            self.collects = not self._is_pronunciation
        elif tag in ("si", "is"):
            self.parts = []
        elif tag == "rPh":
            self._is_pronunciation = True

    def closed(self, tag: str) -> None:
        if tag == "t":
            self.collects = False
        elif tag == "rPh":
            self._is_pronunciation = False
        elif tag == "si":
            self.texts.append("".join(self.parts).replace("x005F_", ""))


class _Rows(_Texts):
    """Reads the rows of a sheet."""

    def __init__(self, convert: Callable[[str, int, str], object]) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self._convert = convert
        self._row = self._column = 0
        self._cells: dict[int, object] = {}
        self._kind, self._style = "n", 0
        self._value: str | None = None
        self._is_formula = False

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "c":
            place = attributes.get("r")
            self._column = _column(place) if place else self._column + 1
            if self._column > _LAST_COLUMN:
                raise ValueError(f"row {self._row} has a cell beyond the last column XFD")
            self._kind, self._style = attributes.get("t", "n"), int(attributes.get("s", "0"))
            self._value, self._is_formula = None, False
        elif tag == "v":
            self.parts, self.collects = [], True
        elif tag == "f":
            self._is_formula = True
        elif tag == "row":
            number = int(attributes["r"]) if "r" in attributes else self._row + 1
            if not self._row < number <= _LAST_ROW:
                raise ValueError(f"row {self._row} is followed by a row with the number {number}")
            self._row, self._column, self._cells = number, 0, {}
        else:
            super().opened(tag, attributes)

    def closed(self, tag: str) -> None:
        if tag == "v":
            self.collects = False
            if self._kind != "inlineStr":
                self._value = "".join(self.parts)
        elif tag == "is":
            self._value = "".join(self.parts)
        elif tag == "c":
            if self._value:
                value = self._convert(self._kind, self._style, self._value)
            else:
                has_no_result = self._is_formula and not (self._kind == "str" and self._value == "")
                value = NO_VALUE if has_no_result else None
            if value is not None:
                if self._column in self._cells:
                    raise ValueError(f"row {self._row} has two values in column {self._column}")
                self._cells[self._column] = value
        elif tag == "row":
            if self._cells:
                self.rows.append((self._row, self._cells))
        else:
            super().closed(tag)


@dataclass(frozen=True)
class Sheet:
    """A sheet of a workbook.

    Attributes:
        title: Its name.
        is_visible: Whether Excel shows it.
        path: Name of its part.
    """

    title: str
    is_visible: bool
    path: str


class Workbook:
    """A workbook.

    Attributes:
        sheets: The sheets with cells, in order.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        """Read the list of sheets, the shared texts and the formats of dates.

        Raises:
            Exception: The file is damaged or no workbook. The class depends on the library that finds it.
        """
        self._archive = zipfile.ZipFile(stream)
        self._most_characters = max(_FREE_CHARACTERS, _CHARACTERS_PER_BYTE * stream.seek(0, io.SEEK_END))
        self._characters = 0
        self._strings: list[str] = []
        self._dates: dict[int, bool] = {}
        ((main, _),) = self._related("", ("officeDocument",)).values()
        related = self._related(main, ("worksheet", "sharedStrings", "styles"))
        elements = self._elements(main)
        self.sheets = [
            Sheet(element.get("name", ""), element.get("state", "visible") == "visible", related[identity][0])
            for tag, element in elements
            if tag == "sheet"
            for identity in [next((value for key, value in element.items() if _ID.fullmatch(key)), "")]
            if related.get(identity, ("", ""))[1] == "worksheet" and related[identity][0] in self._archive.NameToInfo
        ]
        self._is_1904 = any(tag == "workbookPr" and found.get("date1904") in _TRUE for tag, found in elements)
        for path, kind in related.values():
            if path not in self._archive.NameToInfo:
                continue
            if kind == "sharedStrings" and not self._strings:
                self._strings = self._texts(path)
            elif kind == "styles" and not self._dates:
                self._dates = _dates(self._elements(path))

    def rows(self, sheet: Sheet) -> Iterator[Row]:
        """Yield the rows of a sheet that have a value, in order.

        Raises:
            Exception: The sheet is damaged. The class depends on the library that finds it.
        """
        reader = _Rows(self._value)
        with self._archive.open(sheet.path) as content:
            for _ in reader.read(content):
                yield from reader.rows
                reader.rows = []

    def _elements(self, path: str) -> list[tuple[str, dict[str, str]]]:
        reader = _Elements()
        with self._archive.open(path) as content:
            for _ in reader.read(content):
                pass
        return reader.found

    def _texts(self, path: str) -> list[str]:
        reader = _Texts()
        with self._archive.open(path) as content:
            for _ in reader.read(content):
                pass
        return reader.texts

    def _related(self, path: str, kinds: tuple[str, ...]) -> dict[str, tuple[str, str]]:
        """Return the paths and kinds of the parts that a part refers to, by their identities."""
        folder, name = posixpath.split(path)
        return {
            element.get("Id", ""): (
                posixpath.normpath(posixpath.join("/", folder, element["Target"])).lstrip("/"),
                kind,
            )
            for _, element in self._elements(posixpath.join(folder, "_rels", f"{name}.rels"))
            for kind in [posixpath.basename(element.get("Type", ""))]
            if kind in kinds
        }

    def _value(self, kind: str, style: int, value: str) -> object:
        """Return the value of a cell, from its type, the number of its style and its text."""
        match kind:
            case "n":
                return self._date(_number(value), style) if style in self._dates else _number(value)
            case "s":
                number = int(value)
                if not 0 <= number < len(self._strings):
                    raise ValueError(f"there is no shared text {number}")
                text = self._strings[number]
                self._characters += len(text)
                if self._characters > self._most_characters:
                    raise ValueError(f"its cells have more than {self._most_characters:,} characters")
                return text
            case "b":
                return bool(int(value))
            case "d":
                from openpyxl.utils.datetime import from_ISO8601  # noqa: PLC0415  (an optional dependency)

                return from_ISO8601(value)
            case _:
                return value

    def _date(self, value: float, style: int) -> object:
        from openpyxl.utils.datetime import MAC_EPOCH, WINDOWS_EPOCH, from_excel  # noqa: PLC0415

        try:
            return from_excel(value, MAC_EPOCH if self._is_1904 else WINDOWS_EPOCH, timedelta=self._dates[style])
        except (OverflowError, ValueError):
            return "#VALUE!"


def _dates(elements: list[tuple[str, dict[str, str]]]) -> dict[int, bool]:
    """Return the numbers of the styles that are dates, and whether each is a duration."""
    from openpyxl.styles import numbers  # noqa: PLC0415  (an optional dependency)

    formats = dict(numbers.BUILTIN_FORMATS)
    formats |= {int(found["numFmtId"]): found.get("formatCode", "") for tag, found in elements if tag == "numFmt"}
    start = next((place for place, (tag, _) in enumerate(elements) if tag == "cellXfs"), len(elements))
    used = [int(found.get("numFmtId", "0")) for tag, found in elements[start:] if tag == "xf"]
    durations = {
        number: bool(numbers.is_timedelta_format(formats[number]))
        for number in {*used} & {*formats}
        if numbers.is_date_format(formats[number]) or numbers.is_timedelta_format(formats[number])
    }
    return {style: durations[number] for style, number in enumerate(used) if number in durations}


def _number(value: str) -> float:
    return float(value) if "." in value or "E" in value or "e" in value else int(value)


def _column(place: str) -> int:
    """Return the number of the column of a place such as ``B7``."""
    match = _PLACE.fullmatch(place)
    if match is None:
        raise ValueError(f"{quoted(place)} is not the place of a cell")
    number = 0
    for letter in match[1].upper():
        number = number * 26 + ord(letter) - 64
    return number
