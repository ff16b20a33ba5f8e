"""Sign the digest of a bundle with an Ed25519 key, and check such a signature.

In: PEM files of keys, a digest. Out: ``signature.json`` in the bundle. The digest covers every other file of the
bundle, so that a signature is valid as long as nothing is changed. A signature proves who published a bundle. The
digests alone prove only that no file was damaged: whoever changes a file can write new digests.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bothways import strict_json
from bothways.bundle.regular_file import read_regular_file
from bothways.errors import BundleBroken, BundleUntrusted, ConfigError, DependencyMissing, path_text
from bothways.schema import Document, validated

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_FILE = "signature.json"
_LARGEST_SIGNATURE_BYTES = 4096
_LARGEST_KEY_BYTES = 65_536
_NEW_KEY = "openssl genpkey -algorithm ed25519 -out private.pem"
_PUBLIC_KEY = "openssl pkey -in private.pem -pubout -out public.pem"


class Signature(Document):
    """The content of ``signature.json``.

    Attributes:
        algorithm: Always ``ed25519``.
        public_key: The key that the signature claims to be of, 32 bytes in hexadecimal. Decides nothing.
        signature: 64 bytes in hexadecimal.
    """

    algorithm: Literal["ed25519"]
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


def make_signature(digest: str, key: str | os.PathLike[str]) -> Signature:
    """Sign the digest of a bundle.

    Args:
        digest: The digest.
        key: PEM file with an Ed25519 private key that is not encrypted.

    Raises:
        ConfigError: The key can't be read, or is not such a key.
        DependencyMissing: The library cryptography is not installed.
    """
    private = _private_key(Path(key))
    return Signature(
        algorithm="ed25519",
        public_key=private.public_key().public_bytes_raw().hex(),
        signature=private.sign(_message(digest)).hex(),
    )


def check_signature(folder: Path, digest: str, key: str | os.PathLike[str]) -> None:
    """Refuse a bundle that is not signed with a key.

    Args:
        folder: Directory of the bundle.
        digest: Its digest.
        key: PEM file with the Ed25519 public key of whoever must have signed it.

    Raises:
        BundleUntrusted: There is no signature, it was made with another key, or it belongs to other content.
        BundleBroken: The file of the signature is not one.
        ConfigError: The key can't be read, or is not such a key.
        DependencyMissing: The library cryptography is not installed.
    """
    public = _public_key(Path(key))
    where, expected = path_text(folder), path_text(key)
    signature = read_signature(folder)
    if signature is None:
        raise BundleUntrusted(f"{where} is not signed, expected a signature of {expected}. Sign it with bothways sign")
    if signature.public_key != public.public_bytes_raw().hex():
        raise BundleUntrusted(
            f"{where} is signed with the key {signature.public_key[:16]}..., expected a signature of {expected}"
        )
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  (an extra)

    try:
        public.verify(bytes.fromhex(signature.signature), _message(digest))
    except InvalidSignature:
        raise BundleUntrusted(
            f"{where} does not match its signature: it was changed after it was signed, or the signature belongs to "
            "another bundle"
        ) from None


def read_signature(folder: Path) -> Signature | None:
    """Return the signature in a bundle as it is, not checked; None if there is none.

    Raises:
        BundleBroken: The file is not a signature.
    """
    path = folder / SIGNATURE_FILE
    if not os.path.lexists(path):
        return None
    data = read_regular_file(path, _LARGEST_SIGNATURE_BYTES)
    try:
        return validated(Signature, strict_json.parse(data))
    except ValueError:
        raise BundleBroken(
            f"{path_text(path)} is not a signature. Remove it, and sign the bundle again with bothways sign"
        ) from None


def _message(digest: str) -> bytes:
    """Return what is signed, which nothing but a bundle's digest has the form of."""
    return f"bothways bundle {digest}".encode("ascii")


def _private_key(path: Path) -> Ed25519PrivateKey:
    serialization, key_errors = _cryptography()
    data = _read_key(path)
    if b"PRIVATE KEY-----" not in data:
        raise ConfigError(f"{path_text(path)} holds no private key in PEM format. Make one with {_NEW_KEY}")
    try:
        key: object = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise ConfigError(
            f"{path_text(path)} is encrypted, expected a key without a password. Decrypt it with "
            "openssl pkey -in ENCRYPTED.pem -out private.pem"
        ) from None
    except key_errors:
        raise ConfigError(f"{path_text(path)} holds no readable private key. Make one with {_NEW_KEY}") from None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  (an extra)

    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path_text(path)} is not an Ed25519 key. Make one with {_NEW_KEY}")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    serialization, key_errors = _cryptography()
    data = _read_key(path)
    if b"PRIVATE KEY-----" in data:
        raise ConfigError(f"{path_text(path)} is a private key, expected the public one: {_PUBLIC_KEY}")
    try:
        key: object = serialization.load_pem_public_key(data)
    except key_errors:
        raise ConfigError(
            f"{path_text(path)} holds no public key in PEM format. Write one with {_PUBLIC_KEY}"
        ) from None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415  (an extra)

    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path_text(path)} is not an Ed25519 key. Make a key pair with {_NEW_KEY}")
    return key


def _cryptography() -> tuple[ModuleType, tuple[type[Exception], ...]]:
    """Return the module that reads keys, and what it raises for those that it can't read."""
    try:
        from cryptography.exceptions import InternalError, UnsupportedAlgorithm  # noqa: PLC0415  (an extra)
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    except ImportError:
        raise DependencyMissing("signatures need cryptography: pip install 'bothways[sign]'") from None
    return serialization, (ValueError, TypeError, UnsupportedAlgorithm, InternalError)


def _read_key(path: Path) -> bytes:
    """Return the content of a key file. It may be a link or a pipe, as secrets often are."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_KEY_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ConfigError(f"the key {path_text(path)} can't be read: {reason}") from None
    if len(data) > _LARGEST_KEY_BYTES:
        raise ConfigError(f"{path_text(path)} has more than {_LARGEST_KEY_BYTES:,} bytes, expected a key in PEM format")
    return data
