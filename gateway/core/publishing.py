"""From a client's data to the devices that a room is routed to, or, if it has no route, into the room itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.acceptance import encode_accepted
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.engine import Engine, Publication
from gateway.core.errors import BadMessage, ReadOnly, TidegateError, UpstreamTimeout, UpstreamUnavailable
from gateway.core.idempotency import Idempotency
from gateway.core.limits import Limits
from gateway.core.message import EVERYONE, Audience
from gateway.core.payload import Payload, digest, encode, to_json
from gateway.core.plain_rooms import PlainRooms, RoomRates
from gateway.core.retention import NOTHING
from gateway.core.room_names import check_room
from gateway.core.room_rules import RoomRules
from gateway.core.routes import PayloadKind, Route
from gateway.core.routing import RoutingTable
from gateway.core.session import Session
from gateway.core.shared_limits import SharedLimits
from gateway.core.upstream import Done, Upstream

__all__ = ["Publishing", "Sending", "Unacknowledged"]


@dataclass(frozen=True, slots=True)
class Sending:
    """What a client wants to send."""

    room: str
    data: Any
    binary: bool = False
    """`data` is base64."""
    sender: str | None = None
    """The session that sends it, if it is one."""
    audience: Audience = EVERYONE
    volatile: bool = False
    user: str | None = None
    """The user who sends it, if that is known."""
    key: str | None = None
    """What is sent again under the same key goes out once."""
    address: str = ""
    """The address, or network, that it is sent from."""
    rooms_per_address: int | None = None
    """How many rooms may be brought into use from there, if that isn't as in general."""

    @classmethod
    def by(
        cls,
        session: Session,
        room: str,
        data: Any,
        *,
        binary: bool,
        audience: Audience = EVERYONE,
        volatile: bool = False,
        key: str | None = None,
    ) -> "Sending":
        """What a session sends, with all that is to be known of who does."""
        most = session.limits.rooms_per_address
        return cls(room, data, binary, session.id, audience, volatile, session.user, key, session.address, most)


class Unacknowledged:
    """How many messages of each session aren't acknowledged yet."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def waits(self, sender: str) -> bool:
        """Whether a session waits for an acknowledgement."""
        return sender in self._counts

    def hold(self, sender: str, done: Done) -> Done:
        """Count one more, until what is returned is called in the place of `done`."""
        self._counts[sender] = self._counts.get(sender, 0) + 1

        def acknowledged(error: TidegateError | None) -> None:
            self.release(sender)
            done(error)

        return acknowledged

    def release(self, sender: str) -> None:
        """Count one less, if there is one."""
        left = self._counts.pop(sender, 1) - 1
        if left:
            self._counts[sender] = left


class Publishing:
    """The way of clients' messages out of one namespace, or into its rooms."""

    def __init__(
        self,
        routing: RoutingTable,
        rules: RoomRules,
        engine: Engine,
        limits: Limits,
        rates: RoomRates,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._routing = routing
        self._rules = rules
        self._engine = engine
        self._limits = limits
        self._rates = rates
        self.plain_rooms = PlainRooms(limits.rooms, clock)
        self.unacknowledged = Unacknowledged()
        self._keys = Idempotency(clock, counters)
        self._upstreams: Mapping[str, Upstream] = {}

    def connect(self, upstreams: Mapping[str, Upstream]) -> None:
        """Say how to reach devices, by the upstreams' names."""
        self._upstreams = upstreams

    def share(self, namespace: str, shared: SharedLimits) -> None:
        """Limit what all nodes together send into rooms, and how many of them clients bring into use."""
        self._rates.share(f"{namespace}/rooms", shared)
        self.plain_rooms.share(f"{namespace}/plain_rooms", shared)

    def publish(self, sending: Sending, done: Done) -> None:
        """Send; `done` is called once, when all of that is done. What was sent under the same key isn't sent again.

        Raises:
            BadMessage: that is no room, the data isn't what the route says, or the key was used for other data. Nothing
                was sent.
            ReadOnly: only devices write into this room.
            RateLimited: too many wait for the same key.
            RoomRateLimited, TooManyRooms: as `RoomRates.spend`, `PlainRooms.use`. Nothing was sent.
        """
        if sending.sender is None:
            self._publish(sending, done)
            return
        try:
            self._publish(sending, self.unacknowledged.hold(sending.sender, done))
        except BaseException:
            self.unacknowledged.release(sending.sender)
            raise

    def _publish(self, sending: Sending, done: Done) -> None:
        if sending.key is None:
            self._send(sending, done)
            return
        fingerprint = digest(sending.data, binary=sending.binary)
        self._keys.once(sending.room, sending.key, fingerprint, lambda done: self._send(sending, done), done)

    def _send(self, sending: Sending, done: Done) -> None:
        check_room(sending.room)
        matches = self._routing.topics_for(sending.room)
        if matches:
            self._send_to_devices(sending, matches, done)
        elif self._routing.is_written_by_devices(sending.room):
            raise ReadOnly(f"only devices write into {sending.room!r}: no route leads from it to a device")
        else:
            self._send_to_room(sending, done)

    def _send_to_devices(self, sending: Sending, matches: tuple[tuple[Route, str], ...], done: Done) -> None:
        if sending.volatile or sending.audience != EVERYONE:
            raise BadMessage(
                f"to, echo, volatile: expected only in rooms without a route; {sending.room!r} leads to a device"
            )
        payloads = [encode_accepted(route.spec, sending.data, binary=sending.binary) for route, _ in matches]
        self._rates.spend(sending.room)
        collected = _Collected(len(matches), done)
        for (route, topic), payload in zip(matches, payloads, strict=True):
            upstream = self._upstreams[route.upstreams[0]]
            upstream.publish(topic, payload, route.spec.qos, route.spec.retain, collected.one)

    def _send_to_room(self, sending: Sending, done: Done) -> None:
        if sending.binary:
            encode(PayloadKind.BYTES, sending.data, binary=True)
        most = sending.rooms_per_address or self._limits.rooms_per_address
        self.plain_rooms.use(sending.room, sending.address, most)
        self._rates.spend(sending.room)
        rule = self._rules.of(sending.room)
        publication = Publication(
            sending.room,
            Payload(to_json(sending.data), sending.binary),
            NOTHING if rule is None else rule.retention,
            sender=sending.sender,
            audience=sending.audience,
            volatile=sending.volatile,
            user=sending.user,
        )
        self._engine.publish([publication], done)


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
