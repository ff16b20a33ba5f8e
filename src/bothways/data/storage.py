"""Find, copy and write files by path or URL: on disk, in S3, Google Cloud Storage, Azure, HDFS, or wherever fsspec can.

In: a path or a URL such as ``s3://bucket/part-*.parquet``. Out: files with their names below the fixed part of the
pattern. pyarrow does the work, and fsspec for schemes that pyarrow does not know.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.errors import ConfigError, DataError, DependencyMissing, path_text, quoted, shown
from bothways.files import require_pyarrow

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_COPY_BYTES = 1 << 20
_LONGEST_REASON = 200


@dataclass(frozen=True)
class Stored:
    """A file that was found.

    Attributes:
        name: Path below the fixed part of the pattern, such as ``2026/part-0.parquet``.
        path: Path in its storage.
        size: Size in bytes.
        changed_ns: When it was last changed, in nanoseconds since 1970. 0 if the storage does not know.
    """

    name: str
    path: str
    size: int
    changed_ns: int


class Storage:
    """The storage of a path or URL.

    Attributes:
        path: The path in it, with the pattern.
        is_local: Whether it is the disk of this machine.
    """

    def __init__(self, url: str) -> None:
        """Connect to a storage.

        Args:
            url: A path or a URL. Whatever follows a ``?`` in a URL are settings of the storage.

        Raises:
            ConfigError: The scheme of the URL is unknown, or its settings are not valid.
            DependencyMissing: pyarrow is not installed.
        """
        arrow_fs = _arrow_fs()
        match = _URL.match(url)
        self._shown = url_text(url)
        self.is_local = match is None or match[1].lower() == "file"
        if match is None:
            self._files, self.path = arrow_fs.LocalFileSystem(), str(Path(url).absolute())
            return
        place, _, settings = url.partition("?")
        fixed, pattern = _divided(place)
        uri = f"{fixed}?{settings}" if settings else fixed
        try:
            self._files, found = arrow_fs.FileSystem.from_uri(uri)
        except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
            self._files, found = _with_fsspec(fixed, match[1], shown(str(error), _LONGEST_REASON))
        self.path = "/".join(part for part in (found.rstrip("/"), pattern) if part)

    def __str__(self) -> str:
        return self._shown

    def files(self) -> list[Stored]:
        """Return the files that match the pattern, in order of their paths. ``**`` matches any number of folders.

        Raises:
            DataError: No file matches, or the storage cannot be read.
        """
        arrow_fs = _arrow_fs()
        fixed, pattern = _divided(self.path)
        selected: Any = arrow_fs.FileSelector(fixed, recursive=True, allow_not_found=True) if pattern else [self.path]
        with self._errors("read"):
            found = [info for info in self._files.get_file_info(selected) if info.type == arrow_fs.FileType.File]
        start = len(fixed.rstrip("/")) + 1 if pattern else len(self.path) - len(self.path.rpartition("/")[2])
        files = [Stored(info.path[start:], info.path, info.size, info.mtime_ns or 0) for info in found]
        if pattern:
            files = [file for file in files if _matches(file.name.split("/"), pattern.split("/"))]
        if not files:
            what = f"no file matches the pattern {self}" if pattern else f"file not found: {self}"
            raise DataError(f"{what}. A folder needs a pattern, such as FOLDER/*.parquet")
        return sorted(files, key=lambda file: file.path)

    def contains(self, other: Storage, path: str) -> bool:
        """Return whether a path in another storage is in the folder of this one."""
        is_same = self._files.equals(other._files)
        return is_same and path.startswith(f"{self.path}/")

    def size_of(self, path: str) -> int | None:
        """Return the size of a file in bytes, or None if there is none."""
        with self._errors("read"):
            size: int | None = self._files.get_file_info(path).size
            return size

    def read(self, path: str) -> bytes:
        """Return the content of a small file.

        Raises:
            DataError: It cannot be read.
        """
        with self._errors("read"), self._files.open_input_stream(path) as stream:
            content: bytes = stream.read()
            return content

    def write(self, path: str, content: bytes) -> None:
        """Create or replace a small file. It is complete or not there.

        Raises:
            DataError: It cannot be written.
        """
        with self._errors("written"):
            unfinished = self._begun(path)
            with self._files.open_output_stream(unfinished) as stream:
                stream.write(content)
            self._publish(unfinished, path)

    def remove(self, path: str) -> None:
        """Remove a file.

        Raises:
            DataError: It cannot be removed.
        """
        with self._errors("removed"):
            self._files.delete_file(path)

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file to the disk.

        Raises:
            DataError: It cannot be read.
        """
        with (
            self._errors("read"),
            self._files.open_input_stream(path) as source,
            target.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy, _COPY_BYTES)

    def publish(self, source: Path, path: str) -> None:
        """Move a file from the disk to its place. It is complete or not there.

        Raises:
            DataError: It cannot be written.
        """
        with self._errors("written"):
            if self.is_local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                source.replace(path)
                return
            unfinished = self._begun(path)
            with source.open("rb") as content, self._files.open_output_stream(unfinished) as stream:
                shutil.copyfileobj(content, stream, _COPY_BYTES)
            self._publish(unfinished, path)
            source.unlink()

    def _begun(self, path: str) -> str:
        """Return where to write a file first. Objects of an object store appear when they are complete."""
        if self._is_object_store:
            return path
        self._files.create_dir(path.rpartition("/")[0], recursive=True)
        return f"{path}.unfinished"

    def _publish(self, unfinished: str, path: str) -> None:
        if unfinished != path:
            self._files.move(unfinished, path)

    @property
    def _is_object_store(self) -> bool:
        return self._files.type_name in ("s3", "gcs", "abfs")

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Raise what a storage raises as an error of ours, without the settings of the URL."""
        try:
            yield
        except (OSError, ValueError, NotImplementedError) as error:
            raise DataError(f"{self} cannot be {done}: {shown(str(error), _LONGEST_REASON)}") from None


def is_url(path: str) -> bool:
    """Return whether a path is a URL."""
    return _URL.match(path) is not None


def url_text(url: str) -> str:
    """Return a path or URL for messages, without the keys and settings that a URL can have."""
    return path_text(re.sub(r"//[^/@]*@", "//", url.partition("?")[0]) if is_url(url) else url)


def is_pattern(path: str) -> bool:
    """Return whether a path names several files by a pattern, and is not the name of a file itself."""
    return glob.has_magic(path) and not os.path.lexists(path)


def _divided(path: str) -> tuple[str, str]:
    """Return the folder before the first part of a path that has wildcards, and that part with all behind it."""
    parts = path.split("/")
    first = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "/".join(parts[:first]), "/".join(parts[first:])


def _matches(name: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a pattern."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_matches(name[start:], pattern[1:]) for start in range(len(name) + 1))
    return bool(name) and fnmatch.fnmatchcase(name[0], pattern[0]) and _matches(name[1:], pattern[1:])


def _arrow_fs() -> Any:
    require_pyarrow("remote")
    from pyarrow import fs  # noqa: PLC0415  (an optional dependency)

    return fs


def _with_fsspec(url: str, scheme: str, reason: str) -> tuple[Any, str]:
    """Return the file system of fsspec for a URL, as one of pyarrow, and the path in it."""
    arrow_fs = _arrow_fs()
    if not reason.startswith("Unrecognized filesystem"):  # pyarrow knows the scheme, and the URL is wrong
        raise ConfigError(f"the URL {quoted(url_text(url))} cannot be used: {reason}")
    try:
        import fsspec  # noqa: PLC0415  (an optional dependency)
    except ImportError:
        raise DependencyMissing(f"pyarrow cannot read {scheme}:// URLs. Try: pip install fsspec") from None
    try:
        files, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{scheme}:// URLs cannot be read: {shown(str(error), _LONGEST_REASON)}") from None
    return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(files)), path
