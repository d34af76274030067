"""What can be configured: every key with its default and its meaning. Units are in the names.

docs/configuration.md has the same texts. How settings are loaded is in `load`.
"""

from typing import Any

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.config import values
from gateway.config.addresses import Origin
from gateway.config.engine import ClusterSettings, EngineSettings
from gateway.config.identity import AccessRuleSettings, IdentitySettings
from gateway.config.limits import LimitsSettings, OffendersSettings
from gateway.config.listen import ListenSettings
from gateway.config.mqtt import MqttSettings
from gateway.config.ops import OpsSettings
from gateway.config.peerjs import PeerJsSettings
from gateway.config.presence import PresenceSettings, RoutePresenceSettings
from gateway.config.routes import HistorySettings, RoomSettings, RouteSettings, SampleSettings
from gateway.config.section import Section
from gateway.config.shape import without_empty
from gateway.config.upstreams import UpstreamSettings
from gateway.config.webhooks import WebhookSettings, webhook_options
from gateway.core.access import Access
from gateway.core.limits import Limits
from gateway.core.namespace import DEFAULT_NAMESPACE
from gateway.core.role_limits import RoleLimits
from gateway.core.room_rules import RoomRule
from gateway.core.routes import RouteSpec
from gateway.core.webhooks import WebhookOptions

__all__ = [
    "BrokerSettings",
    "ClusterSettings",
    "EngineSettings",
    "HeartbeatSettings",
    "HistorySettings",
    "LimitsSettings",
    "ListenSettings",
    "LoggingSettings",
    "MqttSettings",
    "NamespaceSettings",
    "OffendersSettings",
    "OpsSettings",
    "PeerJsSettings",
    "PresenceSettings",
    "RoomSettings",
    "RoutePresenceSettings",
    "RouteSettings",
    "SampleSettings",
    "Settings",
    "UpstreamSettings",
    "WebhookSettings",
]


class BrokerSettings(Section):
    """The embedded MQTT broker, started only if no upstream is named."""

    host: values.Host = "127.0.0.1"
    """The address that devices connect to. The embedded broker asks for no password: keep it local."""
    port: values.Port = 1883
    """The port; 0 takes a free one."""


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
    webhooks: dict[values.WebhookName, WebhookSettings] = Field(default={})
    """Who is told of what happens there, by name, as at the top."""

    @model_validator(mode="before")
    @classmethod
    def _take_empty_as_left_out(cls, data: Any) -> Any:
        return without_empty(cls, data)


class Settings(BaseSettings):
    """The keys at the top."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    listen: ListenSettings = ListenSettings()
    """Where browsers and programs find the gateway."""
    ops: OpsSettings = OpsSettings()
    """Where operators find it, if that is another place."""
    broker: BrokerSettings = BrokerSettings()
    """The embedded MQTT broker."""
    upstreams: dict[values.UpstreamName, UpstreamSettings] = {}
    """MQTT brokers by name; with none, the embedded one is started."""
    engine: EngineSettings = EngineSettings()
    """Where the log is kept."""
    cluster: ClusterSettings = ClusterSettings()
    """How several gateways with one Redis are one."""
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
    mqtt: MqttSettings = MqttSettings()
    """MQTT over WebSocket."""
    presence: PresenceSettings = PresenceSettings()
    """How it is told who is in a room."""
    peerjs: PeerJsSettings = PeerJsSettings()
    """Signalling for WebRTC."""
    logging: LoggingSettings = LoggingSettings()
    """What is logged."""
    drain_notice_seconds: values.DrainSeconds = 0
    """Once it is told to end: for how long `/readyz` says so and all goes on, until load balancers have noticed."""
    drain_seconds: values.DrainSeconds = 1.0
    """Then over how long clients are told, one after the other; what is under way may take as long."""
    rooms: tuple[RoomSettings, ...] = ()
    """What holds of rooms: a list of rules."""
    routes: tuple[RouteSettings, ...] = ()
    """The routing table: a list."""
    webhooks: dict[values.WebhookName, WebhookSettings] = {}
    """HTTP addresses that are told what happens, by name."""
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

    def webhooks_of(self, namespace: str) -> dict[str, tuple[WebhookSettings, WebhookOptions]]:
        """The webhooks of a namespace, with what each is told."""
        of_it = self._of(namespace)
        return {name: (each, webhook_options(of_it, name)) for name, each in of_it.webhooks.items()}

    @property
    def is_cluster(self) -> bool:
        """Whether there may be other gateways that are one with this."""
        return self.engine.redis is not None

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
