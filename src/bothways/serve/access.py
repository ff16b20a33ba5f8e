"""Decide which clients may use the server: by the keys in a file."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from pathlib import Path

from bothways.errors import ConfigError, Unauthorized, path_text

_LARGEST_FILE_BYTES = 1_000_000
_COMMENT = "#"
_SCHEME = "bearer"
_HEADERS = "Authorization: Bearer KEY or X-API-Key: KEY"


class ApiKeys:
    """The keys of a file, one per line. Without a file every client is admitted.

    Only digests are kept in memory. A key is compared with all of them in a time that does not depend on its content.
    """

    def __init__(self, file: Path | None) -> None:
        """Read the file.

        Raises:
            ConfigError: The file can't be read, or has no valid keys.
        """
        self._file = file
        self._digests: tuple[bytes, ...] = ()
        self.read()

    def read(self) -> None:
        """Read the file again. If it is invalid, the previous keys stay valid.

        Raises:
            ConfigError: The file can't be read, or has no valid keys.
        """
        if self._file is not None:
            self._digests = tuple(_digest(key) for key in _read_keys(self._file))

    @property
    def are_required(self) -> bool:
        """Whether requests need a key."""
        return self._file is not None

    def require(self, headers: Mapping[str, str]) -> None:
        """Check that a request has one of the keys.

        Args:
            headers: The headers of the request (the metadata of a call in gRPC), by their names in lower case.

        Raises:
            Unauthorized: It has none of them. The message does not contain what the client sent.
        """
        if not self.are_required:
            return
        sent = [key for key in _sent_keys(headers) if key]
        if not sent:
            raise Unauthorized(f"the request has no API key, expected the header {_HEADERS}")
        matches = [hmac.compare_digest(_digest(key), digest) for key in sent for digest in self._digests]
        if not any(matches):
            raise Unauthorized(f"the API key is not valid, expected a current one in the header {_HEADERS}")


def _sent_keys(headers: Mapping[str, str]) -> Iterator[str]:
    scheme, _, key = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == _SCHEME:
        yield key.strip()
    yield headers.get("x-api-key", "").strip()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read_keys(file: Path) -> list[str]:
    where = f"the API keys in {path_text(file)}"
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{where} can't be read: {error.strerror}") from None
    if len(content) > _LARGEST_FILE_BYTES:
        raise ConfigError(f"{where} have more than {_LARGEST_FILE_BYTES} bytes, expected one key per line")
    keys = []
    for number, line in enumerate(content.decode("latin-1").removeprefix("\xef\xbb\xbf").splitlines(), start=1):
        key = line.strip()
        if not key or key.startswith(_COMMENT):
            continue
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(f"{where}, line {number}: not a key, expected visible ASCII characters without spaces")
        keys.append(key)
    if not keys:
        raise ConfigError(f"{where}: the file has no keys, expected one per line")
    return keys
