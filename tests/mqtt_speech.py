"""Packets as clients of MQTT write them, by hand: for tests that feed bytes, right ones and wrong ones."""

import struct
from collections.abc import Sequence
from typing import Any

from bridges.mqtt_websocket_answers import packet
from bridges.mqtt_websocket_fields import Properties, Property, write_binary, write_properties, write_text


def connect(
    version: int = 5,
    client_id: str = "me",
    *,
    clean: bool = True,
    keep_alive_seconds: int = 0,
    username: str | None = None,
    password: bytes | None = None,
    will: tuple[str, bytes] | None = None,
    will_delay_seconds: int = 0,
    properties: Properties | None = None,
    name: str = "MQTT",
    flags: int = 0,
) -> bytes:
    """CONNECT."""
    flags |= 2 * clean | (4 if will else 0) | (0x80 if username is not None else 0)
    flags |= 0x40 if password is not None else 0
    body = write_text(name) + struct.pack("!BBH", version, flags, keep_alive_seconds)
    body += write_properties(properties or {}) if version == 5 else b""
    body += write_text(client_id)
    if will:
        body += write_properties({Property.WILL_DELAY: will_delay_seconds}) if version == 5 else b""
        body += write_text(will[0]) + write_binary(will[1])
    body += write_text(username) if username is not None else b""
    body += write_binary(password) if password is not None else b""
    return packet(0x10, body)


def subscribe(
    packet_id: int, *filters: tuple[str, int], version: int = 5, properties: Properties | None = None
) -> bytes:
    """SUBSCRIBE, each filter with its options."""
    body = struct.pack("!H", packet_id) + (write_properties(properties or {}) if version == 5 else b"")
    return packet(0x82, body + b"".join(write_text(name) + bytes((options,)) for name, options in filters))


def unsubscribe(packet_id: int, *filters: str, version: int = 5) -> bytes:
    """UNSUBSCRIBE."""
    body = struct.pack("!H", packet_id) + (write_properties({}) if version == 5 else b"")
    return packet(0xA2, body + b"".join(write_text(name) for name in filters))


PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"


def read_all(data: bytes) -> list[tuple[int, bytes]]:
    """The packets that a server wrote, by the first byte of each, and its body."""
    found: list[tuple[int, bytes]] = []
    while data:
        length, shift, at = 0, 0, 1
        while True:
            length |= (data[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 0x80:
                break
        found.append((data[0], data[at : at + length]))
        data = data[at + length :]
    return found


def kinds(packets: Sequence[tuple[int, Any]]) -> list[int]:
    """The types of packets."""
    return [first >> 4 for first, _ in packets]
