"""Tell how many cores this process may really use.

In: nothing. Out: a number. A container's share of the processor counts: threads beyond it would only be held up.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may run on, or how many its control groups' quotas are worth, if that is less.

    Linux's control groups of version 1 and 2, of this process and of all above it; half a core more counts for nothing.

    Args:
        root: Where the system's files are.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, math.floor(min([allowed, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Return the quota, in cores, of each group that has one."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _content(root / "proc" / "self" / "cgroup").splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        names = [name for name in path.split("/") if name not in ("", "..")]
        groups = [names[:length] for length in range(len(names) + 1)]  # in a container, only the first may be seen
        if not controllers:
            yield from _cores(_content(mounts.joinpath(*group, "cpu.max")) for group in groups)
        elif "cpu" in controllers.split(","):
            for group in (mounts.joinpath(controllers, *group) for group in groups):
                yield from _cores([" ".join(_content(group / f"cpu.cfs_{part}_us") for part in ("quota", "period"))])


def _cores(quotas_and_periods: Iterator[str] | list[str]) -> Iterator[float]:
    """Return microseconds of quota by microseconds of period; ``max`` and -1 are no quota."""
    for content in quotas_and_periods:
        try:
            quota, period = map(int, content.split())
        except ValueError:
            continue
        if quota > 0 and period > 0:
            yield quota / period


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
