"""Load a bundle, predict texts and print the peak memory of this process in MiB.

Input: JSON on standard input, written by ``bothways.evaluation.benchmark.peak_mib``. This is a process of its own
because the peak of a process also includes everything else that it has done. No module imports this one.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from bothways.runtime.classifier import load


def _own_peak_mib() -> float:
    """Return the peak memory of this process, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage may report the peak of the parent process, from before this one's exec
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on macOS


def _main() -> None:
    job = json.load(sys.stdin)
    model = load(job["path"], precision=job["precision"], early_exit=job["early_exit"])
    for _ in model.stream(job["texts"]):
        pass
    sys.stdout.write(f"{_own_peak_mib()}\n")


if __name__ == "__main__":
    _main()
