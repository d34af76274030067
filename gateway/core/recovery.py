"""How a session comes to the present: after `subscribe`, with or without a cursor, and after its client didn't read.

A slow client costs no queue. When its transport is full, its session leaves the fan-out and keeps, for each
subscription, one place in the sequence; when there is room again, it is told from the log what came since, as much at a
time as the transport takes, and then enters the fan-out. A subscription is the same from a place that the client names.
Where the log lacks something, `subscribed` with `recovered: false` and the last values says so. Of what is sampled
only the newest of each topic is told, and so is to a session that has been sent as much as it may be.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable
from functools import partial
from typing import Final

from gateway.core import wire, wire_requests
from gateway.core.answering import answer, forget_stale, say, untold
from gateway.core.bandwidth import limit
from gateway.core.clock import Clock, Timer
from gateway.core.counters import Counters
from gateway.core.engine import Engine, Reading, Wanted
from gateway.core.errors import SlowConsumer
from gateway.core.filters import overlap
from gateway.core.limits import Limits
from gateway.core.message import Message
from gateway.core.reading import PRESENT
from gateway.core.sample import rank_of
from gateway.core.sampling import Sampling
from gateway.core.session import Pending, Session
from gateway.core.topics import filter_matches

__all__ = ["Recovery"]

CHUNK_MESSAGES: Final = 256
"""How many messages one session is told from the log before others have their turn."""

MAXIMUM_UNTOLD: Final = 1_000_000
"""Last values that are kept in mind for all clients that don't read; beyond, those who wait longest are ended."""


class Recovery:
    """Keeps every session of a namespace in the fan-out, or on the way there."""

    def __init__(self, fanout: Sampling, engine: Engine, limits: Limits, clock: Clock, counters: Counters) -> None:
        self._fanout = fanout
        self._engine = engine
        self._lag_seconds = limits.lag_seconds
        self._clock = clock
        self._counters = counters
        self._lagging: dict[Session, Timer] = {}
        self._untold: dict[Session, int] = {}
        """How many last values those of them have still to be told, who began to lag in the midst of that."""
        self._throttled: dict[Session, Timer] = {}
        self._reading: dict[Session, int] = {}
        """Whose question isn't answered yet, each with the place beyond which the answer is of no use."""
        self._watched: Counter[str] = Counter()
        """Rooms and filters, each with how many sessions are subscribed to it."""
        self._behind: set[Session] = set()
        """All who have a subscription that isn't in the fan-out; maybe a few more."""

    def __len__(self) -> int:
        """How many sessions are out of the fan-out because their clients don't read."""
        return len(self._lagging)

    @property
    def throttled(self) -> int:
        """How many are out of it because they have been sent all that they may be."""
        return len(self._throttled)

    def subscribe(self, session: Session, *requests: wire_requests.Subscribe) -> None:
        """Subscribe to rooms or filters: `subscribed` is said for each, then comes what they lack, then all that comes.

        What several requests lack comes merged. A request's id stands in its last `subscribed`: it has one answer.
        """
        self._behind.add(session)
        self._fanout.settle(session)
        self._fanout.refresh(session)
        for request in requests:
            self._register(session, request)
        self._advance(session)

    def _register(self, session: Session, request: wire_requests.Subscribe) -> None:
        position = None if request.since is None else self._engine.position(request.since)
        since = request.since if position is None else None  # it may be of an epoch that isn't known here yet
        for room in request.rooms:
            if room in session.rooms and room not in session.pending:
                self._take_out(session, room)
            if room not in session.rooms:
                self._watch(room)
            session.samples.pop(room, None)
            if request.sample is not None:
                session.samples[room] = request.sample
            session.rooms[room] = self._engine.head if position is None else position
            identifier = request.id if room == request.rooms[-1] else None
            session.pending[room] = Pending(position, since, identifier, latest=request.sample is not None)

    def unsubscribe(self, session: Session, room: str) -> None:
        """Take a subscription back."""
        self._fanout.settle(session)
        self._fanout.refresh(session)
        pending = session.pending.pop(room, None)
        if pending is None:
            self._take_out(session, room)
        del session.rooms[room]
        session.samples.pop(room, None)
        self._unwatch(room)
        if pending is not None and session.samples:
            self._hand_over(session, room, pending)

    def _take_out(self, session: Session, room: str, told: int | None = None) -> None:
        """Take a subscription out of the fan-out, which brought all up to now, or up to where `told` says.

        An answer that is on its way leaves out what the fan-out brings, so it is of use only as far as that.
        """
        self._fanout.unsubscribe(session, room)
        if session in self._reading:
            reached = self._engine.head if told is None else told
            self._reading[session] = min(self._reading[session], reached)

    def _watch(self, room: str) -> None:
        """Let the engine know what this node wants, once however many sessions want it."""
        self._watched[room] += 1
        if self._watched[room] == 1:
            self._engine.watch(room)

    def _unwatch(self, room: str) -> None:
        self._watched[room] -= 1
        if not self._watched[room]:
            del self._watched[room]
            self._engine.unwatch(room)

    def _hand_over(self, session: Session, removed: str, pending: Pending) -> None:
        """Let the sampled subscriptions that overlap with one that held in their place tell what it leaves untold."""
        for room in [room for room in session.samples if room not in session.pending and overlap(room, removed)]:
            self._take_out(session, room)
            session.pending[room] = Pending(pending.position, announced=pending.position is not None, latest=True)
        self._advance(session)

    def leave(self, session: Session) -> None:
        """Forget a session that ends."""
        self._cancel(session)
        self._behind.discard(session)
        self._cancel_throttle(session)
        for room in tuple(session.rooms):
            self.unsubscribe(session, room)

    def listeners(self, room: str) -> dict[Session, None]:
        """Who is subscribed to a room by its name or by a pattern, whether in the fan-out or on the way there."""
        self._behind = {session for session in self._behind if session.pending and not session.ended}
        behind = (s for s in self._behind if any(filter_matches(pending, room) for pending in s.pending))
        return self._fanout.sessions(room) | dict.fromkeys(behind)

    def pause(self, session: Session) -> None:
        """Take a session out of the fan-out, until `resume`, but not for ever."""
        if session.ended or session in self._lagging:
            return
        self._behind.add(session)
        self._lagging[session] = self._clock.call_later(self._lag_seconds, partial(self._give_up, session))
        self.step_out(session)
        if count := untold(session):
            self._untold[session] = count
            self._shed()

    def _shed(self) -> None:
        """End those who don't read for longest, if all have too much to be told in the end."""
        while sum(self._untold.values()) > MAXIMUM_UNTOLD:
            reason = "too many clients have last values to be told, and this one took nothing for longest"
            next(iter(self._untold)).end(SlowConsumer(reason, limit="last_values"))

    def throttle(self, session: Session, wait_seconds: float) -> None:
        """Take a session out of the fan-out for so long; then it is told the newest of each topic."""
        if session.ended:
            return
        self._cancel_throttle(session)
        self._throttled[session] = self._clock.call_later(wait_seconds, partial(self.step_in, session))
        session.throttled = True
        self.step_out(session)
        for pending in session.pending.values():
            pending.latest = True

    def _cancel_throttle(self, session: Session) -> None:
        session.throttled = False
        timer = self._throttled.pop(session, None)
        if timer is not None:
            timer.cancel()

    def step_out(self, session: Session) -> None:
        """Take a session out of the fan-out, keeping the place up to which it was told all."""
        self._fanout.settle(session)
        live = [room for room in session.rooms if room not in session.pending]
        told = {room: self._fanout.told(session, room, self._engine.head) for room in live}
        for room in live:
            self._take_out(session, room, told[room])
            session.pending[room] = Pending(told[room], announced=True, latest=room in session.samples)

    def step_in(self, session: Session, wait_seconds: float = 0.0) -> None:
        """Let a session in again, now or after a while."""
        self._cancel_throttle(session)
        if wait_seconds:
            self.throttle(session, wait_seconds)
        else:
            self._advance(session)

    def limit_bandwidth(self, session: Session, bytes_per_second: float | None) -> None:
        """Send a session at most so many bytes a second, but never more than the limits say."""
        session.bandwidth = bytes_per_second
        both = [most for most in (bytes_per_second, session.limits.bytes_per_second_out) if most is not None]
        self.step_out(session)
        self.step_in(session, limit(session, min(both, default=None), self._clock))

    def resume(self, session: Session) -> None:
        """Tell a session what it lacks, now that its client takes it."""
        self._cancel(session)
        self._advance(session)

    def _cancel(self, session: Session) -> None:
        self._untold.pop(session, None)
        timer = self._lagging.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self, session: Session) -> None:
        reason = f"the client of session {session.id} took nothing for {self._lag_seconds:g} s: come back with a cursor"
        session.end(SlowConsumer(reason, limit="lag_seconds"))

    def interrupted(self, sessions: Iterable[Session], filters: Collection[str] | None, position: int | None) -> None:
        """Bring sessions back to the present whose subscriptions to these filters, or to all, may have missed messages.

        Args:
            sessions: All there are.
            filters: Rooms or filters; None for all, since the log is another one.
            position: Up to where all was delivered, or both logs are one; None if that isn't known.
        """
        for session in tuple(sessions):
            rooms = [room for room in session.rooms if filters is None or room in filters]
            if rooms:
                self._fanout.settle(session)
                for room in rooms:
                    self._interrupt(session, room, position, lost=filters is None)
                self._behind.add(session)
                self._advance(session)

    def _interrupt(self, session: Session, room: str, position: int | None, *, lost: bool) -> None:
        before = session.pending.get(room)
        if before is not None and (before.position is None or (position is not None and not lost)):
            return  # it is read from where it is, and what is lacking found out by that
        if before is None:
            told = None if position is None else self._fanout.told(session, room, position)
            self._take_out(session, room, told)
        else:
            told = None if position is None or before.untold else min(position, before.position or 0)
        request = None if before is None else before.request
        pending = session.pending[room] = Pending(told, request=request, latest=room in session.samples)
        pending.announced = told is not None and not lost
        if told is not None and lost:
            pending.recovered, pending.untold = False, deque()  # said first, before what the log has since

    def missed(self, message: Message) -> None:
        """Count for whom a message that is never kept came at a bad time."""
        for session in {*self._lagging, *self._throttled}:
            if any(filter_matches(room, message.room) for room in session.rooms):
                self._counters.drops["fleeting_to_slow_client"] += 1

    def _advance(self, session: Session) -> None:
        """Ask the engine for what the session lacks, if it can be told now and nobody has asked already."""
        if not session.can_be_told or not session.pending or session in self._reading:
            return
        forget_stale(session, self._clock.monotonic())
        if not say(session, self._engine):
            return  # it goes on from here when there is room again
        self._reading[session] = PRESENT
        if any(pending.since is not None for pending in session.pending.values()):
            self._engine.settled(partial(self._ask, session))
        else:
            self._ask(session)

    def _ask(self, session: Session) -> None:
        """Ask for what it lacks by now."""
        if not session.can_be_told or not session.pending:
            del self._reading[session]
            return
        self._reading[session] = PRESENT
        for room, pending in session.pending.items():
            if pending.since is not None:
                pending.position, pending.since = self._engine.position(pending.since), None
                if pending.position is not None:
                    session.rooms[room] = pending.position
        live = Pending(PRESENT)
        wanted = {}
        for room, start in session.rooms.items():
            pending, sample = session.pending.get(room, live), session.samples.get(room)
            wanted[room] = Wanted(start, pending.position, pending.latest, rank_of(sample))
        self._engine.read(wanted, CHUNK_MESSAGES, partial(self._take, session, tuple(wanted), dict(session.pending)))

    def _take(self, session: Session, rooms: tuple[str, ...], asked: dict[str, Pending], reading: Reading) -> None:
        end = self._reading.pop(session)
        self._fanout.settle(session)
        if not session.can_be_told:
            return
        if any(session.pending.get(room, pending) is not pending for room, pending in asked.items()):
            self._advance(session)  # it is about another place now
            return
        asked = {room: pending for room, pending in asked.items() if room in session.pending}
        answer(session, asked, reading, self._clock.monotonic())
        if not say(session, self._engine):
            return  # it goes on from here when there is room again
        withdrawn = any(room not in session.rooms for room in rooms)
        reached = self._tell(session, reading, end, withdrawn=withdrawn)
        for room, pending in asked.items():
            assert pending.position is not None
            pending.position = max(pending.position, reached)
            if pending.position == reading.head and session.can_be_told:
                del session.pending[room]
                self._fanout.subscribe(session, room)
        if not session.pending:
            self._behind.discard(session)
        else:
            self._clock.call_later(0, partial(self._advance, session))

    def _tell(self, session: Session, reading: Reading, end: int, *, withdrawn: bool) -> int:
        """Send messages, up to a place and until the client takes no more; the place up to which it was told all.

        What only a subscription would bring that ended since it was asked for is left out.
        """
        reached = min(end, reading.messages[-1].sequence if reading.more else reading.head)
        for message in reading.messages:
            if message.sequence > end:
                break
            if not session.can_be_told:
                return message.sequence - 1
            if message.sender == session.id and not message.audience.sender:
                continue
            if withdrawn and not any(filter_matches(room, message.room) for room in session.rooms):
                continue
            size_bytes = session.send("message", wire.encode_message(message), message.cursor)
            self._counters.deliveries[session.transport] += 1
            self._counters.delivered_bytes[session.transport] += size_bytes
        return reached
