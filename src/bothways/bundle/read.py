"""Read a bundle from disk into memory without trusting its content.

The checks run in this order: limits, schema, format number, digests, tensor names and shapes. Nothing is built before
all of them pass. Every file is read once, so the content that was checked is the content that is used. Nothing in a
bundle can execute code.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from bothways.bundle.weights import member_shapes, read_weights
from bothways.errors import BundleBroken, BundleMissing, BundleTooNew
from bothways.schema import Faults, validated
from bothways.text.reading import Direction
from bothways.text.tokenizer import Tokenizer
from bothways.text.tokenizer_document import parse_tokenizer


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle or pack in memory.

    Attributes:
        name: The path of the bundle, for messages.
        manifest: The content of ``bundle.json``.
        digest: SHA-256 of ``bundle.json``, which contains the digests of all other files. It identifies the bundle.
        tokenizer: The tokenizer that all members share.
        weights: Arrays by tensor name, for each direction. Code that converts them may remove them from the dictionary,
            so that no array is in memory twice.
        parity_record: Texts with the probabilities that the trainer computed for them.
    """

    name: str
    manifest: Manifest
    digest: str
    tokenizer: Tokenizer
    weights: dict[Direction, dict[str, NDArray[np.float32]]]
    parity_record: list[ParityRow]


def read_bundle(path: str | os.PathLike[str], kind: Kind) -> Bundle:
    """Read a bundle and check it completely. The result does not depend on the disk any more.

    Args:
        path: The directory of the bundle.
        kind: The required kind of bundle.

    Raises:
        BundleMissing: There is no bundle at the path.
        BundleTooNew: The bundle has a newer format than this version can read.
        BundleBroken: The bundle is damaged, incomplete, of another kind, or does not match its manifest.
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
    """Read the manifest of the bundle in a directory.

    The format number is checked first, because a newer format may have keys that are unknown here.

    Returns:
        The manifest and its bytes.

    Raises:
        BundleMissing: There is no bundle in the directory.
        BundleTooNew: The bundle has a newer format than this version can read.
        BundleBroken: The manifest is not valid.
    """
    if not os.path.lexists(folder):
        raise BundleMissing(f"bundle not found: {folder}")
    if not os.path.isdir(folder):  # noqa: PTH112  (Path.is_dir raises if a parent directory can't be entered)
        raise BundleMissing(f"{folder} is not a bundle: a bundle is a directory with a file {MANIFEST_FILE}")
    path = folder / MANIFEST_FILE
    if not os.path.lexists(path):
        raise BundleMissing(f"{folder} is not a bundle: it contains no {MANIFEST_FILE}")
    data = _read_regular_file(path, LARGEST_MANIFEST_BYTES)
    try:
        value = strict_json.parse(data, allow_surrogates=False)
    except ValueError as error:
        raise BundleBroken(f"{path} is not strict JSON: {error}") from None
    if not isinstance(value, dict):
        raise BundleBroken(f"{path} contains a {type(value).__name__}, expected an object")
    found = value.get("format")
    if type(found) is int and found > FORMAT:
        raise BundleTooNew(f"{path} has format {found}, but this version reads {FORMAT}. Install a newer bothways")
    try:
        return validated(Manifest, value), data
    except Faults as error:
        raise BundleBroken(f"{path}: {error}") from None


def _refuse_unlisted(folder: Path, manifest: Manifest) -> None:
    allowed = {MANIFEST_FILE, *manifest.files}
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError as error:
        raise BundleBroken(f"{folder} can't be listed: {error.strerror}") from None
    for name in sorted(names):
        if name not in allowed:
            raise BundleBroken(f"{folder} contains {name!r}, which its manifest does not list. Remove that file")


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
    """Return the bytes of a file. Links, devices and pipes are rejected before anything is read from them."""
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
