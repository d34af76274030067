"""What can be configured: the models, with units in their names.

How they are loaded, and how errors are told, is in `loading`.
"""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.core.limits import Limits
from gateway.core.routes import Direction, PayloadKind, RouteSpec

__all__ = ["ENVIRONMENT_PREFIX", "RouteSettings", "Settings", "UpstreamSettings"]

ENVIRONMENT_PREFIX = "TIDEGATE_"

_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


def parse_size(value: object) -> int:
    """A size in bytes: `65536`, `64 KiB`, `1.5 MB`.

    Raises:
        ValueError: it isn't one.

    """
    text = str(value).strip().lower() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip()
    try:
        size_bytes = int(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise ValueError("expected a size such as 65536, 64 KiB or 1 MB") from None
    if size_bytes <= 0:
        raise ValueError("expected a size of at least 1 byte")
    return size_bytes


Bytes = Annotated[int, BeforeValidator(parse_size)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenSettings(Section):
    """Where browsers and programs find the gateway."""

    host: str = Field("127.0.0.1", description="The address to listen on; `0.0.0.0` for all.")
    port: Port = Field(8080, description="The port; 0 takes a free one.")


class BrokerSettings(Section):
    """The embedded MQTT broker, started if no upstream is named."""

    host: str = Field("127.0.0.1", description="The address to listen on. It asks no password: keep it local.")
    port: Port = Field(1883, description="The port; 0 takes a free one.")


class UpstreamSettings(Section):
    """An MQTT broker that the gateway is a client of."""

    url: str = Field(
        description="`mqtt://`, `mqtts://`, `ws://` or `wss://`, host, and port if it isn't the usual one."
    )
    protocol: Literal["3.1.1", "5"] = Field("5", description="The MQTT version that the broker speaks.")
    username: str | None = Field(None, description="The user name.")
    password: SecretStr | None = Field(None, description="The password; better `password_file`.")
    password_file: Path | None = Field(None, description="A file with the password.")
    ca_file: Path | None = Field(None, description="The certificate authority to trust instead of the system's.")
    certificate_file: Path | None = Field(None, description="The client's certificate.")
    key_file: Path | None = Field(None, description="The key of the client's certificate.")
    insecure: bool = Field(False, description="Take any certificate: for trials only.")
    client_id: str | None = Field(None, min_length=1, description="The client id; otherwise a random one.")
    keep_alive_seconds: Annotated[int, Field(ge=1, le=65_535)] = Field(30, description="The MQTT keep-alive.")
    session: Literal["clean", "persistent"] = Field(
        "clean", description="`persistent` lets the broker keep QoS 1 and 2 messages while the gateway is away."
    )
    session_expiry_seconds: Count = Field(3600, description="How long it keeps them (MQTT 5).")
    status_topic: str | None = Field(
        "tidegate/status", min_length=1, description="Where `online` and, as the last will, `offline` are retained."
    )
    connect_timeout_seconds: Seconds = Field(10, description="How long the broker may take to answer.")
    reconnect_min_seconds: Seconds = Field(0.5, description="The shortest pause before connecting again.")
    reconnect_max_seconds: Seconds = Field(30, description="The longest.")

    @field_validator("protocol", mode="before")
    @classmethod
    def _number_as_text(cls, value: object) -> object:
        return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            usable = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("expected an address such as mqtt://localhost:1883 (mqtt, mqtts, ws or wss)")
        if parts.username is not None or parts.password is not None:
            raise ValueError("expected no user or password here: use `username` and `password_file`")
        return value

    @field_validator("ca_file", "certificate_file", "key_file", "password_file")
    @classmethod
    def _check_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("expected `password` or `password_file`, not both")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("expected `certificate_file` and `key_file` together")
        if self.session == "persistent" and self.client_id is None:
            raise ValueError("a persistent session needs a `client_id` by which the broker knows it again")
        if self.reconnect_min_seconds > self.reconnect_max_seconds:
            raise ValueError("expected `reconnect_min_seconds` of at most `reconnect_max_seconds`")
        return self

    def read_password(self) -> str | None:
        """The password, wherever it is kept.

        Raises:
            OSError: the file can't be read.

        """
        if self.password_file is not None:
            return self.password_file.read_text().rstrip("\r\n")
        return None if self.password is None else self.password.get_secret_value()

    @property
    def address(self) -> tuple[str, str, int, str]:
        """Scheme, host, port and path of the URL."""
        parts = urlsplit(self.url)
        return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], parts.path or "/mqtt"


class LimitSettings(Section):
    """How much one client, and all together, may use."""

    connections: Count = Field(10_000, description="Connections in all.")
    connections_per_address: Count = Field(100, description="Connections from one address.")
    subscriptions_per_connection: Count = Field(100, description="Rooms and patterns of one connection.")
    message_bytes: Bytes = Field(64 * 1024, description="The largest message or body that a client may send.")
    messages_per_second: Seconds = Field(20, description="Messages of one connection on the long run.")
    messages_burst: Count = Field(40, description="Messages of one connection at once.")
    bytes_per_second: Bytes = Field(256 * 1024, description="Bytes of one connection on the long run.")
    bytes_burst: Bytes = Field(512 * 1024, description="Bytes of one connection at once.")
    refusals: Count = Field(10, description="Refused messages in a row, after which a connection is closed.")
    write_buffer_bytes: Bytes = Field(
        1024 * 1024, description="What may wait for a client that reads slowly; beyond, it is closed."
    )
    last_values: Count = Field(100_000, description="Last values kept, over all rooms; the stalest goes first.")


class HeartbeatSettings(Section):
    """How the gateway and its clients notice that the other is gone."""

    interval_seconds: Seconds = Field(25, description="A ping (WebSocket) or comment (SSE) so often.")
    timeout_seconds: Seconds = Field(20, description="A WebSocket client that answers no ping for so long is closed.")


class LogSettings(Section):
    """What is logged, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    format: Literal["auto", "console", "json"] = Field("auto", description="`auto`: readable on a terminal, else JSON.")


class RouteSettings(Section):
    """One translation between MQTT topics and rooms."""

    topic: str = Field(description="The topic pattern: `{name}` is one level, `{name...}` all that remain.")
    room: str = Field(description="The room pattern, with captures of the same names.")
    direction: Direction = Field(Direction.TO_BROWSER, description="`to_browser`, `to_device` or `both`.")
    payload: PayloadKind = Field(PayloadKind.AUTO, description="`json`, `text`, `bytes` (base64), or `auto`.")
    qos: Annotated[int, Field(ge=0, le=2)] = Field(0, description="The quality of service, both ways.")
    retain: bool = Field(False, description="Whether the broker keeps what browsers send.")
    last: bool = Field(True, description="Whether the last value is kept for browsers that come later.")
    upstream: str | None = Field(None, description="The upstream's name; omitted, to browsers from every one.")


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    listen: ListenSettings = ListenSettings()
    broker: BrokerSettings = BrokerSettings()
    upstreams: dict[Name, UpstreamSettings] = Field({}, description="Brokers by name; none: the embedded one.")
    origins: tuple[str, ...] = Field((), description="Origins whose pages may connect, besides the gateway's own.")
    limits: LimitSettings = LimitSettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    logging: LogSettings = LogSettings()
    drain_seconds: Seconds = Field(1.0, description="How long requests under way may take once the gateway ends.")
    routes: tuple[RouteSettings, ...] = Field((), description="The routing table.")

    @field_validator("origins")
    @classmethod
    def _normalise_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_normalise_origin(origin) for origin in value)

    def route_specs(self) -> list[RouteSpec]:
        """The routes, as the routing table takes them."""
        return [RouteSpec(**dict(route)) for route in self.routes]

    def upstream_names(self) -> tuple[str, ...]:
        """The names that routes may cite."""
        return tuple(self.upstreams) or ("embedded",)

    def core_limits(self) -> Limits:
        """The limits, as the core takes them."""
        return Limits(**dict(self.limits))


def _normalise_origin(text: str) -> str:
    expected = f"expected origins such as https://dashboard.example, found {text!r}"
    try:
        parts = urlsplit(text.strip().lower())
        port = parts.port
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(expected)
    usual: dict[str, int] = {"http": 80, "https": 443}
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port in (None, usual[parts.scheme]) else f":{port}")
