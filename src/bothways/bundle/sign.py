"""Sign a bundle, so that whoever has the public key can check who published it.

In: a bundle and a private key. Out: ``signature.json`` in the bundle.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bothways.arguments import as_path, checked
from bothways.bundle.hub import hub_reference
from bothways.bundle.read import read_bundle, read_manifest
from bothways.bundle.signature import SIGNATURE_FILE, Signature, make_signature
from bothways.errors import ConfigError, OutputExists, path_text
from bothways.files import writing_failed


@checked(path=as_path, key=as_path)
def sign(path: str | os.PathLike[str], *, key: str | os.PathLike[str]) -> Signature:
    """Sign a bundle or pack with an Ed25519 key.

    The bundle is read and checked completely, then ``signature.json`` is added to it. ``verify(path, key=...)``,
    ``load(path, key=...)`` and ``bothways serve --key`` check it.

    Args:
        path: Directory of the bundle or pack.
        key: PEM file with the private key, not encrypted: ``openssl genpkey -algorithm ed25519 -out private.pem``.

    Returns:
        The signature.

    Raises:
        BundleError: There is no bundle at the path, or it can't be read.
        ConfigError: The key can't be read, is encrypted or not an Ed25519 key. Or the path is a reference to the Hub.
        OutputExists: The bundle has a signature. A signature is never overwritten.
        DataError: The signature can't be written.
        DependencyMissing: The library cryptography is not installed.
    """
    if hub_reference(path) is not None:
        raise ConfigError(f"{path_text(path)} is on the Hub. Sign the local bundle, and then upload it")
    folder = Path(path)
    target = folder / SIGNATURE_FILE
    digest = read_bundle(folder, read_manifest(folder).kind).digest
    signature = make_signature(digest, key)
    try:
        with target.open("x", encoding="ascii") as file:
            try:
                file.write(f"{signature.model_dump_json(indent=1)}\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    target.unlink()
                raise
    except FileExistsError:
        raise OutputExists(
            f"{path_text(target)} exists: the bundle is signed. Remove that file to sign it again"
        ) from None
    except OSError as error:
        raise writing_failed(target, error) from None
    return signature
