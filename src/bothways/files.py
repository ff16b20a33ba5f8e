"""Open plain and compressed files for reading and writing, and never leave a partially written file behind.

The functions take a path (``-`` is standard input or output) and return binary streams.
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
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from bothways.errors import (
    BothwaysError,
    ConfigError,
    DataError,
    DependencyMissing,
    OutputExists,
    path_text,
    shown,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_LONGEST_NAME_BYTES = 255 - 32
"""File systems allow 255. Temporary files beside an output have longer names than the output."""

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zip")
STANDARD_STREAM = "-"
LARGEST_EXPANSION = 32
"""Compressed content may have at most this many times the size of its file, or ``_FREE_BYTES``."""
_FREE_BYTES = 8 * 1024 * 1024


def split_suffix(path: str) -> tuple[str, str]:
    """Return a path's format suffix and its compression suffix in lower case, such as ``('.csv', '.gz')``.

    Each is an empty string if the path has no such suffix.
    """
    file = Path(path)
    last_suffix = file.suffix.lower()
    if last_suffix not in COMPRESSIONS:
        return last_suffix, ""
    return Path(file.stem).suffix.lower(), last_suffix


@contextlib.contextmanager
def open_for_reading(path: str, suffixes: Collection[str] = ()) -> Iterator[IO[bytes]]:
    """Open a file and yield its decompressed content as a binary stream.

    Args:
        path: A file, compressed if its suffix is one of ``COMPRESSIONS``, or ``-`` for standard input.
        suffixes: In a zip archive with several files, the only one with such a suffix is read.

    Raises:
        DataError: The file does not exist, is a folder or can't be read, or its compressed content is damaged,
            truncated or expands without bounds, or a zip archive does not contain exactly one file.
        DependencyMissing: The file is a ``.zst`` file and pyarrow is not installed.
    """
    if path == STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    with _opened(path) as raw:
        compression = split_suffix(path)[1]
        if not compression:
            yield raw
            return
        largest = max(_FREE_BYTES, LARGEST_EXPANSION * os.fstat(raw.fileno()).st_size)
        with (
            _decompressed(path, raw, compression, suffixes) as content,
            io.BufferedReader(_DecompressedStream(path, content, largest), 1 << 16) as stream,
        ):
            yield stream


def zip_member(path: str, suffixes: Collection[str] = ()) -> str:
    """Return the name of the file in a zip archive that ``open_for_reading`` reads.

    Raises:
        DataError: The archive can't be read, or does not contain exactly one file.
    """
    with _opened(path) as raw, library_errors(f"{path} is damaged or not a .zip file"), zipfile.ZipFile(raw) as archive:
        return _only_member(path, archive, suffixes)


def _only_member(path: str, archive: zipfile.ZipFile, suffixes: Collection[str]) -> str:
    names = [
        info.filename
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX/") and Path(info.filename).name[:1] != "."
    ]
    wanted = [name for name in names if split_suffix(name)[0] in suffixes]
    if len(names) != 1 and len(wanted) == 1:
        return wanted[0]
    if len(names) == 1:
        return names[0]
    listed = ", ".join(shown(name, 40) for name in (wanted or names)[:10])
    raise DataError(
        f"{path} contains {len(wanted or names)} files, expected one: {listed or 'none'}. Unpack it and pass one"
    )


@contextlib.contextmanager
def library_errors(problem: str) -> Iterator[None]:
    """Raise every error of a library that reads a foreign file as a ``DataError``.

    Use it around calls of the library only: an error that a caller raises inside the block is changed too.

    Args:
        problem: What the error means, with the name of the file.

    Raises:
        DataError: The block raised an error that is not a ``BothwaysError``.
    """
    try:
        yield
    except BothwaysError:
        raise
    except Exception as error:  # noqa: BLE001  (a damaged file can raise anything in a library)
        reason = "not enough memory" if isinstance(error, MemoryError) else str(error).strip() or type(error).__name__
        raise DataError(f"{problem}: {shown(reason.splitlines()[0])}") from None


def _opened(path: str) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, expected a file") from None
    except PermissionError:
        raise DataError(f"{path} can't be read: permission denied") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None


class _DecompressedStream(io.RawIOBase):
    """Decompressed content of a file. Errors of any decompression library are raised as ``DataError``."""

    def __init__(self, path: str, content: IO[bytes], largest: int) -> None:
        self._path = path
        self._content = content
        self._largest = largest
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            read = self._content.read(len(view))
        except Exception as error:  # noqa: BLE001  (damaged content can raise anything in a library)
            if isinstance(error, EOFError) or "Truncated" in str(error):  # pyarrow raises OSError("Truncated ...")
                problem = "is truncated: its compressed content is incomplete"
            else:
                problem = f"is damaged or not a {split_suffix(self._path)[1]} file: {error}"
            raise DataError(f"{self._path} {problem}. Copy or download it again") from None
        self._size += len(read)
        if self._size > self._largest:
            raise DataError(
                f"{self._path} expands to more than {LARGEST_EXPANSION} times its size. If you trust it, decompress it "
                "first"
            )
        view[: len(read)] = read
        return len(read)


@contextlib.contextmanager
def open_for_writing(path: str) -> Iterator[IO[bytes]]:
    """Yield a binary stream for a new file that appears at ``path`` only if the block succeeds.

    The content is written to a temporary file in the same folder, flushed to the disk and then renamed. On any error,
    including an interrupt, the temporary file is removed.

    Args:
        path: The file to create, compressed if its suffix is one of ``COMPRESSIONS``, or ``-`` for standard output.

    Raises:
        OutputExists: ``path`` already exists.
        ConfigError: The folder of ``path`` does not exist.
        DataError: The disk is full or not writable.
        DependencyMissing: The file is a ``.zst`` file and pyarrow is not installed.
    """
    if path == STANDARD_STREAM:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except OSError as error:
            if error.errno in WRITE_ERRORS:
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
            with _compressed(raw, target) as stream:
                yield stream
            raw.flush()
            os.fsync(raw.fileno())
        refuse_existing(target)
        os.chmod(temporary, 0o666 & ~current_umask())  # noqa: PTH101
        os.rename(temporary, target)  # noqa: PTH104
    except OSError as error:
        if error.errno in WRITE_ERRORS:
            raise writing_failed(target, error) from None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108


def refuse_existing(target: Path) -> None:
    """Raise an error if something exists at a path to write to.

    Raises:
        OutputExists: A file, folder or link exists at ``target``.
    """
    if os.path.lexists(target):
        raise OutputExists(f"{target} exists: choose another --out, or remove it first")


def refuse_unusable(target: Path) -> None:
    """Raise an error if an output can't be created at a path, before a long computation starts.

    Raises:
        OutputExists: A file, folder or link exists at ``target``.
        ConfigError: The folder of ``target`` does not exist, or the name is too long for files beside it.
    """
    if len(os.fsencode(target.name)) > _LONGEST_NAME_BYTES:
        raise ConfigError(
            f"the name {shown(target.name, 60)} has more than {_LONGEST_NAME_BYTES} bytes: choose another"
        )
    refuse_existing(target)
    if not os.path.isdir(target.parent):  # noqa: PTH112  (Path.is_dir raises if the path is too long)
        raise ConfigError(f"the folder {path_text(target.parent)} does not exist: create it first")


def writing_failed(target: Path, error: OSError, *, is_output: bool = True) -> ConfigError | DataError:
    """Return the error to raise for an ``OSError`` that occurred while writing ``target``.

    Args:
        target: The file or folder.
        error: The error of the operating system.
        is_output: Whether ``target`` is what the user wanted, of which no part is kept.
    """
    if error.errno == errno.ENOENT:
        return ConfigError(f"the folder {target.parent} does not exist: create it first")
    remains = ". No partial output remains" if is_output else ""
    return DataError(f"{target} can't be written: {_reason(error)}{remains}")


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))


WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
"""Error numbers of an ``OSError`` that mean that a file can't be written."""


def current_umask() -> int:
    """Return the umask of this process: the permission bits that new files do not get."""
    value = os.umask(0o022)
    os.umask(value)
    return value


def _decompressed(
    path: str, raw: IO[bytes], compression: str, suffixes: Collection[str]
) -> contextlib.AbstractContextManager[IO[bytes]]:
    match compression:
        case ".zip":
            return _unzipped(path, raw, suffixes)
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


@contextlib.contextmanager
def _unzipped(path: str, raw: IO[bytes], suffixes: Collection[str]) -> Iterator[IO[bytes]]:
    with library_errors(f"{path} is damaged or not a .zip file"):
        archive = zipfile.ZipFile(raw)
        content = archive.open(_only_member(path, archive, suffixes))
    with archive, content:
        yield content


@contextlib.contextmanager
def _zipped(raw: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    member = zipfile.ZipInfo(name)  # with a fixed date, so that equal content gives equal bytes
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(raw, "w") as archive, archive.open(member, "w", force_zip64=True) as content:
        yield content


def _compressed(raw: IO[bytes], path: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    match split_suffix(path.name)[1]:
        case ".zip":
            return _zipped(raw, f"table{split_suffix(path.name)[0]}")
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
    return cast(
        "IO[bytes]", pyarrow.CompressedOutputStream(pyarrow.PythonFile(_NonClosingStream(raw), mode="w"), "zstd")
    )


class _NonClosingStream(io.RawIOBase):
    """Pass writes on to a stream without closing it.

    pyarrow closes the stream that it writes to. ``open_for_writing`` still has to flush that stream to the disk.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        return self._raw.write(data)


def require_pyarrow(kind: str) -> Any:
    """Import and return the module ``pyarrow``.

    Args:
        kind: The kind of file that needs it, for the error message, such as ``.zst``.

    Raises:
        DependencyMissing: pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: PLC0415  (an optional dependency of 170 MB, which a server does not need)
    except ImportError:
        raise DependencyMissing(f"{kind} files need pyarrow: pip install 'bothways[parquet]'") from None
    return pyarrow


def replace_file(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file atomically: it has either its old content or the complete new content.

    Args:
        path: The file to create or replace.
        *parts: The new content, in order.

    Raises:
        ConfigError: The folder of ``path`` does not exist.
        DataError: The disk is full or not writable.
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
        raise writing_failed(path, error, is_output=False) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
