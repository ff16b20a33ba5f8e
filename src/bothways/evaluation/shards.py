"""Score many files with several processes, on disk or in an object store, so that the same call continues.

In: a bundle, and a pattern of paths or URLs. Out: for each file one of the same name and format in a folder. A file
appears when it is complete. What is done is recorded under ``_bothways`` in that folder, by the digests of the bundle
and of the input, so that the same call skips it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from bothways import errors
from bothways.arguments import as_flag, as_function, as_integer, as_names, as_path, as_text, checked, optional
from bothways.bundle.hub import absolute, local_path, pinned
from bothways.data.dialect import DIALECT_CHECKS, Quotes, TableFormat
from bothways.data.storage import Storage, Stored
from bothways.errors import BothwaysError, ConfigError, DataError
from bothways.evaluation.inputs import choose_text_columns
from bothways.files import STANDARD_STREAM
from bothways.processes import module_command, module_environment
from bothways.runtime.classifier import load
from bothways.runtime.cores import available_cores
from bothways.runtime.encoder import Precision
from bothways.text.fields import TextColumns
from bothways.version import __version__

RECORDS = "_bothways"
_RUN = f"{RECORDS}/run.json"
_MOST_DEATHS = 3
"""Processes that may die while they score one file, for example for lack of memory."""
_FAILURES_SHOWN = 3


@dataclass
class ScoredFiles:
    """What a call of ``score_files`` did.

    Attributes:
        files: Number of files.
        skipped: How many of them an earlier call had done.
        rows: Number of rows, those of skipped files included.
        unreadable: Number of texts that the model cannot read, by reason, in the files that this call scored.
        abstained: Number of other texts from which the model abstains, by reason, in the files that this call scored.
        invalid: Number of rows left out, by reason, in the files that this call scored.
    """

    files: int = 0
    skipped: int = 0
    rows: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    abstained: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class FilesProgress:
    """How far ``score_files`` is.

    Attributes:
        files: Number of files that are done.
        total: Number of files.
        rows: Number of rows that are scored, also in files that are not done.
        share: Share of the bytes of all files that are done, between 0 and 1.
    """

    files: int
    total: int
    rows: int
    share: float


@checked(
    bundle=as_path,
    source=as_path,
    out=as_path,
    workers=optional(as_integer),
    text=optional(as_names),
    abstain=as_flag,
    drop_invalid=as_flag,
    early_exit=as_flag,
    precision=as_text,
    on_progress=as_function,
    **DIALECT_CHECKS,
)
def score_files(
    bundle: str | os.PathLike[str],
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    text: TextColumns | None = None,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
    abstain: bool = False,
    drop_invalid: bool = False,
    early_exit: bool = False,
    precision: Precision = "float32",
    on_progress: Callable[[FilesProgress], object] = lambda progress: None,
) -> ScoredFiles:
    """Write files of texts again into a folder, with the predictions of a model as additional columns.

    Each file is written as by ``score``. It appears when it is complete, and the same call skips it if neither it nor
    its input, the bundle or the options have changed. A call that was killed, or in which files failed, is continued by
    the same call.

    Args:
        bundle: The directory of a bundle.
        source: A path or URL, usually a pattern such as ``data/*.csv`` or ``s3://bucket/**/part-*.parquet``. What
            follows a ``?`` in a URL are settings of the storage, such as ``region=eu-west-1``.
        out: Folder or URL of a folder. Files have the names that they have below the fixed part of the pattern.
        workers: Number of processes, each with one thread. Defaults to the number of cores.
        text: See ``score``.
        format: See ``score``.
        delimiter: See ``score``.
        quotes: See ``score``.
        encoding: See ``score``.
        header: See ``score``.
        abstain: See ``score``.
        drop_invalid: See ``score``. The rows of FILE are listed in ``FILE.invalid.jsonl``.
        early_exit: See ``load``.
        precision: See ``load``.
        on_progress: Called several times per second.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: An option has an impossible value, a URL is not valid, or ``out`` has predictions of another
            bundle or with other options.
        DataError: No file matches, or files failed. The others are done.
        BothwaysError: All files that failed did so for the same kind of reason: ``OutputExists`` if files in ``out``
            were not written by such a call.
        DependencyMissing: pyarrow is not installed, or what reads such URLs.
    """
    count = available_cores() if workers is None else workers
    if count < 1:
        raise ConfigError(f"workers is {count}, expected 1 or more")
    if os.fspath(out) == STANDARD_STREAM:
        raise ConfigError("several files cannot be written to standard output: choose a folder for --out")
    bundle, source, out = absolute(pinned(bundle, local_path(bundle))), os.fspath(source), os.fspath(out)
    model = load(bundle, early_exit=early_exit, precision=precision, threads=1)
    options = {
        "text": choose_text_columns(text, model.text_columns),
        "format": format,
        "delimiter": delimiter,
        "quotes": quotes,
        "encoding": encoding,
        "header": header,
        "abstain": abstain,
        "drop_invalid": drop_invalid,
    }
    job = {
        "bothways": __version__,
        "digest": model.digest,
        "early_exit": early_exit,
        "precision": precision,
        "options": options,
    }
    del model  # its processes load their own
    read, written = Storage(source), Storage(out)
    files = [file for file in read.files() if not written.contains(read, file.path)]
    if not files:
        raise DataError(f"no file matches the pattern {read} except those in {written}")
    _claim(written, job)
    return _run(files, {**job, "bundle": bundle, "source": source, "out": out}, min(count, len(files)), on_progress)


def _claim(out: Storage, job: dict[str, Any]) -> None:
    """Record what the files of a folder are predictions of.

    Raises:
        ConfigError: They are predictions of something else.
    """
    path = f"{out.path}/{_RUN}"
    if out.size_of(path) is None:
        out.write(path, json.dumps(job, indent=1).encode())
    elif json.loads(out.read(path)) != job:
        raise ConfigError(f"{out} has predictions of another bundle or with other options: choose another --out")


class _Run:
    """The files of a call, and the processes that score them."""

    def __init__(self, files: list[Stored], job: dict[str, Any]) -> None:
        self.job = job
        self.waiting: queue.SimpleQueue[Stored] = queue.SimpleQueue()
        for file in files:
            self.waiting.put(file)
        self.messages: queue.SimpleQueue[tuple[Stored, dict[str, Any]] | BaseException | None] = queue.SimpleQueue()
        self.result = ScoredFiles(len(files))
        self.failed: dict[str, tuple[str, str]] = {}
        self._total_bytes = sum(file.size for file in files)
        self._bytes = self._done = 0
        self._current: dict[str, int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.is_stopped = False

    def handle(self, file: Stored, message: dict[str, Any]) -> FilesProgress:
        """Take note of what a process reports about a file: its rows so far, that it is done, or that it failed."""
        self._current[file.name] = message.get("rows", 0)
        if message["report"] == "done":
            if "error" in message:
                self.failed[file.name] = (message["kind"], message["error"])
            self._bytes += file.size
            self._done += 1
            self.result.rows += self._current.pop(file.name)
            self.result.skipped += message.get("skipped", False)
            self.result.unreadable.update(message.get("unreadable", {}))
            self.result.abstained.update(message.get("abstained", {}))
            self.result.invalid.update(message.get("invalid", {}))
        share = self._bytes / self._total_bytes if self._total_bytes else 1.0
        return FilesProgress(self._done, self.result.files, self.result.rows + sum(self._current.values()), share)

    @contextlib.contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Yield a process that scores the files it is sent, and end it."""
        with subprocess.Popen(
            module_command("bothways.evaluation.shard_process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=module_environment(),
            process_group=0,  # only this process handles Ctrl-C
        ) as process:
            self._processes.append(process)
            try:
                if self.is_stopped:
                    process.kill()
                with contextlib.suppress(BrokenPipeError):  # it died, which its caller notices
                    _send(process, self.job)
                yield process
            finally:
                process.kill()
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError):  # of what could not be sent
                    process.stdin.close()

    def stop(self) -> None:
        """End all processes, and let no other one begin."""
        self.is_stopped = True
        for process in self._processes:
            process.kill()

    def failure(self) -> BothwaysError:
        """Return the error to raise for the files that failed."""
        some = list(self.failed.items())[:_FAILURES_SHOWN]
        listed = "; ".join(f"{name}: {message}" for name, (_, message) in some)
        more = f"; and {len(self.failed) - len(some)} more" if len(self.failed) > len(some) else ""
        kinds = {kind for kind, _ in self.failed.values()}
        kind: type[BothwaysError] = getattr(errors, kinds.pop()) if len(kinds) == 1 else DataError
        done = "The others are done. " if len(self.failed) < self.result.files else ""
        return kind(
            f"{len(self.failed):,} of {self.result.files:,} files failed. {done}The same call continues. {listed}{more}"
        )


def _run(
    files: list[Stored], job: dict[str, Any], workers: int, on_progress: Callable[[FilesProgress], object]
) -> ScoredFiles:
    """Score files with this number of processes.

    Raises:
        BothwaysError: Some of them failed.
    """
    run = _Run(files, job)
    threads = [threading.Thread(target=_serve, args=(run,), daemon=True) for _ in range(workers)]
    try:
        for thread in threads:
            thread.start()
        running = workers
        while running:
            message = run.messages.get()
            if message is None:
                running -= 1
            elif isinstance(message, BaseException):
                raise message
            else:
                on_progress(run.handle(*message))
    finally:
        run.stop()
        for thread in threads:
            thread.join()
    if run.failed:
        raise run.failure()
    return run.result


def _serve(run: _Run) -> None:
    """Let processes score one waiting file after the other, until there is none or the call ends."""
    file: Stored | None = None
    deaths = 0
    try:
        while not run.is_stopped and (file is not None or (file := _next(run)) is not None):
            with run.process() as process:
                while file is not None and _is_done(run, file, process):
                    file, deaths = _next(run), 0
            deaths += 1
            if file is not None and deaths == _MOST_DEATHS:
                reason = f"{deaths} processes died while they scored it. Fewer workers need less memory"
                run.messages.put((file, {"report": "done", "kind": "BothwaysError", "error": reason}))
                file, deaths = None, 0
        run.messages.put(None)
    except BaseException as error:  # noqa: BLE001  (raised in the thread of the caller)
        run.messages.put(error)


def _next(run: _Run) -> Stored | None:
    try:
        return run.waiting.get_nowait()
    except queue.Empty:
        return None


def _is_done(run: _Run, file: Stored, process: subprocess.Popen[bytes]) -> bool:
    """Send a file to a process and pass on what it reports. Return False if the process died."""
    assert process.stdout is not None
    try:
        _send(process, asdict(file))
    except BrokenPipeError:
        return False
    for line in process.stdout:
        message = json.loads(line)
        run.messages.put((file, message))
        if message["report"] == "done":
            return True
    return False


def _send(process: subprocess.Popen[bytes], value: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value).encode() + b"\n")
    process.stdin.flush()
