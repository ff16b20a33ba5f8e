"""Read the certificate with which the server identifies itself."""

from __future__ import annotations

import ssl
from pathlib import Path

from bothways.errors import ConfigError, path_text, shown
from bothways.serve.settings import Settings


def read_certificate(settings: Settings) -> tuple[Path, Path] | None:
    """Check the certificate and its private key.

    Returns:
        The paths of both, or None if the server speaks plain HTTP.

    Raises:
        ConfigError: A file can't be read or is not in PEM format, or the key is encrypted or does not belong to the
            certificate.
    """
    if settings.ssl_certfile is None:
        if settings.ssl_keyfile is not None:
            raise ConfigError("--ssl-keyfile needs --ssl-certfile, the certificate that belongs to the private key")
        return None
    certificate, key = Path(settings.ssl_certfile), Path(settings.ssl_keyfile or settings.ssl_certfile)
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path_text(path)} can't be read: {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = shown(error.reason or error).replace("_", " ").lower()
        raise ConfigError(
            f"{path_text(certificate)} and {path_text(key)} are not a certificate and its private key ({reason}): "
            "expected PEM files, and a key without a password"
        ) from None
    return certificate, key


def trust_anyone() -> ssl.SSLContext:
    """Return the context of a client that accepts every certificate, for requests of the server to itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
