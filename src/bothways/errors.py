r"""Every error that bothways raises on purpose.

::

    BothwaysError                  base class                                             exit 1
    ├── ConfigError                invalid option, argument or configuration file         exit 2
    │   └── OutputExists           the output path already exists                         exit 2
    ├── DataError                  unusable file or table of texts                        exit 1
    │   └── TextError              unusable single text                                   exit 1
    ├── DependencyMissing          optional library not installed                         exit 1
    ├── DirectionError             model of the wrong reading direction                   exit 1
    ├── BundleError                unusable bundle or pack                                exit 1
    │   ├── BundleMissing          no bundle at this path                                 exit 1
    │   ├── BundleBroken           damaged, incomplete or inconsistent bundle             exit 1
    │   └── BundleTooNew           bundle format newer than this version                  exit 1
    ├── ForeignModelError          model of another library that cannot be imported       exit 1
    ├── ServingError               request that the server cannot answer                  exit 1
    │   ├── RequestInvalid         malformed request                                      HTTP 400
    │   │   ├── ModelUnknown       model that is not served                               HTTP 404
    │   │   └── BodyUnsupported    compressed body or unsupported content type            HTTP 415
    │   ├── RequestTooLarge        request over a size limit                              HTTP 413
    │   ├── RequestSlow            body not received in time                              HTTP 408
    │   ├── Overloaded             queue full                                             HTTP 429
    │   ├── Unavailable            model not ready                                        HTTP 503
    │   └── DeadlinePassed         deadline passed before the answer                      HTTP 504
    ├── ShapeError                 array of the wrong shape                               exit 1
    └── TrainingError              training failed                                        exit 1
        ├── TrainingDiverged       the loss exploded or is not a number                   exit 1
        └── ParityFailed           the bundle does not reproduce the trainer's numbers    exit 1

``exit`` is the exit status of the command line, ``HTTP`` the status of the server's response. Messages state what is
wrong, what was expected and how to fix it. User errors raise one of these classes. Bugs in bothways are ``assert``\ s.
"""
# ruff: noqa: N818  (the name states what happened; a suffix "Error" would add nothing)

from __future__ import annotations

from typing import ClassVar


class BothwaysError(Exception):
    """Base class of all errors that bothways raises on purpose.

    Attributes:
        exit_code: Exit status of the command line.
    """

    exit_code: ClassVar[int] = 1


class ConfigError(BothwaysError, ValueError):
    """An option, an argument or a configuration file is invalid."""

    exit_code: ClassVar[int] = 2


class OutputExists(ConfigError):
    """The output path already exists. Nothing is ever overwritten."""


class DataError(BothwaysError, ValueError):
    """A file or table of texts is unusable. The message names the file, row and column."""


class TextError(DataError):
    """A single text cannot be classified, for example because it contains a lone surrogate."""


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
    """The body is compressed or has an unsupported content type.

    Compressed bodies are refused because a few bytes can decompress to any size.
    """

    status = 415
    kind = "unsupported"


class RequestTooLarge(ServingError):
    """The request exceeds a limit. The message names the limit and the option that sets it."""

    status = 413
    kind = "too_large"


class RequestSlow(ServingError):
    """The body of the request was not received in time."""

    status = 408
    kind = "slow"


class Overloaded(ServingError):
    """The queue has no room for the request.

    Attributes:
        retry_after_s: Estimated seconds until the queue has room, from the current reading speed.
    """

    status = 429
    kind = "overloaded"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


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


class ParityFailed(TrainingError):
    """The trained bundle gives different numbers in a fresh process than in the trainer. Nothing was published."""
