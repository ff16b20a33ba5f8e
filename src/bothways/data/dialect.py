"""Describe how a table is written: its format and, for text formats, delimiter, quotation marks, encoding and header.

In: what the user states, and the name of a file. Out: a ``Dialect``, and the format of the file. Opens nothing.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bothways.arguments import Check, as_flag, as_text, optional
from bothways.errors import ConfigError, quoted
from bothways.files import COMPRESSIONS, STANDARD_STREAM, split_suffix

TableFormat = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow", "excel"]
Quotes = Literal["double", "none"]
FORMATS: dict[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".xlsx": "excel",
    ".xlsm": "excel",
}
"""Format of each known suffix."""
DIALECT_CHECKS: dict[str, Check] = {
    "format": optional(as_text),
    "delimiter": optional(as_text),
    "quotes": optional(as_text),
    "encoding": optional(as_text),
    "header": as_flag,
}
"""Checks of the arguments that every function with a dialect has."""
_DELIMITER_NAMES = {"\\t": "\t", "tab": "\t"}
_NOT_FOR_FILES = {"idna", "punycode", "raw-unicode-escape", "raw_unicode_escape", "undefined", "unicode-escape"}
_NOT_FOR_FILES |= {"unicode_escape", "utf-7"}


@dataclass(frozen=True)
class Dialect:
    r"""What the user states about a table. Whatever is not stated follows from the name of the file.

    Attributes:
        format: Format of the table. Defaults to that of the file's suffix.
        delimiter: The character between fields of a text table, also spelled ``tab`` or ``\t``. Defaults to a tab for
            ``tsv`` and to a comma for ``csv``.
        quotes: ``double``: a field may be enclosed in double quotation marks. ``none``: quotation marks are ordinary
            characters. By default, they enclose fields, but a field over several lines is refused if each of its lines
            could also be a row.
        encoding: Encoding of a text table, as Python names it. Defaults to UTF-8.
        header: Whether the first line of a text table has the names of the columns. Without a header, columns are
            named ``1``, ``2`` and so on.

    Raises:
        ConfigError: A value is invalid.
    """

    format: TableFormat | None = None
    delimiter: str | None = None
    quotes: Quotes | None = None
    encoding: str | None = None
    header: bool = True

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS.values():
            raise ConfigError(f"unknown format {quoted(self.format)}. Use {', '.join(dict.fromkeys(FORMATS.values()))}")
        if self.quotes not in (None, "double", "none"):
            raise ConfigError(f"unknown quotes {quoted(self.quotes)}. Use double or none")
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _checked_delimiter(self.delimiter))
        if self.encoding is not None:
            object.__setattr__(self, "encoding", _checked_encoding(self.encoding))

    def require_fit(self, table_format: TableFormat, name: str) -> None:
        """Raise an error if an option is set that a format does not have.

        Args:
            table_format: The format of a file.
            name: What the file is called in messages.

        Raises:
            ConfigError: Such an option is set.
        """
        formats_by_option: dict[str, tuple[bool, Sequence[TableFormat]]] = {
            "--delimiter": (self.delimiter is not None, ("csv", "tsv")),
            "--quotes": (self.quotes is not None, ("csv", "tsv")),
            "--encoding": (self.encoding is not None, ("csv", "tsv", "json", "jsonl")),
            "--no-header": (not self.header, ("csv", "tsv", "excel")),
        }
        for option, (is_set, formats) in formats_by_option.items():
            if is_set and table_format not in formats:
                raise ConfigError(
                    f"{name} is read as {table_format}, for which {option} has no meaning. Remove it, or pass --format"
                )


def format_of(path: str, dialect: Dialect | None = None) -> TableFormat:
    """Return the format of a file.

    Args:
        path: A path, with or without a compression suffix, or ``-`` for standard input.
        dialect: What the user states. Defaults to the format of the path's suffix, and to CSV for standard input.

    Raises:
        ConfigError: The suffix is unknown.
    """
    dialect = dialect or Dialect()
    if dialect.format is not None:
        return dialect.format
    if path == STANDARD_STREAM:
        return "csv"
    suffix, _ = split_suffix(path)
    if suffix in FORMATS:
        return FORMATS[suffix]
    if dialect.delimiter is not None:
        return "csv"
    raise ConfigError(
        f"{path}: unknown file format {quoted(suffix)}. Pass --format, such as --format csv, or use a suffix "
        f"{', '.join(FORMATS)} (optionally followed by {', '.join(COMPRESSIONS)})"
    )


def _checked_delimiter(given: str) -> str:
    delimiter = _DELIMITER_NAMES.get(given, given)
    if len(delimiter) != 1 or delimiter in '"\r\n\0' or "\ud800" <= delimiter <= "\udfff":
        raise ConfigError(
            f"the delimiter is {quoted(given)}, expected one character other than a quotation mark or a line end, "
            "such as --delimiter ';' or --delimiter tab"
        )
    return delimiter


def _checked_encoding(given: str) -> str:
    """Return Python's name of an encoding in which text files are written."""
    try:
        name = codecs.lookup(given).name
        codecs.getincrementaldecoder(name)("strict").decode("a,\n".encode(name))
    except (LookupError, ValueError, AttributeError, AssertionError):
        name = ""
    if not name or name in _NOT_FOR_FILES:
        raise ConfigError(f"unknown encoding {quoted(given)}. Use a name such as utf-8, utf-16, cp1252 or gb18030")
    return name
