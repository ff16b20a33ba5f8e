"""Return memory that was freed back to the system.

The C library keeps it for the next that asks. After a model was packed nobody asks for so much again.
"""

from __future__ import annotations

import ctypes


def return_freed_memory() -> None:
    """Return back what the C library can, if it is one that tells how (glibc)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # macOS and musl have none, Windows no library of that name
        return
    trim(ctypes.c_size_t(0))
