"""Fetch the published WikiText-103 language models of fastai, once, and check that they are what was published.

In: a name. Out: the path of an archive in the user's cache. A file of the wrong size or checksum is never kept.
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

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from bothways.errors import ForeignModelError
from bothways.files import open_for_writing

_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class PublishedFile:
    """A file on the web, with what it must be.

    Attributes:
        url: Where it lies.
        size_bytes: Its size.
        md5: Its checksum, as fastai published it.
    """

    url: str
    size_bytes: int
    md5: str


_HOME = "https://s3.amazonaws.com/fast-ai-modelzoo"
PUBLISHED: dict[str, PublishedFile] = {
    "wt103-fwd": PublishedFile(f"{_HOME}/wt103-fwd.tgz", 105_067_061, "7d1114cd9684bf9d1ca3c9f6a54da6f9"),
    "wt103-bwd": PublishedFile(f"{_HOME}/wt103-bwd.tgz", 105_205_312, "20b06f5830fd5a891d21044c28d3097f"),
}
"""Size and checksum as in fastai 1.0.61, ``datasets.py``."""


def fetch_published(name: str) -> Path:
    """Return the archive of a published model, downloaded if it is not in the cache yet.

    Args:
        name: One of ``PUBLISHED``.

    Raises:
        ForeignModelError: It can't be fetched, or is not what was published.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bothways"
    return fetch(PUBLISHED[name], home / f"{name}.tgz")


def fetch(published: PublishedFile, target: Path) -> Path:
    """Return ``target`` with the published content, downloaded if need be; complete and checked, or not at all.

    Raises:
        ForeignModelError: It can't be fetched, or its size or checksum is wrong.
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
                    f"{published.url} gave {found_bytes} bytes with the MD5 {found_md5}, expected "
                    f"{published.size_bytes} bytes with {published.md5}: it was cut short or is not the published "
                    "file, and was not kept"
                )
    except (OSError, HTTPException) as error:  # an error of urllib is an OSError
        raise ForeignModelError(
            f"{published.url} can't be fetched ({getattr(error, 'reason', error)}): download it by other means "
            "and pass the file"
        ) from None
    return target


def _download(published: PublishedFile, name: str, out: IO[bytes]) -> tuple[int, str]:
    """Write what the address gives, hardly more than expected; give its size and MD5."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with (
        urllib.request.urlopen(published.url, timeout=_TIMEOUT_S) as answer,  # noqa: S310  (a constant, or a test's)
        Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress,
    ):
        task = progress.add_task(name, total=published.size_bytes)
        while size <= published.size_bytes and (chunk := answer.read(_CHUNK_BYTES)):
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            progress.advance(task, len(chunk))
    return size, digest.hexdigest()


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
