"""Define what a text is: one string, or one string per text column, which are called its fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bothways.errors import ConfigError, quoted

TextColumns = str | Sequence[str]
"""The text column, or several in the order in which they are read."""

Text = str | tuple[str, ...]
"""A validated text. A tuple has one string per text column, in the order of the columns."""

FIELD = "xxfld"
"""The field token, which separates the fields of a text."""


def fields_of(text: Text) -> tuple[str, ...]:
    """Return the fields of a text. A string is its only field."""
    return (text,) if isinstance(text, str) else text


def characters_of(text: Text) -> int:
    """Return the number of characters in all fields of a text."""
    return sum(map(len, fields_of(text)))


def is_blank(text: Text) -> bool:
    """Return whether every field of a text is empty or white space."""
    return not any(field.strip() for field in fields_of(text))


def columns_text(columns: Sequence[str]) -> str:
    """Return the names of text columns for a message, such as ``the text columns 'title' and 'body'``."""
    *first, last = map(quoted, columns)
    return f"the text columns {', '.join(first)} and {last}" if first else f"the text column {last}"


def columns_of(text: TextColumns) -> list[str]:
    """Return the text columns that a caller named, in order.

    Raises:
        ConfigError: A column is not a string, no column is named, or one is named twice.
    """
    columns = [text] if isinstance(text, str) else list(text) if isinstance(text, Iterable) else [text]
    for column in columns:
        if not isinstance(column, str):
            raise ConfigError(f"the text column is {quoted(column)}, expected a name or a list of names")
    if not columns:
        raise ConfigError("no text column is named, expected at least one")
    if repeated := [column for column in columns if columns.count(column) > 1]:
        raise ConfigError(f"the text column {quoted(repeated[0])} is named twice. Name each column once")
    return columns
