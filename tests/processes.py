"""Run the command line in real processes that start quickly.

A server process imports the slow modules once and forks for each command. Each command has its own process, with its
own signals, limits and exit status. All run on one core, which is fastest for tiny models.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bothways

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(bothways.__file__).parents[1])}
"""Environment of processes that do not run in the tests' folder."""


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Run a block on one core, which is fastest for tiny models."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


_SERVER = """
import json, os, resource, signal, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from bothways.cli.app import main
for name in sys.argv[1:]:
    __import__(name)
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        for descriptor, path, flags in (
            (0, job["stdin"], os.O_RDONLY), (1, job["out"], os.O_WRONLY), (2, job["err"], os.O_WRONLY)
        ):
            os.dup2(os.open(path, flags), descriptor)
        sys.stdin = open(0)
        os.chdir(job["folder"])
        os.environ.update(job["environment"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if job["largest_file"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"], job["largest_file"]))
        for name in job["blocked"]:
            sys.modules[name] = None
        for place, value in job["constants"].items():
            module, _, name = place.rpartition(".")
            setattr(sys.modules[module], name, value)
        sys.argv = ["bothways", *job["arguments"]]
        status = 99
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(pid, flush=True)
    _, status, usage = os.wait4(pid, 0)
    print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, flush=True)
"""


@dataclass(frozen=True)
class Finished:
    """Result of a command: exit status (minus the signal number if killed), output, and peak memory."""

    status: int
    out: bytes
    err: str
    peak_kib: int

    @property
    def error_line(self) -> str:
        """The only line on standard error. Fails if there is more than one."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class CommandServer:
    """Runs commands, one after the other."""

    def __init__(self, folder: Path, *modules: str) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate()

    def run(
        self,
        *arguments: object,
        folder: Path | None = None,
        stdin: bytes = b"",
        largest_file: int | None = None,
        blocked: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        constants: dict[str, float] | None = None,
        meanwhile: Callable[[int, Path], None] | None = None,
    ) -> Finished:
        """Run ``bothways`` and wait until it ends.

        Args:
            arguments: Arguments of the command line.
            folder: Working directory.
            stdin: Standard input.
            largest_file: Maximum size of a file that it can write, in bytes.
            blocked: Modules that it cannot import.
            environment: Environment variables to add.
            constants: Values of module constants, by full name.
            meanwhile: Called while it runs, with its process id and the file of its standard error.
        """
        streams = {name: self._folder / name for name in ("stdin", "out", "err")}
        for path in streams.values():
            path.write_bytes(stdin if path.name == "stdin" else b"")
        job = {
            **{name: str(path) for name, path in streams.items()},
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder or self._folder),
            "largest_file": largest_file,
            "blocked": blocked,
            "environment": environment or {},
            "constants": constants or {},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        pid = int(self._answer())
        if meanwhile is not None:
            try:
                meanwhile(pid, streams["err"])
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                self._answer()
                raise
        status, peak = self._answer().split()
        return Finished(int(status), streams["out"].read_bytes(), streams["err"].read_text(), int(peak))


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds. Fails after ``seconds``."""
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "the condition never held"
        time.sleep(0.005)


@contextlib.contextmanager
def command_server(folder: Path, *modules: str) -> Iterator[CommandServer]:
    """Yield a server that has imported these modules."""
    server = CommandServer(folder, *modules)
    try:
        yield server
    finally:
        server.close()
