"""Train all directions of a run: one after the other in this process, or in parallel, one process per direction.

Two processes with half of the cores each are faster than one process with all of them (docs/LOG.md).
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

from bothways import errors, strict_json
from bothways.processes import module_command, module_environment
from bothways.text.reading import Direction
from bothways.training.one_direction import ERROR_KEY, Work, measure_direction, train_direction
from bothways.training.plan import Plan
from bothways.training.reports import Report, parse_report

_Lines = queue.SimpleQueue[tuple[Direction, bytes]]
"""Lines of the standard output of each direction's process, and an empty one at its end."""
_MAX_STDERR_CHARACTERS = 2000
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "20000000000",
    "MALLOC_TOP_PAD_": "200000000",
}
"""Settings of glibc's allocator: memory is reused by the next step instead of being returned to the kernel and mapped
again. Training is 20 % faster with them (docs/LOG.md)."""


def train_directions(folder: Path, plan: Plan) -> Generator[Report, None, None]:
    """Train every direction of a run to its end, each from its newest checkpoint.

    Guarantee 7: the process may be killed at any time and started again.

    Args:
        folder: The folder of the run. It contains a complete plan.
        plan: The plan in that folder.

    Yields:
        The reports of all directions as they arrive.

    Raises:
        BothwaysError: The training of a direction failed. The other directions are stopped.
    """
    yield from _for_each(folder, plan, train_direction)


def measure_directions(folder: Path, plan: Plan) -> Iterator[Report]:
    """Yield a report per direction of what its training takes on this machine, as the directions will be trained.

    Args:
        folder: The folder of the run, whose training has not begun.
        plan: The plan in that folder.

    Raises:
        BothwaysError: A direction could not be measured.
    """
    yield from _for_each(folder, plan, measure_direction)


def _for_each(folder: Path, plan: Plan, work: Work) -> Generator[Report, None, None]:
    """Do the same work for every direction, and yield the reports of all directions as they arrive."""
    directions = [member.direction for member in plan.members]
    if not plan.at_once:
        for direction in directions:
            yield from work(folder, direction)
        return
    with tempfile.TemporaryFile() as stderr, contextlib.ExitStack() as stack:
        workers, lines = {}, _Lines()
        for direction in directions:
            worker = stack.enter_context(_start(folder, direction, work, plan.threads, stderr))
            reader = threading.Thread(target=_collect, args=(direction, worker.stdout, lines), daemon=True)
            reader.start()
            stack.callback(reader.join)  # before its pipe is closed
            stack.callback(worker.kill)
            workers[direction] = worker
        yield from _reports(workers, lines, stderr)


def _start(folder: Path, direction: Direction, work: Work, threads: int, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    name = "train" if work is train_direction else "measure"
    return subprocess.Popen(
        module_command("bothways.training.one_direction", str(folder), direction, name),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=module_environment(OMP_NUM_THREADS=str(threads), **KEEP_MEMORY),
        process_group=0,  # only this process handles Ctrl-C
    )


def _collect(direction: Direction, output: IO[bytes], lines: _Lines) -> None:
    for line in output:
        lines.put((direction, line))
    lines.put((direction, b""))  # end of file


def _reports(
    workers: dict[Direction, subprocess.Popen[bytes]], lines: _Lines, stderr: IO[bytes]
) -> Generator[Report, None, None]:
    running = len(workers)
    while running:
        direction, line = lines.get()
        if line:
            yield _report_or_error(line)
            continue
        running -= 1
        if status := workers[direction].wait():
            stderr.seek(0)
            output = stderr.read().decode(errors="replace").strip()[-_MAX_STDERR_CHARACTERS:]
            ended = f"was killed by signal {-status}" if status < 0 else f"failed with exit status {status}"
            reason = output or "it printed no error message"
            raise errors.TrainingError(f"the training process of the {direction} model {ended}: {reason}")


def _report_or_error(line: bytes) -> Report:
    values = strict_json.parse(line)
    assert isinstance(values, dict)
    if ERROR_KEY in values:
        kind: type[errors.BothwaysError] = getattr(errors, values[ERROR_KEY])
        raise kind(values["message"])
    return parse_report(line)
