"""How `subscribed` is said: as much at a time as the client takes, however many last values it has.

A session's `pending` says what is still to be said, so that it goes on where a client that didn't read left off.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

from gateway.core import wire
from gateway.core.backlog import by_sequence
from gateway.core.engine import Engine, Reading
from gateway.core.message import Message
from gateway.core.sample import Sample
from gateway.core.session import Pending, Session

__all__ = ["answer", "forget_stale", "say", "untold"]

PART_BYTES: Final = 16 * 1024
"""How much of the last values one `subscribed` says, besides one value that is larger."""

STALE_SECONDS: Final = 5.0
"""For how long last values that were listed are told, though newer ones may have come."""

AROUND_BYTES: Final = 160
"""About what stands around a value."""


def answer(session: Session, asked: Mapping[str, Pending], reading: Reading, now: float) -> None:
    """Note what is to be said of subscriptions, by what the log has for them at this moment.

    Who is behind in the midst of a connection is to hear only the last values that it wasn't told yet.
    """
    for room, pending in asked.items():
        last = reading.incomplete.get(room)
        if last is not None:
            known = pending.position if pending.announced and pending.position is not None else pending.values_told
            unknown = (message for message in last if message.sequence > known)
            pending.untold, pending.values_told, pending.listed_at = deque(sorted(unknown, key=by_sequence)), known, now
            pending.announced = pending.recovered = False
            session.rooms[room] = pending.position = reading.head
        elif not pending.announced:
            pending.untold = deque()


def forget_stale(session: Session, now: float) -> None:
    """Let last values that were listed long ago be listed anew: by now many may be others, and only here be kept."""
    for pending in session.pending.values():
        if pending.untold and now - pending.listed_at > STALE_SECONDS:
            pending.untold = pending.position = None


def untold(session: Session) -> int:
    """How many last values a session has still to be told."""
    return sum(len(pending.untold) for pending in session.pending.values() if pending.untold)


def say(session: Session, engine: Engine) -> bool:
    """Say each `subscribed` that is to be said, until the client takes no more; whether all is said.

    Only a room's last one has a cursor, since who hasn't heard it lacks last values. It is one for all subscriptions
    with the same sample: what they have still to be told comes after it. As an event's id it comes only with the last
    room: who came back with it to all of them lacks nothing then.
    """
    unsaid = [room for room, pending in session.pending.items() if pending.untold is not None]
    for room in unsaid:
        while (last := session.pending[room].untold) is not None:
            if not session.can_be_told:
                return False
            _say_part(session, room, last, engine, carries_id=room == unsaid[-1])
    return True


def _say_part(session: Session, room: str, last: deque[Message], engine: Engine, *, carries_id: bool) -> None:
    pending, sample = session.pending[room], session.samples.get(room)
    part, cursor, identifier, recovered = _take_part(last), None, None, pending.recovered
    if last:
        pending.values_told = part[-1].sequence
    else:
        cursor, identifier = _cursor(session, sample, engine), pending.request
        pending.request, pending.announced, pending.recovered, pending.untold = None, True, True, None
    text = wire.encode_subscribed(identifier, room, cursor, part, recovered=recovered, sample=sample)
    session.send("subscribed", text, cursor if carries_id else None)


def _take_part(last: deque[Message]) -> list[Message]:
    part: list[Message] = []
    size_bytes = 0
    while last and (not part or size_bytes + len(last[0].data) <= PART_BYTES):
        part.append(last.popleft())
        size_bytes += len(part[-1].data) + AROUND_BYTES
    return part


def _cursor(session: Session, sample: Sample | None, engine: Engine) -> str:
    """Where all begins that is still to be told, of the subscriptions with this sample that have an answer."""
    positions = [
        pending.position
        for room, pending in session.pending.items()
        if pending.position is not None
        and (pending.announced or pending.untold is not None)
        and session.samples.get(room) == sample
    ]
    return f"{engine.epoch}-{min(positions, default=engine.head)}"
