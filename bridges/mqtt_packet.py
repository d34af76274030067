"""PUBLISH packets as they come, MQTT 3.1.1 §3.3 and 5 §3.3: bytes in, messages out.

paho's own way through one takes longer than all that the gateway does with the message.
"""

from dataclasses import dataclass
from typing import Final

from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

__all__ = ["Incoming", "read_publish", "whole_packet"]

HIGHEST_QOS: Final = 2
LENGTH_BITS: Final = 4 * 7


@dataclass(slots=True)
class Incoming:
    """A message from a broker."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    """The packet identifier; 0 with QoS 0."""
    dup: bool
    retain: bool
    properties: Properties | None
    """None if there are none."""


def whole_packet(data: bytes, at: int) -> tuple[int, int, int] | None:
    """The packet that begins at a place: its first byte, and where what follows its length begins and ends.

    None if not all of it is there, or its length is none (MQTT 5 §1.5.5).
    """
    size_bytes, shift, start, available = 0, 0, at + 1, len(data)
    while start < available and shift < LENGTH_BITS:
        byte = data[start]
        start += 1
        size_bytes |= (byte & 0x7F) << shift
        if byte < 0x80:
            end = start + size_bytes
            return (data[at], start, end) if end <= available else None
        shift += 7
    return None


def read_publish(header: int, packet: bytes | bytearray, *, v5: bool) -> Incoming:
    """The message in a PUBLISH packet.

    Args:
        header: The first byte of the packet.
        packet: What comes after its length.
        v5: Whether it has properties.

    Raises:
        MalformedPacket: it is none, or its topic is no UTF-8; the connection is to be ended (MQTT 5 §4.13).
    """
    qos = (header >> 1) & 3
    if qos > HIGHEST_QOS:
        raise MalformedPacket("a PUBLISH of QoS 3")
    at = 2 + (packet[0] << 8 | packet[1]) if len(packet) > 1 else 2
    try:
        topic = packet[2:at].decode()
    except UnicodeDecodeError:
        raise MalformedPacket("a PUBLISH whose topic is no UTF-8") from None
    packet_id, start = 0, at
    if qos:
        at += 2
        packet_id = int.from_bytes(packet[start:at], "big")
    properties = None
    if v5:
        if at < len(packet) and packet[at]:
            properties, at = _read_properties(packet, at)
        else:
            at += 1
    if at > len(packet) or not topic:
        raise MalformedPacket("a PUBLISH that is too short, or without a topic")
    payload = bytes(memoryview(packet)[at:])
    return Incoming(topic, payload, qos, packet_id, bool(header & 8), bool(header & 1), properties)


def _read_properties(packet: bytes | bytearray, at: int) -> tuple[Properties, int]:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    try:
        _, size_bytes = properties.unpack(bytes(packet[at:]))  # type: ignore[no-untyped-call]
    except Exception as error:  # it raises whatever it stumbles over
        raise MalformedPacket("a PUBLISH whose properties can't be read") from error
    return properties, at + size_bytes
