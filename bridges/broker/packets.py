"""MQTT 3.1.1 packets: read one from a stream, build the ones that a broker sends.

What makes up the traffic, PUBLISH and its acknowledgements, is coded here, ten times as fast as by amqtt, whose codec
serves for all the rest.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import Any, Final

from amqtt.adapters import BufferReader
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt import packet_class
from amqtt.mqtt.packet import (
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MQTTFixedHeader,
)

from gateway.core.topics import has_wildcard

__all__ = [
    "Acknowledgement",
    "BrokenPacket",
    "Message",
    "Publish",
    "acknowledgement",
    "check_topic",
    "publish",
    "read_packet",
]

_FLAGS: Final = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}
"""The flags that a packet type must have; 0 if it isn't named, any for PUBLISH (MQTT 3.1.1 §2.2.2)."""
_ACKNOWLEDGEMENTS: Final = (PUBACK, PUBREC, PUBREL, PUBCOMP)


class BrokenPacket(Exception):
    """A client sent what MQTT 3.1.1 forbids; its connection has to be closed (§4.8)."""


@dataclass(frozen=True, slots=True)
class Message:
    """An application message on its way to clients."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Publish:
    """A PUBLISH as a client sent it."""

    message: Message
    packet_id: int


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP: one step of a delivery at QoS 1 or 2."""

    kind: int
    packet_id: int


async def read_packet(reader: asyncio.StreamReader, limit_bytes: int) -> Any:
    """The next packet: one of the classes here, or of `amqtt.mqtt`; None at the end of the stream.

    Raises:
        BrokenPacket: it can't be decoded, or is longer than `limit_bytes`.
    """
    try:
        header = await MQTTFixedHeader.from_stream(reader)
        if header is None:
            return None
        if header.remaining_length > limit_bytes:
            raise BrokenPacket(f"a packet of {header.remaining_length} bytes: expected at most {limit_bytes}")
        body = await reader.readexactly(header.remaining_length)
        return await _decode(header, body)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except (AMQTTError, MQTTError, NoDataError, ValueError, struct.error) as error:
        raise BrokenPacket(f"a packet that can't be decoded: {error}") from error


async def _decode(header: Any, body: bytes) -> Any:
    kind = header.packet_type
    if kind == PUBLISH:
        return _decode_publish(header.flags, body)
    if header.flags != _FLAGS.get(kind, 0):
        raise BrokenPacket(f"a packet of type {kind} with flags {header.flags:#x}")
    if kind not in _ACKNOWLEDGEMENTS:
        return await packet_class(header).from_stream(BufferReader(body), fixed_header=header)
    if len(body) != 2:
        raise BrokenPacket(f"a packet of type {kind} with {len(body)} bytes: expected 2")
    return Acknowledgement(kind, int.from_bytes(body))


def _decode_publish(flags: int, body: bytes) -> Publish:
    """MQTT 3.1.1 §3.3."""
    qos = flags >> 1 & 3
    end = 2 + int.from_bytes(body[:2])
    topic = body[2:end].decode()
    start = end + 2 if qos else end
    packet_id = int.from_bytes(body[end:start])
    if qos == 3 or start > len(body) or (qos and not packet_id):
        raise BrokenPacket(f"a PUBLISH of {len(body)} bytes at QoS {qos} with packet identifier {packet_id}")
    check_topic(topic)
    return Publish(Message(topic, body[start:], qos, bool(flags & 1)), packet_id)


def check_topic(topic: str) -> None:
    """Check what a client wants to publish to (§4.7). Unlike a room, it may have empty levels and `$`.

    Raises:
        BrokenPacket: it isn't a topic.
    """
    if not topic or "\0" in topic or has_wildcard(topic):
        raise BrokenPacket(f"a message to {topic!r}: expected a topic, without wildcards and NUL")


def publish(message: Message, packet_id: int = 0, *, again: bool = False) -> bytes:
    """A PUBLISH of `message`, with its identifier at QoS 1 and 2; `again` sets DUP (§3.3)."""
    topic = message.topic.encode()
    identifier = packet_id.to_bytes(2) if message.qos else b""
    flags = again << 3 | message.qos << 1 | message.retain
    header = MQTTFixedHeader(PUBLISH, flags, 2 + len(topic) + len(identifier) + len(message.payload))
    return b"".join((header.to_bytes(), len(topic).to_bytes(2), topic, identifier, message.payload))


def acknowledgement(kind: int, packet_id: int) -> bytes:
    """A PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK: an identifier and nothing else (§3.4 to §3.7, §3.11)."""
    return bytes((kind << 4 | _FLAGS.get(kind, 0), 2)) + packet_id.to_bytes(2)
