"""Where the gateway listens: the keys of `listen`, and which of them go together."""

from pathlib import Path

from pydantic import ValidationInfo, field_validator

from gateway.config import values
from gateway.config.certificates import check_certificate, server_context
from gateway.config.section import Section

__all__ = ["ListenSettings"]


class ListenSettings(Section):
    """Where browsers and programs find the gateway."""

    host: values.Host = "127.0.0.1"
    """The address to listen on; `0.0.0.0` stands for all of this machine's."""
    port: values.Port = 8080
    """The port; 0 takes a free one."""
    tls_certificate_file: values.ReadableFile | None = None
    """The gateway's certificate with those that lead to its authority (PEM); all is `https://` and `wss://` then."""
    tls_key_file: values.ReadableFile | None = None
    """The key of that certificate (PEM), without a passphrase."""
    hsts_seconds: values.HstsSeconds = 31_536_000
    """With TLS: how long browsers are to come over TLS only; 0 makes them forget it."""
    trusted_proxies: tuple[values.Network, ...] = ()
    """Addresses and networks, such as `10.0.0.0/8`, of proxies that are believed where requests come from."""
    proxy_header: values.ProxyHeader = "x-forwarded"
    """What they write: `x-forwarded` for `X-Forwarded-For` and `X-Forwarded-Proto`, or `forwarded` (RFC 7239)."""
    compress_from_bytes: values.Bytes | None = 1024
    """From which size on messages are compressed for WebSocket clients that offer it; `null` for never."""

    @field_validator("tls_certificate_file")
    @classmethod
    def _check_certificate(cls, value: Path | None) -> Path | None:
        if value is not None:
            check_certificate(value)
        return value

    @field_validator("tls_key_file")
    @classmethod
    def _check_pair(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_certificate_file" not in info.data:
            return value
        certificate = info.data["tls_certificate_file"]
        if (value is None) != (certificate is None):
            raise ValueError("expected `tls_certificate_file` and `tls_key_file` together, found one of them")
        if value is not None:
            server_context(certificate, value)
        return value

    @property
    def tls_files(self) -> tuple[Path, Path] | None:
        """Certificate and key, if TLS is on."""
        if self.tls_certificate_file is None or self.tls_key_file is None:
            return None
        return self.tls_certificate_file, self.tls_key_file
