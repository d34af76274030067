"""SUBSCRIBE and UNSUBSCRIBE of one client (MQTT 5 §3.8, §3.10): filters over topics, as subscriptions to rooms.

A filter is granted only if all its rooms are allowed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from bridges.mqtt_websocket_answers import suback, unsuback
from bridges.mqtt_websocket_fields import MqttError, Property, Reason
from bridges.mqtt_websocket_packets import Subscribe, Subscription, Unsubscribe
from bridges.mqtt_websocket_reasons import reason_of, told
from bridges.mqtt_websocket_served import Served
from bridges.mqtt_websocket_sink import Held, MqttSink
from gateway.core import wire_requests
from gateway.core.access import Action
from gateway.core.errors import BadMessage, TidegateError
from gateway.core.limit_errors import RateLimited, TooManySubscriptions
from gateway.core.message import Cursor
from gateway.core.room_names import check_room_filter
from gateway.core.session import Session

__all__ = ["Subscribing"]

MAXIMUM_QOS: Final = 1
"""What is granted at most: messages are acknowledged once (MQTT 5 §3.8.4 allows less than was asked for)."""
MAXIMUM_FILTER_BYTES: Final = 8 * 1024
"""Of all filters of a client together, since they may be kept while it is away."""

TOLD: Final = (Reason.NOT_AUTHORIZED, Reason.FILTER_INVALID, Reason.QUOTA_EXCEEDED, Reason.SHARED_NOT_SUPPORTED)


@dataclass(slots=True)
class _Asked:
    """What comes of one SUBSCRIBE."""

    reasons: list[int] = field(default_factory=list)
    told: str = ""
    """Of the last refusal."""
    fresh: dict[str, None] = field(default_factory=dict)
    """Rooms whose last values are to be told."""
    silent: dict[str, None] = field(default_factory=dict)
    """Rooms of which only what comes is."""
    rooms: set[str] = field(default_factory=set)
    """All that the session would be subscribed to: counted once, as a packet may have very many filters."""
    size_bytes: int = 0
    """Of all filters of the client."""


class Subscribing:
    """The subscriptions of one session."""

    def __init__(self, served: Served, session: Session, sink: MqttSink) -> None:
        self._namespace = served.namespace
        self._topics = served.topics
        self._counters = served.counters
        self._session = session
        self._sink = sink

    def subscribe(self, packet: Subscribe) -> None:
        """Answer a SUBSCRIBE, then let come what it brings; a refused filter changes nothing."""
        asked = _Asked(rooms={*self._session.rooms}, size_bytes=sum(map(len, self._sink.held)))
        try:
            since = _since(packet)
            self._check_filters(len(packet.subscriptions))
        except (BadMessage, TooManySubscriptions) as error:
            self.refuse(packet, error)
            return
        for wanted in packet.subscriptions:
            try:
                asked.reasons.append(self._add(wanted, packet, asked))
            except (TidegateError, MqttError) as error:
                asked.reasons.append(_reason(error))
                asked.told = told(error)
                self._count(error)
        cursor = self._namespace.cursor(self._namespace.engine.head)
        properties: dict[Property, Any] = {Property.USER_PROPERTY: [("cursor", cursor)]}
        if asked.told:
            properties[Property.REASON_STRING] = asked.told
        self._sink.send(suback(self._sink.framings.version, packet.packet_id, asked.reasons, properties))
        if not asked.told:
            self._session.budget.accept()
        self._begin(asked, since)

    def refuse(self, packet: Subscribe, error: TidegateError) -> None:
        """Answer that none of it is granted."""
        self._count(error)
        reasons = [_reason(error)] * len(packet.subscriptions)
        properties = {Property.REASON_STRING: told(error)}
        self._sink.send(suback(self._sink.framings.version, packet.packet_id, reasons, properties))

    def _count(self, error: TidegateError | MqttError) -> None:
        if isinstance(error, TidegateError):
            self._counters.refuse(error)
        if isinstance(error, TooManySubscriptions) and self._session.budget.refuse():
            self._session.end(RateLimited(f"too many subscriptions, at last: {error.message}", limit="refusals"))

    def _add(self, wanted: Subscription, packet: Subscribe, asked: _Asked) -> int:
        heard = self._topics.heard(wanted.filter)
        for room in heard.rooms:
            check_room_filter(room)
            self._session.grants.check(Action.SUBSCRIBE, room)
        known = wanted.filter in self._sink.held
        self._check_count(wanted.filter, heard.rooms, asked)
        held = Held(
            wanted.filter,
            heard.rooms,
            heard.by_room,
            heard.exact,
            min(wanted.qos, MAXIMUM_QOS),
            wanted.no_local,
            wanted.retain_as_published,
            packet.properties.get(Property.SUBSCRIPTION_IDENTIFIER),
        )
        self._sink.held[wanted.filter] = held
        quiet = wanted.retain_handling == 2 or (wanted.retain_handling == 1 and known)
        (asked.silent if quiet else asked.fresh).update(dict.fromkeys(heard.rooms))
        return held.qos

    def _check_filters(self, filters: int) -> None:
        most = 2 * self._session.limits.subscriptions_per_connection
        if filters > most:  # none of them is looked at: that would take long
            raise TooManySubscriptions(f"too many filters: expected at most {most}, found {filters} in one packet")

    def _check_count(self, topic_filter: str, rooms: tuple[str, ...], asked: _Asked) -> None:
        most = self._session.limits.subscriptions_per_connection
        fresh = [room for room in rooms if room not in asked.rooms]
        filters, size_bytes = len(self._sink.held), asked.size_bytes
        if topic_filter not in self._sink.held:
            filters, size_bytes = filters + 1, size_bytes + len(topic_filter)
        if len(asked.rooms) + len(fresh) > most or filters > most:
            raise TooManySubscriptions(f"too many subscriptions: expected at most {most}, counted by rooms")
        if size_bytes > MAXIMUM_FILTER_BYTES:
            raise TooManySubscriptions(f"filters too long: expected at most {MAXIMUM_FILTER_BYTES} bytes of them")
        asked.rooms.update(fresh)
        asked.size_bytes = size_bytes

    def _begin(self, asked: _Asked, since: Cursor | None) -> None:
        """Subscribe to the rooms. One that is being caught up with stays as it is, so that nothing is lost."""
        session = self._session
        if session.ended:
            return
        fresh = [room for room in asked.fresh if room not in session.pending]
        silent = [room for room in asked.silent if room not in session.rooms and room not in asked.fresh]
        for room in fresh:
            self._sink.expect(room)
        self._choose_way()
        self._namespace.subscribe(
            session,
            *_request(fresh, since),
            *_request(silent, since or Cursor(self._namespace.engine.epoch, self._namespace.engine.head)),
        )

    def restore(self, held: Iterable[Held], untold: Iterable[str], cursor: Cursor) -> None:
        """Go on with subscriptions of before, as far as they are allowed still."""
        for each in held:
            if all(self._session.grants.allows(Action.SUBSCRIBE, room) for room in each.rooms):
                self._sink.held[each.filter] = each
            else:
                self._counters.drops["mqtt_subscription"] += 1
        rooms = dict.fromkeys(room for each in self._sink.held.values() for room in each.rooms)
        fresh = [room for room in untold if room in rooms]
        for room in fresh:
            self._sink.expect(room)
        known = [room for room in rooms if room not in fresh]
        self._choose_way()
        self._namespace.subscribe(self._session, *_request(known, cursor), *_request(fresh, None))

    def _choose_way(self) -> None:
        """Let what is delivered take the shortest way that all subscriptions allow; the hub remembers which."""
        plain, recovery = self._sink.may_be_plain, self._namespace.recovery
        if plain == self._sink.plain:
            return
        if not self._session.can_be_told:  # it is out of the fan-out
            self._sink.plain = plain
            return
        recovery.step_out(self._session)
        self._sink.plain = plain
        recovery.step_in(self._session)

    def unsubscribe(self, packet: Unsubscribe) -> None:
        """Answer an UNSUBSCRIBE; rooms that no other filter stands for are left."""
        self._session.budget.accept()
        gone = [self._sink.held.pop(each, None) for each in packet.filters]
        self._leave(dict.fromkeys(room for held in gone if held is not None for room in held.rooms))
        reasons = [Reason.NO_SUBSCRIPTION_EXISTED if held is None else Reason.SUCCESS for held in gone]
        self._choose_way()
        self._sink.send(unsuback(self._sink.framings.version, packet.packet_id, reasons))

    def _leave(self, rooms: Iterable[str]) -> None:
        wanted = {room for each in self._sink.held.values() for room in each.rooms}
        for room in rooms:
            if room not in wanted and room in self._session.rooms:
                self._namespace.unsubscribe(self._session, room)


def _reason(error: TidegateError | MqttError) -> Reason:
    """Why a filter is refused, as SUBACK can say it (MQTT 5 §3.9.3)."""
    reason = reason_of(error)
    return reason if reason in TOLD else Reason.IMPLEMENTATION_SPECIFIC


def _request(rooms: list[str], since: Cursor | None) -> list[wire_requests.Subscribe]:
    return [wire_requests.Subscribe(None, tuple(rooms), since)] if rooms else []


def _since(packet: Subscribe) -> Cursor | None:
    given = [value for name, value in packet.properties.get(Property.USER_PROPERTY, ()) if name == "since"]
    return wire_requests.read_cursor("since", given[0]) if given else None
