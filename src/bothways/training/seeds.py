"""Derive independent seeds from the seed of a run, so that no random draw depends on how many came before it."""

from __future__ import annotations

import zlib


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return the seed for one purpose, such as a direction, a stage and a step."""
    return zlib.crc32("/".join(map(str, [seed, *purpose])).encode())
