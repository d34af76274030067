"""What clients of MQTT say, sans-I/O: bytes in, packets out, for 3.1.1 and 5 (MQTT 3.1.1 and 5, §2 and §3).

`PacketReader` puts packets together, however they are split; it keeps no more than one packet and what came behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from bridges.mqtt_websocket_connect import Connect, read_connect
from bridges.mqtt_websocket_fields import MqttError, Properties, Property, Reader, Reason, malformed, violation

__all__ = ["Acknowledgement", "Disconnect", "Packet", "PacketReader", "Ping", "Publish", "Subscribe", "Subscription"]
__all__ += ["Unsubscribe"]

CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 3, 4, 5, 6, 7
SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT, AUTH = 8, 10, 12, 14, 15

_FLAGS: Final[Mapping[int, int]] = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}
"""The flags of the packets that have any (§2.1.3); PUBLISH has its own."""

_OF_PUBLISH: Final = frozenset(
    {
        Property.PAYLOAD_FORMAT,
        Property.MESSAGE_EXPIRY,
        Property.TOPIC_ALIAS,
        Property.RESPONSE_TOPIC,
        Property.CORRELATION_DATA,
        Property.USER_PROPERTY,
        Property.CONTENT_TYPE,
    }
)
_OF_ACKNOWLEDGEMENT: Final = frozenset({Property.REASON_STRING, Property.USER_PROPERTY})
_OF_SUBSCRIBE: Final = frozenset({Property.SUBSCRIPTION_IDENTIFIER, Property.USER_PROPERTY})
_OF_UNSUBSCRIBE: Final = frozenset({Property.USER_PROPERTY})
_OF_DISCONNECT: Final = frozenset({Property.SESSION_EXPIRY, Property.REASON_STRING, Property.USER_PROPERTY})


@dataclass(frozen=True, slots=True)
class Publish:
    """A message (§3.3)."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    duplicate: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """PUBACK, PUBREC, PUBREL or PUBCOMP (§3.4 to §3.7), by the packet's type."""

    kind: int
    packet_id: int
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter of a SUBSCRIBE, with its options (§3.8.3.1)."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE (§3.8)."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE (§3.10)."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """PINGREQ (§3.12)."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """DISCONNECT (§3.14)."""

    reason: int = 0
    properties: Properties = field(default_factory=dict)


Packet: TypeAlias = Connect | Publish | Acknowledgement | Subscribe | Unsubscribe | Ping | Disconnect


MOST_PIECES: Final = 256
"""In so many frames a packet may come for nothing: some clients send each field of it in one of its own."""


class PacketReader:
    """Takes bytes as they come, and gives packets.

    Args:
        limit_bytes: The largest remaining length.
    """

    __slots__ = ("_at", "_buffer", "_limit_bytes", "_pieces", "version")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._at = self._pieces = 0
        self.version: int | None = None
        """4 for 3.1.1, or 5; None before CONNECT."""

    def feed(self, data: bytes) -> bool:
        """Take what has come in one frame; whether there are too many of these for one packet."""
        self._pieces += 1
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data
        return self._pieces > MOST_PIECES

    @property
    def held(self) -> int:
        """How many bytes wait."""
        return len(self._buffer) - self._at

    def next(self) -> tuple[Packet, int] | None:
        """The next packet with its remaining length, or None until more has come.

        Raises:
            MqttError: it is none, is too large, or may not stand here. Nothing can be read after that.
        """
        if not self.held:
            return None
        first = self._buffer[self._at]
        kind, flags = first >> 4, first & 0x0F
        if kind != PUBLISH and flags != _FLAGS.get(kind, 0):
            raise malformed(f"a packet of type {kind} with the flags {flags:04b}")
        if (kind == CONNECT) != (self.version is None):
            raise violation("a second CONNECT" if kind == CONNECT else f"a packet of type {kind} before CONNECT")
        head = self._head()
        if head is None:
            return None
        start, length = head
        if length > self._limit_bytes:
            raise MqttError(
                Reason.PACKET_TOO_LARGE, f"a packet of {length} bytes: expected at most {self._limit_bytes}"
            )
        if len(self._buffer) - start < length:
            return None
        self._at, self._pieces = start + length, 0
        body = bytes(self._buffer[start : self._at])
        return self._packet(kind, flags, Reader(body)), length

    def _head(self) -> tuple[int, int] | None:
        """Where the packet goes on behind its remaining length, and that (§2.1.4)."""
        length = 0
        for place in range(4):
            at = self._at + 1 + place
            if at >= len(self._buffer):
                return None
            digit = self._buffer[at]
            length |= (digit & 0x7F) << (7 * place)
            if digit < 0x80:
                if place and not digit:
                    raise malformed("the remaining length is longer than it need be")
                return at + 1, length
        raise malformed("the remaining length has more than 4 bytes")

    def _packet(self, kind: int, flags: int, body: Reader) -> Packet:
        packet: Packet
        match kind:
            case 1:
                packet = read_connect(body)
                self.version = packet.version
            case 3:
                return self._publish(flags, body)
            case 4 | 5 | 6 | 7:
                packet = self._acknowledgement(kind, body)
            case 8:
                packet = self._subscribe(body)
            case 10:
                packet = self._unsubscribe(body)
            case 12:
                packet = Ping()
            case 14:
                packet = self._disconnect(body)
            case 15 if self.version == 5:
                raise violation("AUTH: no authentication of several steps was begun")
            case _:
                raise malformed(f"a packet of type {kind}: clients send no such")
        body.end()
        return packet

    def _properties(self, body: Reader, allowed: frozenset[Property]) -> Properties:
        return body.properties(allowed) if self.version == 5 else {}

    def _publish(self, flags: int, body: Reader) -> Publish:
        qos = flags >> 1 & 3
        if qos == 3:
            raise malformed("a PUBLISH with QoS 3")
        if flags & 8 and not qos:
            raise malformed("a PUBLISH of QoS 0 that is a duplicate")
        topic = body.text()
        packet_id = body.packet_id() if qos else 0
        properties = self._properties(body, _OF_PUBLISH)
        if not topic and Property.TOPIC_ALIAS not in properties:
            raise violation("a PUBLISH without a topic")
        if "+" in topic or "#" in topic:
            raise MqttError(Reason.TOPIC_INVALID, "a PUBLISH to a topic with a wildcard")
        return Publish(topic, body.rest(), qos, packet_id, bool(flags & 1), bool(flags & 8), properties)

    def _acknowledgement(self, kind: int, body: Reader) -> Acknowledgement:
        packet_id, reason = body.packet_id(), 0
        if self.version == 5 and body.left:
            reason = body.byte()
            if body.left:
                body.properties(_OF_ACKNOWLEDGEMENT)
        return Acknowledgement(kind, packet_id, reason)

    def _subscribe(self, body: Reader) -> Subscribe:
        packet_id, properties = body.packet_id(), self._properties(body, _OF_SUBSCRIBE)
        found = []
        while body.left:
            topic_filter, options = body.text(), body.byte()
            if options & (0xC0 if self.version == 5 else 0xFC) or options & 3 == 3 or options & 0x30 == 0x30:
                raise malformed(f"the options {options:#04x} of a subscription")
            wanted = Subscription(topic_filter, options & 3, bool(options & 4), bool(options & 8), options >> 4 & 3)
            found.append(wanted)
        if not found:
            raise violation("a SUBSCRIBE without a filter")
        return Subscribe(packet_id, tuple(found), properties)

    def _unsubscribe(self, body: Reader) -> Unsubscribe:
        packet_id = body.packet_id()
        self._properties(body, _OF_UNSUBSCRIBE)
        found = []
        while body.left:
            found.append(body.text())
        if not found:
            raise violation("an UNSUBSCRIBE without a filter")
        return Unsubscribe(packet_id, tuple(found))

    def _disconnect(self, body: Reader) -> Disconnect:
        if self.version != 5 or not body.left:
            return Disconnect()
        reason = body.byte()
        return Disconnect(reason, body.properties(_OF_DISCONNECT) if body.left else {})
