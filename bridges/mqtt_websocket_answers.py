"""What the gateway says to clients of MQTT: packets as bytes, for 3.1.1 and 5 (MQTT 3.1.1 and 5, §3)."""

import struct
from collections.abc import Sequence
from typing import Final

from bridges.mqtt_websocket_fields import Properties, Property, Reason, write_properties, write_text, write_varint

__all__ = ["PINGRESP", "connack", "disconnect", "puback", "publish", "suback", "unsuback"]

PINGRESP: Final = b"\xd0\x00"
MAXIMUM_REASON_LENGTH: Final = 512

_CONNACK_3: Final = {
    Reason.UNSUPPORTED_VERSION: 1,
    Reason.CLIENT_ID_INVALID: 2,
    Reason.BAD_CREDENTIALS: 4,
    Reason.NOT_AUTHORIZED: 5,
    Reason.BAD_AUTHENTICATION_METHOD: 5,
}
"""Return codes of 3.1.1 (§3.2.2.3); all else is 3, the server is unavailable."""


def packet(first: int, body: bytes) -> bytes:
    """A packet with its fixed header (§2.1)."""
    return bytes((first,)) + write_varint(len(body)) + body


def connack(version: int, reason: Reason, properties: Properties | None = None, *, present: bool = False) -> bytes:
    """CONNACK; to 3.1.1 a reason is told by the return code that is nearest."""
    if version == 5:
        return packet(0x20, bytes((present, reason)) + write_properties(properties or {}))
    return packet(0x20, bytes((present, _CONNACK_3.get(reason, 3) if reason else 0)))


def publish(
    version: int,
    topic: str,
    payload: bytes,
    *,
    qos: int = 0,
    packet_id: int = 0,
    retain: bool = False,
    duplicate: bool = False,
    properties: Properties | None = None,
) -> bytes:
    """PUBLISH."""
    body = write_text(topic)
    if qos:
        body += struct.pack("!H", packet_id)
    if version == 5:
        body += write_properties(properties or {})
    return packet(0x30 | duplicate << 3 | qos << 1 | retain, body + payload)


def puback(version: int, kind: int, packet_id: int, reason: Reason = Reason.SUCCESS, message: str = "") -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP, by its type; in 3.1.1 they have no reason."""
    first, body = kind << 4 | (2 if kind == 6 else 0), struct.pack("!H", packet_id)
    if version == 5 and reason:
        body += bytes((reason,)) + _told(message)
    return packet(first, body)


def suback(version: int, packet_id: int, reasons: Sequence[int], properties: Properties | None = None) -> bytes:
    """SUBACK; to 3.1.1 every refusal is 0x80."""
    body = struct.pack("!H", packet_id)
    if version == 5:
        return packet(0x90, body + write_properties(properties or {}) + bytes(reasons))
    return packet(0x90, body + bytes(min(reason, 0x80) for reason in reasons))


def unsuback(version: int, packet_id: int, reasons: Sequence[int], message: str = "") -> bytes:
    """UNSUBACK; in 3.1.1 it says nothing."""
    body = struct.pack("!H", packet_id)
    return packet(0xB0, body + _told(message) + bytes(reasons) if version == 5 else body)


def disconnect(reason: Reason, message: str = "") -> bytes:
    """DISCONNECT; only 5 has one from the server."""
    return packet(0xE0, bytes((reason,)) + _told(message))


def _told(message: str) -> bytes:
    return write_properties({Property.REASON_STRING: message[:MAXIMUM_REASON_LENGTH]} if message else {})
