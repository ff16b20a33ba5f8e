"""Return freed memory to the operating system.

The C library keeps freed memory for later allocations. But once a model is loaded, no allocation is as large again.
"""

from __future__ import annotations

import ctypes


def return_freed_memory() -> None:
    """Return freed memory to the operating system if the C library supports it (glibc)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # macOS and musl lack the function, and Windows has no such library
        return
    trim(ctypes.c_size_t(0))
