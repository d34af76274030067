"""What can be configured: every key with its default and its meaning. Units are in the names.

docs/configuration.md has the same texts. How settings are loaded is in `load`.
"""

import math
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.config import values
from gateway.config.addresses import Origin
from gateway.config.identity import AccessRuleSettings, IdentitySettings
from gateway.config.limits import LimitsSettings, OffendersSettings
from gateway.config.listen import ListenSettings
from gateway.config.presence import PresenceSettings, RoutePresenceSettings
from gateway.config.schema_file import SchemaFile, SchemaFromFile
from gateway.config.section import Section
from gateway.config.shape import without_empty
from gateway.config.upstreams import UpstreamSettings
from gateway.core.access import Access
from gateway.core.limits import Limits
from gateway.core.namespace import DEFAULT_NAMESPACE
from gateway.core.retention import Retention
from gateway.core.role_limits import RoleLimits
from gateway.core.room_rules import RoomRule
from gateway.core.routes import Direction, PayloadKind, RouteSpec
from gateway.core.sample import Keep, Sample

__all__ = [
    "BrokerSettings",
    "EngineSettings",
    "HeartbeatSettings",
    "HistorySettings",
    "LimitsSettings",
    "ListenSettings",
    "LoggingSettings",
    "NamespaceSettings",
    "OffendersSettings",
    "PresenceSettings",
    "RoomSettings",
    "RoutePresenceSettings",
    "RouteSettings",
    "SampleSettings",
    "Settings",
    "UpstreamSettings",
]


class BrokerSettings(Section):
    """The embedded MQTT broker, started only if no upstream is named."""

    host: values.Host = "127.0.0.1"
    """The address that devices connect to. The embedded broker asks for no password: keep it local."""
    port: values.Port = 1883
    """The port; 0 takes a free one."""


class EngineSettings(Section):
    """Where the log is kept: history, last values, and what clients come back with."""

    url: values.EngineUrl = "memory:"
    """`memory:`, gone with the gateway; or `sqlite:tidegate.db`, a file, where a message is before it is delivered."""

    @property
    def path(self) -> Path | None:
        """The file, if there is one."""
        scheme, _, rest = self.url.partition(":")
        return Path(rest) if scheme == "sqlite" else None


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


class HistorySettings(Section):
    """How many messages of a room are kept, for clients that come back and for `/history`."""

    messages: values.HistoryMessages = 0
    """So many, the newest; 0 for none."""
    seconds: values.HistorySeconds | None = None
    """But none that are older than this."""

    def retention(self, *, last: bool) -> Retention:
        """As the core takes it."""
        return Retention(last, self.messages, math.inf if self.seconds is None else self.seconds)


class SampleSettings(Section):
    """How few of a topic's messages are let through, for all clients and for the history."""

    seconds: values.SampleSeconds = 0
    """At most one message in so many seconds, besides the first; 0 lets all through."""
    keep: values.SampleKeep = Keep.LAST
    """What is made of the others: the `last`, or of numbers the `mean`, `min` or `max`."""

    def sample(self) -> Sample | None:
        """As the core takes it."""
        return Sample(self.seconds, self.keep) if self.seconds else None


class RoomSettings(Section):
    """What holds of rooms, with a route or without one. The first rule that matches a room holds."""

    room: values.RoomFilter = Field(examples=["chat/#"])
    """The room, or a filter with `+` and `#`."""
    history: HistorySettings = HistorySettings()
    """How many messages are kept. A route's own history goes before it."""
    last: values.Flag = True
    """Whether the last value is kept, in rooms without a route."""
    presence: values.Flag = False
    """Whether it is known, and told, who is in the room."""


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
    history: HistorySettings = HistorySettings()
    """How many messages of each room are kept; if none, the rules of `rooms` say."""
    upstream: values.UpstreamReference | None = None
    """The upstream's name. To browsers, none stands for every one; to devices, it is needed if there are several."""
    reply: values.Pattern | None = None
    """The topic on which the device answers requests; not needed for devices that speak MQTT 5."""
    presence: RoutePresenceSettings = RoutePresenceSettings()
    """Whether it is known who is in its rooms: `true`, or a section that says how devices tell that they are there."""
    sample: SampleSettings = SampleSettings()
    """How few of a topic's messages are let through, for all clients."""
    accepts: SchemaFromFile | None = Field(None, alias="schema")
    """A file with a JSON Schema of what browsers may send to the device."""

    @field_validator("accepts")
    @classmethod
    def _check_schema(cls, value: SchemaFile | None, info: ValidationInfo) -> SchemaFile | None:
        if value is not None and info.data.get("direction") is Direction.TO_BROWSER:
            raise ValueError("found in a route to browsers: expected it beside `direction: to_device` or `both`")
        if value is not None and info.data.get("payload") is PayloadKind.BYTES:
            raise ValueError("expected another payload than `bytes` beside it: bytes have no schema")
        return value

    def spec(self) -> RouteSpec:
        """As the routing table takes it."""
        history = self.history.retention(last=self.last) if self.history.messages else None
        sample, presence = self.sample.sample(), self.presence.spec()
        accepts = None if self.accepts is None else self.accepts.accepts
        own = {"history": history, "presence": presence, "sample": sample, "accepts": accepts}
        return RouteSpec(**{**dict(self), **own})


class NamespaceSettings(Section):
    """Routes, rooms and limits of their own, by a name of your choice, served under `/n/{name}/`."""

    routes: tuple[RouteSettings, ...] = ()
    """Its routing table: a list, as at the top. Upstreams are shared by all namespaces."""
    rooms: tuple[RoomSettings, ...] = ()
    """What holds of its rooms: a list of rules, as at the top."""
    access: tuple[AccessRuleSettings, ...] = ()
    """What its clients may do: a list of rules, as at the top; those at the top don't hold here."""
    limits: LimitsSettings = LimitsSettings()
    """How much its clients may use; a key that is left out is as in the `limits` at the top."""

    @model_validator(mode="before")
    @classmethod
    def _take_empty_as_left_out(cls, data: Any) -> Any:
        return without_empty(cls, data)


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
    engine: EngineSettings = EngineSettings()
    """Where the log is kept."""
    origins: tuple[Origin, ...] = ()
    """Origins such as `https://dashboard.example` whose pages may connect, besides the gateway's own."""
    hosts: tuple[values.Host, ...] = ()
    """Names that the gateway is asked by, besides addresses; none stands for any, on the loopback for `localhost`."""
    identity: IdentitySettings = IdentitySettings()
    """How clients say who they are."""
    access: tuple[AccessRuleSettings, ...] = ()
    """What clients may do: a list of rules. With none, and no `identity`, everybody may do everything."""
    limits: LimitsSettings = LimitsSettings()
    """How much clients may use."""
    offenders: OffendersSettings = OffendersSettings()
    """What becomes of addresses whose clients go over limits again and again."""
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    """How lost connections are noticed."""
    presence: PresenceSettings = PresenceSettings()
    """How it is told who is in a room."""
    logging: LoggingSettings = LoggingSettings()
    """What is logged."""
    drain_seconds: values.DrainSeconds = 1.0
    """How long requests under way may take once the gateway is told to end."""
    rooms: tuple[RoomSettings, ...] = ()
    """What holds of rooms: a list of rules."""
    routes: tuple[RouteSettings, ...] = ()
    """The routing table: a list."""
    namespaces: dict[values.NamespaceName, NamespaceSettings] = {}
    """Further namespaces by name, which share nothing but the upstreams."""

    @model_validator(mode="before")
    @classmethod
    def _take_empty_as_left_out(cls, data: Any) -> Any:
        return without_empty(cls, data)

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

    def namespace_names(self) -> tuple[str, ...]:
        """The names of all namespaces, the default one's first."""
        return (DEFAULT_NAMESPACE, *self.namespaces)

    def route_specs(self, namespace: str = DEFAULT_NAMESPACE) -> list[RouteSpec]:
        """The routes of a namespace, as the routing table takes them."""
        return [route.spec() for route in self._of(namespace).routes]

    def room_rules(self, namespace: str = DEFAULT_NAMESPACE) -> list[RoomRule]:
        """What holds of a namespace's rooms, as the core takes it."""
        return [
            RoomRule(rule.room, rule.history.retention(last=rule.last), rule.presence)
            for rule in self._of(namespace).rooms
        ]

    @property
    def has_rules(self) -> bool:
        """Whether anything at all says who may do what; if not, all is open."""
        return self.identity.is_configured or any(self._of(name).access for name in self.namespace_names())

    def access_of(self, namespace: str = DEFAULT_NAMESPACE) -> Access:
        """What clients may do in a namespace."""
        return Access([rule.rule() for rule in self._of(namespace).access] if self.has_rules else None)

    def upstream_names(self) -> tuple[str, ...]:
        """The names that routes may use."""
        return tuple(self.upstreams) or ("embedded",)

    def core_limits(self, namespace: str = DEFAULT_NAMESPACE) -> Limits:
        """The limits of a namespace, as the core takes them."""
        named = dict(self.limits_of(namespace))
        del named["by_role"]
        return Limits(**named)

    def role_limits(self, namespace: str = DEFAULT_NAMESPACE) -> RoleLimits:
        """Those, with what roles change of them."""
        by_role = self.limits_of(namespace).by_role
        return RoleLimits(self.core_limits(namespace), {role: each.changes() for role, each in by_role.items()})

    def limits_of(self, namespace: str = DEFAULT_NAMESPACE) -> LimitsSettings:
        """The limits of a namespace, with those that it takes from the top."""
        own = self._of(namespace).limits
        return self.limits.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})

    def _of(self, namespace: str) -> "Settings | NamespaceSettings":
        return self if namespace == DEFAULT_NAMESPACE else self.namespaces[namespace]
