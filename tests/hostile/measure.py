"""Measure what it costs to read a file: CPU seconds, peak memory, and whether it was read, refused, or crashed on.

``Measurer`` starts one process that reads a small harmless file through each entrance, so that the cost of the first
imports is not measured, and forks it for each file. CPU time is that of the fork
alone, so other processes on the machine change it little. Peak memory is what the fork needs beyond what it had.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import bothways
from bothways.errors import BothwaysError

MAX_SECONDS_PER_MB = 2.0
MAX_BYTES_PER_MB = 100e6
"""What reading may cost per megabyte of input. A file of less than a megabyte may cost as much as one megabyte."""
_REFERENCE_S = 0.017
"""``_reference_s`` of a processor to which the limit of time applies. A slower one may take longer in proportion.
Estimated on a processor with AVX2 only, where it is 0.066 s and the slowest files take 2.8 times as long as allowed."""

_MEMORY_LIMIT_BYTES = 4 * 2**30
_CPU_LIMIT_S = 60
"""Safety limits of the fork. Beyond them the kernel ends it, or Python raises MemoryError."""
_LONGEST_MESSAGE = 1000


@dataclass(frozen=True)
class Cost:
    """The cost of reading one file.

    Attributes:
        size_bytes: Size of the file.
        seconds: CPU time of the process, user and system, of all its threads.
        peak_bytes: Peak resident memory beyond the memory that was resident before.
        error: Class of the error, or an empty string if the file was read. ``killed`` if the process did not end.
        message: Message of the error.
        is_refusal: Whether the error is a ``BothwaysError``.
    """

    size_bytes: int
    seconds: float
    peak_bytes: int
    error: str = ""
    message: str = ""
    is_refusal: bool = False

    def check(self) -> None:
        """Fail if the file was not read or refused within the bounds, or was refused in more than one clear line."""
        megabytes = max(1.0, self.size_bytes / 1e6)
        assert not self.error or self.is_refusal, f"{self.error}: {self.message}"
        limit_s = MAX_SECONDS_PER_MB * megabytes
        assert self.seconds <= limit_s or self.seconds <= limit_s * slowness(), self
        assert self.peak_bytes <= MAX_BYTES_PER_MB * megabytes, self
        assert len(self.message) <= _LONGEST_MESSAGE, len(self.message)
        assert self.message.isprintable(), ascii(self.message)


@functools.cache
def slowness() -> float:
    """Return how many times slower than the reference this processor reads small values in Python, at least 1."""
    return max(1.0, min(_reference_s() for _ in range(5)) / _REFERENCE_S)


def _reference_s() -> float:
    """Return the CPU time of reading 100,000 small rows."""
    started = time.process_time()
    rows = json.loads("[" + ",".join(['{"a": [1, "b"]}'] * 50_000) + "]")
    read = sum(len(row["a"]) for row in rows) + sum(map(len, csv.reader(io.StringIO("a,b\n" * 50_000))))
    assert read == 200_000
    return time.process_time() - started


class Measurer:
    """Measures the reading of files, each in its own process."""

    def __init__(self, folder: Path) -> None:
        root = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": f"{Path(bothways.__file__).parents[1]}{os.pathsep}{root}"}
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.measure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def cost(self, entrance: str, content: bytes) -> Cost:
        """Return the cost of reading ``content`` through the entrance of this name in ``entrances.py``."""
        assert self._process.stdin is not None
        path = self.folder / "content"
        path.write_bytes(content)
        self._process.stdin.write(json.dumps([entrance, str(path)]) + "\n")
        self._process.stdin.flush()
        return Cost(**json.loads(self._answer()))


@contextlib.contextmanager
def measurer(folder: Path) -> Iterator[Measurer]:
    """Yield a ``Measurer`` that keeps its files in ``folder``."""
    opened = Measurer(folder)
    try:
        yield opened
    finally:
        opened.close()


def _status_bytes(field: str) -> int:
    """Return a value of ``/proc/self/status`` in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def _cost_here(entrance: str, source: Path) -> Cost:
    """Read a file in this process, and return the cost."""
    from tests.hostile.entrances import ENTRANCES

    opened = ENTRANCES[entrance]
    with opened.place() as path:
        shutil.copyfile(source, path)
        size_bytes = path.stat().st_size
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is now the present
        before_bytes, before = _status_bytes("VmRSS"), resource.getrusage(resource.RUSAGE_SELF)
        error: Exception | None = None
        try:
            opened.read(path)
        except Exception as raised:  # noqa: BLE001  (reported to the test)
            error = raised.with_traceback(None)
        after, peak_bytes = resource.getrusage(resource.RUSAGE_SELF), _status_bytes("VmHWM")
    return Cost(
        size_bytes=size_bytes,
        seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_bytes=max(0, peak_bytes - before_bytes),
        error=type(error).__name__ if error else "",
        message=str(error) if error else "",
        is_refusal=isinstance(error, BothwaysError),
    )


def _serve() -> None:
    """Measure the files that standard input names, one line each."""
    import pyarrow.parquet  # noqa: F401  (imported once, and not in each fork)

    from tests.hostile.entrances import ENTRANCES

    for entrance in ENTRANCES.values():  # imports and caches of libraries, which would be made again in each fork
        with entrance.place() as path:
            path.write_bytes(entrance.benign(1000))
            entrance.read(path)
    print("ready", flush=True)
    for line in sys.stdin:
        entrance, source = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
            resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S))
            try:
                os.write(writing, json.dumps(asdict(_cost_here(entrance, Path(source)))).encode())
            except BaseException:  # noqa: BLE001  (the fork of a process ends here, whatever happens)
                traceback.print_exc()
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as result:
            answer = result.read().decode()
        _, _, usage = os.wait4(pid, 0)
        if not answer:
            seconds = usage.ru_utime + usage.ru_stime
            answer = json.dumps(asdict(Cost(0, seconds, usage.ru_maxrss * 1024, "killed")))
        print(answer, flush=True)


if __name__ == "__main__":
    _serve()
