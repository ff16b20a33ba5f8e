"""Find the number of cores that this process can use, within the CPU quota of its container.

Threads beyond the quota would only be throttled.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process can use, 1 or more.

    This is the smaller of the number of cores that it may run on and the CPU quotas of its control groups (Linux,
    versions 1 and 2, including all parent groups), rounded down.

    Args:
        root: Root directory of the system's files. Another one is useful in tests.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, math.floor(min([allowed, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota, in cores, of each control group that has one."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _content(root / "proc" / "self" / "cgroup").splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        names = [name for name in path.split("/") if name not in ("", "..")]
        groups = [names[:length] for length in range(len(names) + 1)]  # a container may see the root group only
        if not controllers:
            yield from _cores(_content(mounts.joinpath(*group, "cpu.max")) for group in groups)
        elif "cpu" in controllers.split(","):
            for group in (mounts.joinpath(controllers, *group) for group in groups):
                yield from _cores([" ".join(_content(group / f"cpu.cfs_{part}_us") for part in ("quota", "period"))])


def _cores(quotas_and_periods: Iterator[str] | list[str]) -> Iterator[float]:
    """Yield each quota divided by its period, both in microseconds; ``max`` and -1 mean that there is no quota."""
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
