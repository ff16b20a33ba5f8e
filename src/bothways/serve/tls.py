"""Read the certificate with which the server identifies itself."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from bothways.errors import ConfigError, path_text, shown
from bothways.serve.settings import Settings

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key. Two are equal if their files have the same content.

    Attributes:
        chain: The file with the certificate and those that it is signed with.
        key: The file with the private key.
        content: The content of both files.
    """

    chain: Path
    key: Path
    content: tuple[bytes, bytes]

    @property
    def leaf(self) -> bytes:
        """The certificate of the server in DER, without those that it is signed with."""
        found = _PEM.search(self.content[0].decode("latin-1"))
        return b"" if found is None else ssl.PEM_cert_to_DER_cert(found[0])


def read_certificate(settings: Settings) -> Certificate | None:
    """Read and check the certificate and its private key.

    Returns:
        Both, or None if the server speaks plain HTTP.

    Raises:
        ConfigError: A file can't be read or is not in PEM format, or the key is encrypted or does not belong to the
            certificate.
    """
    if settings.ssl_certfile is None:
        if settings.ssl_keyfile is not None:
            raise ConfigError("--ssl-keyfile needs --ssl-certfile, the certificate that belongs to the private key")
        return None
    certificate, key = Path(settings.ssl_certfile), Path(settings.ssl_keyfile or settings.ssl_certfile)
    content = []
    for path in (certificate, key):
        try:
            content.append(path.read_bytes())
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
    return Certificate(certificate, key, (content[0], content[1]))


def trust_anyone() -> ssl.SSLContext:
    """Return the context of a client that accepts every certificate, for requests of the server to itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
