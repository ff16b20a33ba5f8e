"""Train all directions of a run: one after the other in this process, or each in a process of its own at the same time.

In: a run's folder with a complete plan. Out: the reports of all directions as they come. Two processes of half the
cores each are faster than one of all (docs/LOG.md).
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import tempfile
import threading
from collections.abc import Generator
from pathlib import Path
from typing import IO

from bothways import errors, strict_json
from bothways.processes import module_command, module_environment
from bothways.text.reading import Direction
from bothways.training.one_direction import ERROR_KEY, train_direction
from bothways.training.plan import Plan
from bothways.training.reports import Report, parse_report

_LONGEST_COMPLAINT_CHARACTERS = 2000
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "20000000000",
    "MALLOC_TOP_PAD_": "200000000",
}
"""For glibc: memory of the last step is used again, not given back and fetched anew: 20 % faster (docs/LOG.md)."""


def train_directions(folder: Path, plan: Plan) -> Generator[Report, None, None]:
    """Go on with every direction of a run to its end.

    Guarantee 7: may be killed at any moment and started again.

    Raises:
        BothwaysError: What ended the training of a direction; the others are stopped.
    """
    directions = [member.direction for member in plan.members]
    if not plan.at_once:
        for direction in directions:
            yield from train_direction(folder, direction)
        return
    with tempfile.TemporaryFile() as complaints, contextlib.ExitStack() as stack:
        workers = {}
        for direction in directions:
            worker = stack.enter_context(_start(folder, direction, plan.threads, complaints))
            stack.callback(worker.kill)
            workers[direction] = worker
        yield from _reports(workers, complaints)


def _start(folder: Path, direction: Direction, threads: int, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        module_command("bothways.training.one_direction", str(folder), direction),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env=module_environment(OMP_NUM_THREADS=str(threads), **KEEP_MEMORY),
        process_group=0,  # Ctrl-C is answered by this process
    )


def _reports(workers: dict[Direction, subprocess.Popen[bytes]], complaints: IO[bytes]) -> Generator[Report, None, None]:
    lines: queue.SimpleQueue[tuple[Direction, bytes]] = queue.SimpleQueue()

    def collect(direction: Direction, output: IO[bytes]) -> None:
        for line in output:
            lines.put((direction, line))
        lines.put((direction, b""))  # its end

    for direction, worker in workers.items():
        assert worker.stdout is not None
        threading.Thread(target=collect, args=(direction, worker.stdout), daemon=True).start()
    running = len(workers)
    while running:
        direction, line = lines.get()
        if line:
            yield _report_or_error(line)
            continue
        running -= 1
        if status := workers[direction].wait():
            complaints.seek(0)
            told = complaints.read().decode(errors="replace").strip()[-_LONGEST_COMPLAINT_CHARACTERS:]
            ended = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
            raise errors.TrainingError(f"the process that trained {direction} {ended}: {told or 'it said nothing'}")


def _report_or_error(line: bytes) -> Report:
    values = strict_json.parse(line)
    assert isinstance(values, dict)
    if ERROR_KEY in values:
        kind: type[errors.BothwaysError] = getattr(errors, values[ERROR_KEY])
        raise kind(values["message"])
    return parse_report(line)
