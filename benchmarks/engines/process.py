"""Measure one engine, in the engines' environment: python -m benchmarks.engines.process ENGINE WORKERS BUNDLE SOURCE.

Prints JSON: seconds of the first and of the second scoring of all rows, and the peak memory of the largest process of
Python that scored.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import psutil
from benchmarks.engines.engines import ENGINES

_POLL_S = 0.1


class _Memory(threading.Thread):
    """Watches the processes that this one starts.

    Attributes:
        peak_mib: Largest resident memory of one of them that runs Python, in MiB.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0

    def run(self) -> None:
        while True:
            for process in psutil.Process().children(recursive=True):
                try:
                    name = process.name()
                    if name.startswith(("python", "ray::")):
                        self.peak_mib = max(self.peak_mib, process.memory_info().rss / 2**20)
                except psutil.Error:  # it has ended
                    continue
            time.sleep(_POLL_S)


def main() -> None:
    """Measure, and print what was found."""
    engine, workers, bundle, source = sys.argv[1:]
    _, score = ENGINES[engine](source, int(workers))
    memory = _Memory()
    memory.start()
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        found = score(bundle)
        seconds.append(time.perf_counter() - began)
    labels = dict(zip(found["id"].to_pylist(), found["predicted_probability"].to_pylist(), strict=True))
    print(json.dumps({"seconds": seconds, "peak_mib": memory.peak_mib, "probabilities": labels}))


if __name__ == "__main__":
    main()
