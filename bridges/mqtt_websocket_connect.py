"""CONNECT, as it is read (MQTT 3.1.1 and 5, §3.1). A part of `mqtt_websocket_packets`."""

from dataclasses import dataclass, field
from typing import Final

from bridges.mqtt_websocket_fields import MqttError, Properties, Property, Reader, Reason, malformed, violation

__all__ = ["VERSIONS", "Connect", "Will", "read_connect"]

VERSIONS: Final = (4, 5)
"""The protocol levels that are spoken: 3.1.1 and 5."""

_OF_CONNECT: Final = frozenset(
    {
        Property.SESSION_EXPIRY,
        Property.RECEIVE_MAXIMUM,
        Property.MAXIMUM_PACKET_SIZE,
        Property.TOPIC_ALIAS_MAXIMUM,
        Property.REQUEST_RESPONSE_INFORMATION,
        Property.REQUEST_PROBLEM_INFORMATION,
        Property.USER_PROPERTY,
        Property.AUTHENTICATION_METHOD,
        Property.AUTHENTICATION_DATA,
    }
)
_OF_WILL: Final = frozenset(
    {
        Property.WILL_DELAY,
        Property.PAYLOAD_FORMAT,
        Property.MESSAGE_EXPIRY,
        Property.CONTENT_TYPE,
        Property.RESPONSE_TOPIC,
        Property.CORRELATION_DATA,
        Property.USER_PROPERTY,
    }
)


@dataclass(frozen=True, slots=True)
class Will:
    """What is to be published once the connection is lost (§3.1.2.5)."""

    topic: str
    payload: bytes
    delay_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT."""

    version: int
    client_id: str
    clean: bool
    keep_alive_seconds: int
    will: Will | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    properties: Properties = field(default_factory=dict)


def read_connect(body: Reader) -> Connect:
    """The body of a CONNECT.

    Raises:
        MqttError: with `UNSUPPORTED_VERSION`, if that is another protocol.
    """
    name, version = body.text(), body.byte()
    if name not in ("MQTT", "MQIsdp"):
        raise MqttError(Reason.UNSUPPORTED_VERSION, f"the protocol {name[:20]!r}: expected MQTT 3.1.1 or 5")
    if name != "MQTT" or version not in VERSIONS:
        raise MqttError(Reason.UNSUPPORTED_VERSION, f"protocol level {version}: expected 4 (MQTT 3.1.1) or 5")
    flags, keep_alive_seconds = body.byte(), body.two()
    if flags & 1:
        raise malformed("the reserved flag of a CONNECT is set")
    has_will, will_qos = flags & 4, flags >> 3 & 3
    if will_qos == 3 or (not has_will and flags & 0x38):
        raise malformed("a will's flags without a will, or QoS 3")
    if version == 4 and flags & 0x40 and not flags & 0x80:
        raise violation("a password without a user name")  # MQTT-3.1.2-22
    properties = body.properties(_OF_CONNECT) if version == 5 else {}
    if Property.AUTHENTICATION_DATA in properties and Property.AUTHENTICATION_METHOD not in properties:
        raise violation("authentication data without a method")
    client_id = body.text()
    will = _read_will(body, version) if has_will else None
    username = body.text() if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    return Connect(version, client_id, bool(flags & 2), keep_alive_seconds, will, username, password, properties)


def _read_will(body: Reader, version: int) -> Will:
    properties = body.properties(_OF_WILL) if version == 5 else {}
    topic, payload = body.text(), body.binary()
    if not topic or "+" in topic or "#" in topic:
        raise MqttError(Reason.TOPIC_INVALID, "a will's topic: expected one without wildcards")
    return Will(topic, payload, properties.get(Property.WILL_DELAY, 0))
