"""Who happens to be in the rooms that have presence: sessions by their subscriptions, devices by their statuses.

A session is in a room while it is subscribed to it by its name; by a pattern it only listens. What `Presence` makes of
that is told to all who are subscribed, whichever way. A client that doesn't read is told nothing of it, and then, when
it reads again, of each room that has changed meanwhile who is there now.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import orjson

from gateway.core import wire
from gateway.core.access import Action, Grants
from gateway.core.codec import PART, name_of
from gateway.core.counters import Counters
from gateway.core.delivery import Delivery
from gateway.core.dialects import Heard
from gateway.core.errors import BadMessage, NoPresence, PresenceFull, SlowConsumer
from gateway.core.json_depth import MAXIMUM_DEPTH, is_too_deep
from gateway.core.presence import Attendees, Change, Counted, Who
from gateway.core.presence_memory import Presence
from gateway.core.presence_wire import PresenceRequest, encode_change
from gateway.core.room_names import check_room
from gateway.core.room_rules import RoomRules
from gateway.core.routes import Route
from gateway.core.routing import RoutingTable
from gateway.core.session import Session
from gateway.core.sink import Framing
from gateway.core.topics import filter_matches, has_wildcard
from gateway.core.trie import FilterTrie

__all__ = ["Attendance"]

MISSED_ROOMS: Final = 100
"""Of so many rooms a client that doesn't read may miss changes before it is disconnected."""


class Attendance:
    """The sessions and devices of a namespace, as far as they are in rooms with presence."""

    def __init__(
        self,
        presence: Presence,
        rules: RoomRules,
        routing: RoutingTable,
        listeners: Callable[[str], Iterable[Session]],
        counters: Counters,
        sessions: Mapping[str, Session],
    ) -> None:
        self.presence = presence
        self._rules = rules
        self._routed: FilterTrie[int] = FilterTrie()
        self._routing = routing
        self._has_statuses = any(route.status is not None for route in routing.routes)
        for route in routing.routes:
            if route.spec.presence:
                self._routed.add(route.room.filter, route.index)
        self._listeners = listeners
        self._counters = counters
        self._sessions = sessions
        self._entered: dict[Session, dict[str, Who]] = {}
        """The rooms that each session is in, each with who it is there."""
        self._missed: dict[Session, dict[str, None]] = {}
        """The rooms of which a session that doesn't read was told nothing."""
        self.watchers: list[Callable[[Change], None]] = []
        """Who is told of all changes besides those who are subscribed."""
        presence.attach(self._tell, self._refused)

    def has(self, room: str) -> bool:
        """Whether a room has presence: the rule for it says so, or a route that leads there."""
        rule = self._rules.of(room)
        return (rule is not None and rule.presence) or bool(self._routed.match(room.split("/")))

    def subscribed(self, session: Session, rooms: Iterable[str]) -> None:
        """A session has subscribed to rooms or patterns. If there is no place for it, it is told so once."""
        full: PresenceFull | None = None
        for room in rooms:
            if not has_wildcard(room) and self.has(room) and session.grants.allows(Action.PRESENCE, room):
                try:
                    self._enter(session, room)
                except PresenceFull as error:
                    full = error
        if full is not None:
            self._refuse(session, full)

    def _refuse(self, session: Session, error: PresenceFull) -> None:
        self._counters.refuse(error)
        session.send("error", wire.encode_error(None, error))

    def _refused(self, room: str, source: str, error: PresenceFull) -> None:
        """There was no place for a session after all."""
        session = self._sessions.get(source)
        if session is not None and self._forget(session, room) is not None:
            self._refuse(session, error)

    def _enter(self, session: Session, room: str) -> None:
        who = _who(session)
        if room in self._entered.get(session, ()) or session.ended:
            return
        self._entered.setdefault(session, {})[room] = who
        try:
            self.presence.enter(room, who, session.id)
        except PresenceFull:
            self._forget(session, room)
            raise

    def _forget(self, session: Session, room: str) -> Who | None:
        entered = self._entered.get(session, {})
        who = entered.pop(room, None)
        if not entered:
            self._entered.pop(session, None)
        return who

    def unsubscribed(self, session: Session, room: str) -> None:
        """A session has taken a subscription back."""
        who = self._forget(session, room)
        if who is not None:
            self.presence.leave(room, who, session.id)

    def ended(self, session: Session, *, comes_back: bool = False) -> None:
        """A session has ended. One that `comes_back`, since this gateway leaves, isn't gone before the gateway is."""
        self._missed.pop(session, None)
        entered = self._entered.pop(session, {})
        if not comes_back:
            for room, who in entered.items():
                self.presence.leave(room, who, session.id)

    def receive(self, delivery: Delivery) -> None:
        """Read a device's message as far as it is a status; one that comes again says nothing new."""
        if self._has_statuses:
            for route, room in self._routing.rooms_for(delivery.upstream, delivery.topic):
                self.status(route, room, delivery.upstream, delivery.topic, delivery.payload)

    def status(self, route: Route, room: str, upstream: str, topic: str, raw: bytes) -> None:
        """A device's status, or its last will, has come along a route that says how to read it."""
        if route.status is None or route.to_member is None:
            return
        name = route.to_member.render(topic.split("/"), capturable=False)
        online = route.status.read(raw)
        if name is None or online is None:
            self._counters.drops["bad_status"] += 1
            return
        self._set(room, name, f"{upstream} {topic}", online)

    def overhear(self, upstream: str, heard: Heard) -> None:
        """Take from a message of a dialect which devices are there, and which aren't any more."""
        for name, told in heard.items():
            for topic in told.gone:
                self._appear(upstream, topic, name, online=False)
            for topic in told.here:
                self._appear(upstream, topic, name, online=True)

    def _appear(self, upstream: str, topic: str, dialect: str, *, online: bool) -> None:
        for route, room in self._routing.rooms_for(upstream, topic):
            if route.to_member is None or name_of(route.spec.payload) != dialect:
                continue
            name = route.to_member.render(topic.split("/"), capturable=False)
            if name is not None:
                self._set(room.removesuffix("/" + PART) if route.splits else room, name, f"{upstream} {topic}", online)

    def _set(self, room: str, name: str, source: str, online: bool) -> None:
        """A device is in a room, or isn't, as its own word has it."""
        who = Who("device", name)
        if not online:
            self.presence.leave(room, who, source, at_once=True)
            return
        with suppress(PresenceFull):  # counted where it was found
            self.presence.enter(room, who, source)

    def ask(self, session: Session, request: PresenceRequest, done: Callable[[Attendees], None]) -> None:
        """Take what a client says of itself, then answer who is in the room.

        Raises:
            Forbidden: it isn't allowed to its client.
            BadMessage: that is no room, the state is too large or its client not in the room, or it has another key.
            NoPresence: the room has none.
            PresenceFull: there is no place for the client.
        """
        session.grants.check(Action.PRESENCE, request.room)
        self.check(request.room)
        if request.has_state and request.room not in session.rooms:
            raise BadMessage("room: expected one that this session is subscribed to by its name, to have a state there")
        if request.member is not None and session.member not in (None, request.member):
            raise BadMessage("member: this session has another key already: expected the same, or a new connection")
        state = self._state(request.state, session.limits.presence_state_bytes) if request.has_state else None
        if request.member is not None and session.member is None:
            session.member = request.member
            if session.user is None:
                self._rename(session)
        if request.has_state:
            self._enter(session, request.room)
            self.presence.set_state(request.room, _who(session), state)
        self.presence.ask(request.room, done)

    def _state(self, state: Any, most_bytes: int) -> bytes | None:
        if state is None:
            return None
        try:
            text = orjson.dumps(state)
        except orjson.JSONEncodeError as error:
            raise BadMessage(f"state: expected JSON of less depth ({error})") from None
        if is_too_deep(text, state):
            raise BadMessage(f"state: expected at most {MAXIMUM_DEPTH} levels")
        if len(text) > most_bytes:
            found = f"state: {len(text)} bytes: expected at most {most_bytes}, as JSON text"
            raise BadMessage(found, limit="presence_state_bytes")
        return text

    def identified(self, session: Session) -> None:
        """It has shown who it is: so it may be somebody else, at once, and in other rooms."""
        for room, who in tuple(self._entered.get(session, {}).items()):
            if who != _who(session) or not session.grants.allows(Action.PRESENCE, room):
                self._forget(session, room)
                self.presence.leave(room, who, session.id, at_once=True)
        self.subscribed(session, session.rooms)

    def _rename(self, session: Session) -> None:
        """It has given itself a key: so it is somebody else in the rooms where it is, at once."""
        for room, who in tuple(self._entered.get(session, {}).items()):
            self._forget(session, room)
            self.presence.leave(room, who, session.id, at_once=True)
            self._enter(session, room)

    def members(self, room: str, done: Callable[[Attendees], None], grants: Grants) -> None:
        """Who is in a room.

        Raises:
            Forbidden: that isn't allowed to who asks.
            BadMessage: that is no room.
            NoPresence: it has none.
        """
        grants.check(Action.PRESENCE, room)
        self.check(room)
        self.presence.ask(room, done)

    def check(self, room: str) -> None:
        """Check that a room has presence.

        Raises:
            BadMessage: that is no room.
            NoPresence: it has none.
        """
        check_room(room)
        if not self.has(room):
            raise NoPresence(f"{room!r} has no presence: a rule of `rooms` or a route can give it, by `presence: true`")

    def _tell(self, change: Change) -> None:
        for watcher in self.watchers:
            watcher(change)
        kind, text = encode_change(change)
        frames: dict[Framing, bytes] = {}
        for session in tuple(self._listeners(change.room)):
            if not session.grants.allows(Action.PRESENCE, change.room):
                continue
            if session.sink.paused:
                self._miss(session, change.room)
                continue
            framing = session.sink.framing
            frame = frames.get(framing) or frames.setdefault(framing, framing(kind, text, None))
            session.sink.write(frame)

    def _miss(self, session: Session, room: str) -> None:
        if session.ended:
            return
        missed = self._missed.setdefault(session, {})
        missed[room] = None
        self._counters.drops["presence_to_slow_client"] += 1
        if len(missed) > MISSED_ROOMS:
            session.end(SlowConsumer(f"the client of session {session.id} missed too much of who is in its rooms"))

    def resumed(self, session: Session) -> None:
        """A session's client reads again: it is told who is there, room by room, as long as it goes on reading."""
        missed = self._missed.get(session, {})
        while missed and not session.sink.paused:
            room = next(iter(missed))
            del missed[room]
            subscribed = any(filter_matches(subscribed, room) for subscribed in session.rooms)
            if subscribed and session.grants.allows(Action.PRESENCE, room):
                self.presence.ask(room, partial(self._tell_all, session, room))
        if not missed:
            self._missed.pop(session, None)

    def _tell_all(self, session: Session, room: str, attendees: Attendees) -> None:
        if session.ended:
            return
        if session.sink.paused:
            self._miss(session, room)
        else:
            session.send(*encode_change(Counted(room, attendees)))

    def close(self) -> None:
        """Tell nothing any more of those who leave: the gateway goes, and they come back."""
        self.presence.close()


def _who(session: Session) -> Who:
    if session.user is not None:
        return Who("user", session.user)
    return Who("session", session.id) if session.member is None else Who("member", session.member)
