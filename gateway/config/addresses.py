"""Addresses in a configuration: brokers' URLs, those of keys, and the origins of web pages (RFC 6454)."""

import re
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import PlainValidator

from gateway.config.problems import shown
from gateway.core.origins import is_loopback

__all__ = ["BrokerAddress", "BrokerUrl", "Origin", "host_and_port", "parse_jwks_url", "parse_webhook_url"]

BROKER_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
ORIGIN_PORTS: Final = {"http": "80", "https": "443"}
DEFAULT_PATH: Final = "/mqtt"
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_VISIBLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[^\s/?#@\[\]\\%]+")


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """How to reach a broker."""

    scheme: str
    host: str
    port: int
    path: str
    """For WebSocket."""

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return self.scheme in ("mqtts", "wss")

    @property
    def websocket(self) -> bool:
        """Whether MQTT goes over WebSocket."""
        return self.scheme in ("ws", "wss")

    def __str__(self) -> str:
        return f"{self.scheme}://{host_and_port(self.host, self.port)}{self.path if self.websocket else ''}"


def host_and_port(host: str, port: int) -> str:
    """Both as a URL has them, an IPv6 address in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_broker_url(value: object) -> BrokerUrl:
    """A broker's URL with all that it leaves out.

    Raises:
        ValueError: it isn't one, or holds more than the way to the broker.
    """
    text = value if isinstance(value, str) else ""
    if "@" in text:  # the text isn't shown, since it may hold a password
        raise ValueError("expected no user name or password in a URL: use `username` and `password_file`")
    usual = "expected a URL such as mqtt://localhost:1883, with the scheme mqtt, mqtts, ws or wss"
    refused = ValueError(f"{usual}, found {shown(value)}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refused from None
    if parts.scheme not in BROKER_PORTS or not host or not _HOST.fullmatch(host) or port == 0:
        raise refused
    if parts.query or parts.fragment or not (parts.path in ("", "/") or parts.scheme in ("ws", "wss")):
        raise ValueError(f"expected nothing after the host and port (ws and wss: a path), found {shown(value)}")
    return BrokerUrl(parts.scheme, host, port or BROKER_PORTS[parts.scheme], parts.path or DEFAULT_PATH)


def parse_jwks_url(value: object) -> str:
    """Where an identity provider publishes its keys: who could answer there in its place could let anybody in.

    Raises:
        ValueError: it is no such address, or TLS wouldn't say who answers.
    """
    text, parts = _parse_http_url(value, "https://login.example/.well-known/jwks.json", "keys are public")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError(f"expected https:// except on the loopback, found {shown(value)}")
    return text


def parse_webhook_url(value: object) -> str:
    """An address that is called.

    Raises:
        ValueError: it is none, or has a user or password in it.
    """
    text, _ = _parse_http_url(value, "https://example.org/hooks/tidegate", "calls are signed by `secret_file`")
    return text


def _parse_http_url(value: object, example: str, instead: str) -> tuple[str, SplitResult]:
    """An address for HTTP, and its parts; `instead` says why it needs no user and password."""
    text = value if isinstance(value, str) else ""
    if "@" in text:  # the text isn't shown, since it may hold a password
        raise ValueError(f"expected no user name or password in a URL: {instead}")
    refused = ValueError(f"expected a URL such as {example}, found {shown(value)}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refused from None
    fit = parts.scheme in ORIGIN_PORTS and host and _HOST.fullmatch(host) and port != 0 and not parts.fragment
    if not fit or not _VISIBLE.fullmatch(text):
        raise refused
    return text, parts


def parse_origin(value: object) -> str:
    """An origin as browsers write it: lower case, without the scheme's own port.

    Raises:
        ValueError: it isn't one.
    """
    if value == "*":
        raise ValueError(
            "expected origins one by one, found '*': every page of the web could act with its visitors' browsers"
        )
    found = _ORIGIN.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if found is None or int(found["port"] or 1) not in range(1, 65_536):
        raise ValueError(f"expected scheme, host and no path, such as https://dashboard.example, found {shown(value)}")
    port = str(int(found["port"])) if found["port"] else None
    origin = f"{found['scheme']}://{found['host']}"
    return origin if port in (None, ORIGIN_PORTS.get(found["scheme"])) else f"{origin}:{port}"


BrokerAddress: TypeAlias = Annotated[BrokerUrl, PlainValidator(parse_broker_url)]
Origin: TypeAlias = Annotated[str, PlainValidator(parse_origin)]
