"""Read a bundle from disk into memory without trusting its content.

The checks run in this order: limits, format number, digest of the manifest, schema, digests of the files, tensor names
and shapes, decisions of the parity record. Nothing is built before all of them pass. Every file is read once, so the
content that was checked is the content that is used. Nothing in a bundle can execute code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bothways import strict_json
from bothways.bundle import format_1
from bothways.bundle.hub import local_path, pinned
from bothways.bundle.manifest import (
    FORMAT,
    LARGEST_MANIFEST_BYTES,
    MANIFEST_FILE,
    OLDEST_FORMAT,
    PARITY_FILE,
    TOKENIZER_FILE,
    Abstention,
    FileRecord,
    Kind,
    LinearMember,
    Manifest,
    digest_of,
)
from bothways.bundle.parity import ParityRow, parse_parity_record
from bothways.bundle.regular_file import read_regular_file
from bothways.bundle.signature import SIGNATURE_FILE, check_signature
from bothways.bundle.weights import (
    DomainWeights,
    LinearWeights,
    member_shapes,
    read_domain_weights,
    read_linear_weights,
    read_weights,
)
from bothways.errors import BundleBroken, BundleMissing, BundleTooNew, quoted
from bothways.schema import validated
from bothways.text.fields import Text, columns_text
from bothways.text.reading import Direction
from bothways.text.tokenizer import Tokenizer
from bothways.text.tokenizer_document import parse_tokenizer


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle or pack in memory.

    Attributes:
        name: The path of the bundle, or a reference to a commit of a repository.
        manifest: The content of ``bundle.json``.
        tokenizer: The tokenizer that all members share.
        linear: The linear member and its arrays by tensor name; None if there is none.
        abstention: When the model abstains, and the density of its pooled states; None if that was not calibrated.
        weights: Arrays by tensor name, for each direction. Code that converts them may remove them from the dictionary,
            so that no array is in memory twice.
        parity_record: Texts with the probabilities that the trainer computed for them.
    """

    name: str
    manifest: Manifest
    tokenizer: Tokenizer
    weights: dict[Direction, dict[str, NDArray[np.float32]]]
    parity_record: list[ParityRow]
    linear: tuple[LinearMember, LinearWeights] | None = None
    abstention: tuple[Abstention, DomainWeights] | None = None

    @property
    def digest(self) -> str:
        """A SHA-256 that covers every file of the bundle, and so identifies it."""
        return self.manifest.digest

    @property
    def parity_texts(self) -> list[Text]:
        """The texts of the parity record, as the models read them."""
        return [row.text_in(self.manifest.training.text_columns) for row in self.parity_record]


def read_bundle(path: str | os.PathLike[str], kind: Kind, key: str | os.PathLike[str] | None = None) -> Bundle:
    """Read a bundle and check it completely. The result does not depend on the disk any more.

    Args:
        path: The directory of the bundle, or a reference to a repository of the Hugging Face Hub, such as
            ``hf://user/name@revision``.
        kind: The required kind of bundle.
        key: PEM file with the Ed25519 public key that the bundle must be signed with; None if it need not be signed.

    Raises:
        BundleMissing: There is no bundle at the path.
        BundleTooNew: The bundle has a newer format than this version can read.
        BundleBroken: The bundle is damaged, incomplete, of another kind, or does not match its manifest.
        BundleUntrusted: The bundle is not signed with the key.
        ConfigError: The key can't be read, or is not an Ed25519 public key.
        HubError: The Hugging Face Hub can't be reached, or it refuses the request.
        DependencyMissing: A key is given, and the library cryptography is not installed. Or the path is a reference,
            and huggingface_hub is not installed.
    """
    folder = local_path(path)
    manifest = read_manifest(folder)
    if key is not None:
        check_signature(folder, manifest.digest, key)
    if manifest.kind is not kind:
        raise BundleBroken(f"{folder} is a {manifest.kind}, expected a {kind}")
    names = {name: format_1.FILE_NAMES.get(name, name) if manifest.format == 1 else name for name in manifest.files}
    _refuse_unlisted(folder, {MANIFEST_FILE, SIGNATURE_FILE, *names.values()})
    contents = {name: _read_recorded(folder / names[name], record) for name, record in manifest.files.items()}

    tokenizer = parse_tokenizer(contents[TOKENIZER_FILE], f"{folder / TOKENIZER_FILE}")
    rows = manifest.members[0].architecture.vocabulary_size
    if len(tokenizer) != rows:
        raise BundleBroken(f"{folder}: the tokenizer has {len(tokenizer)} ids, but the members have {rows}")
    columns = manifest.training.text_columns
    if len(columns) > 1 and not tokenizer.has_field_token:
        raise BundleBroken(f"{folder} reads {columns_text(columns)}, but its tokenizer has no field token")
    weights = {
        member.direction: read_weights(
            contents.pop(member.weights), member_shapes(member, manifest.outputs), f"{folder / member.weights}"
        )
        for member in manifest.members
    }
    linear = None
    if manifest.linear is not None:
        data = contents.pop(manifest.linear.weights)
        name = f"{folder / manifest.linear.weights}"
        linear = (manifest.linear, read_linear_weights(data, manifest.linear, manifest.outputs, name))
    abstention = None
    if manifest.abstention is not None:
        domain = manifest.abstention.domain
        data, name = contents.pop(domain.weights), f"{folder / domain.weights}"
        abstention = (manifest.abstention, read_domain_weights(data, domain, manifest.pooled_width, rows, name))
    parity_record = parse_parity_record(contents[PARITY_FILE], manifest, f"{folder / names[PARITY_FILE]}")
    return Bundle(pinned(path, folder), manifest, tokenizer, weights, parity_record, linear, abstention)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the bundle in a directory.

    The format number is checked first, because a newer format may have keys that are unknown here. Then the manifest's
    digest of itself is checked, before anything else in it is used.

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
    data = read_regular_file(path, LARGEST_MANIFEST_BYTES)
    return _parse_manifest(data, path)


def _parse_manifest(data: bytes, path: Path) -> Manifest:
    try:
        value = strict_json.parse(data, allow_surrogates=False)
    except ValueError as error:
        raise BundleBroken(f"{path} is not strict JSON: {error}") from None
    if not isinstance(value, dict):
        raise BundleBroken(f"{path} contains a {type(value).__name__}, expected an object")
    found = value.get("format")
    if type(found) is int and found > FORMAT:
        formats = f"{OLDEST_FORMAT} to {FORMAT}"
        raise BundleTooNew(f"{path} has format {found}, but this version reads {formats}. Install a newer bothways")
    try:
        if type(found) is int and found == 1:
            value = format_1.upgraded(value, hashlib.sha256(data).hexdigest())
        elif value.get("digest") != digest_of(value):
            raise BundleBroken(
                f"{path} was changed after it was written: its content does not match its own digest. "
                "Restore the original file"
            )
        return validated(Manifest, value)
    except ValueError as error:
        raise BundleBroken(f"{path}: {error}") from None


def _refuse_unlisted(folder: Path, allowed: Set[str]) -> None:
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError as error:
        raise BundleBroken(f"{folder} can't be listed: {error.strerror}") from None
    for name in sorted(names):
        if name not in allowed:
            raise BundleBroken(f"{folder} contains {quoted(name)}, which its manifest does not list. Remove that file")


def _read_recorded(path: Path, record: FileRecord) -> bytes:
    data = read_regular_file(path, record.size_bytes)
    if len(data) != record.size_bytes:
        raise BundleBroken(f"{path} has {len(data)} bytes, but its manifest records {record.size_bytes}")
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise BundleBroken(f"{path} is not the file that its manifest records: its SHA-256 differs")
    return data
