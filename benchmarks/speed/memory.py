"""Measure the memory of a process that loads a bundle and predicts texts.

Run: python -m benchmarks.speed.memory BUNDLE, with a JSON list of texts on standard input. It prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_TEXTS = 200


def memory_of(bundle: Path, texts: Sequence[str]) -> dict[str, int]:
    """Return the peaks of a new process's memory in MiB, after loading and after predicting 200 texts."""
    command = [sys.executable, "-m", "benchmarks.speed.memory", str(bundle)]
    process = subprocess.run(command, input=json.dumps(texts[:_TEXTS]), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, int] = json.loads(process.stdout)
    return found


def _peak_mib() -> int:
    """Return the peak since this program was started. ``getrusage`` counts the process that started it, too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024)


if __name__ == "__main__":
    import bothways

    read_from_input = json.load(sys.stdin)
    model = bothways.load(sys.argv[1])
    loaded = _peak_mib()
    model.predict(read_from_input)
    print(json.dumps({"loaded": loaded, "predicted": _peak_mib()}))
