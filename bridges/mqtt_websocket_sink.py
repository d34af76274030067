"""Where the bytes of one client of MQTT go: which of its filters a message is for, and what it has acknowledged.

A client with as many unacknowledged messages as it may have is told no more, as if it didn't read: its session leaves
the fan-out and comes back from the log, so what waits for it costs nothing here.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import orjson

from bridges.mqtt_websocket_answers import publish
from bridges.mqtt_websocket_fields import Properties, Property
from bridges.mqtt_websocket_frames import Framings, Notice, Outgoing, Told
from gateway.core.counters import Counters
from gateway.core.delivery import MAXIMUM_PACKET_ID
from gateway.core.message import Message
from gateway.core.session import Session
from gateway.core.sink import Framing, Sink
from gateway.core.topics import filter_matches
from gateway.core.wire import encode_message

__all__ = ["IN_FLIGHT", "Held", "MqttSink", "Sent"]

IN_FLIGHT: Final = 256
"""How many messages of QoS 1 a client may have that it hasn't acknowledged, if it doesn't say less (§3.3.4)."""
MAXIMUM_ASIDES: Final = 20
"""How many pings of WebSocket may come before CONNECT."""


@dataclass(frozen=True, slots=True)
class Held:
    """A subscription of a client."""

    filter: str
    rooms: tuple[str, ...]
    by_room: bool
    exact: bool
    """As `Heard.exact`."""
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    identifier: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether all that comes in its rooms may be sent as it is framed for everybody."""
        return self.exact and not (self.qos or self.no_local or self.retain_as_published or self.identifier is not None)

    def hears(self, message: Outgoing, session: str) -> bool:
        """Whether a message is for it."""
        name = message.name(by_room=self.by_room)
        own = self.no_local and message.sender == session
        return name is not None and not own and filter_matches(self.filter, name)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of QoS 1 that isn't acknowledged."""

    sequence: int
    room: str | None
    """Its room, if it was a last value."""


class MqttSink:
    """A `Sink`, and the `Flow` of what lies below it."""

    def __init__(self, inner: Sink, counters: Counters, framings: Framings, closing: Callable[[Notice], None]) -> None:
        self.inner = inner
        self.framings = framings
        self.held: dict[str, Held] = {}
        """The client's subscriptions, by their filters."""
        self.window = IN_FLIGHT
        self.largest_bytes: int | None = None
        """The largest packet that the client takes."""
        self.session: Session | None = None
        self.unacknowledged: dict[int, Sent] = {}
        """What was sent with QoS 1, by packet identifiers."""
        self.sent_before: dict[int, int] = {}
        """Packet identifiers of an earlier connection, by places in the sequence: to be sent again under them."""
        self.plain = False
        """Whether what is delivered needs no look at it: to be changed only while its session is out of the fan-out."""
        self._counters = counters
        self._closing: Callable[[Notice], None] | None = closing
        self._new: set[str] = set()
        """Rooms whose first last values aren't told yet."""
        self._waiting: deque[tuple[Callable[[int], None], Sent]] = deque()
        """Last values of QoS 1 beyond the window, at most one part of them."""
        self._full = False
        self._last_id = 0
        self._asides = 0

    @property
    def framing(self) -> Framing:
        """How its bytes are framed: as those of all who speak the same version."""
        return self.framings.frame

    @property
    def paused(self) -> bool:
        """Whether the client takes no more for now, or has to acknowledge something first."""
        return self._full or self.inner.paused

    @property
    def joins(self) -> bool:
        """Whether several frames may be written as one piece."""
        return self.plain and self.inner.joins

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        """As `write`; where that needs no look, the way of the connection itself."""
        return self.inner.fan_out if self.plain else self.write

    @property
    def may_be_plain(self) -> bool:
        """Whether all its client's subscriptions allow that."""
        return self.largest_bytes is None and all(each.is_plain for each in self.held.values())

    def write(self, data: bytes) -> None:
        """Send what a session is told, as far as its client has subscribed to that; or a packet as it is."""
        if isinstance(data, Told):
            self._message(data)
        elif isinstance(data, Notice):
            self._notice(data)
        elif data:
            self.send(data)

    def send(self, packet: bytes) -> None:
        """Send a packet."""
        self.inner.write(self.framings.wrap(packet))

    def close(self, code: int, reason: str) -> None:
        """End the connection."""
        self.inner.close(code, reason)

    def forget(self) -> None:
        """The connection is over."""
        self.session = self._closing = None

    def expect(self, room: str) -> None:
        """The last values of a room that come next are those of a new subscription."""
        self._new.add(room)

    def _notice(self, notice: Notice) -> None:
        if notice.kind == "subscribed":
            self._last_values(bytes(notice))
        elif notice.kind == "bye" and self._closing is not None:
            self._closing(notice)

    def _last_values(self, notice: bytes) -> None:
        said = orjson.loads(notice)
        room, missed = said["room"], not said["recovered"] and said["room"] not in self._new
        if "cursor" in said:
            self._new.discard(room)
            if missed:
                self._counters.drops["mqtt_gap"] += 1
        for message in self.framings.last(notice):
            for by_room in (False, True):
                self._tell(message, by_room=by_room, stored=True, missed=missed)

    def _message(self, told: Told) -> None:
        message = told.message
        for by_room in (False, True):
            if message.name(by_room=by_room) is not None:
                self._tell(message, by_room=by_room, told=told)

    def _tell(
        self, message: Outgoing, *, by_room: bool, told: Told | None = None, stored: bool = False, missed: bool = False
    ) -> None:
        session = "" if self.session is None else self.session.id
        heard = [each for each in self.held.values() if each.by_room == by_room and each.hears(message, session)]
        if not heard:
            return
        qos = max(each.qos for each in heard)
        identifiers = tuple(each.identifier for each in heard if each.identifier is not None)
        retain = stored or (message.retained and any(each.retain_as_published for each in heard))
        if told is not None and not (qos or identifiers or retain):
            self._fan_out(told, by_room=by_room)
            return
        properties = dict(message.properties())
        if identifiers:
            properties[Property.SUBSCRIPTION_IDENTIFIER] = identifiers
        if missed:
            properties[Property.USER_PROPERTY].append(("recovered", "false"))
        write = partial(self._write, message, by_room=by_room, qos=qos, retain=retain, properties=properties)
        if not qos:
            write(0)
            return
        sent = Sent(message.sequence, message.room if stored else None)
        if len(self.unacknowledged) < self.window and not self._waiting:
            self._number(write, sent)
        else:
            self._waiting.append((write, sent))

    def _fan_out(self, told: Told, *, by_room: bool) -> None:
        frame: bytes = told
        if by_room and told.message.topic is not None:
            if told.frame_by_room is None:
                told.frame_by_room = self.framings.publication(told.message, by_room=True)
            frame = told.frame_by_room
        if self.largest_bytes is not None and len(frame) > self.largest_bytes:
            self._counters.drops["mqtt_packet_too_large"] += 1
        else:
            self.inner.fan_out(frame)

    def _write(
        self, message: Outgoing, packet_id: int, *, by_room: bool, qos: int, retain: bool, properties: Properties
    ) -> None:
        name = message.name(by_room=by_room)
        assert name is not None
        duplicate = self.sent_before.pop(message.sequence, None) == packet_id and qos > 0
        packet = publish(
            self.framings.version,
            name,
            message.payload,
            qos=qos,
            packet_id=packet_id,
            retain=retain,
            duplicate=duplicate,
            properties=properties,
        )
        if self.largest_bytes is not None and len(packet) > self.largest_bytes:
            self._counters.drops["mqtt_packet_too_large"] += 1  # as if it had been sent (MQTT 5 §3.1.2.11.4)
            self.unacknowledged.pop(packet_id, None)
            return
        self.send(packet)

    def _number(self, write: Callable[[int], None], sent: Sent) -> None:
        """Send with a packet identifier: that of before, if the message was sent before."""
        packet_id = self.sent_before.get(sent.sequence)
        if packet_id is None or packet_id in self.unacknowledged:
            packet_id = self._free_id()
        self.unacknowledged[packet_id] = sent
        write(packet_id)
        if len(self.unacknowledged) >= self.window and not self._full:
            self._full = True
            self.pause()

    def unsent(self) -> list[Sent]:
        """What waits until others are acknowledged."""
        return [sent for _, sent in self._waiting]

    def again(self, message: Message) -> None:
        """Tell a last value once more that wasn't acknowledged."""
        outgoing = self.framings.outgoing(encode_message(message))
        for by_room in (False, True):
            self._tell(outgoing, by_room=by_room, stored=True)

    def _free_id(self) -> int:
        taken = {*self.sent_before.values()} if self.sent_before else ()
        while True:
            self._last_id = self._last_id % MAXIMUM_PACKET_ID + 1
            if self._last_id not in self.unacknowledged and self._last_id not in taken:
                return self._last_id

    def acknowledge(self, packet_id: int) -> bool:
        """The client has a message of QoS 1; whether one was sent under this identifier."""
        if self.unacknowledged.pop(packet_id, None) is None:
            return False
        while self._waiting and len(self.unacknowledged) < self.window:
            self._number(*self._waiting.popleft())
        if self._full and not self._waiting and 2 * len(self.unacknowledged) <= self.window:
            self._full = False
            if not self.inner.paused:
                self.resume()
        return True

    def pause(self) -> None:
        """The client takes no more for now."""
        if self.session is not None:
            self.session.pause()

    def resume(self) -> None:
        """The client takes more again."""
        if self.session is not None and not self._full:
            self.session.resume()

    def overflow(self) -> None:
        """As much again was written as may wait."""
        if self.session is not None:
            self.session.overflow()

    def gone(self) -> None:
        """The connection is lost."""
        if self.session is not None:
            self.session.gone()

    def aside(self, size_bytes: int) -> None:
        """The client sent a frame that isn't data."""
        if self.session is not None:
            self.session.aside(size_bytes)
            return
        self._asides += 1
        if self._asides > MAXIMUM_ASIDES:
            self.close(1008, "pings before CONNECT")
