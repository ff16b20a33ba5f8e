"""Open files for reading and writing, compressed or not, so that nothing half-written is ever left behind.

In: a path (``-`` is the standard stream). Out: binary streams. Knows nothing of tables.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from bothways.errors import ConfigError, DataError, DependencyMissing, OutputExists

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
STANDARD_STREAM = "-"


def split_suffix(path: str) -> tuple[str, str]:
    """Return a path's own suffix and its compression's, in lower case, each maybe empty: ``('.csv', '.gz')``."""
    bare = Path(path)
    compression = bare.suffix.lower()
    if compression not in COMPRESSIONS:
        return compression, ""
    return Path(bare.stem).suffix.lower(), compression


@contextlib.contextmanager
def open_for_reading(path: str) -> Iterator[IO[bytes]]:
    """Return a file's content, decompressed, as a binary stream.

    Raises:
        DataError: The file is missing, is a folder, can't be read, or its compressed content is damaged or cut short.
    """
    if path == STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    with _opened(path) as raw:
        compression = split_suffix(path)[1]
        if not compression:
            yield raw
            return
        with _decompressed(raw, compression) as content, io.BufferedReader(_Checked(path, content), 1 << 16) as stream:
            yield stream


def _opened(path: str) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, expected a file of texts") from None
    except PermissionError:
        raise DataError(f"{path} can't be read: permission denied") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None


class _Checked(io.RawIOBase):
    """Decompressed content; whatever is wrong with it is told as a ``DataError``, however a library reports it."""

    def __init__(self, path: str, content: IO[bytes]) -> None:
        self._path = path
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            read = self._content.read(len(view))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, EOFError) or "Truncated" in str(error):  # the latter is pyarrow's word
                problem = "ends in the middle of its compressed content: copy or download it again"
            else:
                problem = f"is not what its suffix says, or damaged: {error}"
            raise DataError(f"{self._path} {problem}") from None
        view[: len(read)] = read
        return len(read)


@contextlib.contextmanager
def open_for_writing(path: str) -> Iterator[IO[bytes]]:
    """Return a binary stream whose content appears under ``path`` only when the block ends well.

    The content goes to a file beside it first, is flushed to the disk and then renamed; on any error, an interrupt
    included, it is removed.

    Raises:
        OutputExists: Something is at ``path`` already.
        ConfigError: The folder it should go to does not exist.
        DataError: The disk is full or can't be written.
    """
    if path == STANDARD_STREAM:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except OSError as error:
            if error.errno in _WRITE_ERRORS:
                raise DataError(f"standard output can't be written: {_reason(error)}") from None
            raise
        return
    target = Path(path)
    refuse_existing(target)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise writing_failed(target, error) from None
    try:
        with os.fdopen(descriptor, "wb") as raw:
            with _compressed(raw, split_suffix(path)[1]) as stream:
                yield stream
            raw.flush()
            os.fsync(raw.fileno())
        refuse_existing(target)
        os.chmod(temporary, 0o666 & ~current_umask())  # noqa: PTH101
        os.rename(temporary, target)  # noqa: PTH104
    except OSError as error:
        if error.errno in _WRITE_ERRORS:
            raise writing_failed(target, error) from None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108


def refuse_existing(target: Path) -> None:
    """Refuse to write over anything.

    Raises:
        OutputExists: There is a file, folder or link at ``target``.
    """
    if os.path.lexists(target):
        raise OutputExists(f"{target} exists: choose another --out, or remove it first")


def refuse_unusable(target: Path) -> None:
    """Refuse a place for an output before long work is done for it.

    Raises:
        OutputExists: Something is at ``target``.
        ConfigError: Its folder does not exist.
    """
    refuse_existing(target)
    if not target.parent.is_dir():
        raise ConfigError(f"the folder {target.parent} does not exist: create it first")


def writing_failed(target: Path, error: OSError) -> ConfigError | DataError:
    """Return the error that tells a user why nothing could be written at ``target``."""
    if error.errno == errno.ENOENT:
        return ConfigError(f"the folder {target.parent} does not exist: create it first")
    return DataError(f"{target} can't be written: {_reason(error)}; nothing was left behind")


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))


_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)


def current_umask() -> int:
    """Return the permissions that this process does not give to what it makes."""
    value = os.umask(0o022)
    os.umask(value)
    return value


def _decompressed(raw: IO[bytes], compression: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    match compression:
        case ".gz":
            return cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="rb"))
        case ".bz2":
            return cast("IO[bytes]", bz2.BZ2File(raw, "rb"))
        case ".xz":
            return cast("IO[bytes]", lzma.LZMAFile(raw, "rb"))
        case ".zst":
            return _zstandard(raw, "rb")
        case _:
            return contextlib.nullcontext(raw)


def _compressed(raw: IO[bytes], compression: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    match compression:
        case ".gz":
            return cast("IO[bytes]", gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0))
        case ".bz2":
            return cast("IO[bytes]", bz2.BZ2File(raw, "wb"))
        case ".xz":
            return cast("IO[bytes]", lzma.LZMAFile(raw, "wb"))
        case ".zst":
            return _zstandard(raw, "wb")
        case _:
            return contextlib.nullcontext(raw)


def _zstandard(raw: IO[bytes], mode: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    pyarrow = require_pyarrow(".zst")
    if mode == "rb":
        return cast("IO[bytes]", pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd"))
    return cast("IO[bytes]", pyarrow.CompressedOutputStream(pyarrow.PythonFile(_LeftOpen(raw), mode="w"), "zstd"))


class _LeftOpen(io.RawIOBase):
    """Passes on what is written to a stream that pyarrow would close with its own, too early for us."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        return self._raw.write(data)


def require_pyarrow(kind: str) -> Any:
    """Return the module ``pyarrow``.

    Raises:
        DependencyMissing: It is not installed.
    """
    try:
        import pyarrow  # noqa: PLC0415  (an extra: 170 MB that a server does without)
    except ImportError:
        raise DependencyMissing(f"{kind} files need pyarrow: pip install 'bothways[parquet]'") from None
    return pyarrow


def replace_file(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file so that it is whole, or as it was before, whatever happens.

    Raises:
        DataError: The disk is full or can't be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as error:
        raise writing_failed(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
