"""Turn the errors of the libraries that read foreign files into one clear error.

Which exceptions ``zipfile``, ``gzip`` and ``zlib`` raise for damaged files is not documented completely. Among them are
``OverflowError`` and ``struct.error``. This is the only place that lists them. Unlike
``files.library_errors``, it lets other exceptions through, because its blocks also contain code of ours.
"""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator

from bothways.errors import BothwaysError, ForeignModelError, shown


@contextlib.contextmanager
def damaged_file_errors(source: str, problem: str = "is damaged") -> Iterator[None]:
    """Raise ``ForeignModelError`` for the errors of a library that reads a damaged or hostile file in this block.

    Args:
        source: Name of the file in error messages.
        problem: What the message says of the file. The reason follows in brackets.

    Raises:
        ForeignModelError: A library raised an error, or the memory is not sufficient.
    """
    try:
        yield
    except BothwaysError:
        raise
    except MemoryError:
        raise ForeignModelError(
            f"{source} needs more memory than is available: import it on a machine with more memory"
        ) from None
    except EOFError:
        reason = "it ends too early"
    except OSError as error:
        reason = shown(error.strerror or str(error))
    except (
        ValueError,
        OverflowError,
        LookupError,
        NotImplementedError,
        RuntimeError,  # zipfile, for encrypted entries. RecursionError is one, too.
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        reason = shown(str(error), 300) or type(error).__name__
    else:
        return
    raise ForeignModelError(f"{source} {problem} ({reason}): copy or download it again")
