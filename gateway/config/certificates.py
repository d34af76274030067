"""The gateway's own certificate and key: read, checked against each other, and refused in plain words."""

import ssl
from pathlib import Path
from typing import Final

from gateway.config.files import read_bounded
from gateway.config.problems import shown

__all__ = ["check_certificate", "server_context"]

MAXIMUM_PEM_BYTES: Final = 1024 * 1024
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 §4.2). Those of TLS 1.3 are all so."""


def check_certificate(path: Path) -> None:
    """See whether there are certificates in a file.

    Raises:
        ValueError: there are none.
    """
    read_bounded(path, MAXIMUM_PEM_BYTES)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ValueError(f"expected a certificate in PEM, found none in {shown(path.name)}") from None


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for a server with this certificate: TLS 1.2 or later, HTTP/1.1 (ALPN), no client certificates.

    Raises:
        ValueError: the files can't be read, hold something else, or don't belong together.
    """
    read_bounded(certificate, MAXIMUM_PEM_BYTES)
    read_bounded(key, MAXIMUM_PEM_BYTES)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except ssl.SSLError as error:
        raise ValueError(_explain(error, certificate, key)) from None
    return context


class _Passphrase(ValueError):
    pass


def _refuse_passphrase() -> str:
    """OpenSSL would ask at the terminal, and wait."""
    raise _Passphrase("expected a key without a passphrase: nobody is there to type it when the gateway starts")


def _explain(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"expected the key of the certificate in {shown(certificate.name)}, found another one's"
    if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
        return f"expected a certificate of today's strength, found a weak one in {shown(certificate.name)}"
    return f"expected the key of that certificate in PEM, found none in {shown(key.name)}"
