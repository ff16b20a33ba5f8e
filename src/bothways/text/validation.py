"""Validate values that a caller passes as texts.

``check_text`` returns a plain ``str`` that can be cleaned and tokenized, or raises a ``TextError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bothways.errors import TextError, quoted


def check_text(value: object, where: str) -> str:
    """Return a value as a plain string.

    Args:
        value: What a caller passed as a text.
        where: The name of the value in the error message, such as ``text 3`` or ``reviews.csv, row 3``.

    Raises:
        TextError: The value is not a string, or it contains a lone surrogate, which no encoding can represent.
    """
    if not isinstance(value, str):
        hint = ". Decode it first" if isinstance(value, bytes) else ""
        raise TextError(f"{where} is {_describe(value)}, expected a string{hint}")
    text = str.__str__(value)  # a plain string, even if a subclass overrides __str__
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(
                f"{where} contains a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start + 1}. "
                "It is half of a character: repair the text where it was decoded"
            ) from None
    return text


def check_texts(values: Iterable[object]) -> Iterator[str]:
    """Return an iterator that checks texts one by one. It never holds more than one text.

    Args:
        values: Any iterable of texts.

    Raises:
        TextError: ``values`` is a single string, a table or not iterable (raised immediately), or one of the texts is
            not valid (raised when the iterator reaches it).
    """
    if isinstance(values, str | bytes) or getattr(values, "ndim", 1) == 0:
        raise TextError("got a single string, expected a list of texts. Use predict([text]) instead of predict(text)")
    if isinstance(values, Mapping) or hasattr(values, "columns"):  # iterating would yield keys or column names
        raise TextError(f"got a {type(values).__name__}, expected a list of texts. Pass one of its columns")
    if not isinstance(values, Iterable):
        raise TextError(f"got {_describe(values)}, expected a list, array, Series or other iterable of texts")
    return (check_text(value, f"text {number}") for number, value in enumerate(values))


def _describe(value: object) -> str:
    return f"{type(value).__name__} {quoted(value, 40)}"
