"""An isolated set of routes, rooms and sessions: what joins routing, log and hub.

Devices' messages come in by `receive`, clients' by `publish`. Nothing here awaits: an upstream calls back when it has
taken a message.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.delivery import Delivery
from gateway.core.errors import (
    BadMessage,
    ReadOnly,
    TidegateError,
    TooManySubscriptions,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.core.hub import Hub
from gateway.core.idempotency import Done, Idempotency
from gateway.core.limits import Budget, Limits, TokenBucket
from gateway.core.log import Log
from gateway.core.message import Message
from gateway.core.payload import Payload, PayloadError, decode, digest, encode, to_json
from gateway.core.receipts import Receipts
from gateway.core.routes import PayloadKind, Route
from gateway.core.routing import RoutingTable
from gateway.core.session import Session, TransportName
from gateway.core.sink import Sink
from gateway.core.topics import InvalidName, check_filter, check_name
from gateway.core.upstream_states import UpstreamStates

__all__ = ["Done", "Namespace", "Upstream"]

logger = logging.getLogger(__name__)


class Upstream(Protocol):
    """The way to devices."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, done: Done) -> None:
        """Send to devices; `done` is called when the broker has it (at once for QoS 0), or with the reason why not."""
        ...


class Namespace:
    """The rooms, and who is in them."""

    def __init__(
        self,
        name: str,
        routing: RoutingTable,
        limits: Limits,
        clock: Clock,
        random: Random,
        counters: Counters,
    ) -> None:
        self.name = name
        self.routing = routing
        self.limits = limits
        self.sessions: dict[str, Session] = {}
        self.upstream_states = UpstreamStates(self.sessions)
        self.receipts = Receipts()
        self._upstreams: Mapping[str, Upstream] = {}
        self._clock = clock
        self._random = random
        self._counters = counters
        self._hub = Hub(counters)
        self._log = Log(f"{random.getrandbits(40):x}", limits.last_values, clock, counters)
        self._keys = Idempotency(clock, counters)
        self._complaints = TokenBucket(0.1, 5, clock)
        """So many bad payloads are logged; all are counted."""

    @property
    def last_values(self) -> int:
        """How many last values are kept."""
        return len(self._log)

    def connect(self, upstreams: Mapping[str, Upstream]) -> None:
        """Say how to reach devices, by the upstreams' names."""
        self._upstreams = upstreams

    def open(self, transport: TransportName, sink: Sink) -> Session:
        """A new session. Whoever opens it ends it, whatever happens."""
        identifier = f"{self._random.getrandbits(96):024x}"
        session = Session(identifier, transport, sink, Budget(self.limits, self._clock), self._on_end)
        self.sessions[identifier] = session
        return session

    def _on_end(self, session: Session, error: TidegateError | None) -> None:
        self._hub.leave(session)
        del self.sessions[session.id]
        if error is not None:
            self._counters.closed[error.code] += 1

    def receive(self, delivery: Delivery, stored: Callable[[], None]) -> None:
        """Take a device's message and deliver it to every room that it is routed to.

        `stored` is called once, whatever becomes of the message: it is handled, and need not come again.
        """
        receipt = delivery.receipt
        try:
            self._counters.device_messages[delivery.upstream] += 1
            self._counters.device_bytes += len(delivery.payload)
            if receipt is not None and self.receipts.repeats(delivery.upstream, receipt):
                self._counters.drops["redelivered"] += 1
                return
            self._route(delivery)
            if receipt is not None:
                self.receipts.take(delivery.upstream, receipt)
        finally:
            stored()

    def _route(self, delivery: Delivery) -> None:
        topic, raw, retained = delivery.topic, delivery.payload, delivery.retained
        matches = self.routing.rooms_for(delivery.upstream, topic)
        if not matches:
            self._counters.drops["unrouted"] += 1
            return
        decoded: dict[PayloadKind, Payload] = {}
        for route, room in matches:
            kind = route.spec.payload
            try:
                payload = decoded.get(kind) or decoded.setdefault(kind, decode(kind, raw))
            except PayloadError as error:
                self._complain(route, topic, error)
                continue
            self._remember_and_deliver(route, room, topic, payload, retained=retained, cleared=not raw)

    def _remember_and_deliver(
        self, route: Route, room: str, topic: str, payload: Payload, *, retained: bool, cleared: bool
    ) -> None:
        if retained:
            last = self._log.last_of(room, topic)
            if last is not None and last.data == payload.data:  # the broker tells it again after each reconnection
                self._counters.drops["retained_known"] += 1
                return
        if cleared:  # how a device takes a retained message back (MQTT 5 §3.3.1.3)
            self._log.forget(room, topic)
        keep = route.spec.last and not cleared
        self._hub.deliver(self._log.append(room, payload, topic=topic, retained=retained, keep=keep))

    def _complain(self, route: Route, topic: str, error: PayloadError) -> None:
        self._counters.drops["bad_payload"] += 1
        if not self._complaints.take():
            logger.warning("dropped a payload of %r: route %d (%s): %s", topic, route.index, route.topic.text, error)

    def check_rooms(self, rooms: Sequence[str]) -> None:
        """Check, before there is a session, what it is going to subscribe to.

        Raises:
            BadMessage, TooManySubscriptions: as `subscribe`.
        """
        for room in rooms:
            _check_room(check_filter, room)
        self._check_count(len(rooms))

    def _check_count(self, subscriptions: int) -> None:
        if subscriptions > self.limits.subscriptions_per_connection:
            raise TooManySubscriptions(
                f"too many subscriptions: expected at most {self.limits.subscriptions_per_connection}; "
                "unsubscribe from one, or use a pattern such as sites/#"
            )

    def subscribe(self, session: Session, room: str) -> tuple[str, Iterator[Message]]:
        """Subscribe to a room or pattern; the position after which messages come, and the last values until there.

        Subscribing again is allowed and gives the last values again.

        Raises:
            BadMessage: that is no room or pattern.
            TooManySubscriptions: the session has as many as it may.
        """
        _check_room(check_filter, room)
        if room not in session.rooms:
            self._check_count(len(session.rooms) + 1)
        self._hub.subscribe(session, room)
        return self._log.cursor, self._log.last(room)

    def unsubscribe(self, session: Session, room: str) -> None:
        """Take a subscription back.

        Raises:
            BadMessage: the session isn't subscribed to that.
        """
        if room not in session.rooms:
            raise BadMessage("room: expected one that this session is subscribed to")
        self._hub.unsubscribe(session, room)

    def last(self, room: str) -> tuple[str, Iterator[Message]]:
        """The position that the log has reached, and the last values of a room or pattern.

        Raises:
            BadMessage: that is no room or pattern.
        """
        _check_room(check_filter, room)
        return self._log.cursor, self._log.last(room)

    def publish(
        self,
        room: str,
        data: Any,
        done: Done,
        *,
        binary: bool = False,
        sender: str | None = None,
        key: str | None = None,
    ) -> None:
        """Send a client's data to the devices that the room is routed to, or, if it has no route, to the room itself.

        `done` is called once, when all of that is done. What was published under the same key before isn't sent again.

        Raises:
            BadMessage: that is no room, the data isn't what the route says, or the key was used for other data. Nothing
                was sent.
            ReadOnly: only devices write into this room.
            RateLimited: too many wait for the same key.
        """

        def send(done: Done) -> None:
            self._send(room, data, done, binary=binary, sender=sender)

        if key is None:
            send(done)
        else:
            self._keys.once(room, key, digest(data, binary=binary), send, done)

    def _send(self, room: str, data: Any, done: Done, *, binary: bool, sender: str | None) -> None:
        _check_room(check_name, room)
        matches = self.routing.topics_for(room)
        if matches:
            payloads = [encode(route.spec.payload, data, binary=binary) for route, _ in matches]
            collected = _Collected(len(matches), done)
            for (route, topic), payload in zip(matches, payloads, strict=True):
                upstream = self._upstreams[route.upstreams[0]]
                upstream.publish(topic, payload, route.spec.qos, route.spec.retain, collected.one)
            return
        if self.routing.is_written_by_devices(room):
            raise ReadOnly(f"only devices write into {room!r}: no route leads from it to a device")
        if binary:
            encode(PayloadKind.BYTES, data, binary=True)
        self._hub.deliver(self._log.append(room, Payload(to_json(data), binary), sender=sender))
        done(None)


def _check_room(check: Callable[[str], None], room: str) -> None:
    try:
        check(room)
    except InvalidName as error:
        raise BadMessage(f"room: {error}") from None


@dataclass(slots=True)
class _Collected:
    """Calls `done` once, after so many calls of `one`: with the first error that came, if any."""

    waiting: int
    done: Done
    error: TidegateError | None = None
    sent: bool = False
    """Whether any was, or may have been."""

    def one(self, error: TidegateError | None) -> None:
        self.error = self.error or error
        self.sent = self.sent or not isinstance(error, UpstreamUnavailable)
        self.waiting -= 1
        if self.waiting:
            return
        if self.sent and isinstance(self.error, UpstreamUnavailable):
            self.error = UpstreamTimeout(f"only some of the devices can have it: {self.error.message}")
        self.done(self.error)
