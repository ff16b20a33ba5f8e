"""Extract the model files of a tar archive, without trusting anything in it.

Input: a ``.tar``, ``.tar.gz`` or ``.tgz`` file. Output: its ``.pth`` and ``.pkl`` files in a folder, by name alone.
Headers are decoded here and not by ``tarfile``, which reads names and attributes of any length into memory and skips
any number of bytes between two members (docs/decisions/028-work-limits-of-foreign-files.md). Formats: POSIX (ustar and
pax) and GNU, with regular files. Links, devices and folders are skipped. Sparse files are refused.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from bothways.errors import ForeignModelError, path_text, quoted, shown
from bothways.interop.damaged_file import damaged_file_errors

SUFFIXES: Final = (".pth", ".pkl")
MAX_UNPACKED_BYTES: Final = 4 * 2**30
"""Largest size of all files in an archive together."""
FREE_BYTES: Final = 2**20
MAX_RATIO: Final = 3
"""An archive unpacks to at most 3 times its size, and to 1 MiB in any case. Weights hardly shrink by compression."""
MAX_MEMBERS: Final = 1000
MAX_NAME_BYTES: Final = 16_384
"""Largest header that contains a long name or attributes."""
_BLOCK_BYTES: Final = 512
_CHUNK_BYTES: Final = 2**18

_LONG_NAME, _LONG_LINK, _ATTRIBUTES, _SPARSE = b"L", b"K", b"x", b"S"
_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders and pipes


@dataclass(frozen=True)
class _Header:
    """The header of a member.

    Attributes:
        name: Path in the archive.
        kind: Its type, one byte.
        size_bytes: Size of the content that follows.
    """

    name: str
    kind: bytes
    size_bytes: int


class _Stream:
    """The decompressed archive, with a limit on its length."""

    def __init__(self, file: IO[bytes], limit_bytes: int) -> None:
        self._file, self._limit_bytes = file, limit_bytes
        self.read_bytes = 0

    def read(self, size_bytes: int) -> bytes:
        """Return the next bytes. Fewer only at the end of the archive."""
        if self.read_bytes + size_bytes > self._limit_bytes:
            raise ValueError(
                f"it unpacks to more than {self._limit_bytes} bytes, expected at most {MAX_RATIO} times its own size"
            )
        data = self._file.read(size_bytes)
        self.read_bytes += len(data)
        return data

    def read_all(self, size_bytes: int) -> bytes:
        """Return the next bytes.

        Raises:
            EOFError: The archive has fewer.
        """
        data = self.read(size_bytes)
        if len(data) != size_bytes:
            raise EOFError("it ends too early")
        return data

    def copy(self, size_bytes: int, out: IO[bytes] | None) -> None:
        """Copy the content of a member, or skip it, and skip the padding behind it."""
        padding = -size_bytes % _BLOCK_BYTES
        while size_bytes:
            part = self.read_all(min(size_bytes, _CHUNK_BYTES))
            size_bytes -= len(part)
            if out is not None:
                out.write(part)
        self.read_all(padding)


def extract_models(archive: Path, folder: Path) -> None:
    """Extract the ``.pth`` and ``.pkl`` files of an archive to a folder, without their paths. Skip other members.

    Raises:
        ForeignModelError: The archive is damaged, of another kind, unpacks to too much, or contains two files of one
            name.
    """
    with damaged_file_errors(path_text(archive), "can't be read as an archive"):
        limit_bytes = min(MAX_UNPACKED_BYTES, FREE_BYTES + MAX_RATIO * archive.stat().st_size)
        with archive.open("rb") as raw:
            start = raw.read(2)
            raw.seek(0)
            if start in (b"BZ", b"\xfd7", b"PK", b"\x28\xb5"):
                raise ForeignModelError(
                    f"{path_text(archive)} was not packed with tar and gzip, expected a .tar or .tar.gz file: repack it"
                )
            with gzip.GzipFile(fileobj=raw) if start == b"\x1f\x8b" else raw as content:
                _extract(_Stream(content, limit_bytes), folder)  # type: ignore[arg-type]  # both are binary streams


def _extract(stream: _Stream, folder: Path) -> None:
    long_name = ""
    for number in range(MAX_MEMBERS + 1):
        header = _next_header(stream, is_first=number == 0)
        if header is None:
            return
        if header.kind in (_LONG_NAME, _ATTRIBUTES):
            if header.size_bytes > MAX_NAME_BYTES:
                raise ValueError(f"a header has {header.size_bytes} bytes, expected at most {MAX_NAME_BYTES}")
            content = stream.read_all(header.size_bytes)
            stream.read_all(-header.size_bytes % _BLOCK_BYTES)
            long_name = _attribute_path(content) if header.kind == _ATTRIBUTES else _text(content)
            continue
        _extract_member(stream, header, Path(long_name or header.name).name, folder)
        if header.kind != _LONG_LINK:
            long_name = ""
    raise ValueError(f"it has more than {MAX_MEMBERS} members, expected one .pth and one .pkl file")


def _extract_member(stream: _Stream, header: _Header, name: str, folder: Path) -> None:
    if header.kind == _SPARSE:
        raise ValueError(f"{quoted(name)} is stored as a sparse file: pack it without --sparse")
    if header.kind in _WITHOUT_CONTENT:
        return
    if header.kind not in _REGULAR or not name.endswith(SUFFIXES) or name.startswith("."):
        stream.copy(header.size_bytes, None)
        return
    try:
        with (folder / name).open("xb") as out:
            stream.copy(header.size_bytes, out)
    except FileExistsError:
        raise ValueError(f"it contains two files named {quoted(name)}, expected one .pth and one .pkl file") from None


def _next_header(stream: _Stream, *, is_first: bool) -> _Header | None:
    """Return the next header, or None at the end of the archive."""
    block = stream.read(_BLOCK_BYTES)
    if not block.strip(b"\0"):
        if is_first:
            raise ValueError("it has no members")
        return None
    if len(block) < _BLOCK_BYTES:
        raise EOFError("it ends too early")
    expected = sum(block) - sum(block[148:156]) + 8 * 0x20
    if _number(block[148:156]) != expected:
        raise ValueError("a header is damaged" if not is_first else "it is not a tar file")
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    name = _text(block[:100])
    return _Header(f"{prefix}/{name}" if prefix else name, block[156:157], _number(block[124:136]))


def _number(digits: bytes) -> int:
    """Return a number of a header: octal digits, or the bytes of the number itself after a bit that marks them."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    text = digits.split(b"\0", 1)[0].strip()
    if text.strip(b"01234567"):
        raise ValueError("a number in a header is damaged")
    return int(text, 8) if text else 0


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _attribute_path(content: bytes) -> str:
    """Return the path in the attributes of a member (pax), each of which is ``LENGTH NAME=VALUE`` and a line end."""
    path, at = "", 0
    while at < len(content) and content[at : at + 1] != b"\0":
        digits, _, _ = content[at : at + 8].partition(b" ")
        if not digits.isdigit() or not 5 <= int(digits) <= len(content) - at:
            raise ValueError("the attributes of a member are damaged")
        name, _, value = content[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        if name.startswith(b"GNU.sparse.") or name == b"size":
            raise ValueError(f"a member has the attribute {shown(_text(name))}, which is not supported")
        if name == b"path":
            path = _text(value)
        at += int(digits)
    return path
