"""Read a bundle from disk into memory, trusting nothing in it.

In: a path. Out: a ``Bundle``. The checks come in this order: limits, schema, format number, digests, tensor names and
shapes; only then is anything built. Every file is read once, so what was checked is what is used. Nothing in a bundle
can execute.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from bothways import strict_json
from bothways.bundle.manifest import (
    FORMAT,
    LARGEST_MANIFEST_BYTES,
    MANIFEST_FILE,
    PARITY_FILE,
    TOKENIZER_FILE,
    FileName,
    Kind,
    Manifest,
)
from bothways.bundle.parity import ParityRow, parse_parity_record
from bothways.bundle.weights import member_shapes, read_weights, shown
from bothways.errors import BundleBroken, BundleMissing, BundleTooNew
from bothways.text.reading import Direction
from bothways.text.tokenizer import Tokenizer
from bothways.text.tokenizer_document import parse_tokenizer


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle or pack in memory.

    Attributes:
        name: The path it was read from, for messages.
        manifest: What ``bundle.json`` says.
        digest: SHA-256 of ``bundle.json``, which holds those of all other files: the bundle's identity.
        tokenizer: Shared by all members.
        weights: Arrays by tensor name for each direction. Who packs them may take them out, to hold none twice.
        proof: The trainer's own numbers.
    """

    name: str
    manifest: Manifest
    digest: str
    tokenizer: Tokenizer
    weights: dict[Direction, dict[str, NDArray[np.float32]]]
    parity_record: list[ParityRow]


def read_bundle(path: str | os.PathLike[str], kind: Kind) -> Bundle:
    """Return the bundle at a path, completely checked and independent of the disk from then on.

    Args:
        path: A bundle's directory.
        kind: What it must be.

    Raises:
        BundleMissing: There is no bundle at the path.
        BundleTooNew: It has a format number that this version does not know.
        BundleBroken: It is damaged, incomplete, not of this kind, or not what its manifest says.
    """
    folder = Path(path)
    manifest, manifest_bytes = read_manifest(folder)
    if manifest.kind is not kind:
        raise BundleBroken(f"{folder} is a {manifest.kind}, expected a {kind}")
    _refuse_unlisted(folder, manifest)
    contents = {name: _read_recorded(folder, name, manifest) for name in manifest.files}

    tokenizer = parse_tokenizer(contents[TOKENIZER_FILE], f"{folder / TOKENIZER_FILE}")
    rows = manifest.members[0].architecture.vocabulary_size
    if len(tokenizer) != rows:
        raise BundleBroken(f"{folder}: the tokenizer has {len(tokenizer)} ids, but the members have {rows}")
    weights = {
        member.direction: read_weights(
            contents.pop(member.weights), member_shapes(member, manifest.outputs), f"{folder / member.weights}"
        )
        for member in manifest.members
    }
    parity_record = parse_parity_record(contents[PARITY_FILE], manifest, f"{folder / PARITY_FILE}")
    digest = hashlib.sha256(manifest_bytes).hexdigest()
    return Bundle(str(folder), manifest, digest, tokenizer, weights, parity_record)


def read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    """Return the manifest of the bundle in a folder, and its bytes.

    Raises:
        BundleMissing: There is no bundle there.
        BundleTooNew: It has a newer format. Its number is looked at first: its other keys may be unknown here.
        BundleBroken: The manifest is not one.
    """
    if not os.path.lexists(folder):
        raise BundleMissing(f"{folder}: there is no bundle here")
    if not os.path.isdir(folder):  # noqa: PTH112  (Path.is_dir raises where a folder above can't be entered)
        raise BundleMissing(f"{folder} is not a bundle: a bundle is a directory that holds {MANIFEST_FILE}")
    path = folder / MANIFEST_FILE
    if not os.path.lexists(path):
        raise BundleMissing(f"{folder} is not a bundle: it holds no {MANIFEST_FILE}")
    data = _read_regular_file(path, LARGEST_MANIFEST_BYTES)
    try:
        value = strict_json.parse(data)
    except ValueError as error:
        raise BundleBroken(f"{path} is not strict JSON: {error}") from None
    if not isinstance(value, dict):
        raise BundleBroken(f"{path} holds a {type(value).__name__}, expected an object")
    found = value.get("format")
    if type(found) is int and found > FORMAT:
        raise BundleTooNew(f"{path} has format {found}, this version knows {FORMAT}: install a newer bothways")
    try:
        return Manifest.model_validate_json(data, strict=True), data
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        raise BundleBroken(f"{path}: {shown(where)}: {first['msg']}") from None


def _refuse_unlisted(folder: Path, manifest: Manifest) -> None:
    allowed = {MANIFEST_FILE, *manifest.files}
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError as error:
        raise BundleBroken(f"{folder} can't be listed: {error.strerror}") from None
    for name in sorted(names):
        if name not in allowed:
            raise BundleBroken(f"{folder} holds {name!r}, which its manifest does not list: remove it")


def _read_recorded(folder: Path, name: FileName, manifest: Manifest) -> bytes:
    record = manifest.files[name]
    path = folder / name
    data = _read_regular_file(path, record.size_bytes)
    if len(data) != record.size_bytes:
        raise BundleBroken(f"{path} has {len(data)} bytes, but its manifest records {record.size_bytes}")
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise BundleBroken(f"{path} is not the file that its manifest records: its SHA-256 differs")
    return data


def _read_regular_file(path: Path, limit_bytes: int) -> bytes:
    """Return a file's bytes; links, devices and pipes are refused before anything is read from them."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BundleBroken(f"{path} is missing") from None
    except OSError as error:
        reason = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise BundleBroken(f"{path} can't be opened: {reason}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleBroken(f"{path} is not a regular file")
        if status.st_size > limit_bytes:
            raise BundleBroken(f"{path} has {status.st_size} bytes, expected at most {limit_bytes}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit_bytes + 1)
    except OSError as error:
        raise BundleBroken(f"{path} can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
