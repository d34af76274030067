"""The configuration: what can be set, and how it is loaded from a YAML file, the environment and the command line."""

from gateway.config.identity import (
    AccessRuleSettings,
    AnonymousSettings,
    ApiTokenSettings,
    IdentitySettings,
    JwtSettings,
)
from gateway.config.limits import OffendersSettings, RoleLimitsSettings
from gateway.config.load import load_settings
from gateway.config.payload import ProtobufSettings, RoutePayloadSettings
from gateway.config.peerjs import IceServerSettings
from gateway.config.problems import ConfigurationError, Problem
from gateway.config.settings import (
    HistorySettings,
    ListenSettings,
    NamespaceSettings,
    PresenceSettings,
    RoomSettings,
    RoutePresenceSettings,
    RouteSettings,
    SampleSettings,
    Settings,
    UpstreamSettings,
    WebhookSettings,
)
from gateway.config.users import UserSettings

__all__ = [
    "AccessRuleSettings",
    "AnonymousSettings",
    "ApiTokenSettings",
    "ConfigurationError",
    "HistorySettings",
    "IceServerSettings",
    "IdentitySettings",
    "JwtSettings",
    "ListenSettings",
    "NamespaceSettings",
    "OffendersSettings",
    "PresenceSettings",
    "Problem",
    "ProtobufSettings",
    "RoleLimitsSettings",
    "RoomSettings",
    "RoutePayloadSettings",
    "RoutePresenceSettings",
    "RouteSettings",
    "SampleSettings",
    "Settings",
    "UpstreamSettings",
    "UserSettings",
    "WebhookSettings",
    "load_settings",
]
