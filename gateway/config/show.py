"""The configuration as it takes effect, as YAML: every key with its value, defaults included, and no secret.

What is masked: values of a secret type, users and passwords in URLs, and text under a key that is called like a secret,
should somebody forget the type. Files with secrets are named; what is in them isn't shown.
"""

import re
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, SecretBytes, SecretStr

from gateway.config.addresses import BrokerUrl
from gateway.config.limits import RoleLimitsSettings
from gateway.config.payload import DescriptorFile, Expression, RoutePayloadSettings
from gateway.config.presence import RoutePresenceSettings
from gateway.config.problems import without_user_info
from gateway.config.schema_file import SchemaFile
from gateway.config.settings import Settings
from gateway.config.users import UsersFile
from gateway.config.values import PasswordFile

__all__ = ["MASK", "show"]

MASK: Final = "********"
_SECRET = re.compile(r"(.*_)?(password|passphrase|secret|token|credentials)s?", re.IGNORECASE)


def show(settings: Settings) -> str:
    """All of it; with the secrets put in again, it is a configuration of the same effect."""
    shown = _shown("", settings)
    for name, namespace in shown["namespaces"].items():  # what one leaves out is as at the top
        namespace["limits"] = _shown("limits", settings.limits_of(name))
    text: str = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)
    return text


def _shown(key: str, value: Any) -> Any:
    match value:
        case SecretStr() | SecretBytes():
            return MASK
        case RoutePresenceSettings() if value.member is None:
            return value.spec()
        case RoutePayloadSettings():
            return value.kind if value.protobuf is None else {"protobuf": _shown("protobuf", value.protobuf)}
        case RoleLimitsSettings():  # what it leaves out changes nothing, and null would
            return {key: _shown(key, inner) for key, inner in value.changes().items()}
        case BaseModel():
            fields = type(value).model_fields.items()
            keys = {field.alias or name: getattr(value, name) for name, field in fields}
            return {key: _shown(key, inner) for key, inner in keys.items()}
        case Mapping():
            return {str(key): _shown(str(key), inner) for key, inner in value.items()}
        case tuple() | list():
            return [_shown(key, inner) for inner in value]
        case Enum():
            return value.value
        case str():
            return MASK if _SECRET.fullmatch(key) else without_user_info(value)
    return _plain(value)


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case IPv4Network() | IPv6Network():
            return str(value)
        case DescriptorFile() | PasswordFile() | SchemaFile() | UsersFile():
            return str(value.path)
        case Expression():
            return value.text
        case Path() | BrokerUrl():
            return str(value)
    return f"({type(value).__name__})"  # better too little than a secret
