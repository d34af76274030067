"""An isolated set of routes, rooms and sessions: what joins routing, log and hub.

Devices' messages come in by `receive`, clients' by `publish`. Nothing here awaits: an upstream calls back when it has
taken a message.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Final

from gateway.core.access import Access, Action, Grants
from gateway.core.arrivals import Arrivals
from gateway.core.attendance import Attendance
from gateway.core.clock import Clock
from gateway.core.connections import Seat
from gateway.core.counters import Counters
from gateway.core.delivery import Delivery
from gateway.core.engine import Engine
from gateway.core.errors import BadMessage, MessageTooLarge, ShuttingDown, TidegateError
from gateway.core.history import History, HistoryQuery, ask_history
from gateway.core.hub import Hub
from gateway.core.identity import ANONYMOUS, Identity
from gateway.core.idle import IdleWatch
from gateway.core.ingest import Ingest
from gateway.core.keeper import Keepers
from gateway.core.limit_errors import RateLimited, TooManySubscriptions
from gateway.core.limits import Budget
from gateway.core.message import Message
from gateway.core.outbox import Outbox
from gateway.core.plain_rooms import RoomRates
from gateway.core.presence_memory import Presence
from gateway.core.proofs import Confirm, Proofs
from gateway.core.publishing import Publishing, Sending
from gateway.core.recovery import Recovery
from gateway.core.requests import Requests
from gateway.core.review import Review
from gateway.core.role_limits import RoleLimits
from gateway.core.room_names import check_room_filter
from gateway.core.room_rules import RoomRules
from gateway.core.routing import RoutingTable
from gateway.core.sampling import Sampling
from gateway.core.session import Session, TransportName
from gateway.core.sink import Sink
from gateway.core.upstream import Done, Upstream
from gateway.core.upstream_states import UpstreamStates
from gateway.core.wire_requests import Subscribe

__all__ = ["DEFAULT_NAMESPACE", "Done", "Namespace", "Upstream"]

DEFAULT_NAMESPACE: Final = "default"
"""The name of the one that needs no name."""


class Namespace:
    """The rooms, and who is in them."""

    def __init__(
        self,
        name: str,
        routing: RoutingTable,
        rules: RoomRules,
        engine: Engine,
        role_limits: RoleLimits,
        clock: Clock,
        random: Random,
        counters: Counters,
        presence: Presence,
        access: Access | None = None,
    ) -> None:
        self.name = name
        self.role_limits, limits = role_limits, role_limits.general
        self.access = access or Access()
        self._proofs = Proofs(self.access, limits.handshake_seconds, clock, counters)
        self._review = Review(self.follow, lambda: self._proofs.settled(), clock)
        self.routing = routing
        self.limits = limits
        self.sessions: dict[str, Session] = {}
        self.arrivals = Arrivals()
        self.upstream_states = UpstreamStates(self.sessions)
        self._clock, self._random, self._counters = clock, random, counters
        rates = RoomRates(limits, clock)
        self.requests = Requests(routing, limits, rates, clock, random, counters)
        self._idle = IdleWatch(lambda session: self.requests.waits(session.id), clock)
        self.outbox = Outbox()
        self._hub = Hub(counters, self.outbox)
        self.engine = engine
        self._fanout = Sampling(self._hub, clock, counters)
        self.recovery = Recovery(self._fanout, engine, limits, clock, counters)
        engine.attach(self._deliver, self._interrupted, self.outbox)
        self.attendance = Attendance(presence, rules, routing, self.recovery.listeners, counters, self.sessions)
        self._ingest = Ingest(name, routing, rules, engine, clock, counters, self.attendance.overhear)
        self.bad_payloads = self._ingest.bad_payloads
        self.paces = self._ingest.paces
        self._publishing = Publishing(routing, rules, engine, limits, rates, clock, counters)
        self.plain_rooms, self.unacknowledged = self._publishing.plain_rooms, self._publishing.unacknowledged
        self.share = self._publishing.share

    @property
    def counters(self) -> Counters:
        """What is counted of this namespace."""
        return self._counters

    def connect(self, upstreams: Mapping[str, Upstream], keepers: Keepers | None = None) -> None:
        """Say how to reach devices, by the upstreams' names; and the keepers, if there are other gateways."""
        self._publishing.connect(upstreams)
        self.requests.connect(upstreams, keepers)

    def open(
        self,
        transport: TransportName,
        sink: Sink,
        grants: Grants | None = None,
        *,
        member: str | None = None,
        seat: Seat | None = None,
    ) -> Session:
        """A new session, without grants that of anybody. Whoever opens it ends it, whatever happens."""
        grants = grants or self.access.of(ANONYMOUS)
        identifier = f"{self._random.getrandbits(96):024x}"
        budget = Budget(self.role_limits.of(grants.identity), self._clock)
        session = Session(identifier, transport, sink, budget, self, grants, member, seat)
        self.recovery.limit_bandwidth(session, None)
        self.sessions[identifier] = session
        self._proofs.hold(session)
        self._review.one(session)  # the rules may have changed since its handshake
        self._idle.hold(session)
        self.arrivals.identified(session)
        return session

    def reconfigure(self, access: Access, confirm: Confirm) -> None:
        """Let other rules hold: at once for whoever asks for something, and then for one session after the other."""
        self.access = access
        self._proofs.reconfigure(access, confirm)
        self._review.start(self.sessions.values())

    def follow(self, session: Session) -> None:
        """Let a session have what the newest rules grant, if it doesn't; it may end subscriptions, or the session."""
        if self._proofs.follow(session, self.unsubscribe):
            self.limit(session)
            self.attendance.identified(session)

    def current(self, grants: Grants) -> Grants:
        """Grants from before something was waited for, as the newest rules have them.

        Raises:
            Unauthenticated: nobody is let in any more with what was shown.
        """
        return self._proofs.current(grants)

    def identify(self, session: Session, identity: Identity) -> None:
        """A session has shown who it is, first or anew.

        Raises:
            Forbidden: it is somebody else than before.
            TooManyConnectionsFromAddress, TooManyConnectionsOfUser: as `Seat.identify`.
        """
        if session.seat is not None:
            session.seat.identify(identity)
        self._proofs.renew(session, identity, self.unsubscribe)
        self.limit(session)
        self.attendance.identified(session)
        self.arrivals.identified(session)

    def sessions_of(self, login: str) -> list[Session]:
        """The sessions that come from a login, by its id."""
        known = ((session, session.identity) for session in self.sessions.values())
        return [each for each, who in known if who is not None and who.login is not None and who.login.id == login]

    def limit(self, session: Session) -> None:
        """Hold a session to the limits of who it is now."""
        before, limits = session.limits, self.role_limits.of(session.identity)
        if limits is not before and not session.ended:
            session.budget.change(limits)
            self._idle.hold(session)
            if limits.bytes_per_second_out != before.bytes_per_second_out:
                self.recovery.limit_bandwidth(session, session.bandwidth)

    def paused(self, session: Session) -> None:
        """A session's client doesn't take any more for now."""
        self.recovery.pause(session)

    def resumed(self, session: Session) -> None:
        """A session's client has taken what waited."""
        self.recovery.resume(session)
        self.attendance.resumed(session)

    def about_to_send(self) -> None:
        """A session is about to be sent something of its own: what was delivered before it comes before it."""
        self.outbox.flush()

    def throttled(self, session: Session, wait_seconds: float) -> None:
        """A session has been sent all that it may be for so long."""
        self.recovery.throttle(session, wait_seconds)

    def ended(self, session: Session, error: TidegateError | None) -> None:
        """A session has ended."""
        self._proofs.forget(session)
        self._idle.forget(session)
        self.recovery.leave(session)
        self.requests.cancel_all(session.id)
        self.attendance.ended(session, comes_back=isinstance(error, ShuttingDown))
        self.arrivals.ended(session, error)
        del self.sessions[session.id]
        if error is not None:
            self._counters.close(error)
        if isinstance(error, (RateLimited, MessageTooLarge)) and session.seat is not None:
            session.seat.offend()

    def receive(self, delivery: Delivery, stored: Callable[[], None]) -> bool:
        """Take a device's message for every room that it is routed to; whether there is one. See `Ingest.receive`."""
        self.attendance.receive(delivery)
        return self._ingest.receive(delivery, stored)

    def _deliver(self, message: Message) -> None:
        self._fanout.deliver(message)
        if not message.kept:
            self.recovery.missed(message)

    def _interrupted(self, filters: Collection[str] | None, position: int | None) -> None:
        self.recovery.interrupted(self.sessions.values(), filters, position)

    def check_rooms(self, rooms: Sequence[str], grants: Grants) -> None:
        """Check, before there is a session, what it is going to subscribe to.

        Raises:
            BadMessage, Forbidden, TooManySubscriptions: as `subscribe`.
        """
        for room in rooms:
            check_room_filter(room)
            grants.check(Action.SUBSCRIBE, room)
        _check_count(len(rooms), self.role_limits.of(grants.identity).subscriptions_per_connection)

    def subscribe(self, session: Session, *requests: Subscribe) -> None:
        """Subscribe to rooms or patterns; `subscribed` answers for each, then comes what it lacks, then all that comes.

        Subscribing again is allowed, and is answered anew.

        Raises:
            BadMessage: one is no room or pattern.
            Forbidden: one isn't allowed.
            TooManySubscriptions: the session would have more than it may.
        """
        rooms = [room for request in requests for room in request.rooms]
        for room in rooms:
            check_room_filter(room)
            session.grants.check(Action.SUBSCRIBE, room)
        _check_count(len({*session.rooms, *rooms}), session.limits.subscriptions_per_connection)
        self.recovery.subscribe(session, *requests)
        self.attendance.subscribed(session, rooms)

    def unsubscribe(self, session: Session, room: str) -> None:
        """Take a subscription back.

        Raises:
            BadMessage: the session isn't subscribed to that.
        """
        if room not in session.rooms:
            raise BadMessage("room: expected one that this session is subscribed to")
        self.recovery.unsubscribe(session, room)
        self.attendance.unsubscribed(session, room)

    def last(self, room: str, done: Callable[[str, Sequence[Message]], None], grants: Grants | None = None) -> None:
        """The position that the log has reached, and the last values of a room or pattern.

        Raises:
            BadMessage: that is no room or pattern.
            Forbidden: it isn't allowed to who asks; without grants, to anybody.
        """
        check_room_filter(room)
        self._granted(grants).check(Action.HISTORY, room)
        self.engine.last(room, lambda head, values: done(self.cursor(head), values))

    def history(self, query: HistoryQuery, done: Callable[[History], None], grants: Grants | None = None) -> None:
        """What is kept of a room's messages, or of all that a pattern matches.

        Raises:
            BadMessage, Forbidden: as `last`.
        """
        check_room_filter(query.room)
        self._granted(grants).check(Action.HISTORY, query.room)
        ask_history(self.engine, query, done)

    def cursor(self, position: int) -> str:
        """A place in the sequence, as clients get it."""
        return f"{self.engine.epoch}-{position}"

    def _granted(self, grants: Grants | None) -> Grants:
        """What was granted; where a caller says nothing of that, only what all is open to everybody grants."""
        return grants or self.access.of(None)

    def publish(self, sending: Sending, done: Done, grants: Grants | None = None) -> None:
        """Send a client's data to devices, or into a room that has no route. See `Publishing.publish`.

        Raises:
            Forbidden: it isn't allowed to who sends; without grants, to anybody.
        """
        self._granted(grants).check(Action.PUBLISH, sending.room)
        self._publishing.publish(sending, done)


def _check_count(subscriptions: int, most: int) -> None:
    if subscriptions > most:
        raise TooManySubscriptions(
            f"too many subscriptions: expected at most {most}; unsubscribe from one, or use a pattern such as sites/#"
        )
