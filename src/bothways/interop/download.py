"""Download fastai's published WikiText-103 language models once, and check their size and checksum.

Input: a name. Output: the path of an archive in the user's cache. A file of the wrong size or checksum is never kept.
"""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from bothways.errors import ForeignModelError
from bothways.files import open_for_writing
from bothways.terminal import SafeConsole

_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class PublishedFile:
    """A published file with its expected size and checksum.

    Attributes:
        url: Address of the file.
        size_bytes: Expected size.
        md5: Expected MD5 checksum, as fastai published it.
    """

    url: str
    size_bytes: int
    md5: str


_HOME = "https://s3.amazonaws.com/fast-ai-modelzoo"
PUBLISHED: dict[str, PublishedFile] = {
    "wt103-fwd": PublishedFile(f"{_HOME}/wt103-fwd.tgz", 105_067_061, "7d1114cd9684bf9d1ca3c9f6a54da6f9"),
    "wt103-bwd": PublishedFile(f"{_HOME}/wt103-bwd.tgz", 105_205_312, "20b06f5830fd5a891d21044c28d3097f"),
}
"""The published models by name. Sizes and checksums are those of ``datasets.py`` in fastai 1.0.61."""


def fetch_published(name: str) -> Path:
    """Return the path of a published model's archive. Download it if it is not in the cache.

    Args:
        name: A key of ``PUBLISHED``.

    Raises:
        ForeignModelError: The download failed, or its size or checksum is wrong.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bothways"
    return fetch(PUBLISHED[name], home / f"{name}.tgz")


def fetch(published: PublishedFile, target: Path) -> Path:
    """Return ``target``. Download it first if it does not have the published size and checksum.

    A download that fails or does not match leaves no file behind.

    Raises:
        ForeignModelError: The download failed, or its size or checksum is wrong.
    """
    if target.is_file():
        if target.stat().st_size == published.size_bytes and _md5_of(target) == published.md5:
            return target
        target.unlink()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_for_writing(str(target)) as out:
            found_bytes, found_md5 = _download(published, target.name, out)
            if (found_bytes, found_md5) != (published.size_bytes, published.md5):
                raise ForeignModelError(
                    f"{published.url} returned {found_bytes} bytes with the MD5 {found_md5}, expected "
                    f"{published.size_bytes} bytes with {published.md5}: the download was cut short or is not the "
                    "published file, and was not kept; try again"
                )
    except (OSError, HTTPException) as error:  # an error of urllib is an OSError
        raise ForeignModelError(
            f"{published.url} can't be downloaded ({getattr(error, 'reason', error)}): download it by other means and "
            "pass the path of the file"
        ) from None
    return target


def _download(published: PublishedFile, name: str, out: IO[bytes]) -> tuple[int, str]:
    """Write the content of the address to ``out``, and return its size and MD5.

    Stops within one chunk after the expected size.
    """
    digest, size = hashlib.md5(usedforsecurity=False), 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with (
        urllib.request.urlopen(published.url, timeout=_TIMEOUT_S) as response,  # noqa: S310  (a constant, or a test's)
        Progress(*columns, console=SafeConsole(file=sys.stderr), transient=True) as progress,
    ):
        task = progress.add_task(name, total=published.size_bytes)
        while size <= published.size_bytes and (chunk := response.read(_CHUNK_BYTES)):
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            progress.advance(task, len(chunk))
    return size, digest.hexdigest()


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
