"""PUBLISH of one client (MQTT 5 §3.3, §4.3): into rooms, acknowledged once whoever it is for has it.

QoS 2 is method B of MQTT 3.1.1 §4.3.3: a message goes on when it comes, and its packet identifier is kept until PUBREL.
A refusal is told by the acknowledgement; where there is none that could tell it, a client over a limit of rate is read
no further for a while, and any other one is disconnected.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from bridges.mqtt_websocket_answers import puback
from bridges.mqtt_websocket_fields import MqttError, Property, Reason, violation
from bridges.mqtt_websocket_packets import Acknowledgement, Publish
from bridges.mqtt_websocket_reasons import reason_of, told
from bridges.mqtt_websocket_served import INBOUND, Served
from bridges.mqtt_websocket_sink import MqttSink
from gateway.core.errors import MessageTooLarge, TidegateError
from gateway.core.limit_errors import RateLimited
from gateway.core.publishing import Sending
from gateway.core.session import Session

__all__ = ["TOPIC_ALIASES", "Publishing", "Reading", "sending_of"]

TOPIC_ALIASES: Final = 16
"""How many topics a client of MQTT 5 may abbreviate: Topic Alias Maximum (§3.2.2.3.8)."""
UNRELEASED: Final = 1024
"""Messages of QoS 2 without PUBREL that a client of 3.1.1, which knows no Receive Maximum, may have."""
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7


class Reading(Protocol):
    """The connection, as far as it can be read slower or ended."""

    def delay(self, error: TidegateError | MqttError, then: Callable[[], None]) -> None:
        """Read nothing until what was refused may be tried again; or end it."""
        ...

    def fail(self, error: MqttError) -> None:
        """End it."""
        ...


class Publishing:
    """The messages that one client sends."""

    def __init__(self, served: Served, session: Session, sink: MqttSink, reading: Reading) -> None:
        self._served = served
        self._session = session
        self._sink = sink
        self._reading = reading
        self._aliases: dict[int, str] = {}
        self._under_way: set[int] = set()
        """Packet identifiers of what isn't acknowledged yet."""
        self.unreleased: set[int] = set()
        """Those of messages of QoS 2 that it has sent and not released."""

    @property
    def _version(self) -> int:
        return self._sink.framings.version

    def publish(self, packet: Publish, size_bytes: int) -> None:
        """Take a message.

        Raises:
            MqttError: the client breaks the rules of the protocol.
        """
        topic = self._topic(packet)
        if packet.qos and self._comes_again(packet):
            return
        try:
            self._spend(packet, size_bytes)
            self._served.namespace.follow(self._session)
            if self._session.ended:
                return
            sending = sending_of(self._served, self._session, topic, packet.payload)
            done = partial(self._done, packet)
            if packet.qos:
                self._under_way.add(packet.packet_id)
            self._served.namespace.publish(sending, done, self._session.grants)
        except (TidegateError, MqttError) as error:
            self._under_way.discard(packet.packet_id)
            self._refuse(packet, error, size_bytes)
        else:
            self._session.budget.accept()
            self._served.counters.published["mqtt"] += 1

    def _topic(self, packet: Publish) -> str:
        """The topic, perhaps by its alias (§3.3.2.3.4)."""
        alias = packet.properties.get(Property.TOPIC_ALIAS)
        if alias is None:
            return packet.topic
        if alias > TOPIC_ALIASES:
            raise MqttError(Reason.TOPIC_ALIAS_INVALID, f"topic alias {alias}: expected at most {TOPIC_ALIASES}")
        if packet.topic:
            self._aliases[alias] = packet.topic
        elif alias not in self._aliases:
            raise violation(f"topic alias {alias} stands for nothing yet")
        return self._aliases[alias]

    def _comes_again(self, packet: Publish) -> bool:
        """Whether it is a message of QoS 2 that has come before; it is only acknowledged again then."""
        if packet.packet_id in self._under_way:
            if packet.qos == 2 and packet.duplicate:
                return True
            raise violation(f"packet identifier {packet.packet_id} is in use")
        if packet.packet_id in self.unreleased:
            if packet.qos != 2:
                raise violation(f"packet identifier {packet.packet_id} is in use")
            self._session.aside(0)
            self._sink.send(puback(self._version, PUBREC, packet.packet_id))
            return True
        most = INBOUND if self._version == 5 else UNRELEASED
        if len(self._under_way) + len(self.unreleased) >= most:
            raise MqttError(Reason.RECEIVE_MAXIMUM_EXCEEDED, f"more than {most} messages that aren't acknowledged")
        return False

    def _spend(self, packet: Publish, size_bytes: int) -> None:
        most = self._session.limits.message_bytes
        self._session.budget.spend(max(len(packet.payload), min(size_bytes, most)))

    def _done(self, packet: Publish, error: TidegateError | None) -> None:
        self._under_way.discard(packet.packet_id)
        if self._session.ended:
            return
        if error is not None:
            self._refuse(packet, error, None)
        elif packet.qos == 1:
            self._sink.send(puback(self._version, PUBACK, packet.packet_id))
        elif packet.qos == 2:
            self.unreleased.add(packet.packet_id)
            self._sink.send(puback(self._version, PUBREC, packet.packet_id))

    def _refuse(self, packet: Publish, error: TidegateError | MqttError, size_bytes: int | None) -> None:
        """Tell of an error; `size_bytes` if the packet may be tried again."""
        if isinstance(error, TidegateError):
            self._served.counters.refuse(error)
        if isinstance(error, MessageTooLarge):
            self._session.end(error)
        elif self._version == 5 and packet.qos:
            kind = PUBACK if packet.qos == 1 else PUBREC
            self._sink.send(puback(5, kind, packet.packet_id, reason_of(error), told(error)))
            if isinstance(error, RateLimited):
                self._session.over_limit(error)
        elif size_bytes is not None:
            self._reading.delay(error, partial(self.publish, packet, size_bytes))
        else:
            self._reading.fail(MqttError(reason_of(error), told(error)))

    def acknowledged(self, packet: Acknowledgement) -> None:
        """Take PUBACK, PUBREC, PUBREL or PUBCOMP; what answers nothing costs as much as a ping."""
        if packet.kind == PUBACK:
            if not self._sink.acknowledge(packet.packet_id):
                self._session.aside(0)
        elif packet.kind == PUBREL:
            known = packet.packet_id in self.unreleased
            self.unreleased.discard(packet.packet_id)
            if not known:
                self._session.aside(0)
            reason = Reason.SUCCESS if known else Reason.PACKET_ID_NOT_FOUND
            self._sink.send(puback(self._version, PUBCOMP, packet.packet_id, reason))
        else:
            raise violation("an acknowledgement of QoS 2: nothing was sent with that")


def sending_of(served: Served, session: Session, topic: str, payload: bytes) -> Sending:
    """A client's message, as it goes into the room that its topic stands for.

    Raises:
        MqttError, ReadOnly, BadMessage: as `Topics.target`.
    """
    target = served.topics.target(topic, payload)
    return Sending.by(session, target.room, target.data, binary=target.binary)
