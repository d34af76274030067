"""A client of MQTT that has been let in: its session, what it was greeted with, and what is kept of it when it goes."""

import logging
from array import array
from functools import partial
from typing import Any, Final, Protocol

from bridges.mqtt_websocket_answers import connack
from bridges.mqtt_websocket_connect import Connect, Will
from bridges.mqtt_websocket_fields import MqttError, Property, Reason
from bridges.mqtt_websocket_packets import Disconnect, Subscribe
from bridges.mqtt_websocket_publishing import TOPIC_ALIASES, Publishing, Reading, sending_of
from bridges.mqtt_websocket_served import HEAD_BYTES, INBOUND, Served
from bridges.mqtt_websocket_sessions import Bequest, Kept, Live
from bridges.mqtt_websocket_sink import IN_FLIGHT, MqttSink, Sent
from bridges.mqtt_websocket_subscribing import Subscribing
from gateway.core.connections import Seat
from gateway.core.errors import MessageTooLarge, TidegateError
from gateway.core.identity import Identity
from gateway.core.message import Cursor, Message
from gateway.core.presence_wire import MAXIMUM_KEY_LENGTH
from gateway.core.session import Session
from gateway.core.topics import filter_matches

__all__ = ["Client", "Door"]

logger = logging.getLogger(__name__)

WITH_WILL: Final = 0x04
"""The reason of a DISCONNECT after which the will is published all the same (MQTT 5 §3.14.2.1)."""


class Door(Live, Reading, Protocol):
    """The connection of a client."""


class Client:
    """A client with a session.

    Raises:
        MqttError: its client identifier isn't one that is taken.
        MessageTooLarge: its will is larger than its messages may be.
    """

    def __init__(
        self, served: Served, connect: Connect, identity: Identity, seat: Seat, sink: MqttSink, connection: Door
    ) -> None:
        check_client_id(connect)
        check_will(connect.will, served.namespace.role_limits.of(identity).message_bytes)
        self._served = served
        self._connect = connect
        self._sink = sink
        self._connection = connection
        self._will: Will | None = connect.will
        namespace = served.namespace
        self.key = (identity.user, connect.client_id)
        self._kept: Kept | None = None
        if connect.client_id:
            self._kept = served.sessions.arrive(self.key, connection, clean=connect.clean)
        grants = namespace.access.of(identity)
        self.session = sink.session = namespace.open("mqtt", sink, grants, member=connect.client_id or None, seat=seat)
        if not connect.client_id:
            self.key = (identity.user, self.session.id)
            self.session.member = self.session.id
            served.sessions.arrive(self.key, connection, clean=True)
        if self.session.ended:  # the rules have changed since its handshake
            served.sessions.leave(self.key, connection, None, 0)
        sink.window = min(IN_FLIGHT, connect.properties.get(Property.RECEIVE_MAXIMUM, IN_FLIGHT))
        sink.largest_bytes = connect.properties.get(Property.MAXIMUM_PACKET_SIZE)
        self.keep_alive_seconds = self._keep_alive()
        self._expiry_seconds = self._expiry(connect.properties.get(Property.SESSION_EXPIRY, 0))
        self.subscribing = Subscribing(served, self.session, sink)
        self.publishing = Publishing(served, self.session, sink, connection)
        self.session.ending = self._ending

    def _keep_alive(self) -> int:
        most, wanted = self._served.options.keep_alive_max_seconds, self._connect.keep_alive_seconds
        return wanted if self._connect.version == 4 else min(wanted or most, most)

    def _expiry(self, wanted_seconds: float) -> float:
        most = self._served.options.session_expiry_max_seconds
        if self._connect.version == 4:
            return 0.0 if self._connect.clean else most
        return min(wanted_seconds, most)

    def greet(self) -> None:
        """Say CONNACK, then go on with what was kept."""
        if self.session.ended:
            return
        properties = self._properties() if self._connect.version == 5 else {}
        kept = self._kept
        packet = connack(self._connect.version, Reason.SUCCESS, properties, present=kept is not None)
        self._sink.send(packet)
        if kept is None:
            return
        self._kept = None
        self.publishing.unreleased.update(kept.unreleased)
        self._sink.sent_before = {sent.sequence: number for number, sent in kept.unacknowledged.items()}
        try:
            self.subscribing.restore(kept.held.values(), kept.untold, kept.cursor)
        except TidegateError as error:  # the limits have become lower
            self._served.counters.refuse(error)
            self.session.end(error)
            return
        self._tell_again([sent for sent in (*kept.unacknowledged.values(), *kept.unsent) if sent.room is not None])

    def _tell_again(self, last_values: list[Sent]) -> None:
        """Send last values again that weren't acknowledged, as far as they are still the last ones."""
        wanted = {sent.sequence for sent in last_values}
        heard = {room for held in self._sink.held.values() for room in held.rooms}

        def tell(head: int, values: Any) -> None:  # noqa: ARG001
            message: Message
            for message in values:
                if message.sequence in wanted and not self.session.ended:
                    self._sink.again(message)

        for room in {sent.room for sent in last_values if sent.room is not None}:
            if any(filter_matches(each, room) for each in heard):
                self._served.namespace.engine.last(room, tell)

    def _properties(self) -> dict[Property, Any]:
        """What a client of MQTT 5 is told of the server (§3.2.2.3)."""
        namespace = self._served.namespace
        cursor = namespace.cursor(namespace.engine.head)
        found: dict[Property, Any] = {
            Property.RECEIVE_MAXIMUM: INBOUND,
            Property.MAXIMUM_PACKET_SIZE: self.session.limits.message_bytes + HEAD_BYTES,
            Property.TOPIC_ALIAS_MAXIMUM: TOPIC_ALIASES,
            Property.SHARED_AVAILABLE: 0,
            Property.USER_PROPERTY: [("session", self.session.id), ("cursor", cursor)],
        }
        if not self._connect.client_id:
            found[Property.ASSIGNED_CLIENT_ID] = self.session.id
        if self.keep_alive_seconds != self._connect.keep_alive_seconds:
            found[Property.SERVER_KEEP_ALIVE] = self.keep_alive_seconds
        if self._expiry_seconds != self._connect.properties.get(Property.SESSION_EXPIRY, 0):
            found[Property.SESSION_EXPIRY] = int(self._expiry_seconds)
        return found

    def subscribe(self, packet: Subscribe) -> None:
        """Take a SUBSCRIBE."""
        self.subscribing.subscribe(packet)

    def refuse(self, packet: Subscribe, error: TidegateError) -> None:
        """Refuse one for a limit."""
        self.subscribing.refuse(packet, error)

    def leave(self, packet: Disconnect) -> None:
        """The client goes in good order.

        Raises:
            MqttError: it wants a session kept that it wanted forgotten (§3.14.2.2.2).
        """
        wanted = packet.properties.get(Property.SESSION_EXPIRY)
        if wanted is not None:
            if wanted and not self._connect.properties.get(Property.SESSION_EXPIRY, 0):
                raise MqttError(Reason.PROTOCOL_ERROR, "a session expiry in DISCONNECT that CONNECT hadn't")
            self._expiry_seconds = self._expiry(wanted)
        if packet.reason != WITH_WILL:
            self._will = None

    def _ending(self) -> None:
        """The session ends, however: keep what is to be kept, and publish the will, if it is due."""
        self.session.ending = None
        kept = self._state() if self._expiry_seconds > 0 else None
        self._served.sessions.leave(self.key, self._connection, kept, self._expiry_seconds)
        will, self._will = self._will, None
        if will is not None:
            delay_seconds = min(will.delay_seconds, self._expiry_seconds)
            publish = partial(_publish_will, self._served, self.session, will)
            size_bytes = len(will.topic) + len(will.payload)
            self._served.sessions.bequeath(self.key, Bequest(publish, size_bytes, self._owner), delay_seconds)

    def _state(self) -> Kept:
        session, engine = self.session, self._served.namespace.engine
        position, untold = engine.head, []
        for room, pending in session.pending.items():
            if pending.position is None or pending.untold:
                untold.append(room)
            else:
                position = min(position, pending.position)
        sent = self._sink.unacknowledged
        position = min([position, *(each.sequence - 1 for each in sent.values() if each.room is None)])
        return Kept(
            dict(self._sink.held),
            Cursor(engine.epoch, max(0, position)),
            frozenset(untold),
            dict(sent),
            tuple(self._sink.unsent()),
            array("H", self.publishing.unreleased),  # a thirtieth of what a set takes
            self._owner,
        )

    @property
    def _owner(self) -> str:
        """Whom it counts for: its user, or its address."""
        return self.key[0] or self.session.address


def check_client_id(connect: Connect) -> None:
    """Check a client identifier; an empty one is for a session that isn't to be kept (§3.1.3.1).

    Raises:
        MqttError: it isn't one.
    """
    name = connect.client_id
    if not name and connect.version == 4 and not connect.clean:
        raise MqttError(Reason.CLIENT_ID_INVALID, "no client identifier: expected one for a session that is kept")
    if len(name) > MAXIMUM_KEY_LENGTH or not name.isprintable():
        expected = f"expected at most {MAXIMUM_KEY_LENGTH} printable characters"
        raise MqttError(Reason.CLIENT_ID_INVALID, f"the client identifier: {expected}")


def check_will(will: Will | None, most_bytes: int) -> None:
    """Check what is to be published once its client is gone, and can't be told that it is too large.

    Raises:
        MessageTooLarge: it is.
    """
    if will is not None and len(will.payload) > most_bytes:
        raise MessageTooLarge(f"a will of {len(will.payload)} bytes: expected at most {most_bytes}")


def _publish_will(served: Served, session: Session, will: Will) -> None:
    """Publish the will with what its client may do now (§3.1.2.5)."""

    def done(error: TidegateError | None) -> None:
        if error is not None:
            served.counters.refuse(error)
            served.counters.drops["mqtt_will"] += 1

    try:
        grants = served.namespace.current(session.grants)
        sending = sending_of(served, session, will.topic, will.payload)
        served.namespace.publish(sending, done, grants)
    except MqttError:
        served.counters.drops["mqtt_will"] += 1
    except TidegateError as error:
        done(error)
    except Exception:
        logger.exception("the will of an MQTT client could not be published")
