"""Return a seed for every purpose of a run, so that none depends on what another one drew before."""

from __future__ import annotations

import zlib


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed for one purpose: a direction, a stage, a step."""
    return zlib.crc32("/".join(map(str, [seed, *purpose])).encode())
