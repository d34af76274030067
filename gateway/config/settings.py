"""What can be configured: every key with its default and its meaning. Units are in the names.

docs/configuration.md has the same texts. How settings are loaded is in `load`.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.config import values
from gateway.config.addresses import BrokerAddress, Origin
from gateway.core.limits import Limits
from gateway.core.routes import Direction, PayloadKind, RouteSpec

__all__ = [
    "BrokerSettings",
    "HeartbeatSettings",
    "LimitsSettings",
    "ListenSettings",
    "LoggingSettings",
    "RouteSettings",
    "Settings",
    "UpstreamSettings",
]

KIB = 1024


class Section(BaseModel):
    """A part of the configuration. In an environment variable it is JSON."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )


class ListenSettings(Section):
    """Where browsers and programs find the gateway."""

    host: values.Host = "127.0.0.1"
    """The address to listen on; `0.0.0.0` stands for all of this machine's."""
    port: values.Port = 8080
    """The port; 0 takes a free one."""


class BrokerSettings(Section):
    """The embedded MQTT broker, started only if no upstream is named."""

    host: values.Host = "127.0.0.1"
    """The address that devices connect to. The embedded broker asks for no password: keep it local."""
    port: values.Port = 1883
    """The port; 0 takes a free one."""


class UpstreamSettings(Section):
    """An MQTT broker that the gateway is a client of, by a name of your choice. If any is named, `broker` is unused."""

    url: BrokerAddress = Field(examples=["mqtt://localhost:1883"])
    """`mqtt://`, `mqtts://`, `ws://` or `wss://`, host, port (1883, 8883, 80, 443), for WebSocket a path (`/mqtt`)."""
    protocol: values.Protocol = "5"
    """The version of MQTT: `3.1.1` or `5`."""
    username: values.Text | None = None
    """The user name."""
    password: values.Password | None = None
    """The password; better in a file or in the environment than here."""
    password_file: values.PasswordFromFile | None = None
    """A file with the password and nothing else; one newline at its end is left out. Instead of `password`."""
    ca_file: values.ReadableFile | None = None
    """The certificate authorities to trust (PEM) instead of the system's."""
    key_file: values.ReadableFile | None = None
    """The key of the gateway's certificate (PEM)."""
    certificate_file: values.ReadableFile | None = None
    """The certificate that the gateway shows to the broker (PEM); needs `key_file`."""
    insecure: values.Flag = False
    """Accept any certificate of the broker, for trials: nobody knows then who answers."""
    client_id: values.Text | None = None
    """The client id; by default a random one."""
    keep_alive_seconds: values.KeepAliveSeconds = 30
    """How long the connection may be silent before the gateway asks for a sign of life."""
    session: values.SessionKind = "clean"
    """`persistent`: the broker keeps QoS 1 and 2 messages while the gateway is away. Needs `client_id`."""
    session_expiry_seconds: values.ExpirySeconds = 3600
    """How long the broker keeps a persistent session (MQTT 5 only)."""
    status_topic: values.StatusTopic | None = "tidegate/status"
    """Where `online` and, as the last will, `offline` are retained; `null` for nowhere."""
    connect_timeout_seconds: values.Seconds = 10
    """How long the broker may take to accept the connection."""
    acknowledge_timeout_seconds: values.Seconds = 8
    """How long the broker may take to acknowledge a message before who sent it is told `upstream_timeout`."""
    maximum_packet_bytes: values.PacketBytes = 16 * 1024 * KIB
    """The largest MQTT packet, in both directions; the broker is asked not to send larger ones (MQTT 5)."""
    reconnect_min_seconds: values.Seconds = 0.5
    """The first pause before connecting again; each further one is longer."""
    reconnect_max_seconds: values.Seconds = 30
    """The longest pause before connecting again."""

    @field_validator("password", "password_file")
    @classmethod
    def _check_password(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return value
        if info.field_name == "password_file" and info.data.get("password") is not None:
            raise ValueError("expected `password` or `password_file`, found both")
        if info.data.get("username", "") is None:
            raise ValueError("expected `username` beside it: brokers take no password alone")
        return value

    @field_validator("ca_file", "certificate_file", "insecure")
    @classmethod
    def _check_encrypted(cls, value: Any, info: ValidationInfo) -> Any:
        url = info.data.get("url")
        if value and url is not None and not url.encrypted:
            raise ValueError(f"expected it only with mqtts:// or wss://, found `url: {url}`")
        return value

    @field_validator("certificate_file")
    @classmethod
    def _check_certificate_and_key(cls, value: Any, info: ValidationInfo) -> Any:
        if "key_file" in info.data and (value is None) != (info.data["key_file"] is None):
            raise ValueError("expected `certificate_file` and `key_file` together, found one of them")
        return value

    @field_validator("session")
    @classmethod
    def _check_session(cls, value: str, info: ValidationInfo) -> str:
        if value == "persistent" and info.data.get("client_id", "") is None:
            raise ValueError("expected a `client_id` beside `persistent`, by which the broker knows the session again")
        return value

    @field_validator("reconnect_max_seconds")
    @classmethod
    def _check_reconnect(cls, value: float, info: ValidationInfo) -> float:
        least = info.data.get("reconnect_min_seconds", 0)
        if value < least:
            raise ValueError(f"expected at least `reconnect_min_seconds` ({least:g}), found {value:g}")
        return value

    @property
    def address(self) -> tuple[str, str, int, str]:
        """Scheme, host, port and path of the URL."""
        return self.url.scheme, self.url.host, self.url.port, self.url.path

    def password_text(self) -> str | None:
        """The password, whichever key it was given by. The file was read when the configuration was."""
        secret = self.password_file.password if self.password_file is not None else self.password
        return None if secret is None else secret.get_secret_value()


class LimitsSettings(Section):
    """How much one client, and all together, may use."""

    connections: values.Count = 10_000
    """Connections in all."""
    connections_per_address: values.Count = 100
    """Connections from one IP address."""
    subscriptions_per_connection: values.Count = 100
    """Rooms and patterns that one connection subscribes to."""
    message_bytes: values.Bytes = 64 * KIB
    """The largest message or request body that a client may send."""
    messages_per_second: values.Rate = 20
    """Messages of one connection, on the long run."""
    messages_burst: values.Count = 40
    """Messages of one connection, at once."""
    bytes_per_second: values.Bytes = 256 * KIB
    """Bytes of one connection, on the long run."""
    bytes_burst: values.Bytes = 512 * KIB
    """Bytes of one connection, at once."""
    refusals: values.Count = 10
    """Refused messages in a row after which a connection is closed."""
    write_buffer_bytes: values.Bytes = 1024 * KIB
    """What may wait for one client that reads slowly; with more, it is disconnected."""
    last_values: values.Count = 100_000
    """Last values kept, one for each room and topic; beyond, the stalest is forgotten."""


class HeartbeatSettings(Section):
    """How the gateway and its clients notice that the other one is gone."""

    interval_seconds: values.Seconds = 25
    """How often a ping (WebSocket) or a comment (SSE) is sent."""
    timeout_seconds: values.Seconds = 20
    """How long a WebSocket client may take to answer a ping before it is disconnected."""


class LoggingSettings(Section):
    """What is logged, on standard error."""

    level: values.LogLevel = "info"
    """The least that is logged: `debug`, `info`, `warning` or `error`."""
    format: values.LogFormat = "auto"
    """`console`, `json`, or `auto`: console on a terminal, JSON elsewhere."""


class RouteSettings(Section):
    """A rule that joins MQTT topics with rooms. `{name}` captures one level, `{name...}` all that remain."""

    topic: values.Pattern = Field(examples=["sensors/{site}/{device}"])
    """The topic pattern."""
    room: values.Pattern = Field(examples=["sites/{site}/{device}"])
    """The room pattern, with captures of the same names."""
    direction: values.RouteDirection = Direction.TO_BROWSER
    """`to_browser`, `to_device` or `both`."""
    payload: values.RoutePayload = PayloadKind.AUTO
    """How payloads are understood: `json`, `text`, `bytes` (base64 for browsers) or `auto` (the first that fits)."""
    qos: values.QualityOfService = 0
    """The quality of service: of the subscription, and of what is published to devices."""
    retain: values.Flag = False
    """Whether the broker keeps what is published to devices for later subscribers."""
    last: values.Flag = True
    """Whether the last value of each topic is kept for browsers that come later."""
    upstream: values.UpstreamReference | None = None
    """The upstream's name. To browsers, none stands for every one; to devices, it is needed if there are several."""


class Settings(BaseSettings):
    """The keys at the top."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    listen: ListenSettings = ListenSettings()
    """Where browsers and programs find the gateway."""
    broker: BrokerSettings = BrokerSettings()
    """The embedded MQTT broker."""
    upstreams: dict[values.UpstreamName, UpstreamSettings] = {}
    """MQTT brokers by name; with none, the embedded one is started."""
    origins: tuple[Origin, ...] = ()
    """Origins such as `https://dashboard.example` whose pages may connect, besides the gateway's own."""
    limits: LimitsSettings = LimitsSettings()
    """How much clients may use."""
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    """How lost connections are noticed."""
    logging: LoggingSettings = LoggingSettings()
    """What is logged."""
    drain_seconds: values.DrainSeconds = 1.0
    """How long requests under way may take once the gateway is told to end."""
    routes: tuple[RouteSettings, ...] = ()
    """The routing table: a list."""

    @model_validator(mode="before")
    @classmethod
    def _take_empty_as_left_out(cls, data: Any) -> Any:
        """A section whose keys are all commented out is null in YAML."""
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing is read behind the caller's back: `load_settings` says what there is to read."""
        return (init_settings,)

    def route_specs(self) -> list[RouteSpec]:
        """The routes, as the routing table takes them."""
        return [RouteSpec(**dict(route)) for route in self.routes]

    def upstream_names(self) -> tuple[str, ...]:
        """The names that routes may use."""
        return tuple(self.upstreams) or ("embedded",)

    def core_limits(self) -> Limits:
        """The limits, as the core takes them."""
        return Limits(**dict(self.limits))
