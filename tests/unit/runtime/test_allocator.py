"""Freed memory is returned to the operating system, where the C library supports it."""

from __future__ import annotations

import ctypes
from typing import NoReturn

import pytest

from bothways.runtime.allocator import return_freed_memory
from tests.bundles import run_python

FREE_BEHIND_A_PIN = """
from bothways.runtime.allocator import return_freed_memory

def resident_mib():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmRSS"))

blocks = [b"x" * 100_000 for _ in range(2_000)]
pin = b"x" * 100_000  # lies above them: the C library can't shrink its heap
before = resident_mib()
blocks.clear()
kept = resident_mib()
return_freed_memory()
print(before - kept, kept - resident_mib())
"""

is_glibc = hasattr(ctypes.CDLL(None), "malloc_trim")


@pytest.mark.skipif(not is_glibc, reason="only glibc returns memory that lies below other memory")
def test_memory_freed_below_other_memory_is_returned() -> None:
    finished = run_python(FREE_BEHIND_A_PIN)
    assert finished.returncode == 0, finished.stderr
    without_call, with_call = map(int, finished.stdout.split())
    assert without_call < 20
    assert with_call > 150


@pytest.mark.parametrize("library", ["none", "without the function"])
def test_a_c_library_without_the_function_is_not_an_error(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    def none(_: None) -> NoReturn:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", none if library == "none" else lambda _: object())
    return_freed_memory()
