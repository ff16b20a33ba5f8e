"""``bothways sign``: sign a bundle with a private key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bothways
from bothways.cli.options import BundlePath, output_console
from bothways.errors import path_text


def sign(
    bundle: BundlePath,
    key: Annotated[
        Path, typer.Option(metavar="PRIVATE.pem", help="Ed25519 private key in PEM format, without a password.")
    ],
) -> None:
    """Sign a bundle or pack with a private key.

    Adds signature.json to the bundle. bothways verify --key and bothways serve --key refuse a bundle that is not signed
    with the private key of their public key, or that was changed since.

    Make a key pair with: openssl genpkey -algorithm ed25519 -out private.pem, and then openssl pkey -in private.pem
    -pubout -out public.pem

    Example: bothways sign reviews.bundle --key private.pem
    """
    signature = bothways.sign(bundle, key=key)
    console = output_console()
    console.print(f"Signed {path_text(bundle)} with the public key {signature.public_key}.")
    console.print(f"Next: bothways verify {path_text(bundle)} --key public.pem")
