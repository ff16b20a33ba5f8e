r"""Every error that bothways raises on purpose.

::

    BothwaysError                  base class                                             exit 1
    ├── ConfigError                invalid option, argument or configuration file         exit 2
    │   └── OutputExists           the output path already exists                         exit 2
    ├── DataError                  unusable file or table of texts                        exit 1
    │   └── TextError              unusable single text                                   exit 1
    ├── AddressUnusable        address that the server can't listen on                exit 1
    ├── DependencyMissing          optional library not installed                         exit 1
    ├── DirectionError             model of the wrong reading direction                   exit 1
    ├── BundleError                unusable bundle or pack                                exit 1
    │   ├── BundleMissing          no bundle at this path                                 exit 1
    │   ├── BundleBroken           damaged, incomplete or inconsistent bundle             exit 1
    │   ├── BundleTooNew           bundle format newer than this version                  exit 1
    │   └── BundleUntrusted        bundle not signed with the given key                   exit 1
    ├── HubError                   Hugging Face Hub unreachable, or request refused       exit 1
    ├── ForeignModelError          model of another library that cannot be imported       exit 1
    ├── ServingError               request that the server cannot answer                  exit 1
    │   ├── RequestInvalid         malformed request                                      HTTP 400
    │   │   ├── ModelUnknown       model that is not served                               HTTP 404
    │   │   ├── BodyUnsupported    unsupported compression or content type               HTTP 415
    │   │   └── ReplyUnsupported   no supported format is accepted for the reply          HTTP 406
    │   ├── Unauthorized           no valid API key                                       HTTP 401
    │   ├── RequestTooLarge        request over a size limit                              HTTP 413
    │   ├── RequestSlow            body not received in time                              HTTP 408
    │   ├── Overloaded             queue full                                             HTTP 429
    │   │   └── DeadlineTooSoon    deadline that can't be met at the current speed        HTTP 429
    │   ├── Unavailable            model not ready                                        HTTP 503
    │   └── DeadlinePassed         deadline passed before the answer                      HTTP 504
    ├── ShapeError                 array of the wrong shape                               exit 1
    └── TrainingError              training failed                                        exit 1
        ├── TrainingDiverged       the loss exploded or is not a number                   exit 1
        ├── NoBetterThanConstant   the model is no better than one answer for all texts   exit 1
        ├── WorseThanBefore        an updated model lost too much of what it knew         exit 1
        └── ParityFailed           the bundle does not reproduce the trainer's numbers    exit 1

``exit`` is the exit status of the command line, ``HTTP`` the status of the server's response. Messages state what is
wrong, what was expected and how to fix it. User errors raise one of these classes. Bugs in bothways are ``assert``\ s.

Text that comes from a file, a request or a library enters a message through ``shown`` or ``quoted``, and a path through
``path_text``. They bound its length and escape what a terminal or a log would not show as it is. Every message is
escaped once more when an error is created, so that no control character can reach a terminal, a log or a response.
"""
# ruff: noqa: N818  (the name states what happened; a suffix "Error" would add nothing)

from __future__ import annotations

import os
import reprlib
from bisect import bisect
from itertools import accumulate, islice
from typing import ClassVar, Final

LONGEST_SHOWN: Final = 200
"""Foreign text in a message is cut to this many characters."""
LONGEST_MESSAGE: Final = 10_000
"""A message is cut to this many characters."""
_LONGEST_PATH: Final = 4 * 4096
"""Systems allow 4096 bytes. One that is not UTF-8 is shown as four characters."""


def escaped(text: str) -> str:
    r"""Return text with every character escaped that a terminal or a log would not show as it is.

    Control characters, line ends, bidirectional overrides, invisible characters and lone surrogates become escapes such
    as ``\n``, ``\x1b`` and ``\u202e``. A byte of a path that is not UTF-8 becomes ``\xe9``.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def shown(value: object, limit: int = LONGEST_SHOWN) -> str:
    """Return a foreign value as text for a message: escaped, on one line, and bounded in length.

    Args:
        value: Text is shown without quotes. Any other value is shown as Python writes it, large ones in part.
        limit: Longest text, in characters after escaping. Longer text ends in ``...``.
    """
    text = str.__str__(value) if isinstance(value, str) else _REPRESENTATION.repr(value)
    if len(text) <= limit and text.isprintable():
        return text
    characters = [escaped(character) for character in text[:limit]]
    ends = [*accumulate(map(len, characters))]
    fitting = bisect(ends, limit)
    return "".join(characters[:fitting]) + ("..." if fitting < len(text) else "")


def quoted(value: object, limit: int = LONGEST_SHOWN) -> str:
    """Return a foreign value like ``shown``, but text in quotes. ``'5'`` and ``5`` differ."""
    text = shown(value, limit)
    if not isinstance(value, str):
        return text
    return f'"{text}"' if "'" in text else f"'{text}'"


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a path as text for messages, logs, tables, JSON and Markdown: whole, valid Unicode, on one line."""
    return shown(os.fspath(path), _LONGEST_PATH)


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # how Python represents a byte of a path that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class _Representation(reprlib.Repr):
    """Represent values of any size in bounded time and memory."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST_SHOWN
        self.maxlong = 40
        self.maxlevel = 3

    def repr_str(self, value: str, level: int) -> str:  # the base class represents the whole string first
        return super().repr_str(value[: 2 * LONGEST_SHOWN], level)

    def repr_int(self, value: int, level: int) -> str:  # Python refuses to convert huge integers
        return (
            super().repr_int(value, level) if value.bit_length() < 1000 else f"an integer of {value.bit_length()} bits"
        )

    def repr_dict(self, value: dict[object, object], level: int) -> str:  # the base class sorts all keys first
        if level <= 0:
            return "{...}"
        items = [f"{self.repr1(key, level - 1)}: {self.repr1(value[key], level - 1)}" for key in islice(value, 4)]
        return "{" + ", ".join(items + ["..."] * (len(value) > 4)) + "}"

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value) if len(value) <= 40 else f"{value[:40]!r}..."

    repr_bytearray = repr_bytes


_REPRESENTATION = _Representation()


class BothwaysError(Exception):
    """Base class of all errors that bothways raises on purpose.

    Args:
        message: Escaped by the error, and cut to ``LONGEST_MESSAGE`` characters.

    Attributes:
        exit_code: Exit status of the command line.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(message, LONGEST_MESSAGE))


class ConfigError(BothwaysError, ValueError):
    """An option, an argument or a configuration file is invalid."""

    exit_code: ClassVar[int] = 2


class OutputExists(ConfigError):
    """The output path already exists. Nothing is ever overwritten."""


class DataError(BothwaysError, ValueError):
    """A file or table of texts is unusable. The message names the file, row and column."""


class TextError(DataError):
    """A single text cannot be classified, for example because it contains a lone surrogate."""


class AddressUnusable(BothwaysError):
    """The server can't listen on an address: it is in use, can't be resolved, or is not one of this machine."""


class DependencyMissing(BothwaysError, ImportError):
    """An optional library is needed but not installed. The message contains the command that installs it."""


class DirectionError(BothwaysError):
    """A language model or pack reads in the wrong direction. The message names both directions."""


class BundleError(BothwaysError):
    """A bundle or pack cannot be used."""


class BundleMissing(BundleError):
    """There is no bundle at this path."""


class BundleBroken(BundleError):
    """The bundle is damaged, incomplete or does not match its manifest."""


class BundleTooNew(BundleError):
    """The bundle has a format number that this version does not know."""


class BundleUntrusted(BundleError):
    """The bundle is not signed, signed with another key, or was changed after it was signed."""


class HubError(BothwaysError):
    """The Hugging Face Hub cannot be reached, or it refuses a request. The message never contains a token."""


class ForeignModelError(BothwaysError):
    """A file of another library cannot be imported because it is damaged, hostile or of an unsupported kind."""


class ServingError(BothwaysError):
    """The server cannot answer a request. The message is safe to send to the client.

    Attributes:
        status: HTTP status code.
        kind: Machine-readable name of the error, used in response bodies and metrics.
    """

    status: ClassVar[int]
    kind: ClassVar[str]


class RequestInvalid(ServingError):
    """The request is malformed. The message names the place in it."""

    status = 400
    kind = "invalid"


class ModelUnknown(RequestInvalid):
    """The requested model is not served. The message lists the models that are."""

    status = 404
    kind = "unknown_model"


class BodyUnsupported(RequestInvalid):
    """The body has a compression or a content type that is not supported."""

    status = 415
    kind = "unsupported"


class ReplyUnsupported(RequestInvalid):
    """The client accepts none of the formats in which the server can reply."""

    status = 406
    kind = "not_acceptable"


class Unauthorized(ServingError):
    """The request has no valid API key."""

    status = 401
    kind = "unauthorized"


class RequestTooLarge(ServingError):
    """The request exceeds a limit. The message names the limit and the option that sets it."""

    status = 413
    kind = "too_large"


class RequestSlow(ServingError):
    """The body of the request was not received in time."""

    status = 408
    kind = "slow"


class Overloaded(ServingError):
    """The server has no room for the request.

    Attributes:
        retry_after_s: Estimated seconds until there is room, from the current reading speed.
    """

    status = 429
    kind = "overloaded"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineTooSoon(Overloaded):
    """The request can't be answered before its deadline, at the current speed and with the requests before it."""

    kind = "deadline"


class Unavailable(ServingError):
    """The model is not ready, is being unloaded, or failed verification."""

    status = 503
    kind = "unavailable"


class DeadlinePassed(ServingError):
    """The deadline of the request passed before it was answered. Its remaining texts are not read."""

    status = 504
    kind = "deadline"


class ShapeError(BothwaysError, ValueError):
    """An array or tensor has the wrong shape."""


class TrainingError(BothwaysError):
    """Training cannot continue, or its result failed verification."""


class TrainingDiverged(TrainingError):
    """The loss exploded or is no longer a number. The message names the hyperparameter to lower."""


class NoBetterThanConstant(TrainingError):
    """A trained model is no better than the same prediction for every text. It was not published, and can be."""


class WorseThanBefore(TrainingError):
    """An updated model predicts a label that it knew too much worse. It was not published, and can be."""


class ParityFailed(TrainingError):
    """The trained bundle gives different numbers in a fresh process than in the trainer. Nothing was published."""
