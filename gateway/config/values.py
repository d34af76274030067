"""The kinds of values that a configuration holds, each with what is expected of it in words.

The words stand beside the rule (`Expected`), so that no message of the validation library reaches a user.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, PlainValidator, SecretStr
from pydantic_core import CoreSchema, core_schema

from gateway.config.addresses import parse_jwks_url, parse_webhook_url
from gateway.config.engine_url import check_engine_url
from gateway.config.files import UnreadableFile, check_readable, path_of, read_bounded
from gateway.core.access import check_rule_filter
from gateway.core.namespace import DEFAULT_NAMESPACE
from gateway.core.routes import Direction
from gateway.core.sample import MAXIMUM_SECONDS, MINIMUM_SECONDS, Keep
from gateway.core.topics import check_filter, check_name
from gateway.core.webhooks import EventName

EXPECTED: Final = "expected"
EXPECTED_SECRET: Final = "expected_secret"  # noqa: S105 - a kind of error
MAXIMUM_TEXT_BYTES: Final = 65_535
"""The longest text of MQTT, UTF-8 encoded (MQTT 5 §1.5.4)."""

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([a-z]{0,3})", re.IGNORECASE)
_UNITS: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_HOST_NAME = re.compile(r"[^\s:/?#@\[\]]+")


@dataclass(frozen=True, slots=True)
class Expected:
    """Metadata of a type: whatever is wrong with a value, this is what was expected."""

    text: str
    secret: bool = False
    """Whether the value must not be shown."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kind = EXPECTED_SECRET if self.secret else EXPECTED
        return core_schema.custom_error_schema(handler(source), kind, custom_error_message=self.text)


def parse_bytes(value: object) -> int:
    """A size: `65536`, `500 kB`, `64 KiB`, `1.5 MiB`.

    Raises:
        ValueError: it isn't one, or not a whole number of bytes.
    """
    found = _SIZE.fullmatch(str(value).strip())
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise ValueError
    size_bytes = Decimal(found[1]) * unit
    if size_bytes != int(size_bytes):
        raise ValueError
    return int(size_bytes)


def _check_host(host: str) -> str:
    if ":" in host:
        IPv6Address(host.partition("%")[0])
    elif not (_HOST_NAME.fullmatch(host) and host.isprintable()):
        raise ValueError
    return host


def _parse_network(value: object) -> IPv4Network | IPv6Network:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - pydantic wants ValueError
    return ip_network(value)


def _check_text(text: str) -> str:
    if not text or "\0" in text or len(text.encode()) > MAXIMUM_TEXT_BYTES:
        raise ValueError
    return text


def _check_room_filter(room: str) -> str:
    check_filter(room)
    return room


def _check_status_topic(topic: str) -> str:
    check_name(topic)
    return topic


def _check_sample_seconds(seconds: float) -> float:
    if seconds and not MINIMUM_SECONDS <= seconds <= MAXIMUM_SECONDS:
        raise ValueError
    return seconds


def _check_namespace_name(name: str) -> str:
    if name == DEFAULT_NAMESPACE:
        raise ValueError(
            f"expected another name than {DEFAULT_NAMESPACE!r}, which is the namespace of the keys at the top"
        )
    return name


def _parse_protocol(value: object) -> object:
    """`5` is what everybody writes; YAML's authors also write `5.0`, brokers' manuals `v5` and `3.1.1`."""
    return {"5.0": "5", "v5": "5", "v3.1.1": "3.1.1"}.get(str(value).lower(), str(value))


@dataclass(frozen=True, slots=True)
class PasswordFile:
    """A password, and the file that it was read from."""

    path: Path
    password: SecretStr


def _read_password_file(value: object) -> PasswordFile:
    path = path_of(value)
    try:
        text = read_bounded(path, MAXIMUM_TEXT_BYTES + 2).decode()
    except UnicodeDecodeError:
        raise UnreadableFile(path, "expected a file with text in UTF-8") from None
    return PasswordFile(path, SecretStr(text.removesuffix("\n").removesuffix("\r")))


Port: TypeAlias = Annotated[int, Field(ge=0, le=65_535), Expected("a whole number from 0 to 65535")]
Host: TypeAlias = Annotated[
    str, AfterValidator(_check_host), Expected("a host name or an IP address without a port, such as 127.0.0.1")
]
Network: TypeAlias = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_parse_network),
    Expected("an IP address or a network such as 10.0.0.0/8 or fd00::/8"),
]
ProxyHeader: TypeAlias = Annotated[Literal["x-forwarded", "forwarded"], Expected("x-forwarded or forwarded")]
Count: TypeAlias = Annotated[int, Field(ge=1, le=10**9), Expected("a whole number from 1 to 1000000000")]
Rate: TypeAlias = Annotated[float, Field(gt=0, le=10**9), Expected("a number above 0, at most 1000000000")]
Seconds: TypeAlias = Annotated[
    float, Field(gt=0, le=86_400), Expected("a number of seconds above 0, at most 86400 (a day)")
]
HistorySeconds: TypeAlias = Annotated[
    float, Field(gt=0, le=31 * 86_400), Expected("a number of seconds above 0, at most 2678400 (31 days)")
]
SampleSeconds: TypeAlias = Annotated[
    float,
    AfterValidator(_check_sample_seconds),
    Expected(f"0, or a number of seconds from {MINIMUM_SECONDS} to {MAXIMUM_SECONDS}"),
]
SampleKeep: TypeAlias = Annotated[Keep, Expected("last, mean, min or max")]
HistoryMessages: TypeAlias = Annotated[int, Field(ge=0, le=10**6), Expected("a whole number from 0 to 1000000")]
DrainSeconds: TypeAlias = Annotated[float, Field(ge=0, le=3600), Expected("a number of seconds from 0 to 3600")]
GatherSeconds: TypeAlias = Annotated[float, Field(ge=0, le=1), Expected("a number of seconds from 0 to 1")]
GraceSeconds: TypeAlias = DrainSeconds
HstsSeconds: TypeAlias = Annotated[
    int, Field(ge=0, le=10**9), Expected("a whole number of seconds from 0 to 1000000000")
]
KeepAliveSeconds: TypeAlias = Annotated[
    int, Field(ge=1, le=65_535), Expected("a whole number of seconds from 1 to 65535")
]
ExpirySeconds: TypeAlias = Annotated[
    int, Field(ge=1, le=2**32 - 1), Expected("a whole number of seconds from 1 to 4294967295")
]
Bytes: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_bytes),
    Field(ge=1, le=2**40),
    Expected("a size from 1 byte to 1024 GiB, such as 65536, 500 kB or 64 KiB"),
]
PacketBytes: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_bytes),
    Field(ge=2**10, le=2**28),
    Expected("a size from 1 KiB to 256 MiB, such as 65536, 500 kB or 64 KiB"),
]
HeadBytes: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_bytes),
    Field(ge=2**10, le=2**20),
    Expected("a size from 1 KiB to 1 MiB, such as 65536, 500 kB or 64 KiB"),
]
Flag: TypeAlias = Annotated[bool, Expected("true or false")]
Text: TypeAlias = Annotated[str, AfterValidator(_check_text), Expected("text of 1 to 65535 bytes")]
Pattern: TypeAlias = Annotated[str, Expected("text such as sites/{site}/{device}")]
"""What it means is checked by the routing table."""
EngineUrl: TypeAlias = Annotated[str, PlainValidator(check_engine_url)]
KeyPrefix: TypeAlias = Annotated[
    str,
    Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}\z"),
    Expected("letters, digits and `_.:-`, at most 64"),
]
NodeName: TypeAlias = Annotated[
    str,
    Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\z"),
    Expected("a name of letters, digits and `_.-`, at most 64"),
]
RoomFilter: TypeAlias = Annotated[str, Expected("a room, or a filter over rooms"), AfterValidator(_check_room_filter)]
Password: TypeAlias = Annotated[SecretStr, Expected("text", secret=True)]
PasswordFromFile: TypeAlias = Annotated[PasswordFile, PlainValidator(_read_password_file)]
ReadableFile: TypeAlias = Annotated[Path, Expected("a file's name"), AfterValidator(check_readable)]
SecretFromFile: TypeAlias = PasswordFromFile
Sha256: TypeAlias = Annotated[
    str, Field(pattern=r"\A[0-9a-f]{64}\z"), Expected("64 hexadecimal digits in lower case", secret=True)
]
Role: TypeAlias = Annotated[
    str,
    Field(pattern=r"\A(\*|[A-Za-z0-9][A-Za-z0-9_.:@/-]{0,63})\z"),
    Expected("a role of letters, digits and `_.:@/-`, at most 64, or `*`"),
]
NamedRole: TypeAlias = Annotated[
    str,
    Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.:@/-]{0,63}\z"),
    Expected("a role of letters, digits and `_.:@/-`, at most 64"),
]
AccessFilter: TypeAlias = Annotated[str, Expected("a room, or a filter over rooms"), AfterValidator(check_rule_filter)]
JwtAlgorithm: TypeAlias = Annotated[
    Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"],
    Expected("HS256, HS384, HS512, RS256, ES256 or EdDSA"),
]
JwksUrl: TypeAlias = Annotated[str, PlainValidator(parse_jwks_url)]
LeewaySeconds: TypeAlias = Annotated[float, Field(ge=0, le=300), Expected("a number of seconds from 0 to 300")]
TicketSeconds: TypeAlias = Annotated[float, Field(gt=0, le=300), Expected("a number of seconds above 0, at most 300")]
SessionSeconds: TypeAlias = Annotated[
    float, Field(gt=0, le=366 * 86_400), Expected("a number of seconds above 0, at most 31622400 (a year)")
]
StatusTopic: TypeAlias = Annotated[str, Expected("a topic"), AfterValidator(_check_status_topic)]
UpstreamName: TypeAlias = Annotated[
    str,
    Field(pattern=r"\A[a-z0-9][a-z0-9_-]{0,63}\z"),
    Expected("a name of a-z, 0-9, _ and -, at most 64, the first a letter or digit"),
]
NamespaceName: TypeAlias = Annotated[UpstreamName, AfterValidator(_check_namespace_name)]
WebhookUrl: TypeAlias = Annotated[str, PlainValidator(parse_webhook_url)]
WebhookEvent: TypeAlias = Annotated[EventName, Expected("message, joined, left, connect or disconnect")]
WebhookName: TypeAlias = UpstreamName
WebhookReference: TypeAlias = Annotated[str, Expected("a webhook's name")]
UpstreamReference: TypeAlias = Annotated[str, Expected("an upstream's name")]
Protocol: TypeAlias = Annotated[Literal["3.1.1", "5"], BeforeValidator(_parse_protocol), Expected("3.1.1 or 5")]
Ingest: TypeAlias = Annotated[Literal["owned", "shared"], Expected("owned or shared")]
SessionKind: TypeAlias = Annotated[Literal["clean", "persistent"], Expected("clean or persistent")]
LogLevel: TypeAlias = Annotated[Literal["debug", "info", "warning", "error"], Expected("debug, info, warning or error")]
LogFormat: TypeAlias = Annotated[Literal["auto", "console", "json"], Expected("auto, console or json")]
RouteDirection: TypeAlias = Annotated[Direction, Expected("to_browser, to_device or both")]
QualityOfService: TypeAlias = Annotated[int, Field(ge=0, le=2), Expected("0, 1 or 2")]
