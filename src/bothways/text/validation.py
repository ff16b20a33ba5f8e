"""Say whether a value can be read as a text at all.

In: anything a caller passes as a text. Out: a plain ``str``. Knows nothing of cleaning or tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bothways.errors import TextError


def check_text(value: object, where: str) -> str:
    """Return the value as a plain string.

    Args:
        value: What a caller passed as a text.
        where: How the error names it, such as ``text 3`` or ``reviews.csv, row 3``.

    Raises:
        TextError: The value is not a string, or holds half of a surrogate pair, which no encoding can express.
    """
    if not isinstance(value, str):
        hint = "; decode it first" if isinstance(value, bytes) else ""
        raise TextError(f"{where} is {_describe(value)}, expected a string{hint}")
    text = str.__str__(value)  # a plain string, whatever a subclass says of itself
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(
                f"{where} holds a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start + 1}: "
                "it is half of a character; repair the text where it was decoded"
            ) from None
    return text


def check_texts(values: Iterable[object]) -> Iterator[str]:
    """Return the texts of any iterable one by one, checked; never holds more than one.

    Raises:
        TextError: ``values`` is a lone string, a table or no iterable (at once), or one of the texts can't be used.
    """
    if isinstance(values, str | bytes) or getattr(values, "ndim", 1) == 0:
        raise TextError("got one string, expected a list of texts: write predict([text]) instead of predict(text)")
    if isinstance(values, Mapping) or hasattr(values, "columns"):  # would give its keys or column names
        raise TextError(f"got a {type(values).__name__}, expected a list of texts: pass one of its columns")
    if not isinstance(values, Iterable):
        raise TextError(f"got {_describe(values)}, expected a list, array, Series or other iterable of texts")
    return (check_text(value, f"text {number}") for number, value in enumerate(values))


def _describe(value: object) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"
