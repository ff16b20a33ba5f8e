"""Tell how much memory a bundle takes, by a process that does nothing but load it and predict.

In: a bundle's path and texts. Out: MiB. A process that has measured other things has held their memory, too.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bothways.errors import BothwaysError
from bothways.processes import module_command, module_environment
from bothways.runtime.classifier import load
from bothways.runtime.encoder import Precision

_LONGEST_COMPLAINT_CHARACTERS = 500


def peak_mib(path: str | os.PathLike[str], texts: Sequence[str], precision: Precision, *, early_exit: bool) -> float:
    """Return the most memory that loading a bundle and predicting texts takes, in MiB, Python and all.

    Args:
        path: The bundle's directory.
        texts: To predict, all at once.
        precision: As ``load`` has it.
        early_exit: As ``load`` has it.

    Raises:
        BothwaysError: The process ended before it was done, such as for want of memory.
    """
    finished = subprocess.run(
        module_command("bothways.evaluation.memory"),
        input=json.dumps({"path": os.fspath(path), "texts": texts, "precision": precision, "early_exit": early_exit}),
        env=module_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        told = finished.stderr.strip()[-_LONGEST_COMPLAINT_CHARACTERS:]
        raise BothwaysError(f"the process that measures memory ended with status {finished.returncode}: {told}")
    return float(finished.stdout)


def _own_peak_mib() -> float:
    """Return the most memory that this process has held, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux may be from before this program began: its parent's
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on macOS


def _main() -> None:
    asked = json.load(sys.stdin)
    model = load(asked["path"], precision=asked["precision"], early_exit=asked["early_exit"])
    for _ in model.stream(asked["texts"]):
        pass
    sys.stdout.write(f"{_own_peak_mib()}\n")


if __name__ == "__main__":
    _main()
