"""An isolated set of routes, rooms and sessions: what joins routing, log and hub.

Devices' messages come in by `receive`, clients' by `publish`. Nothing here awaits: an upstream calls back when it has
taken a message.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, Protocol

from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.engine import Engine, Publication
from gateway.core.errors import BadMessage, ReadOnly, TidegateError, TooManySubscriptions
from gateway.core.history import History, HistoryQuery, ask_history
from gateway.core.hub import Hub
from gateway.core.limits import Budget, Limits, TokenBucket
from gateway.core.message import EVERYONE, Audience, Message
from gateway.core.pacing import Paces
from gateway.core.payload import Payload, PayloadError, decode, encode, to_json
from gateway.core.recovery import Recovery
from gateway.core.retention import NOTHING, Retention, RoomRules
from gateway.core.routes import PayloadKind, Route
from gateway.core.routing import RoutingTable
from gateway.core.sampling import Sampling
from gateway.core.session import Session, TransportName
from gateway.core.sink import Sink
from gateway.core.topics import InvalidName, check_filter, check_name
from gateway.core.wire import Subscribe

__all__ = ["DEFAULT_NAMESPACE", "Done", "Namespace", "Upstream"]

logger = logging.getLogger(__name__)

DEFAULT_NAMESPACE: Final = "default"
"""The name of the one that needs no name."""
REMEMBERED_ROOMS: Final = 65_536
"""Of how many rooms is remembered what is kept; then all are forgotten and found anew."""

Done = Callable[[TidegateError | None], None]
"""Called once: with None when the message was taken, else with the reason why not."""


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
        rules: RoomRules,
        engine: Engine,
        limits: Limits,
        clock: Clock,
        random: Random,
        counters: Counters,
    ) -> None:
        self.name = name
        self.routing = routing
        self.limits = limits
        self.sessions: dict[str, Session] = {}
        self._upstreams: Mapping[str, Upstream] = {}
        self._clock = clock
        self._random = random
        self._counters = counters
        self._rules = rules
        self._retentions: dict[tuple[int, str], Retention] = {}
        self._hub = Hub(counters)
        self.engine = engine
        self._fanout = Sampling(self._hub, clock, counters)
        self.paces = Paces(routing.routes, engine.publish, clock, counters)
        self.recovery = Recovery(self._fanout, engine, limits, clock, counters)
        engine.attach(self._deliver)
        self._complaints = TokenBucket(0.1, 5, clock)
        """So many bad payloads are logged; all are counted."""

    @property
    def counters(self) -> Counters:
        """What is counted of this namespace."""
        return self._counters

    def connect(self, upstreams: Mapping[str, Upstream]) -> None:
        """Say how to reach devices, by the upstreams' names."""
        self._upstreams = upstreams

    def open(self, transport: TransportName, sink: Sink, user: str | None = None) -> Session:
        """A new session. Whoever opens it ends it, whatever happens."""
        identifier = f"{self._random.getrandbits(96):024x}"
        session = Session(identifier, transport, sink, Budget(self.limits, self._clock), self, user)
        self.recovery.limit_bandwidth(session, None)
        self.sessions[identifier] = session
        return session

    def paused(self, session: Session) -> None:
        """A session's client doesn't take any more for now."""
        self.recovery.pause(session)

    def resumed(self, session: Session) -> None:
        """A session's client has taken what waited."""
        self.recovery.resume(session)

    def throttled(self, session: Session, wait_seconds: float) -> None:
        """A session has been sent all that it may be for so long."""
        self.recovery.throttle(session, wait_seconds)

    def ended(self, session: Session, error: TidegateError | None) -> None:
        """A session has ended."""
        self.recovery.leave(session)
        del self.sessions[session.id]
        if error is not None:
            self._counters.closed[error.code] += 1

    def receive(self, upstream: str, topic: str, raw: bytes, *, retained: bool) -> bool:
        """Take a device's message and deliver it to every room that it is routed to; whether there is one."""
        matches = self.routing.rooms_for(upstream, topic)
        decoded: dict[PayloadKind, Payload] = {}
        for route, room in matches:
            kind = route.spec.payload
            try:
                payload = decoded.get(kind) or decoded.setdefault(kind, decode(kind, raw))
            except PayloadError as error:
                self._complain(route, topic, error)
                continue
            self._take(route, room, topic, payload, retained=retained, cleared=not raw)
        return bool(matches)

    def _take(self, route: Route, room: str, topic: str, payload: Payload, *, retained: bool, cleared: bool) -> None:
        """Publish a device's message; an empty one takes a retained message back (MQTT 5 §3.3.1.3)."""
        kept = self._retention(route, room)
        if cleared:
            kept = replace(kept, last=False)
        publication = Publication(room, payload, kept, topic, retained=retained, clears=cleared)
        self.paces.publish(route, publication, _ignore)

    def _retention(self, route: Route, room: str) -> Retention:
        """What is kept of a routed room: as the route says, else as the rule for the room says."""
        found = self._retentions.get((route.index, room))
        if found is None:
            rule = self._rules.of(room)
            history = route.spec.history or (Retention() if rule is None else rule.retention)
            found = replace(history, last=route.spec.last)
            if len(self._retentions) >= REMEMBERED_ROOMS:
                self._retentions.clear()
            self._retentions[route.index, room] = found
        return found

    def _deliver(self, message: Message) -> None:
        self._fanout.deliver(message)
        if not message.kept:
            self.recovery.missed(message)

    def _complain(self, route: Route, topic: str, error: PayloadError) -> None:
        self._counters.drops["bad_payload"] += 1
        if not self._complaints.take():
            where = f"namespace {self.name}, route {route.index} ({route.topic.text})"
            logger.warning("dropped a payload of %r: %s: %s", topic, where, error)

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

    def subscribe(self, session: Session, request: Subscribe) -> None:
        """Subscribe to rooms or patterns; `subscribed` answers for each, then comes what it lacks, then all that comes.

        Subscribing again is allowed, and is answered anew.

        Raises:
            BadMessage: one is no room or pattern.
            TooManySubscriptions: the session would have more than it may.
        """
        for room in request.rooms:
            _check_room(check_filter, room)
        self._check_count(len({*session.rooms, *request.rooms}))
        self.recovery.subscribe(session, request)

    def unsubscribe(self, session: Session, room: str) -> None:
        """Take a subscription back.

        Raises:
            BadMessage: the session isn't subscribed to that.
        """
        if room not in session.rooms:
            raise BadMessage("room: expected one that this session is subscribed to")
        self.recovery.unsubscribe(session, room)

    def last(self, room: str, done: Callable[[str, Sequence[Message]], None]) -> None:
        """The position that the log has reached, and the last values of a room or pattern.

        Raises:
            BadMessage: that is no room or pattern.
        """
        _check_room(check_filter, room)
        self.engine.last(room, lambda head, values: done(self.cursor(head), values))

    def history(self, query: HistoryQuery, done: Callable[[History], None]) -> None:
        """What is kept of a room's messages, or of all that a pattern matches.

        Raises:
            BadMessage: that is no room or pattern.
        """
        _check_room(check_filter, query.room)
        ask_history(self.engine, query, done)

    def cursor(self, position: int) -> str:
        """A place in the sequence, as clients get it."""
        return f"{self.engine.epoch}-{position}"

    def publish(
        self,
        room: str,
        data: Any,
        done: Done,
        *,
        binary: bool = False,
        sender: str | None = None,
        audience: Audience = EVERYONE,
        volatile: bool = False,
    ) -> None:
        """Send a client's data to the devices that the room is routed to, or, if it has no route, to the room itself.

        `done` is called once, when all of that is done. `audience` and `volatile` are for rooms without a route.

        Raises:
            BadMessage: that is no room, or the data isn't what the route says. Nothing was sent.
            ReadOnly: only devices write into this room.
        """
        _check_room(check_name, room)
        matches = self.routing.topics_for(room)
        if matches:
            if volatile or audience != EVERYONE:
                raise BadMessage(
                    f"`to`, `echo` and `volatile` are for rooms without a route: {room!r} leads to a device"
                )
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
        rule = self._rules.of(room)
        kept = NOTHING if rule is None else rule.retention
        publication = Publication(
            room, Payload(to_json(data), binary), kept, sender=sender, audience=audience, volatile=volatile
        )
        self.engine.publish(publication, lambda outcome: done(outcome if isinstance(outcome, TidegateError) else None))


def _ignore(outcome: object) -> None:
    """Nobody waits for what a device's message becomes."""


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

    def one(self, error: TidegateError | None) -> None:
        self.error = self.error or error
        self.waiting -= 1
        if not self.waiting:
            self.done(self.error)
