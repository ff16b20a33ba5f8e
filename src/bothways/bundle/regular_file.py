"""Read a file that may be anything, such as a link, a pipe or a file of any size, without harm."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bothways.errors import BundleBroken


def read_regular_file(path: Path, limit_bytes: int) -> bytes:
    """Return the bytes of a file. Links, devices and pipes are rejected before anything is read from them.

    Args:
        path: A file of a bundle.
        limit_bytes: Largest size.

    Raises:
        BundleBroken: The file is missing, too large or not a regular file, or it can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BundleBroken(f"{path} is missing") from None
    except OSError as error:
        reason = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise BundleBroken(f"{path} can't be opened: {reason}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleBroken(f"{path} is not a regular file")
        if status.st_size > limit_bytes:
            raise BundleBroken(f"{path} has {status.st_size} bytes, expected at most {limit_bytes}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit_bytes + 1)
    except OSError as error:
        raise BundleBroken(f"{path} can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
