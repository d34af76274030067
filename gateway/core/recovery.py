"""How a session comes to the present: after `subscribe`, with or without a cursor, and after its client didn't read.

A slow client costs no queue. When its transport is full, its session leaves the fan-out and keeps, for each
subscription, one place in the sequence; when there is room again, it is told from the log what came since, as much at a
time as the transport takes, and then enters the fan-out. A subscription is the same from a place that the client names.
Where the log lacks something, `subscribed` with `recovered: false` and the last values says so.
"""

from functools import partial
from typing import Final

from gateway.core import wire
from gateway.core.clock import Clock, Timer
from gateway.core.counters import Counters
from gateway.core.engine import Engine, Reading, Wanted
from gateway.core.errors import SlowConsumer
from gateway.core.hub import Hub
from gateway.core.message import Message
from gateway.core.session import Pending, Session
from gateway.core.topics import filter_matches

__all__ = ["Recovery"]

CHUNK_MESSAGES: Final = 256
"""How many messages one session is told from the log before others have their turn."""


class Recovery:
    """Keeps every session of a namespace in the fan-out, or on the way there."""

    def __init__(self, hub: Hub, engine: Engine, lag_seconds: float, clock: Clock, counters: Counters) -> None:
        self._hub = hub
        self._engine = engine
        self._lag_seconds = lag_seconds
        self._clock = clock
        self._counters = counters
        self._lagging: dict[Session, Timer] = {}
        self._reading: set[Session] = set()
        self._behind: set[Session] = set()
        """All who have a subscription that isn't in the fan-out; maybe a few more."""

    def __len__(self) -> int:
        """How many sessions are out of the fan-out because their clients don't read."""
        return len(self._lagging)

    def subscribe(self, session: Session, request: wire.Subscribe) -> None:
        """Subscribe to rooms or filters: `subscribed` is said for each, then comes what they lack, then all that comes.

        The request's id stands in the last `subscribed`: a request has one answer.
        """
        self._behind.add(session)
        since = None if request.since is None else self._engine.position(request.since)
        for room in request.rooms:
            if room in session.rooms and room not in session.pending:
                self._hub.unsubscribe(session, room)
            session.rooms[room] = self._engine.head if since is None else since
            session.pending[room] = Pending(since, request.id if room == request.rooms[-1] else None)
        self._advance(session)

    def unsubscribe(self, session: Session, room: str) -> None:
        """Take a subscription back."""
        del session.rooms[room]
        if session.pending.pop(room, None) is None:
            self._hub.unsubscribe(session, room)

    def leave(self, session: Session) -> None:
        """Forget a session that ends."""
        self._cancel(session)
        self._behind.discard(session)
        for room in tuple(session.rooms):
            self.unsubscribe(session, room)

    def listeners(self, room: str) -> dict[Session, None]:
        """Who is subscribed to a room by its name or by a pattern, whether in the fan-out or on the way there."""
        self._behind = {session for session in self._behind if session.pending and not session.ended}
        behind = (s for s in self._behind if any(filter_matches(pending, room) for pending in s.pending))
        return self._hub.sessions(room) | dict.fromkeys(behind)

    def pause(self, session: Session) -> None:
        """Take a session out of the fan-out, until `resume`, but not for ever."""
        if session.ended or session in self._lagging:
            return
        self._behind.add(session)
        self._lagging[session] = self._clock.call_later(self._lag_seconds, partial(self._give_up, session))
        for room in session.rooms:
            if room not in session.pending:
                self._hub.unsubscribe(session, room)
                session.pending[room] = Pending(self._engine.head, announced=True)

    def resume(self, session: Session) -> None:
        """Tell a session what it lacks, now that its client takes it."""
        self._cancel(session)
        self._advance(session)

    def _cancel(self, session: Session) -> None:
        timer = self._lagging.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self, session: Session) -> None:
        reason = f"the client of session {session.id} took nothing for {self._lag_seconds:g} s: come back with a cursor"
        session.end(SlowConsumer(reason))

    def missed(self, message: Message) -> None:
        """Count for whom a message that is never kept came at a bad time."""
        for session in self._lagging:
            if any(filter_matches(room, message.room) for room in session.rooms):
                self._counters.drops["fleeting_to_slow_client"] += 1

    def _advance(self, session: Session) -> None:
        """Ask the engine for what the session lacks, if it can be told now and nobody has asked already."""
        if not _can_be_told(session) or not session.pending or session in self._reading:
            return
        self._reading.add(session)
        head = self._engine.head
        wanted = {
            room: Wanted(start, session.pending[room].position if room in session.pending else head)
            for room, start in session.rooms.items()
        }
        self._engine.read(wanted, CHUNK_MESSAGES, partial(self._take, session, dict(session.pending)))

    def _take(self, session: Session, asked: dict[str, Pending], reading: Reading) -> None:
        self._reading.discard(session)
        if not _can_be_told(session):
            return
        asked = {room: pending for room, pending in asked.items() if session.pending.get(room) is pending}
        self._announce(session, asked, reading)
        reached = self._tell(session, reading)
        for room, pending in asked.items():
            assert pending.position is not None
            pending.position = max(pending.position, reached)
            if pending.position == reading.head and _can_be_told(session):
                del session.pending[room]
                self._hub.subscribe(session, room)
        if not session.pending:
            self._behind.discard(session)
        else:
            self._clock.call_later(0, partial(self._advance, session))

    def _announce(self, session: Session, asked: dict[str, Pending], reading: Reading) -> None:
        """Say `subscribed` where it wasn't said, or where messages are lacking.

        Its cursor is one for the whole session: what any subscription has still to be told comes after it.
        """
        told = [pending.position for room, pending in asked.items() if room not in reading.incomplete]
        lowest = min((position for position in told if position is not None), default=reading.head)
        cursor = f"{self._engine.epoch}-{lowest}"
        for room, pending in asked.items():
            last = reading.incomplete.get(room)
            if last is not None:
                session.rooms[room] = pending.position = reading.head
            elif pending.announced:
                continue
            text = wire.encode_subscribed(pending.request, room, cursor, last or (), recovered=last is None)
            pending.request, pending.announced = None, True
            session.send("subscribed", text, cursor)

    def _tell(self, session: Session, reading: Reading) -> int:
        """Send messages until the client takes no more; the place up to which it was told all."""
        reached = reading.messages[-1].sequence if reading.more else reading.head
        for message in reading.messages:
            if not _can_be_told(session):
                return message.sequence - 1
            if message.sender == session.id and not message.audience.sender:
                continue
            size_bytes = session.send("message", wire.encode_message(message), message.cursor)
            self._counters.deliveries[session.transport] += 1
            self._counters.delivered_bytes[session.transport] += size_bytes
        return reached


def _can_be_told(session: Session) -> bool:
    """Whether there is a client that takes what is written."""
    return not session.ended and not session.sink.paused
