"""Rooms to sessions on this node, and the fan-out.

A delivery is handed to each session's transport in the order of the sequence, once however many of the session's
subscriptions match. Nothing is awaited and nothing raised: what becomes of a client that doesn't read is the sink's
concern, and what a client was sent is not known to have arrived.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from gateway.core import wire
from gateway.core.counters import Counters
from gateway.core.message import EVERYONE, Message
from gateway.core.outbox import Outbox, Writes, write_each
from gateway.core.session import Session
from gateway.core.sink import Framing
from gateway.core.topics import has_wildcard
from gateway.core.trie import FilterTrie

__all__ = ["Hub"]

REMEMBERED_ROOMS: Final = 65_536
"""How many rooms' audiences are remembered; then all are forgotten and gathered anew."""

REMEMBERED_WRITES: Final = 1_000_000
"""How many ways to sessions all remembered audiences together may have, about."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Those of a room who get the same bytes."""

    transport: str
    framing: Framing
    writes: Writes
    deliver: Callable[[Writes, bytes], None]
    """How to write to all of them: at once, or joined with others of a burst."""


class Hub:
    """Who is subscribed to what."""

    def __init__(self, counters: Counters, outbox: Outbox) -> None:
        self._counters = counters
        self.outbox = outbox
        """By which all is written that it delivers."""
        self._rooms: dict[str, dict[Session, None]] = {}
        self._patterns: FilterTrie[Session] = FilterTrie()
        self._audiences: dict[str, tuple[_Group, ...]] = {}
        self._remembered = 0

    def subscribe(self, session: Session, room: str) -> None:
        """Deliver the messages of a room, or of all that a pattern matches, to `session` from now on."""
        self.outbox.flush()
        if has_wildcard(room):
            self._patterns.add(room, session)
            self._audiences.clear()
        else:
            self._rooms.setdefault(room, {})[session] = None
            self._audiences.pop(room, None)

    def unsubscribe(self, session: Session, room: str) -> None:
        """Take a subscription back; nothing happens if it isn't there."""
        self.outbox.flush()
        if has_wildcard(room):
            self._patterns.remove(room, session)
            self._audiences.clear()
            return
        sessions = self._rooms.get(room, {})
        sessions.pop(session, None)
        if not sessions:
            self._rooms.pop(room, None)
        self._audiences.pop(room, None)

    def refresh(self) -> None:
        """Find out anew who gets what."""
        self._audiences.clear()

    def deliver(self, message: Message, but: Collection[Session] = ()) -> None:
        """Write a message to every session, `but` for some, that is subscribed to its room and of its audience."""
        if message.audience is not EVERYONE or but:
            text = wire.encode_message(message)
            for session in self.sessions(message.room):
                if session not in but:
                    self.tell(session, message, text)
            return
        audience = self._audiences.get(message.room)
        if audience is None:
            audience = self._gather(message.room)
        if not audience:
            return
        text = wire.encode_message(message)
        for group in audience:
            frame = group.framing("message", text, message.cursor)
            group.deliver(group.writes, frame)
            count = len(group.writes)
            self._counters.deliveries[group.transport] += count
            self._counters.delivered_bytes[group.transport] += count * len(frame)

    def tell(self, session: Session, message: Message, text: bytes | None = None) -> None:
        """Write a message, perhaps encoded already, to one session, if that belongs to its audience."""
        audience = message.audience
        if (
            audience.session in (None, session.id)
            and audience.user in (None, session.user)
            and (audience.sender or session.id != message.sender)
        ):
            size_bytes = session.send("message", text or wire.encode_message(message), message.cursor)
            self._counters.deliveries[session.transport] += 1
            self._counters.delivered_bytes[session.transport] += size_bytes

    def sessions(self, room: str) -> dict[Session, None]:
        """Who gets the messages of a room."""
        sessions = dict(self._rooms.get(room, {}))
        sessions.update(dict.fromkeys(self._patterns.match(room.split("/"))))
        return sessions

    def _gather(self, room: str) -> tuple[_Group, ...]:
        sessions = self.sessions(room)
        groups: dict[tuple[str, Framing, bool], list[Callable[[bytes], None]]] = {}
        for session in sessions:
            sink = session.sink
            groups.setdefault((session.transport, sink.framing, sink.joins), []).append(sink.fan_out)
        audience = tuple(
            _Group(transport, framing, tuple(writes), self.outbox.write if joins else write_each)
            for (transport, framing, joins), writes in groups.items()
        )
        self._remembered += len(sessions)
        if len(self._audiences) >= REMEMBERED_ROOMS or self._remembered > REMEMBERED_WRITES:
            self._audiences.clear()
            self._remembered = len(sessions)
        self._audiences[room] = audience
        return audience

    def __len__(self) -> int:
        """How many rooms and patterns have a subscriber."""
        return len(self._rooms) + len(self._patterns)
