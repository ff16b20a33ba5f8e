r"""Every error that bothways raises on purpose.

::

    BothwaysError
     ├── ConfigError          wrong use: an option, a config file, an output that exists      exit 2
     │    └── OutputExists
     ├── DataError            a file of texts: file, row and column are named                 exit 1
     │    └── TextError       one text that can't be classified
     ├── DependencyMissing    an optional library is not installed                            exit 1
     ├── DirectionError       a model of the wrong reading direction                          exit 1
     ├── BundleError          a bundle or pack on disk                                        exit 1
     │    ├── BundleMissing
     │    ├── BundleBroken
     │    └── BundleTooNew
     ├── ForeignModelError    a model of another library that can't be imported               exit 1
     ├── ServingError         a request that can't be answered: its kind, and a status of HTTP
     │    ├── RequestInvalid       400
     │    │    ├── ModelUnknown       404
     │    │    └── BodyEncoded        415
     │    ├── RequestTooLarge      413
     │    ├── RequestSlow          408
     │    ├── Overloaded           429
     │    ├── Unavailable          503
     │    └── DeadlinePassed       504
     ├── ShapeError           an array of the wrong shape                                     exit 1
     └── TrainingError        training can't go on or its result can't be proven              exit 1

Messages say what was found, what was expected and what to do. Faults of a user raise one of these; faults of ours
are ``assert``\ s.
"""
# ruff: noqa: N818  (a name says what happened: the word error would add nothing)

from __future__ import annotations

from typing import ClassVar


class BothwaysError(Exception):
    """The root of all errors raised on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(BothwaysError, ValueError):
    """Wrong use: an option, a config file or an argument that can't be meant."""

    exit_code: ClassVar[int] = 2


class OutputExists(ConfigError):
    """The place to write to is taken; nothing is ever overwritten."""


class DataError(BothwaysError, ValueError):
    """A file or table of texts that can't be used; the message names file, row and column."""


class TextError(DataError):
    """One text that can't be classified, such as one that holds half a surrogate pair."""


class DependencyMissing(BothwaysError, ImportError):
    """An optional library is needed and not installed; the message says how to get it."""


class DirectionError(BothwaysError):
    """A language model or pack reads the other way; the message names both directions."""


class BundleError(BothwaysError):
    """A bundle or pack that can't be used."""


class BundleMissing(BundleError):
    """There is no bundle at this path."""


class BundleBroken(BundleError):
    """The bundle is damaged, incomplete or not what its manifest says."""


class BundleTooNew(BundleError):
    """The bundle was written in a format that this version does not know."""


class ForeignModelError(BothwaysError):
    """A file of another library that can't be imported: damaged, hostile, or of a kind that is not supported."""


class ServingError(BothwaysError):
    """A request that the server can't answer; the message may be told to whoever sent it.

    Attributes:
        status: Of HTTP.
        kind: A word for programs and for metrics.
    """

    status: ClassVar[int]
    kind: ClassVar[str]


class RequestInvalid(ServingError):
    """A request that can't be meant; the message names the place in it."""

    status = 400
    kind = "invalid"


class ModelUnknown(RequestInvalid):
    """A request for a model that is not served; the message names those that are."""

    status = 404
    kind = "unknown_model"


class BodyUnsupported(RequestInvalid):
    """A body that is compressed, of which a few bytes could become any number, or in a format that is not spoken."""

    status = 415
    kind = "unsupported"


class RequestTooLarge(ServingError):
    """A request beyond a limit; the message names the limit and its option."""

    status = 413
    kind = "too_large"


class RequestSlow(ServingError):
    """A request whose body did not come in time."""

    status = 408
    kind = "slow"


class Overloaded(ServingError):
    """A request for which the queue has no room now.

    Attributes:
        retry_after_s: Seconds until there will be room, by how fast texts are read.
    """

    status = 429
    kind = "overloaded"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ServingError):
    """A model that is not ready, is leaving, or was not found to give its trainer's numbers."""

    status = 503
    kind = "unavailable"


class DeadlinePassed(ServingError):
    """A request whose deadline passed before it was answered; what was left of it is not read."""

    status = 504
    kind = "deadline"


class ShapeError(BothwaysError, ValueError):
    """An array or tensor does not have the shape that its place in the flow asks for."""


class TrainingError(BothwaysError):
    """Training can't go on, or its result did not prove itself."""


class ParityFailed(TrainingError):
    """What was trained gives other numbers in a fresh process than in the trainer; nothing was published."""
