"""Write a file in pieces, so that the same call continues it after its process was killed.

The content goes to ``OUT.part``. A journal next to it, ``OUT.part.json``, records the settings of the run and how much
of the content is complete. When all of it is, ``OUT.part`` is renamed to ``OUT`` and the journal is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bothways import strict_json
from bothways.errors import BothwaysError, ConfigError, OutputExists
from bothways.files import WRITE_ERRORS, refuse_existing, refuse_unusable, replace_file, writing_failed

OutputSettings = dict[str, str | int | bool | list[str]]
"""What determines the content of a file. A run continues another one only if these are equal."""


@dataclass(frozen=True)
class _Journal:
    """What a journal records: the settings of a run, and the rows and bytes that are complete."""

    settings: OutputSettings
    rows: int = 0
    size: int = 0


@dataclass(frozen=True)
class PartialOutput:
    """A file that is being written. Made by ``open_partial_output``.

    Attributes:
        target: Final path of the file.
        settings: What determines its content.
        stream: The content.
        complete_rows: Number of rows that an interrupted run completed. 0 for a new file.
        complete_bytes: Size of the content with these rows. 0 for a new file.
    """

    target: Path
    settings: OutputSettings
    stream: IO[bytes]
    complete_rows: int
    complete_bytes: int

    def skip_complete(self) -> None:
        """Remove everything behind the complete bytes of an interrupted run. What is written next follows them."""
        self.stream.seek(self.complete_bytes)
        self.stream.truncate()

    def checkpoint(self, rows: int) -> None:
        """Record that this many rows are complete, after they have reached the disk."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        _write_journal(self.target, _Journal(self.settings, rows, self.stream.tell()))


@contextlib.contextmanager
def open_partial_output(target: Path, settings: OutputSettings) -> Iterator[PartialOutput]:
    """Open a file for writing, and continue an interrupted run with equal settings if there is one.

    The file appears at ``target`` when the block succeeds. After a ``BothwaysError`` nothing of it remains, because the
    same call would fail again. After an interrupt or the death of the process, the same call continues.

    Args:
        target: The file to create.
        settings: What determines its content.

    Yields:
        The file, positioned at its start.

    Raises:
        OutputExists: Something exists at ``target``, or another file has the name of the part or of the journal.
        ConfigError: The folder of ``target`` does not exist, or another process is writing the file.
        DataError: The disk is full or not writable.
    """
    refuse_unusable(target)
    part = _part(target)
    if _read_journal(target) is None:  # the journal is written first, so a part without one is a file of the user
        _refuse_foreign(part)
        _write_journal(target, _Journal(settings))
    try:
        stream = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
    except OSError as error:
        raise writing_failed(part, error) from None
    with contextlib.ExitStack() as stack:
        stack.callback(_close, stream)
        _lock(stream, target)
        try:
            yield PartialOutput(target, settings, stream, *_complete(target, settings, stream))
            stream.flush()
            os.fsync(stream.fileno())
            refuse_existing(target)
            part.rename(target)
            _journal(target).unlink()
        except BothwaysError:
            _remove(target)
            raise
        except OSError as error:
            if error.errno not in WRITE_ERRORS:
                raise
            _remove(target)
            raise writing_failed(target, error) from None


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _journal(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _remove(target: Path) -> None:
    _part(target).unlink(missing_ok=True)
    _journal(target).unlink(missing_ok=True)


def _complete(target: Path, settings: OutputSettings, stream: IO[bytes]) -> tuple[int, int]:
    """Return how many rows and bytes of the content can be kept. Without any, start again from an empty file."""
    found = _read_journal(target)
    size = os.fstat(stream.fileno()).st_size
    if found is not None and found.settings == settings and found.rows and found.size <= size:
        return found.rows, found.size
    stream.truncate(0)
    _write_journal(target, _Journal(settings))
    return 0, 0


def _write_journal(target: Path, journal: _Journal) -> None:
    content = {"settings": journal.settings, "rows": journal.rows, "bytes": journal.size}
    replace_file(_journal(target), strict_json.dump(content).encode())


def _read_journal(target: Path) -> _Journal | None:
    """Return the journal of an interrupted run, or None if there is none.

    Raises:
        OutputExists: The file is not a journal.
    """
    path = _journal(target)
    try:
        match strict_json.parse(path.read_bytes()):
            case {"settings": dict(settings), "rows": int(rows), "bytes": int(size)} if 0 <= rows <= size:
                return _Journal(settings, rows, size)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass
    _refuse_foreign(path)
    return None


def _refuse_foreign(path: Path) -> None:
    """Raise an error if something exists at a path, because this program did not create it.

    Raises:
        OutputExists: There is a file, folder or link.
    """
    if os.path.lexists(path):
        raise OutputExists(f"{path} exists and does not belong to an interrupted run. Move it, or choose another --out")


def _lock(stream: IO[bytes], target: Path) -> None:
    """Lock the content until the stream is closed. The lock of a killed process ends with it.

    Raises:
        ConfigError: Another process has the lock, or has just published or removed the file.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.path.samestat(os.fstat(stream.fileno()), os.stat(_part(target)))  # noqa: PTH116
    except OSError:
        is_ours = False
    if not is_ours:
        raise ConfigError(f"another process is writing {target}. Wait until it ends, or choose another --out")


def _close(stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a full disk was reported when the content was written
        stream.close()
