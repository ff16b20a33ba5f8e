"""Make Ed25519 keys as users do, with OpenSSL, or with cryptography where OpenSSL is not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HAS_OPENSSL = shutil.which("openssl") is not None


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def key_pair(folder: Path, name: str = "private") -> tuple[Path, Path]:
    """Return the files of a new private and public key."""
    private, public = folder / f"{name}.pem", folder / f"{name}.public.pem"
    if HAS_OPENSSL:
        openssl("genpkey", "-algorithm", "ed25519", "-out", private)
        openssl("pkey", "-in", private, "-pubout", "-out", public)
        return private, public
    key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    no_password = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public
