"""Certificates as an authority issues them: a root, an authority below it, a server's chain."""

import os
import ssl
from pathlib import Path
from typing import Any

import trustme

ROOT_AND_BELOW = 2


class Authority:
    """Issues certificates for the loopback, and says whom to trust."""

    def __init__(self) -> None:
        self._root = trustme.CA()
        self._intermediate = self._root.create_child_ca()
        self.trust = ssl.create_default_context()
        self._root.configure_trust(self.trust)

    @property
    def root_pem(self) -> bytes:
        """The root's certificate, for those who read whom to trust from a file."""
        return self._root.cert_pem.bytes()

    def issue(self, directory: Path, *, elliptic: bool = True) -> dict[str, str]:
        """Write a new certificate and key, each at once as `mv` does it; the settings of `listen` that name them."""
        kind = trustme.KeyType.ECDSA if elliptic else trustme.KeyType.RSA
        issued = self._intermediate.issue_cert("localhost", "127.0.0.1", "::1", key_type=kind)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        assert chain.count(b"BEGIN CERTIFICATE") == ROOT_AND_BELOW
        replace(directory / "tls.key", issued.private_key_pem.bytes())
        replace(directory / "tls.pem", chain)
        return {"tls_certificate_file": f"{directory}/tls.pem", "tls_key_file": f"{directory}/tls.key"}

    def listen(self, directory: Path, **more: Any) -> dict[str, Any]:
        """A section `listen` with a certificate."""
        return {"port": 0, **self.issue(directory), **more}


def replace(path: Path, content: bytes) -> None:
    """Write a file so that nobody sees half of it."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, path)
