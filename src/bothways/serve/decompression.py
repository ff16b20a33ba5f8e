"""Decompress the bodies of requests in parts, so that the caller can stop at a limit of the decompressed size.

A few bytes can decompress to any size. No more than a few bytes are decompressed at a time, so that a part has at most
about two megabytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from bothways.errors import BodyUnsupported, RequestInvalid, quoted

_GZIP_STEP_BYTES, _ZSTD_STEP_BYTES = 1024, 64
"""A byte of gzip becomes at most 1,032 bytes, and 4 bytes of zstd at most 131,072."""
_GZIP_WINDOW_BITS = 31
_ZSTD_WINDOW_BYTES = 2**23
"""What RFC 8878 recommends to support. A frame with a larger window would take more memory."""
_MOST_MEMBERS = 1000
_PLAIN = "identity"
_NAMES = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}


class _Stream(Protocol):
    """One member of a gzip body, or one frame of a zstd body."""

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""

    @property
    def unused_data(self) -> bytes:
        """What follows its end."""

    def decompress(self, data: bytes, /) -> bytes:
        """Return the decompressed bytes of the next part."""


def compression_of(header: str | None) -> str | None:
    """Return the compression that a ``Content-Encoding`` header names, or None if the body is not compressed.

    Raises:
        BodyUnsupported: The server can't decompress such a body.
    """
    name = _PLAIN if header is None else header.strip().lower() or _PLAIN
    if name == _PLAIN:
        return None
    if name not in _NAMES:
        raise BodyUnsupported(
            f"content-encoding {quoted(name, 40)} is not supported: send gzip, zstd or no compression"
        )
    compression = _NAMES[name]
    _codec(compression)
    return compression


class Decompressor:
    """Decompresses one body: one or more gzip members or zstd frames."""

    def __init__(self, compression: str) -> None:
        """Begin a body.

        Args:
            compression: One of those that ``compression_of`` returns.
        """
        self._compression = compression
        self._new, self._step, self._failure = _codec(compression)
        self._stream, self._members = self._new(), 1

    def decompress(self, part: bytes | bytearray) -> Iterator[bytes]:
        """Decompress the next part of the body.

        Yields:
            The decompressed parts.

        Raises:
            RequestInvalid: The body is damaged, or consists of more than 1,000 members.
        """
        try:
            for start in range(0, len(part), self._step):
                piece = bytes(part[start : start + self._step])
                while piece:
                    yield self._begun().decompress(piece)
                    piece = self._stream.unused_data if self._stream.eof else b""
        except self._failure:
            message = f"the body is not valid {self._compression}, as its content-encoding states"
            raise RequestInvalid(message) from None

    def end(self) -> None:
        """Check that the body is complete.

        Raises:
            RequestInvalid: Its end is missing.
        """
        if not self._stream.eof:
            raise RequestInvalid(f"the {self._compression} body is incomplete")

    def _begun(self) -> _Stream:
        """Return the member that is being decompressed: a new one at the end of another."""
        if self._stream.eof:
            self._stream, self._members = self._new(), self._members + 1
        if self._members > _MOST_MEMBERS:
            raise RequestInvalid(f"the {self._compression} body has more than {_MOST_MEMBERS} members, expected one")
        return self._stream


def _codec(compression: str) -> tuple[Callable[[], _Stream], int, type[Exception]]:
    """Return what begins a stream, the number of bytes per step, and the error of a damaged stream.

    Raises:
        BodyUnsupported: The library is not installed.
    """
    if compression == "gzip":
        return lambda: zlib.decompressobj(_GZIP_WINDOW_BITS), _GZIP_STEP_BYTES, zlib.error
    try:
        import zstandard  # noqa: PLC0415  (an extra)
    except ImportError:
        raise BodyUnsupported(
            "content-encoding 'zstd' needs zstandard on the server (pip install 'bothways[zstd]'): send gzip instead"
        ) from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    return decompressor.decompressobj, _ZSTD_STEP_BYTES, zstandard.ZstdError
